//! What every row of the table does alike: which queries are asked, which documents are added, by whom.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::index::NewDocument;
use crate::state::Query;
use crate::text::{self, Document};

/// How many words of the text a child's own document has.
const OWN_WORDS: usize = 40;

/// How children come by the index: the rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    /// Cloned by cowspace, faults resolved by the kernel alone.
    CowspaceNative,
    /// Cloned by cowspace, each fault resolved and timed by the fault handler.
    CowspaceTraced,
    /// Copied by fork(2), from private anonymous memory.
    Fork,
    /// Built anew by a program that is executed.
    Cold,
}

impl How {
    /// The row's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            How::CowspaceNative => "cowspace-native",
            How::CowspaceTraced => "cowspace-traced",
            How::Fork => "fork",
            How::Cold => "cold",
        }
    }
}

/// Who writes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Zygote,
    /// Counted from 1.
    Child(usize),
}

/// The same for all rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Children of each generation.
    pub(crate) children: usize,
    /// Generations of children, at least one. Before each but the first the zygote changes its index.
    pub(crate) generations: usize,
    /// What each child answers at once.
    pub(crate) first: Vec<Query>,
    /// Words of the text, for documents to be made of.
    vocabulary: Vec<String>,
}

impl Plan {
    /// Plans for this text. Without queries it takes words that are neither frequent nor very rare, the rarest
    /// first, and a phrase.
    pub(crate) fn new(
        documents: &[Document],
        queries: &[String],
        children: usize,
        generations: usize,
    ) -> Plan {
        let by_frequency = by_frequency(documents);
        let mut first: Vec<Query> = queries
            .iter()
            .map(|query| text::words(query).collect())
            .collect();
        first.retain(|query| !query.is_empty());
        if first.is_empty() {
            let at = |part: usize| by_frequency.get(by_frequency.len() / part);
            first.extend(
                [4, 8, 16]
                    .into_iter()
                    .filter_map(at)
                    .map(|word| vec![word.clone()]),
            );
            first.dedup();
            first.extend(
                first
                    .first()
                    .and_then(|query| phrase_from(documents, &query[0])),
            );
        }
        let step = by_frequency.len().div_ceil(OWN_WORDS).max(1);
        let vocabulary = by_frequency.into_iter().step_by(step).collect();
        Plan {
            children,
            generations,
            first,
            vocabulary,
        }
    }

    /// The document that `author` adds: words that the index has, each query, and one word that nobody else uses.
    pub(crate) fn document(&self, how: How, generation: usize, author: Author) -> NewDocument {
        let mark = mark(how, generation, author);
        let mut words = vec![mark.clone()];
        words.extend(self.first.iter().flatten().cloned());
        words.extend(self.vocabulary.iter().cloned());
        NewDocument {
            name: format!("the document of {mark}"),
            words,
        }
    }

    /// What tells whether a process sees its own index: the first queries, and everybody's mark.
    pub(crate) fn queries(&self, how: How) -> Vec<Query> {
        let mut queries = self.first.clone();
        for generation in 1..=self.generations {
            let authors =
                std::iter::once(Author::Zygote).chain((1..=self.children).map(Author::Child));
            queries.extend(authors.map(|author| vec![mark(how, generation, author)]));
        }
        queries
    }
}

/// A word that stands in one document only.
fn mark(how: How, generation: usize, author: Author) -> String {
    let row = how.name().replace('-', "_");
    match author {
        Author::Zygote => format!("{row}_zygote_before_generation_{generation}"),
        Author::Child(child) => format!("{row}_generation_{generation}_child_{child}"),
    }
}

/// The text's words, most frequent first: those of several plain letters, if there are any.
fn by_frequency(documents: &[Document]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in documents
        .iter()
        .flat_map(|document| text::words(&document.text))
    {
        *counts.entry(word).or_default() += 1;
    }
    let is_plain =
        |word: &String| word.len() >= 5 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if counts.keys().any(is_plain) {
        counts.retain(|word, _| is_plain(word));
    }
    let mut words: Vec<_> = counts
        .into_iter()
        .map(|(word, count)| (std::cmp::Reverse(count), word))
        .collect();
    words.sort();
    words.into_iter().map(|(_, word)| word).collect()
}

/// The first place of `word` with the word after it.
fn phrase_from(documents: &[Document], word: &str) -> Option<Query> {
    documents.iter().find_map(|document| {
        let mut words = text::words(&document.text).skip_while(|found| found != word);
        Some(vec![words.next()?, words.next()?])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, queries: &[String]) -> Plan {
        let documents = [Document {
            name: "text".into(),
            text: text.into(),
        }];
        Plan::new(&documents, queries, 3, 2)
    }

    #[test]
    fn queries_are_taken_from_the_text_or_as_given() {
        let plan = plan(
            "the zebra crosses the river where another zebra waits",
            &["Zebra crosses".into(), "...".into()],
        );
        assert_eq!(plan.first, [["zebra", "crosses"]]);
        let plan = super::tests::plan("the zebra crosses the river where another zebra waits", &[]);
        assert_eq!(
            plan.first,
            [vec!["another"], vec!["zebra"], vec!["another", "zebra"]]
        );
    }

    #[test]
    fn a_text_of_one_word_will_do() {
        assert_eq!(plan("a", &[]).first, [["a"]]);
    }

    #[test]
    fn each_author_has_a_mark_of_its_own() {
        let plan = plan("the zebra crosses", &[]);
        let mut queries = plan.queries(How::Fork);
        assert_eq!(queries.len(), plan.first.len() + 2 * (1 + 3));
        let own = plan.document(How::Fork, 2, Author::Child(3));
        let found = queries
            .iter()
            .filter(|query| own.words.windows(query.len()).any(|words| words == *query))
            .count();
        assert_eq!(found, plan.first.len() + 1);
        queries.sort();
        queries.dedup();
        assert_eq!(queries.len(), plan.first.len() + 8);
    }
}
