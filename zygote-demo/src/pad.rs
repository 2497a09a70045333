//! More documents, made of the text's own words, until the index is as large as asked for.
//!
//! A made document is one of the text's with its words turned: it begins in the middle and goes on at the beginning. So the whole index grows evenly, each made
//! posting is one that indexing the turned text would give, and it is always the same.

use anyhow::{Context, Result};
use host_memory::heap::Heap;

use crate::index::{self, Index, Posting};

/// Adds rounds of made documents until `heap` has about `target` bytes allocated; one round has a turned copy of each document, and after the first round no further one is
/// added that would lead away from the target. `progress` is told the bytes allocated so far.
pub(crate) fn pad(heap: &mut Heap, target: usize, mut progress: impl FnMut(usize)) -> Result<()> {
    let originals = index::of(heap)?.next_document();
    let mut last_round = 0;
    for round in 1.. {
        let before = heap.allocated();
        progress(before);
        if before >= target || target - before <= last_round / 2 {
            break;
        }
        add_round(&mut *index::of(heap)?, originals, round)?;
        last_round = heap.allocated() - before;
    }
    Ok(())
}

/// Adds a turned copy of each of the first `originals` documents.
fn add_round(index: &mut Index, originals: u32, round: u32) -> Result<()> {
    let first = index.next_document();
    first.checked_add(originals).context("too many documents: their numbers have 32 bits")?;
    let lengths: Vec<u32> = (0..originals).map(|document| index.words_in(document)).collect();
    for postings in index.iter_mut() {
        let count = original_count(postings, originals);
        let mut at = 0;
        while at < count {
            let document = postings.get(at).document;
            let end = at + (at..count).take_while(|&next| postings.get(next).document == document).count();
            let length = lengths[document as usize];
            let turn = turn_of(round, length);
            // Those from `turn` on come first in the turned document.
            let middle = (at..end).find(|&next| postings.get(next).position >= turn).unwrap_or(end);
            for original in (middle..end).chain(at..middle) {
                let position = (postings.get(original).position + length - turn) % length;
                postings.push(Posting { document: first + document, position })?;
            }
            at = end;
        }
    }
    for document in 0..originals {
        let name = format!("{}, turned {round} times", index.name_of(document));
        index.add_name(&name, lengths[document as usize])?;
    }
    Ok(())
}

/// At which word a document of `length` words begins in this round: steps by a prime, so that rounds of a document seldom repeat.
fn turn_of(round: u32, length: u32) -> u32 {
    (u64::from(round) * 7919 % u64::from(length.max(1))) as u32
}

/// How many of a word's postings are those of the text itself.
fn original_count(postings: &index::Postings, originals: u32) -> usize {
    let (mut low, mut high) = (0, postings.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if postings.get(middle).document < originals {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::state::State;
    use crate::text;

    const TEXTS: [&str; 4] = ["the cow and the cat", "", "space", "a cow in space, a cat in the cow"];

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
        for round in 1..=5 {
            add_round(&mut index::of(&mut padded).unwrap(), 4, round).unwrap();
            for text in TEXTS {
                let mut words: Vec<String> = text::words(text).collect();
                let turn = turn_of(round, words.len() as u32);
                words.rotate_left(turn as usize);
                let name = format!("{text}, turned {round} times");
                index::of(&mut indexed).unwrap().add(&name, words.iter()).unwrap();
            }
        }
        let queries = ["cow", "the cow", "cow in space", "cat"].map(|query| text::words(query).collect::<Vec<_>>());
        let padded = State::of(&index::of(&mut padded).unwrap(), &queries);
        assert_eq!(padded, State::of(&index::of(&mut indexed).unwrap(), &queries));
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
        let target = 8 << 20;
        let mut told = Vec::new();
        pad(&mut heap, target, |done| told.push(done)).unwrap();
        let done = heap.allocated();
        assert!(done.abs_diff(target) < target / 50, "{done} bytes");
        assert!(told.is_sorted() && told.last() == Some(&done));
        pad(&mut heap, 0, |_| ()).unwrap();
        assert_eq!(heap.allocated(), done, "it is large enough");
    }
}
