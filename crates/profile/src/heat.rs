//! The heat map.

use crate::faults::Faults;
use crate::profile::{HeatMap, HeatRow, Region, TimeBin};

/// Rows at most.
const ROWS: usize = 64;

/// Regions that have rows of their own, at most.
const REGIONS: usize = 32;

impl HeatMap {
    /// `places` says which of `regions` each of the faults' regions is.
    pub(crate) fn new(
        faults: &Faults<'_>,
        regions: &[Region],
        places: &[usize],
        bins: &[TimeBin],
        start_ns: u64,
    ) -> HeatMap {
        let Some(first) = bins.first() else {
            return HeatMap::default();
        };
        let rows = rows(faults, regions);
        let columns = bins.len();
        let mut cells = vec![0; rows.len() * columns];
        // The first row of each region; all others are the last one.
        let mut first_row = vec![rows.len() - 1; regions.len()];
        for (row, heat) in rows.iter().enumerate().rev() {
            if let Some(region) = heat.region {
                first_row[region] = row;
            }
        }
        let offsets: Vec<Vec<u64>> = regions.iter().map(offsets).collect();
        for fault in faults.iter() {
            let region = places[fault.region];
            let mut row = first_row[region];
            if rows[row].region.is_some() {
                let offset = offset(&regions[region], &offsets[region], fault.page());
                let rows = rows[row..]
                    .iter()
                    .take_while(|heat| heat.region == Some(region));
                let before = rows.take_while(|heat| heat.offset <= offset).count();
                row += before.saturating_sub(1);
            }
            let since = fault.begin_ns() - start_ns - first.from_ns;
            let column = (since / first.len_ns) as usize;
            cells[row * columns + column] += 1;
        }
        HeatMap {
            rows,
            columns,
            cells,
        }
    }
}

/// Which rows there are.
fn rows(faults: &Faults<'_>, regions: &[Region]) -> Vec<HeatRow> {
    let page_size = |region: &Region| {
        let start = &faults.recording().processes[region.process].start;
        start.page_size.max(1)
    };
    // Most faults come first.
    let with_faults = regions.iter().take_while(|region| region.faults > 0);
    let count = with_faults.count();
    let own = if count > REGIONS { REGIONS - 1 } else { count };
    let pages: u64 = regions[..own]
        .iter()
        .map(|region| region.pages_touched)
        .sum();
    let mut shown: Vec<usize> = (0..own).collect();
    shown.sort_by_key(|region| {
        let of = &regions[*region];
        (of.process, of.koid.is_none(), of.ranges.first().copied())
    });
    let mut rows = Vec::new();
    for index in shown {
        let region = &regions[index];
        // Each has one, and the others go where there is most to be seen.
        let more =
            u128::from(region.pages_touched) * (ROWS - REGIONS) as u128 / u128::from(pages.max(1));
        let wanted = 1 + more as u64;
        let page = page_size(region);
        let bytes = region
            .bytes
            .div_ceil(wanted)
            .div_ceil(page)
            .saturating_mul(page)
            .max(page);
        let mut offset = 0;
        loop {
            let left = region.bytes.saturating_sub(offset);
            rows.push(HeatRow {
                region: Some(index),
                offset,
                bytes: bytes.min(left),
            });
            if left <= bytes {
                break;
            }
            offset += bytes;
        }
    }
    if own < count {
        rows.push(HeatRow {
            region: None,
            offset: 0,
            bytes: regions[own..count]
                .iter()
                .fold(0, |sum: u64, region| sum.saturating_add(region.bytes)),
        });
    }
    rows
}

/// Where each of a region's ranges begins, if they follow each other without gaps.
fn offsets(region: &Region) -> Vec<u64> {
    let lens = region.ranges.iter().map(|(_, len)| *len as u64);
    lens.scan(0_u64, |offset, len| {
        let at = *offset;
        *offset = at.saturating_add(len);
        Some(at)
    })
    .collect()
}

/// Where in a region's ranges, without gaps, an address lies.
fn offset(region: &Region, offsets: &[u64], address: usize) -> u64 {
    let behind = region
        .ranges
        .partition_point(|(start, _)| *start <= address);
    behind.checked_sub(1).map_or(0, |range| {
        offsets[range] + (address - region.ranges[range].0) as u64
    })
}
