//! What a process must see: the measured state of an index, and the state that one more document makes of it, worked out without the index.

use serde::{Deserialize, Serialize};

use crate::index::{self, Answer, Hit, Index, NewDocument};

/// A query: one word, or several that stand one after the other.
pub(crate) type Query = Vec<String>;

/// Everything that tells one index from another.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) documents: u32,
    /// Over every posting, see [`Index::checksum`].
    pub(crate) checksum: u64,
    /// To each query, in order.
    pub(crate) answers: Vec<Answer>,
}

impl State {
    /// Reads the whole index.
    pub(crate) fn of(index: &Index, queries: &[Query]) -> State {
        State {
            documents: index.next_document(),
            checksum: index.checksum(),
            answers: queries.iter().map(|query| index.find(query)).collect(),
        }
    }

    /// The state of this index with `document` added to it, by plain arithmetic on the document's words.
    pub(crate) fn with(&self, document: &NewDocument, queries: &[Query]) -> State {
        let add = |(query, answer): (&Query, &Answer)| {
            let mut places = places_of(query, &document.words).peekable();
            let first = places.peek().map(|&position| Hit {
                document: document.name.clone(),
                position,
            });
            let positions = places.count() as u64;
            Answer {
                documents: answer.documents + u64::from(positions > 0),
                positions: answer.positions + positions,
                first: answer.first.clone().or(first),
            }
        };
        State {
            documents: self.documents + 1,
            checksum: self
                .checksum
                .wrapping_add(index::checksum_of(self.documents, &document.words)),
            answers: queries.iter().zip(&self.answers).map(add).collect(),
        }
    }
}

fn places_of<'a>(query: &'a [String], words: &'a [String]) -> impl Iterator<Item = u32> + 'a {
    let windows = words.windows(query.len().max(1)).zip(0..);
    windows
        .filter(move |(window, _)| *window == query)
        .map(|(_, position)| position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_memory::heap::Heap;

    #[test]
    fn arithmetic_and_index_agree() {
        let mut heap = Heap::create_anonymous(64 << 20).unwrap();
        index::create(&mut heap).unwrap();
        let mut index = index::of(&mut heap).unwrap();
        let words = |text: &str| crate::text::words(text).collect::<Vec<_>>();
        index
            .add("base", words("one two three two three").iter())
            .unwrap();
        let queries = ["two", "two three", "four", "one two three two", ""].map(words);
        let mut expected = State::of(&index, &queries);
        for text in ["two three four", "four four", "", "one"] {
            let document = NewDocument {
                name: text.into(),
                words: words(text),
            };
            expected = expected.with(&document, &queries);
            index.add(&document.name, document.words.iter()).unwrap();
            assert_eq!(State::of(&index, &queries), expected, "after {text:?}");
        }
        assert_eq!(
            (expected.answers[0].positions, expected.answers[2].documents),
            (3, 2)
        );
    }
}
