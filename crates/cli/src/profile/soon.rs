//! Stands in for what other branches have.
pub(crate) mod cowspace_profile {
    use std::io::{self, Write};
    pub(crate) struct Profile;
    impl Profile {
        pub(crate) fn new(r: &fault_recording::Recording) -> Profile {
            for p in &r.processes {
                let mut kinds = std::collections::BTreeMap::<String, (usize, Vec<u64>)>::new();
                for f in &p.faults {
                    let e = kinds
                        .entry(format!(
                            "{:?} {} {:?} {:?}",
                            f.kind, f.write, f.answer, f.outcome
                        ))
                        .or_default();
                    e.0 += 1;
                    e.1.push(f.queue_ns + f.resolve_ns + f.install_ns);
                }
                for (k, (n, mut v)) in kinds {
                    v.sort();
                    eprintln!("{k}: {n} p50 {}", v[v.len() / 2]);
                }
                let mut totals: Vec<u64> = p
                    .probes
                    .iter()
                    .filter(|p| p.faults > 0)
                    .map(|p| p.after_ns - p.before_ns)
                    .collect();
                totals.sort();
                let mut nof: Vec<u64> = p
                    .probes
                    .iter()
                    .filter(|p| p.faults == 0)
                    .map(|p| p.after_ns - p.before_ns)
                    .collect();
                nof.sort();
                if !nof.is_empty() {
                    eprintln!(
                        "no fault: {} p50 {} max {}",
                        nof.len(),
                        nof[nof.len() / 2],
                        nof[nof.len() - 1]
                    );
                }
                let several = p.probes.iter().filter(|p| p.faults > 1).count();
                eprintln!(
                    "faults {} probes {} several {several} total p50 {:?} p99 {:?}",
                    p.faults.len(),
                    totals.len(),
                    totals.get(totals.len() / 2),
                    totals.get(totals.len() * 99 / 100)
                );
                // match
                let mut probes = p.probes.clone();
                probes.sort_by_key(|p| p.before_ns);
                let mut by: std::collections::HashMap<
                    (Option<i32>, usize),
                    Vec<&fault_recording::FaultRecord>,
                > = Default::default();
                for f in &p.faults {
                    by.entry((f.tid, f.page)).or_default().push(f);
                }
                let mut matched = 0;
                let mut kernel = 0;
                for q in probes.iter().filter(|p| p.faults > 0) {
                    let n = by.get(&(Some(q.tid), q.page)).map_or(0, |v| {
                        v.iter()
                            .filter(|f| f.read_ns >= q.before_ns && f.read_ns <= q.after_ns)
                            .count()
                    });
                    if n == 0 && !q.write {
                        eprintln!(
                            "UNMATCHED {q:?} of first {:?} last {:?}; same page {:?}",
                            p.faults.first().map(|f| f.read_ns),
                            p.faults.last().map(|f| f.read_ns),
                            p.faults
                                .iter()
                                .filter(|f| f.read_ns > q.before_ns - 20_000
                                    && f.read_ns < q.after_ns + 20_000)
                                .collect::<Vec<_>>()
                        );
                    }
                    if n == 0 { kernel += 1 } else { matched += n }
                }
                eprintln!("records matched {matched}; probes without record {kernel}");
            }
            Profile
        }
    }
    pub(crate) fn text(_: &Profile, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "summary")
    }
    macro_rules! f { ($($n:ident)*) => { $(pub(crate) fn $n<T>(_: &T, out: &mut dyn Write) -> io::Result<()> { writeln!(out, "{}", stringify!($n)) })* } }
    f!(html json csv hdr trace);
    pub(crate) struct Comparison;
    impl Comparison {
        pub(crate) fn new(_: &Profile, _: &Profile) -> Comparison {
            Comparison
        }
        pub(crate) fn json(&self, _: &mut dyn Write) -> io::Result<()> {
            Ok(())
        }
        pub(crate) fn text(&self, _: &mut dyn Write) -> io::Result<()> {
            Ok(())
        }
    }
}
