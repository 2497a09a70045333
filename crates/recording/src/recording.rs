//! What a reader has.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use fault_handler::FaultRecord;

use crate::message::{End, Mapping, Probe, Start};

/// Bytes that a VMO's name has at most: 31, of which each may have become a replacement character.
const LONGEST_NAME: usize = 31 * 3;

/// All that was read of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order in which they began.
    pub processes: Vec<ProcessRecording>,
    /// Why not all of the file could be read, if so: one line. What precedes is right.
    pub cut: Option<String>,
}

/// What one process has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRecording {
    /// Who it is.
    pub start: Start,
    /// Its faults, in the order in which they ended.
    pub faults: Vec<FaultRecord>,
    /// What was mapped, each table with how many faults had been recorded before. That of a fault is in the last table before it that has its address, or else in the first one behind:
    /// [`ProcessRecording::mapping_of_each`]. What was renamed has its last name everywhere.
    pub mappings: Vec<(usize, Vec<Mapping>)>,
    /// Names of its threads.
    pub threads: Vec<(i32, String)>,
    /// What threads measured themselves, in the order in which it was written.
    pub probes: Vec<Probe>,
    /// How it ended.
    pub end: Ended,
}

/// How a process's recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Said(End),
    /// The process was killed, ended by `_exit(2)`, or the file was cut: the last milliseconds are not there.
    Unsaid,
}

impl ProcessRecording {
    /// What was recorded of a process that has just begun.
    pub fn new(start: Start) -> ProcessRecording {
        ProcessRecording {
            start,
            faults: Vec::new(),
            mappings: Vec::new(),
            threads: Vec::new(),
            probes: Vec::new(),
            end: Ended::Unsaid,
        }
    }

    /// Gives all mappings of a VMO the last name that it had, since programs name what they have mapped already; and takes out what only said so.
    pub(crate) fn name_mappings(&mut self) {
        let mut names: HashMap<u64, String> = HashMap::new();
        let tables = self.mappings.iter_mut().rev();
        for mapping in tables.flat_map(|(_, table)| table.iter_mut().rev()) {
            match names.entry(mapping.koid) {
                Entry::Occupied(last) => mapping.name.clone_from(last.get()),
                // No name is longer. What a file may claim is not to be multiplied.
                Entry::Vacant(none) if mapping.name.len() <= LONGEST_NAME => {
                    none.insert(mapping.name.clone());
                }
                Entry::Vacant(_) => {}
            }
        }
        self.mappings.retain_mut(|(_, table)| {
            table.retain(|mapping| mapping.len > 0);
            !table.is_empty()
        });
    }

    /// For each fault, in their order, the mapping in which it happened; `None` where no table has it.
    pub fn mapping_of_each(&self) -> Vec<Option<&Mapping>> {
        let mut found = vec![None; self.faults.len()];
        let mut shown = Shown::default();
        let mut tables = self.mappings.iter().peekable();
        for (index, fault) in self.faults.iter().enumerate() {
            while let Some((_, table)) = tables.next_if(|(before, _)| *before <= index) {
                shown.put(table);
            }
            found[index] = shown.at(fault.page);
        }
        let mut shown = Shown::default();
        let mut tables = self.mappings.iter().rev().peekable();
        for (index, fault) in self.faults.iter().enumerate().rev() {
            while let Some((_, table)) = tables.next_if(|(before, _)| *before > index) {
                shown.put(table);
            }
            if found[index].is_none() {
                found[index] = shown.at(fault.page);
            }
        }
        found
    }
}

/// Which mapping has an address: of the tables put one over the other, the uppermost that has it.
#[derive(Default)]
struct Shown<'a> {
    /// By start: the end, and the mapping. They do not overlap.
    parts: BTreeMap<usize, (usize, &'a Mapping)>,
}

impl<'a> Shown<'a> {
    fn put(&mut self, table: &'a [Mapping]) {
        for mapping in table {
            let start = mapping.start;
            let end = start.saturating_add(mapping.len);
            if start < end {
                self.clear(start, end);
                self.parts.insert(start, (end, mapping));
            }
        }
    }

    /// Takes away what there is of `start..end`.
    fn clear(&mut self, start: usize, end: usize) {
        while let Some((&part, &(part_end, mapping))) = self.parts.range(..end).next_back()
            && part_end > start
        {
            self.parts.remove(&part);
            if part_end > end {
                self.parts.insert(end, (part_end, mapping));
            }
            if part < start {
                self.parts.insert(part, (start, mapping));
            }
        }
    }

    fn at(&self, address: usize) -> Option<&'a Mapping> {
        let (_, &(end, mapping)) = self.parts.range(..=address).next_back()?;
        (address < end).then_some(mapping)
    }
}
