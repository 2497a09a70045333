//! A process that is looked into tells what is true: what the kernel says of its page tables, what object info says of its VMOs; while its threads run.

#![forbid(unsafe_code)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cowspace::inspect::{
    Client, HomeRecord, Inspection, MapRecord, VmoKindRecord, connect, listen,
};
use cowspace::{Policy, Vmar, VmarFlags, Vmo, VmoChildOptions, VmoOp};
use cowspace_tests::{RW, are_counts_exact, memory, page, unmap};
use procfs::process::Process;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use test_share::share;

/// Set in the process that is looked into: its socket lies in a folder of the test's own.
const INSIDE: &str = "COWSPACE_TEST_INSPECTED";

/// Runs a test of this program again in a process of its own.
fn inside(test: &str, works: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return works();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(std::env::current_exe().expect("a program"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()
        .expect("the test runs again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{text}");
}

fn ourselves() -> Client {
    connect(std::process::id()).expect("we listen")
}

fn bytes(pages: usize) -> u64 {
    (pages * page()) as u64
}

/// The private and the shared bytes of a record as smaps says. Neighbours are apart, so an area lies in one record.
fn smaps(record: &MapRecord) -> (u64, u64) {
    let areas = Process::myself().and_then(|us| us.smaps()).expect("smaps");
    let range = record.start..record.start + record.len;
    let (mut private, mut shared) = (0, 0);
    for area in areas {
        if range.contains(&area.address.0) {
            assert!(area.address.1 <= range.end, "{record:?}");
            let field = |name| area.extension.map.get(name).copied().unwrap_or(0);
            private += field("Anonymous");
            shared += field("Rss") - field("Anonymous");
        }
    }
    (private, shared)
}

/// What must hold of an answer of a process that does nothing else.
fn check(inspection: &Inspection) {
    for record in &inspection.maps {
        if let Some(mapping) = &record.mapping {
            let (private, shared) = smaps(record);
            let page = page() as u64;
            // Pages of zeros that were only read may be taken for private ones.
            let most = if are_counts_exact() {
                private
            } else {
                record.len
            };
            assert!(
                (private..=most + 2 * page).contains(&(mapping.private_bytes + page))
                    && mapping.shared_bytes.abs_diff(shared) <= page,
                "smaps: {private} {shared} {record:?}"
            );
        }
    }
    for (index, family) in inspection.families.iter().enumerate() {
        let vmos = || {
            inspection
                .vmos
                .iter()
                .filter(|vmo| vmo.family == index as u64)
        };
        // In 2^-63 bytes: the fractions are cut off page by page, so less than a byte for each page of each VMO may be missing.
        let scaled: u128 = vmos()
            .map(|vmo| {
                (u128::from(vmo.scaled_bytes) << 63) + u128::from(vmo.fractional_scaled_bytes)
            })
            .sum();
        let owned: u64 = family.layers.iter().map(|layer| layer.owned_bytes).sum();
        let lost = (u128::from(owned) << 63) - scaled;
        let pages: u64 = vmos().map(|vmo| vmo.committed_bytes / page() as u64).sum();
        assert!(
            lost <= u128::from(pages) * page() as u128,
            "{owned} owned, {scaled} scaled: {family:?}"
        );
        let by_nodes: u64 = family.nodes.iter().map(|node| node.owned_bytes).sum();
        assert_eq!(by_nodes, owned, "{family:?}");
        for layer in &family.layers {
            assert!(layer.memory_bytes >= layer.owned_bytes, "{layer:?}");
            let in_layer = |node: &cowspace::inspect::NodeRecord| {
                let parts = node.layers.iter().filter(|owned| owned.layer == layer.id);
                parts.map(|owned| owned.bytes).sum::<u64>()
            };
            let by_nodes: u64 = family.nodes.iter().map(in_layer).sum();
            assert_eq!(by_nodes, layer.owned_bytes, "{family:?}");
        }
        for (at, node) in family.nodes.iter().enumerate() {
            assert!(node.parent.is_none_or(|parent| parent < at as u64));
        }
    }
    let sums = &inspection.memory;
    assert_eq!(sums.vmos, inspection.vmos.len() as u64);
    assert_eq!(sums.families, inspection.families.len() as u64);
    let mappings = || {
        inspection
            .maps
            .iter()
            .filter_map(|record| record.mapping.as_ref())
    };
    assert_eq!(
        sums.private_bytes,
        mappings().map(|mapping| mapping.private_bytes).sum::<u64>()
    );
    assert_eq!(
        sums.shared_bytes,
        mappings().map(|mapping| mapping.shared_bytes).sum::<u64>()
    );
    let layers = || inspection.families.iter().flat_map(|family| &family.layers);
    let memory = |sealed| {
        let layers =
            layers().filter(move |layer| layer.sealed == sealed && !layer.files.is_empty());
        layers.map(|layer| layer.memory_bytes).sum::<u64>()
    };
    assert_eq!(
        (sums.layer_bytes, sums.file_bytes),
        (memory(true), memory(false))
    );
    let committed: u64 = inspection.vmos.iter().map(|vmo| vmo.committed_bytes).sum();
    assert!(sums.copied_bytes >= committed, "{sums:?} {committed}");
}

/// A step of a random program. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A VMO, mapped; policy, pages.
    Make(bool, usize),
    /// A clone of a mapping, mapped if so.
    Clone(usize, bool, bool),
    /// A store through a mapping.
    Store(usize, usize),
    /// A load.
    Load(usize, usize),
    /// By a call.
    Write(usize, usize),
    /// Whole pages.
    Zero(usize, usize),
    Unmap(usize),
    Close(usize),
    Freeze(usize),
    Protect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (n, p) = (0..64usize, 0..64usize);
    let step = prop_oneof![
        1 => (any::<bool>(), 1..40usize).prop_map(|(traced, pages)| Step::Make(traced, pages)),
        2 => (n.clone(), any::<bool>(), any::<bool>()).prop_map(|(n, map, traced)| Step::Clone(n, map, traced)),
        6 => (n.clone(), p.clone()).prop_map(|(n, p)| Step::Store(n, p)),
        4 => (n.clone(), p.clone()).prop_map(|(n, p)| Step::Load(n, p)),
        3 => (n.clone(), p.clone()).prop_map(|(n, p)| Step::Write(n, p)),
        1 => (n.clone(), p).prop_map(|(n, p)| Step::Zero(n, p)),
        1 => n.clone().prop_map(Step::Unmap),
        1 => n.clone().prop_map(Step::Close),
        1 => n.clone().prop_map(Step::Freeze),
        1 => n.prop_map(Step::Protect),
    ];
    vec(step, 1..60)
}

/// What a random program has: VMOs, and mappings with a page without anything behind each.
#[derive(Default)]
struct Things {
    vmos: Vec<Vmo>,
    mapped: Vec<Place>,
}

struct Place {
    vmar: Vmar,
    addr: usize,
    pages: usize,
    writable: bool,
}

impl Place {
    fn len(&self) -> usize {
        self.pages * page()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.vmar.destroy().expect("it is there");
    }
}

impl Things {
    fn map(&mut self, vmo: &Vmo, traced: bool) {
        let root = Vmar::root_self();
        let pages = vmo.get_size().expect("a size") as usize / page();
        // A place of its own: the range before is longer than what is mapped.
        let flags =
            VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE | VmarFlags::CAN_MAP_SPECIFIC;
        let (vmar, addr) = root
            .allocate(0, (pages + 1) * page(), flags)
            .expect("a VMAR");
        let policy = if traced {
            Policy::Traced
        } else {
            Policy::Native
        };
        vmar.map_with_policy(0, vmo, 0, pages * page(), RW | VmarFlags::SPECIFIC, policy)
            .expect("a mapping");
        self.mapped.push(Place {
            vmar,
            addr,
            pages,
            writable: true,
        });
    }

    fn take(&mut self, step: Step) {
        let root = Vmar::root_self();
        let chosen = |n: usize, among: usize| (among > 0).then(|| n % among.max(1));
        match step {
            Step::Make(traced, pages) => {
                let vmo = Vmo::create(bytes(pages)).expect("a VMO");
                self.map(&vmo, traced);
                self.vmos.push(vmo);
            }
            Step::Clone(n, map, traced) => {
                if let Some(n) = chosen(n, self.mapped.len()) {
                    let place = &self.mapped[n];
                    let clone = root
                        .create_vmo_child(VmoChildOptions::SNAPSHOT, place.addr, place.len())
                        .expect("a clone");
                    if map {
                        self.map(&clone, traced);
                    }
                    self.vmos.push(clone);
                }
            }
            Step::Store(n, p) | Step::Load(n, p) => {
                if let Some(n) = chosen(n, self.mapped.len()) {
                    let place = &self.mapped[n];
                    let there = memory(place.addr + p % place.pages * page(), page());
                    let value = there.load_u8(0);
                    if matches!(step, Step::Store(..)) && place.writable {
                        there.store_u8(0, value.wrapping_add(1));
                    }
                }
            }
            Step::Write(n, p) | Step::Zero(n, p) => {
                if let Some(n) = chosen(n, self.vmos.len()) {
                    let vmo = &self.vmos[n];
                    let pages = vmo.get_size().expect("a size") as usize / page();
                    let at = bytes(p % pages);
                    if matches!(step, Step::Write(..)) {
                        vmo.write(&[7], at).expect("writing");
                    } else {
                        vmo.op_range(VmoOp::ZERO, at, page() as u64)
                            .expect("zeroing");
                    }
                }
            }
            Step::Unmap(n) => {
                if let Some(n) = chosen(n, self.mapped.len()) {
                    drop(self.mapped.swap_remove(n));
                }
            }
            Step::Close(n) => {
                if let Some(n) = chosen(n, self.vmos.len()) {
                    drop(self.vmos.swap_remove(n));
                }
            }
            Step::Freeze(n) => {
                if let Some(n) = chosen(n, self.mapped.len()) {
                    let place = &self.mapped[n];
                    root.freeze(place.addr, place.len()).expect("freezing");
                }
            }
            Step::Protect(n) => {
                if let Some(n) = chosen(n, self.mapped.len()) {
                    let place = &mut self.mapped[n];
                    place.writable = false;
                    root.protect(place.addr, place.len(), VmarFlags::PERM_READ)
                        .expect("protecting");
                }
            }
        }
    }

    fn check(&self, client: &mut Client) {
        let inspection = client.inspect().expect("an answer");
        check(&inspection);
        // Afterwards: an inspection gives up layers of which it finds that nobody sees them any more.
        let live = client.live().expect("an answer");
        let same = |memory: cowspace::inspect::Memory| cowspace::inspect::Memory {
            copied_bytes: 0,
            ..memory
        };
        assert_eq!(same(live.memory), same(inspection.memory));
        for vmo in &self.vmos {
            let info = vmo.info().expect("info");
            let found = inspection
                .vmos
                .iter()
                .find(|record| record.koid == info.koid.raw_koid());
            let found = found.expect("each VMO with a handle is there");
            assert_eq!(
                (
                    found.committed_bytes,
                    found.private_bytes,
                    found.scaled_bytes,
                    found.fractional_scaled_bytes,
                    found.children,
                    found.mappings,
                    found.handles,
                ),
                (
                    info.committed_bytes,
                    info.committed_private_bytes,
                    info.committed_scaled_bytes,
                    info.committed_fractional_scaled_bytes,
                    info.num_children as u64,
                    info.num_mappings as u64,
                    1,
                ),
                "{found:?}"
            );
        }
    }
}

#[test]
fn figures_are_those_of_smaps_and_of_object_info() {
    inside("figures_are_those_of_smaps_and_of_object_info", || {
        let _listener = listen().expect("a socket");
        let mut client = ourselves();
        let config = ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let client = std::cell::RefCell::new(&mut client);
        let run = TestRunner::new(config).run(&steps(), |steps| {
            let mut things = Things::default();
            for some in steps.chunks(8) {
                some.iter().for_each(|&step| things.take(step));
                things.check(&mut client.borrow_mut());
            }
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{failure}"));
    });
}

/// A large memory frozen to one layer (in huge pages where there are such), with one page changed, and a clone of it.
#[test]
fn a_large_frozen_memory_and_its_clone_are_told_apart() {
    inside("a_large_frozen_memory_and_its_clone_are_told_apart", || {
        let _listener = listen().expect("a socket");
        let root = Vmar::root_self();
        let len = 32 << 20;
        for policy in [Policy::Traced, Policy::Native] {
            let vmo = Vmo::create(len as u64).expect("a VMO");
            vmo.set_name(&cowspace::Name::new_lossy("large"))
                .expect("a name");
            let addr = root
                .map_with_policy(0, &vmo, 0, len, RW, policy)
                .expect("a mapping");
            (0..len)
                .step_by(page())
                .for_each(|at| memory(addr + at, 1).store_u8(0, 1));
            root.freeze(addr, len).expect("frozen");
            memory(addr, 1).store_u8(0, 2);
            (0..len / 2).step_by(page()).for_each(|at| {
                std::hint::black_box(memory(addr + at, 1).load_u8(0));
            });
            let clone = root
                .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
                .expect("a clone");
            memory(addr, 1).store_u8(0, 3);

            let inspection = ourselves().inspect().expect("an answer");
            check(&inspection);
            let mapping = inspection.maps.iter().find_map(|record| {
                (record.start == addr as u64)
                    .then(|| record.mapping.clone())
                    .flatten()
            });
            let mapping = mapping.expect("it is mapped");
            assert_eq!(mapping.home, HomeRecord::Private);
            assert_eq!((&mapping.name[..], &mapping.perms[..]), ("large", "rw-"));
            assert_eq!(mapping.private_bytes, page() as u64);
            let [family] = &inspection.families[..] else {
                panic!("one family: {:?}", inspection.families);
            };
            let large = family.layers.iter().max_by_key(|layer| layer.memory_bytes);
            let large = large.expect("a layer");
            assert!(
                large.sealed && large.memory_bytes == len as u64,
                "{large:?}"
            );
            assert_eq!(large.mapped_at, [addr as u64]);
            let kinds: Vec<_> = inspection.vmos.iter().map(|vmo| vmo.kind).collect();
            assert_eq!(kinds, [VmoKindRecord::Root, VmoKindRecord::Clone]);
            assert_eq!(inspection.vmos[1].parent, Some(inspection.vmos[0].koid));
            assert!(family.nodes.iter().any(|node| node.memory.is_none()));
            // Two copies of all, and what is there once.
            let saved = inspection.memory.saved_bytes();
            assert!(
                saved >= (len - 8 * page()) as u64,
                "{:?}",
                inspection.memory
            );
            drop(clone);
            unmap(addr, len);
        }
    });
}

/// Threads store, load and clone while others look: nobody waits for ever, and every answer is a whole one.
#[test]
fn faults_go_on_while_a_process_is_looked_into() {
    inside("faults_go_on_while_a_process_is_looked_into", || {
        const PAGES: usize = 512;
        let _listener = listen().expect("a socket");
        let root = Vmar::root_self();
        let (done, stored) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..3usize {
                let (done, stored) = (&done, &stored);
                scope.spawn(move || {
                    let policy = [Policy::Traced, Policy::Native][number % 2];
                    let root = Vmar::root_self();
                    let len = PAGES * page();
                    let vmo = Vmo::create(len as u64).expect("a VMO");
                    let addr = root
                        .map_with_policy(0, &vmo, 0, len, RW, policy)
                        .expect("a mapping");
                    let mut clones = Vec::new();
                    let mut at = number;
                    while !done.load(Ordering::Relaxed) {
                        for _ in 0..50 {
                            at = (at * 5 + 1) % PAGES;
                            memory(addr + at * page(), 1).store_u8(0, at as u8);
                            stored.fetch_add(1, Ordering::Relaxed);
                        }
                        let clone = root
                            .create_vmo_child(VmoChildOptions::SNAPSHOT, addr, len)
                            .expect("a clone");
                        clones.push(clone);
                        if clones.len() > 5 {
                            drop(clones.remove(0));
                        }
                    }
                    unmap(addr, len);
                });
            }
            let looks = (0..2).map(|_| {
                scope.spawn(|| {
                    let mut client = ourselves();
                    let mut before = 0;
                    for _ in 0..share(100) {
                        client.live().expect("an answer");
                        let inspection = client.inspect().expect("an answer");
                        for family in &inspection.families {
                            let owned = |layers: &[cowspace::inspect::LayerRecord]| -> u64 {
                                layers.iter().map(|layer| layer.owned_bytes).sum()
                            };
                            let nodes: u64 = family.nodes.iter().map(|node| node.owned_bytes).sum();
                            assert_eq!(nodes, owned(&family.layers), "{family:?}");
                        }
                        // Stores have gone on since the last look, or go on now.
                        while stored.load(Ordering::Relaxed) == before {
                            thread::sleep(Duration::from_micros(100));
                        }
                        before = stored.load(Ordering::Relaxed);
                    }
                })
            });
            let looks: Vec<_> = looks.collect();
            let results: Vec<_> = looks.into_iter().map(|look| look.join()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
        drop(root);
    });
}

/// Looking holds no VMO: one that is closed is gone when the call comes back, for its parent too.
#[test]
fn a_closed_vmo_ends_at_once_while_a_process_is_looked_into() {
    inside(
        "a_closed_vmo_ends_at_once_while_a_process_is_looked_into",
        || {
            let _listener = listen().expect("a socket");
            // So that a look takes its time.
            let others: Vec<Vmo> = (0..1000).map(|_| Vmo::create(1).expect("a VMO")).collect();
            let parent = Vmo::create(bytes(2)).expect("a VMO");
            thread::scope(|scope| {
                let looks = scope.spawn(|| {
                    let mut client = ourselves();
                    for _ in 0..share(200) {
                        client.live().expect("an answer");
                    }
                });
                while !looks.is_finished() {
                    let options = VmoChildOptions::SNAPSHOT;
                    let clone = parent.create_child(options, 0, bytes(2));
                    let clone = clone.expect("a clone");
                    for _ in 0..20 {
                        clone.write(&[1], 0).expect("it can be written");
                    }
                    drop(clone);
                    // What has clones cannot give pages back.
                    parent
                        .op_range(VmoOp::DECOMMIT, 0, bytes(2))
                        .expect("it has none");
                }
            });
            drop(others);
        },
    );
}
