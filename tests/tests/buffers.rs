//! The program's buffers may lie in memory that the engine serves: in a mapping that was just cloned, so that no page of it is there. The calls of VMOs, system calls and
//! locks work with them as with any memory.

#![forbid(unsafe_code)]

use std::io::{IoSliceMut, Read, Seek, Write};
use std::sync::{Condvar, Mutex};
use std::thread;

use cowspace::{Policy, Vmar, Vmo, VmoChildOptions};
use cowspace_tests::{RW, page};
use host_memory::heap::{Box, Heap, HeapRef, Vec};
use host_memory::page::HostRange;

/// Bytes of a buffer: an odd number, over several pages, and more than the engine moves at once.
const LEN: usize = 300_001;
/// Room for some buffers.
const HEAP_LEN: usize = 2 << 20;
/// And behind it room that only the calls touch.
const VMO_LEN: usize = 3 << 20;

/// A VMO and a heap in the first pages of a mapping of all of it. The mapping stays: what lies in a heap may be used for ever.
struct Arena<'a> {
    vmo: &'a Vmo,
    heap: Heap,
}

fn new_vmo() -> Vmo {
    Vmo::create(VMO_LEN as u64).expect("a VMO")
}

impl Arena<'_> {
    fn new(vmo: &Vmo, policy: Policy) -> Arena<'_> {
        let addr = Vmar::root_self()
            .map_with_policy(0, vmo, 0, VMO_LEN, RW, policy)
            .expect("a mapping");
        let range = HostRange::new(addr, HEAP_LEN).expect("whole pages");
        Arena {
            vmo,
            heap: Heap::create(range).expect("a heap in mapped memory"),
        }
    }

    /// A buffer with content that `seed` chooses.
    fn buffer(&self, seed: usize) -> Vec<u8, HeapRef> {
        let mut buffer = Vec::with_capacity_in(LEN, self.heap.allocator());
        buffer.extend(pattern(seed));
        buffer
    }

    /// Clones all of the memory. Afterwards no page of the mapping can be stored to without a fault, and after the first time none is there.
    fn snapshot(&self) -> Vmo {
        snapshot(self.vmo)
    }

    /// Where a buffer lies in the VMO.
    fn offset_of(&self, buffer: &[u8]) -> u64 {
        (buffer.as_ptr().addr() - self.heap.range().start()) as u64
    }
}

fn snapshot(vmo: &Vmo) -> Vmo {
    vmo.create_child(VmoChildOptions::SNAPSHOT, 0, VMO_LEN as u64)
        .expect("a snapshot")
}

fn pattern(seed: usize) -> impl ExactSizeIterator<Item = u8> {
    (0..LEN).map(move |at| (at * 7 + at / 251 + seed * 101) as u8)
}

#[track_caller]
fn assert_holds(buffer: &[u8], seed: usize) {
    let wrong = buffer
        .iter()
        .zip(pattern(seed))
        .position(|(have, want)| *have != want);
    assert_eq!(
        (buffer.len(), wrong),
        (LEN, None),
        "the length, and the first wrong byte"
    );
}

/// `buffer` in `arena` is written to `vmo` and read back, each time right after a snapshot.
fn write_and_read(arena: &Arena<'_>, vmo: &Vmo, offset: u64) {
    let mut buffer = arena.buffer(1);
    let before = arena.snapshot();
    vmo.write(&buffer, offset)
        .expect("writing from a cloned buffer");
    let mut there = vec![0; LEN];
    vmo.read(&mut there, offset).expect("reading");
    assert_holds(&there, 1);

    vmo.write(&std::vec::Vec::from_iter(pattern(2)), offset)
        .expect("writing");
    let after = arena.snapshot();
    vmo.read(&mut buffer, offset)
        .expect("reading into a cloned buffer");
    assert_holds(&buffer, 2);
    // The clones have what the buffer held then.
    let at = arena.offset_of(&buffer);
    for clone in [before, after] {
        clone.read(&mut there, at).expect("reading");
        assert_holds(&there, 1);
    }
}

fn of_the_same_vmo(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    write_and_read(&arena, &vmo, (HEAP_LEN + page()) as u64 - 1);
}

fn of_a_relative(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    let child = arena.snapshot();
    write_and_read(&arena, &child, 5);
    write_and_read(&arena, &snapshot(&child), 77);
}

fn of_a_stranger(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    write_and_read(&arena, &new_vmo(), 1);
}

/// The source is the destination.
fn over_itself(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    let mut buffer = arena.buffer(3);
    let at = arena.offset_of(&buffer);
    arena.snapshot();
    arena
        .vmo
        .write(&buffer, at)
        .expect("writing a buffer over itself");
    assert_holds(&buffer, 3);
    arena.snapshot();
    arena
        .vmo
        .read(&mut buffer, at)
        .expect("reading a buffer over itself");
    assert_holds(&buffer, 3);
}

/// Two threads write to and read from each other's VMO, with buffers in their own, while both are cloned.
fn crosswise(policy: Policy) {
    const ROUNDS: usize = 40;
    let vmos = [new_vmo(), new_vmo()];
    let play = |mine: &Vmo, other: &Vmo| {
        // A heap belongs to one thread.
        let arena = Arena::new(mine, policy);
        let mut buffer = arena.buffer(0);
        for round in 0..ROUNDS {
            buffer.clear();
            buffer.extend(pattern(round));
            // Only this thread uses the other's pages behind the heap.
            let offset = (HEAP_LEN + round) as u64;
            let part = &mut buffer[..2 * page()];
            other.write(part, offset).expect("writing to the other's");
            part.fill(0);
            other.read(part, offset).expect("reading from the other's");
            assert_holds(&buffer, round);
        }
    };
    thread::scope(|scope| {
        let [left, right] = &vmos;
        let players = [(left, right), (right, left)]
            .map(|(mine, other)| scope.spawn(move || play(mine, other)));
        while !players.iter().all(|player| player.is_finished()) {
            vmos.iter().for_each(|vmo| drop(snapshot(vmo)));
        }
    });
}

/// Through a pipe and back, from and into cloned buffers.
fn pipes(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    let (source, mut sink) = (arena.buffer(4), arena.buffer(0));
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    thread::scope(|scope| {
        arena.snapshot();
        // More than a pipe holds, so both sides wait for each other in between.
        let bytes = &source[..];
        scope.spawn(move || {
            writer
                .write_all(bytes)
                .expect("write(2) from a cloned buffer")
        });
        reader
            .read_exact(&mut sink)
            .expect("read(2) into a cloned buffer");
    });
    assert_holds(&sink, 4);
    assert_holds(&source, 4);
}

/// Through a file and back; back with readv(2).
fn files(policy: Policy) {
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    let (source, mut sink) = (arena.buffer(5), arena.buffer(0));
    let mut file = tempfile::tempfile().expect("a temporary file");
    arena.snapshot();
    file.write_all(&source)
        .expect("write(2) from a cloned buffer");
    file.rewind().expect("a file can be rewound");
    let before = arena.snapshot();
    let (first, second) = sink.split_at_mut(LEN / 3);
    let mut parts = [IoSliceMut::new(first), IoSliceMut::new(second)];
    let read = file
        .read_vectored(&mut parts)
        .expect("readv(2) into cloned buffers");
    assert_eq!(read, LEN, "a regular file gives all it has");
    assert_holds(&sink, 5);
    let mut there = vec![0; LEN];
    before
        .read(&mut there, arena.offset_of(&sink))
        .expect("reading");
    assert_holds(&there, 0);
}

/// Locks, whose threads wait in futex(2) on a word of such memory. Cloning must not lose a wake-up.
fn locks(policy: Policy) {
    const ROUNDS: u32 = 300;
    let vmo = new_vmo();
    let arena = Arena::new(&vmo, policy);
    // In the heap: the words that the threads wait on. It is not to move to another thread, but what it refers to may.
    let turns = Box::new_in((Mutex::new(0u32), Condvar::new()), arena.heap.allocator());
    let (turn, changed) = &*turns;
    let play = |me: u32| {
        for _ in 0..ROUNDS {
            let mut turn = changed
                .wait_while(turn.lock().expect("no panic"), |turn| *turn % 2 != me)
                .expect("no panic");
            *turn += 1;
            drop(turn);
            changed.notify_one();
        }
    };
    thread::scope(|scope| {
        let players = [0, 1].map(|me| scope.spawn(move || play(me)));
        while !players.iter().all(|player| player.is_finished()) {
            drop(snapshot(&vmo));
        }
    });
    assert_eq!(*turn.lock().expect("no panic"), 2 * ROUNDS);
}

macro_rules! both_policies {
    ($($test:ident)*) => {$(
        mod $test {
            use super::Policy;

            #[test]
            fn traced() {
                super::$test(Policy::Traced);
            }

            #[test]
            fn native() {
                super::$test(Policy::Native);
            }
        }
    )*};
}

both_policies!(of_the_same_vmo of_a_relative of_a_stranger over_itself crosswise pipes files locks);
