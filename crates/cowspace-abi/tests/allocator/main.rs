//! An allocator crate on top of the C calls: threads allocate, fill, check, reallocate and free blocks, while another one
//! clones all that the heap lies in and maps the clones elsewhere, again and again.
//!
//! Each block has a pattern of its own. Threads write down which blocks are complete, and strike them out before they
//! touch them again. So what was written down both before and after a clone was made must be in it byte for byte, and
//! stay there whatever is stored to the heap later.

mod calls;
mod heap;

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::slice;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cowspace_zx as _; // What is called is not Rust: this only links it.
use host_memory::probe::Probe;
use test_share::share;

use heap::Heap;

const WORKERS: usize = 4;
/// Blocks that each of them has at most.
const BLOCKS: usize = 128;
/// What each of them does.
const ROUNDS: u32 = 100_000;
/// Of so many instants there are clones at a time.
const KEPT: usize = 3;

/// A complete block.
#[derive(Clone, Copy, PartialEq)]
struct Block {
    at: usize,
    len: usize,
    /// What its pattern is made of, and no other block's.
    seed: u64,
}

/// The heap, and what was written down.
struct Stress {
    heap: Heap,
    complete: Vec<Mutex<Option<Block>>>,
    seeds: AtomicU64,
}

/// The clone of one mapping that the heap lay in.
struct Copied {
    /// Where the heap had it.
    memory: Range<usize>,
    /// Where the clone is mapped.
    mapped: Range<usize>,
    /// What must be in it: the number of each block, and the block.
    blocks: Vec<(usize, Block)>,
}

/// What the cloning thread has seen.
#[derive(Debug, Default)]
struct Seen {
    clones: usize,
    /// Blocks in them.
    blocks: usize,
    /// Of these, how many were stored to, moved or freed while the clones were there.
    stored_later: usize,
}

#[test]
fn talc_lives_on_vmos() {
    let there_is = || [calls::INFO_VMAR_MAPS, calls::INFO_PROCESS_VMOS].map(calls::count);
    let before = there_is();
    let stress = Stress {
        heap: Heap::new(),
        complete: (0..WORKERS * BLOCKS).map(|_| Mutex::new(None)).collect(),
        seeds: AtomicU64::new(1),
    };
    let seen = thread::scope(|scope| {
        let stress = &stress;
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || stress.work(worker)))
            .collect();
        let seen = stress.clone_until(|| workers.iter().all(|worker| worker.is_finished()));
        for worker in workers {
            worker.join().expect("a worker's good end");
        }
        seen
    });
    let (grown, shrunk) = stress.heap.grown_and_shrunk();
    println!("traced={} grown={grown} shrunk={shrunk} {seen:?}", traced());
    assert_eq!(traced(), Probe::get().traced.is_yes());
    assert!(seen.blocks > 0 && seen.stored_later > 0);
    assert!(shrunk > 0 && stress.heap.mappings().len() == grown - shrunk);

    for block in stress.complete.iter().filter_map(taken) {
        assert!(has(block.at, &block), "a block of the heap is wrong");
        // SAFETY: allocated with this length, and nobody else knows of it any more.
        unsafe { stress.heap.free(block.at, block.len) };
    }
    // SAFETY: these were all.
    unsafe { stress.heap.end() };
    assert_eq!(there_is(), before, "mappings, VMOs");
}

/// The same where nothing can be traced.
#[test]
fn talc_lives_on_native_vmos() {
    let mut program = Command::new(env::current_exe().expect("a program"));
    program.args(["talc_lives_on_vmos", "--exact", "--nocapture"]);
    program.env("COWSPACE_DISABLE", "uffd");
    let output = program.output().expect("this program can be started");
    let [said, cried] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    let good = output.status.success() && said.contains("1 passed");
    assert!(
        good && said.contains("traced=false"),
        "{output:?}\n{said}\n{cried}"
    );
}

/// Whether the library has a userfaultfd.
fn traced() -> bool {
    let files = fs::read_dir("/proc/self/fd").expect("/proc");
    let of = |file: fs::DirEntry| fs::read_link(file.path()).unwrap_or_default();
    files
        .flatten()
        .any(|file| of(file).to_string_lossy().contains("userfaultfd"))
}

impl Stress {
    fn work(&self, worker: usize) {
        let mut random = Random(worker as u64 + 1);
        let mine = &self.complete[worker * BLOCKS..][..BLOCKS];
        for _ in 0..share(ROUNDS) {
            let place = &mine[random.below(BLOCKS)];
            let len = match random.below(16) {
                0 => 1 + random.below(50_000),
                _ => 1 + random.below(3000),
            };
            let next = match taken(place) {
                None => self.filled(self.heap.allocate(len), len),
                Some(old) => {
                    assert!(has(old.at, &old), "a block of the heap is wrong");
                    match random.below(4) {
                        0 => self.filled(old.at, old.len),
                        1 => {
                            // SAFETY: allocated with this length, and struck out, so that nobody else uses it.
                            let at = unsafe { self.heap.reallocate(old.at, old.len, len) };
                            let kept = Block {
                                len: old.len.min(len),
                                ..old
                            };
                            assert!(has(at, &kept), "a block has lost its bytes");
                            self.filled(at, len)
                        }
                        _ => {
                            // SAFETY: as above.
                            unsafe { self.heap.free(old.at, old.len) };
                            continue;
                        }
                    }
                }
            };
            *place.lock().expect("no panic") = Some(next);
        }
    }

    /// Gives a block a pattern of its own. It must be the caller's.
    fn filled(&self, at: usize, len: usize) -> Block {
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the heap gave it to the caller, who has struck it out.
        let bytes = unsafe { slice::from_raw_parts_mut(at as *mut u8, len) };
        for (words, part) in bytes.chunks_mut(8).enumerate() {
            part.copy_from_slice(&pattern(seed, words)[..part.len()]);
        }
        Block { at, len, seed }
    }

    fn clone_until(&self, done: impl Fn() -> bool) -> Seen {
        let mut seen = Seen::default();
        let mut kept = VecDeque::new();
        while !done() {
            let clones = self.clones();
            seen.clones += clones.len();
            for clone in &clones {
                clone.check();
                seen.blocks += clone.blocks.len();
            }
            kept.push_back(clones);
            if kept.len() > KEPT {
                seen.stored_later += self.ended(kept.pop_front().expect("clones"));
            }
        }
        for clones in kept {
            seen.stored_later += self.ended(clones);
        }
        seen
    }

    fn clones(&self) -> Vec<Copied> {
        let mappings = self.heap.mappings().into_iter();
        mappings
            .filter_map(|memory| self.clone_of(memory))
            .collect()
    }

    /// `None` if the heap has unmapped it meanwhile.
    fn clone_of(&self, memory: Range<usize>) -> Option<Copied> {
        let before = self.written_down();
        // Only now is it known that those blocks are in this mapping, and not in a later one at the same place.
        if !self.heap.mappings().contains(&memory) {
            return None;
        }
        let mapped = calls::clone_of(&memory);
        let after = self.written_down();
        let both = before.into_iter().zip(after).enumerate();
        let unchanged = both.filter_map(|(number, (before, after))| {
            let block = before.filter(|block| memory.contains(&block.at) && after == before)?;
            Some((number, block))
        });
        let blocks: Vec<_> = unchanged.collect();
        match mapped {
            Ok(mapped) => Some(Copied {
                memory,
                mapped,
                blocks,
            }),
            Err(status) => {
                assert!(blocks.is_empty(), "a mapping cannot be cloned: {status}");
                None
            }
        }
    }

    fn written_down(&self) -> Vec<Option<Block>> {
        let copy = |place: &Mutex<Option<Block>>| *place.lock().expect("no panic");
        self.complete.iter().map(copy).collect()
    }

    /// Looks at clones once more and unmaps them; tells how many of their blocks the heap has no more.
    fn ended(&self, clones: Vec<Copied>) -> usize {
        let now = self.written_down();
        let mut changed = 0;
        for clone in clones {
            clone.check();
            let blocks = clone.blocks.iter();
            changed += blocks
                .filter(|(number, block)| now[*number] != Some(*block))
                .count();
            // SAFETY: it was mapped for this thread alone. Stores to it are nothing to the heap, as the workers see.
            unsafe {
                (clone.mapped.start as *mut u8).write_bytes(0xa5, clone.mapped.len());
                calls::unmap(&clone.mapped);
            }
        }
        changed
    }
}

impl Copied {
    fn check(&self) {
        for (_, block) in &self.blocks {
            let at = self.mapped.start + (block.at - self.memory.start);
            assert!(has(at, block), "a block in a clone is wrong");
        }
    }
}

fn taken(place: &Mutex<Option<Block>>) -> Option<Block> {
    place.lock().expect("no panic").take()
}

/// Whether a block's pattern is there. It must be the caller's, or in a clone.
fn has(at: usize, block: &Block) -> bool {
    // SAFETY: nobody stores to the block of a caller, nor to a clone before its end.
    let bytes = unsafe { slice::from_raw_parts(at as *const u8, block.len) };
    let mut parts = bytes.chunks(8).enumerate();
    parts.all(|(words, part)| part == &pattern(block.seed, words)[..part.len()])
}

fn pattern(seed: u64, words: usize) -> [u8; 8] {
    let mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(words as u32);
    (mixed ^ words as u64).to_ne_bytes()
}

/// xorshift
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}
