//! Moving pages from one VMO to another.

use std::ops::Range;

use cowspace::{Rights, Status, TransferDataOptions};

use super::ops::Move;
use super::world::{World, pick};
use crate::page;

impl World {
    pub(super) fn transfer(&mut self, step: Move) {
        let handle = |number| pick(number, self.vmos.len());
        let (Some(to), Some(from)) = (handle(step.to), handle(step.from)) else {
            return;
        };
        let (target, source) = (self.vmos[to].object, self.vmos[from].object);
        let have = |object| self.objects.window(object).len();
        let (mut at, mut from_at, mut pages) = (step.at, step.from_at, step.pages);
        // Mostly inside.
        if step.to < 28 && step.from < 28 {
            at %= have(target).max(1);
            from_at %= have(source).max(1);
            let room = have(target).saturating_sub(at);
            pages = pages.min(room).min(have(source).saturating_sub(from_at));
        }
        let real = self.vmos[to].vmo.transfer_data(
            TransferDataOptions::empty(),
            self.objects.base(target) + (at * page()) as u64,
            pages as u64 * page() as u64 + step.odd,
            &self.vmos[from].vmo,
            self.objects.base(source) + (from_at * page()) as u64,
        );
        let expected = self.may_transfer([to, from], [at, from_at], pages, step.odd);
        if self.agree("transfer_data", real, expected).is_some()
            && (target, at) != (source, from_at)
        {
            let at = self.objects.window(target).start + at;
            let from_at = self.objects.window(source).start + from_at;
            self.move_pages(target, at, source, from_at..from_at + pages);
        }
    }

    /// Destination first.
    fn may_transfer(
        &self,
        [to, from]: [usize; 2],
        [at, from_at]: [usize; 2],
        pages: usize,
        odd: u64,
    ) -> Result<(), Status> {
        let (to, from) = (&self.vmos[to], &self.vmos[from]);
        let has = |object, first| first + pages <= self.objects.window(object).len();
        if odd > 0 {
            Err(Status::INVALID_ARGS)
        } else if !to.rights.contains(Rights::WRITE)
            || !from.rights.contains(Rights::READ | Rights::WRITE)
        {
            Err(Status::ACCESS_DENIED)
        } else if (to.object, at) == (from.object, from_at)
            || has(from.object, from_at) && has(to.object, at)
        {
            Ok(())
        } else {
            Err(Status::OUT_OF_RANGE)
        }
    }

    /// Moves pages of the memory behind `source` to page `at` of the one behind `target`.
    fn move_pages(&mut self, target: usize, at: usize, source: usize, pages: Range<usize>) {
        let one_memory = self.objects.list[target].memory == self.objects.list[source].memory;
        if pages.is_empty() || one_memory && at == pages.start {
            return;
        }
        // What is not known exactly of the source's pages is not known of those that they become.
        let inexact = self.objects.inexact(source);
        let into = self.objects.memory(target).family;
        self.objects.families[into].zeros |= inexact.zeros;
        let bytes = pages.start * page()..pages.end * page();
        let memory = self.objects.memory_mut(source);
        let moved = memory.bytes[bytes.clone()].to_vec();
        let holds: Vec<bool> = memory.pages[pages].iter().map(Option::is_some).collect();
        memory.zero(bytes, &mut self.contents);

        let memory = &mut self.objects.memories[self.objects.list[target].memory];
        memory.same_written |= inexact.same;
        for (index, data) in moved.chunks(page()).enumerate() {
            let start = (at + index) * page();
            if holds[index] {
                memory.write(start, data, &mut self.contents);
            } else {
                memory.zero(start..start + page(), &mut self.contents);
            }
        }
    }
}
