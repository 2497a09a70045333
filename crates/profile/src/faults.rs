//! Each fault of a recording, with all that is known of it, in order of time.

use std::collections::{BTreeMap, HashMap};

use fault_recording::{Ended, FaultRecord, Mapping, Policy, Probe, ProcessRecording, Recording};
use rangemap::{RangeMap, RangeSet};

use crate::fault::{Fault, Role};

/// The faults of a recording: its records, each with its touch's probe, and what only probes have seen.
///
/// Costs some 20 bytes for each fault beyond the recording.
#[derive(Debug)]
pub struct Faults<'a> {
    recording: &'a Recording,
    links: Vec<Link>,
    regions: Vec<Place<'a>>,
    unmatched: Vec<u64>,
}

/// Where a fault can be: a VMO in a process (or several that followed each other at one place under one name), or what is not known to be mapped there.
#[derive(Debug)]
pub struct Place<'a> {
    /// The process: an index in the recording's.
    pub process: usize,
    /// The VMO, as its last mapping says it. None: unknown.
    pub mapping: Option<&'a Mapping>,
    /// All addresses at which it was mapped; of what is unknown, the pages that faulted.
    pub ranges: RangeSet<usize>,
}

/// A fault, by indices.
#[derive(Clone, Copy, Debug)]
struct Link {
    process: u32,
    region: u32,
    record: Option32,
    probe: Option32,
    role: Role,
    sequential: bool,
}

/// An index in half of the space of an `Option<usize>`. No recording that can be read into memory has so many.
#[derive(Clone, Copy, Debug)]
struct Option32(u32);

impl Option32 {
    const NONE: Option32 = Option32(u32::MAX);

    fn some(index: usize) -> Option32 {
        Option32(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn get<T>(self, of: &[T]) -> Option<&T> {
        (self.0 != u32::MAX).then(|| &of[self.0 as usize])
    }
}

impl<'a> Faults<'a> {
    /// Those of this recording.
    ///
    /// A record belongs to the probe of the same thread and page between whose times it was read. A probe that counted a fault and has no record is a fault of the kernel's;
    /// unless the process has lost records, or may have, and faults there are traced: that is only counted ([`unmatched`](Faults::unmatched)).
    #[must_use]
    pub fn new(recording: &'a Recording) -> Faults<'a> {
        let mut faults = Faults {
            recording,
            links: Vec::new(),
            regions: Vec::new(),
            unmatched: Vec::new(),
        };
        for index in 0..recording.processes.len() {
            faults.add(index);
        }
        let mut links = std::mem::take(&mut faults.links);
        // They are nearly in order, which this sort makes use of.
        links.sort_by_key(|link| faults.fault(link).begin_ns());
        let mut last: HashMap<(usize, Option<i32>), (usize, usize)> = HashMap::new();
        for link in &mut links {
            let fault = faults.fault(link);
            let page = fault.page();
            let pages = fault.record.map_or(1, |record| record.pages.max(1)) as usize;
            let bytes = pages.saturating_mul(faults.page_size(fault.process));
            let before = last.insert((fault.process, fault.tid()), (page, bytes));
            link.sequential = before
                .is_some_and(|(last, bytes)| page > last && page <= last.saturating_add(bytes));
        }
        faults.links = links;
        faults
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Each of them, in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = Fault<'a>> + '_ {
        self.links.iter().map(|link| self.fault(link))
    }

    /// One of them; none from [`len`](Faults::len) on.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Fault<'a>> {
        self.links.get(index).map(|link| self.fault(link))
    }

    /// For each process, the names of its threads.
    pub(crate) fn threads(&self) -> Vec<HashMap<i32, &'a str>> {
        let processes = self.recording.processes.iter();
        let names = processes.map(|process| process.threads.iter());
        names
            .map(|names| names.map(|(tid, name)| (*tid, name.as_str())).collect())
            .collect()
    }

    /// What they were read from.
    #[must_use]
    pub fn recording(&self) -> &'a Recording {
        self.recording
    }

    /// All places that are mapped, or where there was a fault.
    #[must_use]
    pub fn regions(&self) -> &[Place<'a>] {
        &self.regions
    }

    /// For each process, the probes that counted a fault whose record may be lost.
    #[must_use]
    pub fn unmatched(&self) -> &[u64] {
        &self.unmatched
    }

    fn process(&self, index: usize) -> &'a ProcessRecording {
        &self.recording.processes[index]
    }

    /// Bytes of a page of a process; 1 at least.
    fn page_size(&self, process: usize) -> usize {
        let size = self.process(process).start.page_size;
        usize::try_from(size).unwrap_or(usize::MAX).max(1)
    }

    fn fault(&self, link: &Link) -> Fault<'a> {
        let process = self.process(link.process as usize);
        Fault {
            process: link.process as usize,
            region: link.region as usize,
            sequential: link.sequential,
            record: link.record.get(&process.faults),
            probe: link.probe.get(&process.probes),
            role: link.role,
        }
    }

    /// Adds a process's faults.
    fn add(&mut self, index: usize) {
        let process = self.process(index);
        let mut places = Places::new(index, process, self.page_size(index), &mut self.regions);
        let regions = places.of_records();
        let touches = touches(process);
        let mut taken = vec![false; process.probes.len()];
        for (record, region) in regions.into_iter().enumerate() {
            let (probe, role) = touches.get(record).copied().unwrap_or_default();
            if let Some(probe) = probe {
                taken[probe as usize] = true;
            }
            let at_an_end = role != Role::Middle;
            self.links.push(Link {
                process: index as u32,
                region,
                record: Option32::some(record),
                probe: probe.filter(|_| at_an_end).map_or(Option32::NONE, Option32),
                role,
                sequential: false,
            });
        }
        let lossless = matches!(process.end, Ended::Said(end) if end.lost == 0);
        let mut unmatched = 0;
        for (probe, touch) in process.probes.iter().enumerate() {
            if taken[probe] || touch.faults == 0 {
                continue;
            }
            if !lossless
                && process.start.traced
                && places.policy(touch.page) == Some(Policy::Traced)
            {
                unmatched += 1;
                continue;
            }
            self.links.push(Link {
                process: index as u32,
                region: places.of_probe(touch),
                record: Option32::NONE,
                probe: Option32::some(probe),
                role: Role::Only,
                sequential: false,
            });
        }
        self.unmatched.push(unmatched);
    }
}

/// For each record the touch that it belongs to, if any: its probe, and which of its faults it is.
fn touches(process: &ProcessRecording) -> Vec<(Option<u32>, Role)> {
    let key = |probe: &Probe| (probe.tid, probe.page, probe.before_ns);
    let probes = &process.probes;
    let mut order: Vec<u32> = (0..probes.len() as u32).collect();
    order.sort_by_key(|probe| key(&probes[*probe as usize]));
    let probe_of = |record: &FaultRecord| {
        let tid = record.tid?;
        let began = (tid, record.page, record.read_ns);
        let behind = order.partition_point(|probe| key(&probes[*probe as usize]) <= began);
        let probe = *order.get(behind.checked_sub(1)?)?;
        let touch = &probes[probe as usize];
        let fits =
            (touch.tid, touch.page) == (tid, record.page) && record.read_ns <= touch.after_ns;
        fits.then_some(probe)
    };
    let mut touches: Vec<(Option<u32>, Role)> = process
        .faults
        .iter()
        .map(|record| (probe_of(record), Role::Only))
        .collect();

    // The first and the last record of each touch.
    let mut ends: Vec<Option<(usize, usize)>> = vec![None; probes.len()];
    let read = |record: usize| process.faults[record].read_ns;
    for (record, (probe, _)) in touches.iter().enumerate() {
        let Some(probe) = probe else { continue };
        let (first, last) = ends[*probe as usize].get_or_insert((record, record));
        if read(record) < read(*first) {
            *first = record;
        }
        if read(record) >= read(*last) {
            *last = record;
        }
    }
    for (record, (probe, role)) in touches.iter_mut().enumerate() {
        let ends = probe.and_then(|probe| ends[probe as usize]);
        *role = match ends {
            Some((first, last)) if first != last && record == first => Role::First,
            Some((first, last)) if first != last && record == last => Role::Last,
            Some((first, last)) if first != last => Role::Middle,
            _ => Role::Only,
        };
    }
    touches
}

/// Says where the faults of a process were.
struct Places<'a, 'b> {
    index: usize,
    process: &'a ProcessRecording,
    page_size: usize,
    regions: &'b mut Vec<Place<'a>>,
    by_koid: BTreeMap<u64, u32>,
    /// Of a region that has a name: by that, the address and the length of each of its mappings.
    by_place: HashMap<(&'a str, usize, usize), u32>,
    unknown: Option<u32>,
    /// The region at each address by the last table that has it.
    last: RangeMap<usize, u32>,
}

impl<'a, 'b> Places<'a, 'b> {
    fn new(
        index: usize,
        process: &'a ProcessRecording,
        page_size: usize,
        regions: &'b mut Vec<Place<'a>>,
    ) -> Places<'a, 'b> {
        let mut places = Places {
            index,
            process,
            page_size,
            regions,
            by_koid: BTreeMap::new(),
            by_place: HashMap::new(),
            unknown: None,
            last: RangeMap::new(),
        };
        process
            .mappings
            .iter()
            .for_each(|(_, table)| places.put(table));
        places
    }

    /// The region of each record.
    fn of_records(&mut self) -> Vec<u32> {
        let mappings = self.process.mapping_of_each().into_iter();
        let records = mappings.zip(&self.process.faults);
        records
            .map(|(mapping, record)| match mapping {
                Some(mapping) => self.by_koid[&mapping.koid],
                None => self.unknown(record.page),
            })
            .collect()
    }

    /// The region of a fault that only a probe has seen: by the last table that has its address.
    fn of_probe(&mut self, probe: &Probe) -> u32 {
        let region = self.last.get(&probe.page).copied();
        region.unwrap_or_else(|| self.unknown(probe.page))
    }

    /// Who resolves faults there, as the last table says that has the address.
    fn policy(&self, page: usize) -> Option<Policy> {
        let region = &self.regions[*self.last.get(&page)? as usize];
        Some(region.mapping?.policy)
    }

    /// Puts a table over those before.
    fn put(&mut self, table: &'a [Mapping]) {
        for mapping in table {
            let regions = &mut *self.regions;
            let same = (mapping.name.as_str(), mapping.start, mapping.len);
            // VMOs that follow each other at one place under one name (say, a fresh clone for each round of work) are one region to who looks.
            let before = self.by_place.get(&same).copied();
            let region = *self.by_koid.entry(mapping.koid).or_insert_with(|| {
                if let Some(before) = before {
                    return before;
                }
                regions.push(Place {
                    process: self.index,
                    mapping: None,
                    ranges: RangeSet::new(),
                });
                (regions.len() - 1) as u32
            });
            if !mapping.name.is_empty() {
                self.by_place.insert(same, region);
            }
            let range = mapping.start..mapping.start.saturating_add(mapping.len);
            let place = &mut self.regions[region as usize];
            place.mapping = Some(mapping);
            if !range.is_empty() {
                place.ranges.insert(range.clone());
                self.last.insert(range, region);
            }
        }
    }

    /// The region of a page of which nothing is known.
    fn unknown(&mut self, page: usize) -> u32 {
        let region = *self.unknown.get_or_insert_with(|| {
            self.regions.push(Place {
                process: self.index,
                mapping: None,
                ranges: RangeSet::new(),
            });
            (self.regions.len() - 1) as u32
        });
        let range = page..page.saturating_add(self.page_size);
        if !range.is_empty() {
            self.regions[region as usize].ranges.insert(range);
        }
        region
    }
}
