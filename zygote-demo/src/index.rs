//! The inverted index: for each word, where it stands. All of it lies in a [`Heap`], nothing outside.
//!
//! ```text
//!  words: table of  word -> Postings -> chunk, chunk, chunk -> Posting { document, position }
//!  documents: list of names and lengths
//! ```
//!
//! Postings come in chunks of a fixed size, so that a new one never moves the old ones: a child that indexes a document of its own writes to the last chunk of
//! each word in it, and all other pages stay shared.

use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use hashbrown::HashMap;
use host_memory::heap::{Box, Heap, HeapRef, Root, Vec};
use host_memory::page::page_size;
use host_memory::stored;
use serde::{Deserialize, Serialize};

/// How many postings a full chunk has: 4 KiB of them.
const CHUNK: usize = 512;

/// How many pages the [touch area](Index::touch) has.
pub(crate) const TOUCH_PAGES: usize = 256;

/// One place where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posting {
    pub(crate) document: u32,
    /// Counted in words from the beginning of the document.
    pub(crate) position: u32,
}
stored!(Posting {
    document: u32,
    position: u32
});

/// All places of one word, in ascending order.
pub(crate) struct Postings {
    chunks: Vec<Vec<Posting, HeapRef>, HeapRef>,
}
stored!(Postings { chunks: Vec<Vec<Posting, HeapRef>, HeapRef> });

/// What is known of a document besides its words.
struct Document {
    name: Box<[u8], HeapRef>,
    words: u32,
}
stored!(Document { name: Box<[u8], HeapRef>, words: u32 });

/// Always the same, in each process: the hash of a word must be the same for whoever finds the table in its memory.
type Hashing = BuildHasherDefault<DefaultHasher>;

type Words = HashMap<Box<[u8], HeapRef>, Postings, Hashing, HeapRef>;

/// The root of the heap.
pub(crate) struct Index {
    words: Words,
    documents: Vec<Document, HeapRef>,
    touch_area: Vec<u64, HeapRef>,
}
stored!(Index { words: Words, documents: Vec<Document, HeapRef>, touch_area: Vec<u64, HeapRef> });

/// A document to be indexed, as names and words.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct NewDocument {
    pub(crate) name: String,
    pub(crate) words: std::vec::Vec<String>,
}

/// One place, as a reader wants it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) document: String,
    pub(crate) position: u32,
}

/// What a query finds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Documents with the word or phrase.
    pub(crate) documents: u64,
    /// Places where it stands.
    pub(crate) positions: u64,
    /// The first of them.
    pub(crate) first: Option<Hit>,
}

fn full<E>(_: E) -> anyhow::Error {
    anyhow!("the index does not fit into its heap: ask for a larger --heap, or index less text")
}

/// Makes an empty index the root of `heap`. The result has how long the first store to each page of the touch area took, in nanoseconds.
pub(crate) fn create(heap: &mut Heap) -> Result<std::vec::Vec<u64>> {
    let memory = heap.allocator();
    let mut touch_area: Vec<u64, HeapRef> = Vec::new_in(memory);
    let mut times = std::vec::Vec::with_capacity(TOUCH_PAGES);
    let length = TOUCH_PAGES * page_size() / size_of::<u64>();
    touch_area.try_reserve_exact(length).map_err(full)?;
    let start = touch_area.as_ptr().addr();
    for at in 0..length {
        if (start + at * size_of::<u64>()).is_multiple_of(page_size()) {
            let begin = Instant::now();
            touch_area.push(std::hint::black_box(1));
            times.push(nanoseconds_since(begin));
        } else {
            touch_area.push(1);
        }
    }
    let index = Index {
        words: HashMap::with_hasher_in(Hashing::default(), memory),
        documents: Vec::new_in(memory),
        touch_area,
    };
    heap.set_root(Box::try_new_in(index, memory).map_err(full)?)?;
    Ok(times)
}

/// The index in a heap that has one.
pub(crate) fn of(heap: &mut Heap) -> Result<Root<'_, Index>> {
    Ok(heap.root()?)
}

impl Index {
    /// Indexes a document, and says which number it got.
    pub(crate) fn add(
        &mut self,
        name: &str,
        words: impl Iterator<Item = impl AsRef<str>>,
    ) -> Result<u32> {
        let document = self.next_document();
        let mut position = 0;
        for word in words {
            self.postings_of(word.as_ref())?
                .push(Posting { document, position })?;
            position += 1;
        }
        self.add_name(name, position)?;
        Ok(document)
    }

    /// The number that the next document will get.
    pub(crate) fn next_document(&self) -> u32 {
        // `add_name` sees to it that it fits.
        self.documents.len() as u32
    }

    /// How many words the document has.
    pub(crate) fn words_in(&self, document: u32) -> u32 {
        self.documents[document as usize].words
    }

    /// The name of the document.
    pub(crate) fn name_of(&self, document: u32) -> String {
        String::from_utf8_lossy(&self.documents[document as usize].name).into_owned()
    }

    /// Enters the next document, whose postings the caller adds.
    pub(crate) fn add_name(&mut self, name: &str, words: u32) -> Result<()> {
        ensure!(
            self.next_document() < u32::MAX,
            "too many documents: their numbers have 32 bits"
        );
        let name = copy_in(name.as_bytes(), *self.documents.allocator())?;
        self.documents.try_reserve(1).map_err(full)?;
        self.documents.push(Document { name, words });
        Ok(())
    }

    /// All words with their postings, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Postings> {
        self.words.values_mut()
    }

    fn postings_of(&mut self, word: &str) -> Result<&mut Postings> {
        if !self.words.contains_key(word.as_bytes()) {
            let memory = *self.documents.allocator();
            self.words.try_reserve(1).map_err(full)?;
            self.words.insert(
                copy_in(word.as_bytes(), memory)?,
                Postings {
                    chunks: Vec::new_in(memory),
                },
            );
        }
        self.words
            .get_mut(word.as_bytes())
            .context("a word that was just added is not there")
    }

    /// Where a word stands, or several as a phrase.
    pub(crate) fn find(&self, query: &[String]) -> Answer {
        let mut answer = Answer::default();
        let mut last = None;
        self.for_each_match(query, |at| {
            answer.positions += 1;
            if last.replace(at.document) != Some(at.document) {
                answer.documents += 1;
            }
            if answer.first.is_none() {
                answer.first = Some(Hit {
                    document: self.name_of(at.document),
                    position: at.position,
                });
            }
        });
        answer
    }

    fn for_each_match(&self, query: &[String], mut found: impl FnMut(Posting)) {
        let lists: Option<std::vec::Vec<&Postings>> = query
            .iter()
            .map(|word| self.words.get(word.as_bytes()))
            .collect();
        let Some((first, rest)) = lists.as_ref().and_then(|lists| lists.split_first()) else {
            return;
        };
        for at in first.iter() {
            let follows = |(list, distance): (&&Postings, u32)| {
                at.position
                    .checked_add(distance)
                    .is_some_and(|position| list.contains(Posting { position, ..at }))
            };
            if rest.iter().zip(1..).all(follows) {
                found(at);
            }
        }
    }

    /// One number for the whole content, the sum of each posting's [`mark`]: so that what one document adds to it can be told without the index.
    pub(crate) fn checksum(&self) -> u64 {
        let of_word = |(word, postings): (&Box<[u8], HeapRef>, &Postings)| {
            let word = word_mark(word);
            postings
                .iter()
                .fold(0u64, |sum, posting| sum.wrapping_add(mark(word, posting)))
        };
        self.words.iter().map(of_word).fold(0, u64::wrapping_add)
    }

    /// Stores to one byte of each page of a part of the heap that nobody has written to since it was warmed, and times each store in nanoseconds: in a child, that is
    /// the latency of a copy-on-write fault as the faulting thread sees it.
    pub(crate) fn touch(&mut self) -> std::vec::Vec<u64> {
        let words_of_page = page_size() / size_of::<u64>();
        let store = |word: &mut u64| {
            let begin = Instant::now();
            *std::hint::black_box(word) = 2;
            nanoseconds_since(begin)
        };
        self.touch_area
            .iter_mut()
            .step_by(words_of_page)
            .map(store)
            .collect()
    }
}

impl Postings {
    /// Appends a posting, which must not come before those that are there.
    pub(crate) fn push(&mut self, posting: Posting) -> Result<()> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            let memory = *self.chunks.allocator();
            self.chunks.try_reserve(1).map_err(full)?;
            self.chunks.push(Vec::new_in(memory));
        }
        let Some(chunk) = self.chunks.last_mut() else {
            return Err(full(()));
        };
        if chunk.len() == chunk.capacity() {
            chunk
                .try_reserve_exact(chunk.len().clamp(1, CHUNK / 2))
                .map_err(full)?;
        }
        chunk.push(posting);
        Ok(())
    }

    /// All places in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Posting> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    fn contains(&self, posting: Posting) -> bool {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|last| *last < posting));
        self.chunks
            .get(chunk)
            .is_some_and(|chunk| chunk.binary_search(&posting).is_ok())
    }
}

/// What a document with this number adds to the [checksum](Index::checksum).
pub(crate) fn checksum_of(document: u32, words: &[String]) -> u64 {
    let marks = words
        .iter()
        .zip(0..)
        .map(|(word, position)| mark(word_mark(word.as_bytes()), Posting { document, position }));
    marks.fold(0, u64::wrapping_add)
}

fn word_mark(word: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

/// Mixes a word and a place into one number: a multiplication to 128 bits, folded, as wyhash does it.
fn mark(word: u64, posting: Posting) -> u64 {
    let place = u64::from(posting.document) << 32 | u64::from(posting.position);
    let product = u128::from(word ^ place) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

fn copy_in(bytes: &[u8], memory: HeapRef) -> Result<Box<[u8], HeapRef>> {
    let mut copy = Vec::new_in(memory);
    copy.try_reserve_exact(bytes.len()).map_err(full)?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}

fn nanoseconds_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> std::vec::Vec<String> {
        crate::text::words(text).collect()
    }

    fn heap() -> Heap {
        let mut heap = Heap::create_anonymous(64 << 20).unwrap();
        create(&mut heap).unwrap();
        heap
    }

    #[test]
    fn words_and_phrases_are_found_where_they_stand() {
        let mut heap = heap();
        let mut index = of(&mut heap).unwrap();
        index
            .add("one", words("the cow and the space").iter())
            .unwrap();
        index
            .add("two", words("the space of a cow, the space").iter())
            .unwrap();
        let find = |query: &str| index.find(&words(query));
        let at = |document: &str, position| {
            Some(Hit {
                document: document.into(),
                position,
            })
        };
        assert_eq!(
            find("the"),
            Answer {
                documents: 2,
                positions: 4,
                first: at("one", 0)
            }
        );
        assert_eq!(
            find("of"),
            Answer {
                documents: 1,
                positions: 1,
                first: at("two", 2)
            }
        );
        assert_eq!(
            find("the space"),
            Answer {
                documents: 2,
                positions: 3,
                first: at("one", 3)
            }
        );
        assert_eq!(
            find("cow the space"),
            Answer {
                documents: 1,
                positions: 1,
                first: at("two", 4)
            }
        );
        assert_eq!(
            find("space the"),
            Answer::default(),
            "a phrase does not run from one document into the next"
        );
        assert_eq!(find("absent"), Answer::default());
        assert_eq!(index.find(&[]), Answer::default());
    }

    #[test]
    fn long_lists_are_chunked_and_searched() {
        let mut heap = heap();
        let mut index = of(&mut heap).unwrap();
        for document in 0..2000 {
            let text = if document % 3 == 0 {
                "common phrase"
            } else {
                "common word"
            };
            index
                .add(&document.to_string(), words(text).iter())
                .unwrap();
        }
        assert_eq!(index.find(&words("common")).positions, 2000);
        assert_eq!(index.find(&words("common phrase")).documents, 667);
        let common = index.words.get(&b"common"[..]).unwrap();
        assert!(
            common.chunks.len() == 4 && common.iter().map(|posting| posting.document).eq(0..2000)
        );
    }

    #[test]
    fn a_document_adds_what_it_says_to_the_checksum() {
        let mut heap = heap();
        let mut index = of(&mut heap).unwrap();
        index.add("one", words("a b a").iter()).unwrap();
        let before = index.checksum();
        let added = words("b c b a");
        let number = index.add("two", added.iter()).unwrap();
        assert_eq!(
            index.checksum(),
            before.wrapping_add(checksum_of(number, &added))
        );
        assert_ne!(
            checksum_of(number, &added),
            checksum_of(number, &words("b c a b")),
            "the order counts"
        );
    }

    #[test]
    fn a_full_heap_is_an_error() {
        let mut heap = Heap::create_anonymous(TOUCH_PAGES * page_size() + (64 << 10)).unwrap();
        create(&mut heap).unwrap();
        let mut index = of(&mut heap).unwrap();
        let error = (0..)
            .find_map(|number| {
                index
                    .add(&number.to_string(), [number.to_string()].iter())
                    .err()
            })
            .unwrap();
        assert!(error.to_string().contains("--heap"), "{error}");
    }
}
