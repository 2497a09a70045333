//! More documents, made of the text's own words, until the index is as large as asked for.
//!
//! A made document is one of the text's with its words turned: it begins in the middle and goes on at the beginning. So the whole index grows evenly, each made
//! posting is one that indexing the turned text would give, and it is always the same.

use std::ops::Range;

use anyhow::{Context, Result};
use host_memory::heap::Heap;

use crate::index::{self, Index, Posting};

/// Rounds that are made in one go at most. A word's postings of all of them are written one after the other, which is many times faster than coming back to each word.
const BATCH: usize = 64;

/// Adds rounds of made documents until `heap` has about `target` bytes allocated; one round has a turned copy of each document, and the first one is made whenever the
/// heap is too small. `progress` is told the bytes allocated so far.
pub(crate) fn pad(heap: &mut Heap, target: usize, mut progress: impl FnMut(usize)) -> Result<()> {
    let originals = index::of(heap)?.next_document();
    let mut made = 0;
    let mut of_one_round = 0;
    loop {
        let before = heap.allocated();
        progress(before);
        let missing = target.saturating_sub(before);
        // As many as come nearest to the target.
        let rounds = if made == 0 {
            missing.min(1)
        } else {
            (missing + of_one_round / 2) / of_one_round.max(1)
        };
        if rounds == 0 {
            return Ok(());
        }
        let batch = made..made + rounds.min(BATCH) as u32;
        add_rounds(&mut *index::of(heap)?, originals, batch.clone())?;
        made = batch.end;
        of_one_round = (heap.allocated() - before) / batch.len();
    }
}

/// Adds a turned copy of each of the first `originals` documents in each of the rounds.
fn add_rounds(index: &mut Index, originals: u32, rounds: Range<u32>) -> Result<()> {
    let first = index.next_document();
    let made = originals.checked_mul(rounds.end - rounds.start);
    made.and_then(|made| first.checked_add(made))
        .context("too many documents: their numbers have 32 bits")?;
    let lengths: Vec<u32> = (0..originals)
        .map(|document| index.words_in(document))
        .collect();
    let mut of_text = Vec::new();
    for postings in index.iter_mut() {
        of_text.clear();
        of_text.extend(
            postings
                .iter()
                .take_while(|posting| posting.document < originals),
        );
        for (round, first) in rounds.clone().zip((first..).step_by(originals as usize)) {
            for in_document in of_text.chunk_by(|one, next| one.document == next.document) {
                let document = in_document[0].document;
                let length = lengths[document as usize];
                let turn = turn_of(round, length);
                // Those from `turn` on come first in the turned document.
                let (last, first_ones) = in_document
                    .split_at(in_document.partition_point(|posting| posting.position < turn));
                for posting in first_ones {
                    postings.push(Posting {
                        document: first + document,
                        position: posting.position - turn,
                    })?;
                }
                for posting in last {
                    postings.push(Posting {
                        document: first + document,
                        position: posting.position + (length - turn),
                    })?;
                }
            }
        }
    }
    for round in rounds {
        for document in 0..originals {
            let name = format!("{}, turned {} times", index.name_of(document), round + 1);
            index.add_name(&name, lengths[document as usize])?;
        }
    }
    Ok(())
}

/// At which word a document of `length` words begins in this round: steps by a prime, so that rounds of a document seldom repeat.
fn turn_of(round: u32, length: u32) -> u32 {
    ((u64::from(round) + 1) * 7919 % u64::from(length.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    use host_memory::page::page_size;

    use crate::state::State;
    use crate::text;

    const TEXTS: [&str; 4] = [
        "the cow and the cat",
        "",
        "space",
        "a cow in space, a cat in the cow",
    ];

    fn heap() -> Heap {
        let mut heap = Heap::create_anonymous(64 << 20).unwrap();
        index::create(&mut heap).unwrap();
        let mut index = index::of(&mut heap).unwrap();
        for text in TEXTS {
            index.add(text, text::words(text)).unwrap();
        }
        drop(index);
        heap
    }

    #[test]
    fn made_postings_are_those_of_the_turned_text() {
        let (mut padded, mut indexed) = (heap(), heap());
        add_rounds(&mut index::of(&mut padded).unwrap(), 4, 0..2).unwrap();
        add_rounds(&mut index::of(&mut padded).unwrap(), 4, 2..5).unwrap();
        for round in 0..5 {
            for text in TEXTS {
                let mut words: Vec<String> = text::words(text).collect();
                let turn = turn_of(round, words.len() as u32);
                words.rotate_left(turn as usize);
                let name = format!("{text}, turned {} times", round + 1);
                index::of(&mut indexed)
                    .unwrap()
                    .add(&name, words.iter())
                    .unwrap();
            }
        }
        let queries = ["cow", "the cow", "cow in space", "cat"]
            .map(|query| text::words(query).collect::<Vec<_>>());
        let padded = State::of(&index::of(&mut padded).unwrap(), &queries);
        assert_eq!(
            padded,
            State::of(&index::of(&mut indexed).unwrap(), &queries)
        );
        assert!(padded.documents == 24 && padded.answers[2].positions > 1);
    }

    #[test]
    fn the_heap_grows_to_what_was_asked_for() {
        let mut heap = Heap::create_anonymous(64 << 20).unwrap();
        index::create(&mut heap).unwrap();
        for name in ["one", "two"] {
            let words = (0..2000).map(|number| format!("word{}", number % 300));
            index::of(&mut heap).unwrap().add(name, words).unwrap();
        }
        // The touch area is so many pages, however large they are; what is added to it is the same everywhere.
        let target = index::TOUCH_PAGES * page_size() + (7 << 20);
        let mut told = Vec::new();
        pad(&mut heap, target, |done| told.push(done)).unwrap();
        let done = heap.allocated();
        assert!(done.abs_diff(target) < target / 50, "{done} bytes");
        assert!(told.is_sorted() && told.last() == Some(&done));
        pad(&mut heap, 0, |_| ()).unwrap();
        assert_eq!(heap.allocated(), done, "it is large enough");
    }
}
