//! A model of VMO families that copies bytes, and the engine's part in miniature: layers with contents. Every operation is
//! done to the tree and to the model; [`World::check`] compares all that can be asked.
//!
//! The "bytes" of a page are one number. Each write makes a new one, so equal numbers are copies of one another, and the share count of a
//! content is the number of memories that have the number. 0 is a page without content.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use page_tree::{Attribution, Decommit, LayerId, Place, Shows, Tree, VmoId};

#[derive(Default)]
pub(crate) struct World {
    pub(crate) tree: Tree,
    vmos: Vec<Vmo>,
    memories: BTreeMap<u64, Memory>,
    /// What the layers hold.
    bytes: HashMap<(LayerId, u64), u64>,
    /// Given out so far: layers, contents, memories and families are all numbered by it.
    last: u64,
}

struct Memory {
    pages: Vec<u64>,
    family: u64,
    /// The layer that the memory writes in place.
    home: LayerId,
}

struct Vmo {
    id: VmoId,
    memory: u64,
    /// Of a slice.
    window: Option<Range<u64>>,
    /// Not a slice or reference.
    own: bool,
    parent: Option<VmoId>,
}

/// Where a write puts its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// The memory's own layer, at the page's own offset: over what it wrote there before.
    Home,
    /// The beginning of a new layer.
    New,
    /// The same, and of the pages every other one, said all at once.
    NewScattered,
}

impl World {
    pub(crate) fn alive(&self) -> usize {
        self.vmos.len()
    }

    pub(crate) fn create(&mut self, pages: u64) {
        let id = self.tree.create(pages);
        let family = self.next();
        let memory = self.add_memory(vec![0; pages as usize], family);
        self.vmos.push(Vmo {
            id,
            memory,
            window: None,
            own: true,
            parent: None,
        });
    }

    pub(crate) fn snapshot(&mut self, at: usize, offset: u64, pages: u64) {
        let (parent, memory) = (self.vmos[at].id, self.vmos[at].memory);
        let content: Vec<u64> = (offset..offset + pages)
            .map(|page| self.content(at, page))
            .collect();
        let id = self.tree.snapshot(parent, offset, pages);

        let home = self.memories[&memory].home;
        if !self.tree.uses(parent, home) {
            // What the home had, if anything, is a hidden node's now: sealed.
            let home = LayerId(self.next());
            self.memories.get_mut(&memory).unwrap().home = home;
        }
        let family = self.memories[&memory].family;
        let memory = self.add_memory(content, family);
        self.vmos.push(Vmo {
            id,
            memory,
            window: None,
            own: true,
            parent: Some(parent),
        });
    }

    pub(crate) fn slice(&mut self, at: usize, offset: u64, pages: u64) {
        let (parent, memory) = (self.vmos[at].id, self.vmos[at].memory);
        let start = self.vmos[at]
            .window
            .as_ref()
            .map_or(0, |window| window.start)
            + offset;
        let id = self.tree.slice(parent, offset, pages);
        self.vmos.push(Vmo {
            id,
            memory,
            window: Some(start..start + pages),
            own: false,
            parent: Some(parent),
        });
    }

    pub(crate) fn reference(&mut self, at: usize) {
        let Vmo {
            id,
            memory,
            ref window,
            ..
        } = self.vmos[at];
        let window = window.clone();
        self.vmos.push(Vmo {
            id: self.tree.reference(id),
            memory,
            window,
            own: false,
            parent: Some(id),
        });
    }

    pub(crate) fn write(&mut self, at: usize, pages: Range<u64>, to: To) {
        let inside = self.inside(at, pages.clone());
        let (layer, first) = match to {
            To::Home => (self.memories[&self.vmos[at].memory].home, inside.start),
            To::New | To::NewScattered => (LayerId(self.next()), 0),
        };
        let scattered = matches!(to, To::NewScattered);
        for page in inside.clone().step_by(if scattered { 2 } else { 1 }) {
            let place = (layer, first + page - inside.start);
            if self.bytes.contains_key(&place) {
                self.assert_unseen_by_others(at, place);
            }
            let content = self.next();
            self.bytes.insert(place, content);
            self.memory_mut(at).pages[page as usize] = content;
        }
        let id = self.vmos[at].id;
        if scattered {
            // Of the VMO's pages, of which some may lie behind the end.
            let runs = pages
                .clone()
                .step_by(2)
                .map(|page| (page..page + 1, page - pages.start));
            self.tree.own_all(id, layer, &runs.collect::<Vec<_>>());
        } else {
            self.tree.own(id, pages, layer, first);
        }
    }

    pub(crate) fn zero(&mut self, at: usize, pages: Range<u64>) {
        let inside = self.inside(at, pages.clone());
        self.memory_mut(at).pages[inside.start as usize..inside.end as usize].fill(0);
        self.tree.zero(self.vmos[at].id, pages);
    }

    pub(crate) fn decommit(&mut self, at: usize, pages: Range<u64>) {
        let done = self.tree.decommit(self.vmos[at].id, pages.clone());
        if self.is_alone(at) {
            assert_eq!(done, Ok(()));
            let inside = self.inside(at, pages);
            self.memory_mut(at).pages[inside.start as usize..inside.end as usize].fill(0);
        } else {
            assert_eq!(done, Err(Decommit::NotSupported));
        }
    }

    pub(crate) fn resize(&mut self, at: usize, pages: u64) {
        self.tree.resize(self.vmos[at].id, pages);
        if self.vmos[at].window.is_none() {
            self.memory_mut(at).pages.resize(pages as usize, 0);
        }
    }

    pub(crate) fn close(&mut self, at: usize) {
        let gone = self.vmos.remove(at);
        self.tree.close(gone.id);
        for vmo in &mut self.vmos {
            if vmo.parent == Some(gone.id) {
                vmo.parent = gone.parent;
            }
        }
        if !self.vmos.iter().any(|vmo| vmo.memory == gone.memory) {
            self.memories.remove(&gone.memory);
        }
    }

    /// What the engine does in the background: copies what the tree names into a new layer.
    pub(crate) fn compact(&mut self, at: usize) {
        let v = self.vmos[at].id;
        let mut held: HashMap<LayerId, u64> = HashMap::new();
        for (layer, _) in self.bytes.keys() {
            *held.entry(*layer).or_default() += 1;
        }
        let live: HashSet<LayerId> = self.memories.values().map(|memory| memory.home).collect();
        let runs = self.tree.compactable(v, &|layer| {
            held.get(&layer).copied().filter(|_| !live.contains(&layer))
        });
        let layer = LayerId(self.next());
        for run in runs {
            let Place::In(from, first) = run.place else {
                panic!("nothing to copy in {run:?}")
            };
            assert!(!live.contains(&from), "{from:?} was not to be touched");
            for page in run.pages.clone() {
                let content = self.bytes[&(from, first + page - run.pages.start)];
                self.bytes.insert((layer, page), content);
            }
            self.tree
                .relocate(v, run.pages.clone(), layer, run.pages.start);
        }
    }

    /// Compares everything that can be asked of the tree with the model.
    pub(crate) fn check(&mut self) {
        self.tree.check_invariants();
        self.forget_dead_layers();
        let readers = self.readers();
        for at in 0..self.vmos.len() {
            self.check_content(at);
            self.check_relatives(at);
            self.check_attribution(at, &readers);
        }
        self.check_references(&readers);
    }

    fn check_content(&self, at: usize) {
        let v = self.vmos[at].id;
        let pages = self.tree.pages(v);
        assert_eq!(pages, self.pages(at), "size of VMO {at}");
        for page in 0..pages {
            assert_eq!(
                self.read(v, page),
                self.content(at, page),
                "page {page} of VMO {at}"
            );
        }
        assert_eq!(self.tree.resolve(v, pages), Place::Zero);

        let (memory, content) = (
            self.tree.memory(v),
            &self.memories[&self.vmos[at].memory].pages,
        );
        assert_eq!(
            self.tree.pages(memory),
            content.len() as u64,
            "size of the memory of VMO {at}"
        );
        for (page, &content) in (0..).zip(content) {
            assert_eq!(
                self.read(memory, page),
                content,
                "page {page} of the memory of VMO {at}"
            );
        }
        let zero = content.iter().all(|&content| content == 0);
        assert!(zero || !self.tree.is_blank(v), "VMO {at} is called blank");

        let mut page = 0;
        while page < pages {
            let run = self.tree.run(v, page..pages);
            assert!(
                run.pages.start == page && !run.pages.is_empty() && run.pages.end <= pages,
                "{run:?}"
            );
            for page in run.pages.clone() {
                assert_eq!(
                    run.place.plus(page - run.pages.start),
                    self.tree.resolve(v, page)
                );
            }
            page = run.pages.end;
        }
        let mut before = 0;
        for run in self.tree.own_runs(v) {
            assert!(
                run.pages.start >= before && !run.pages.is_empty() && run.pages.end <= pages,
                "{run:?}"
            );
            assert_eq!(run.place, self.tree.resolve(v, run.pages.start));
            if let Place::In(layer, _) = run.place {
                assert!(self.tree.uses(v, layer));
            }
            before = run.pages.end;
        }
    }

    fn check_relatives(&self, at: usize) {
        let vmo = &self.vmos[at];
        assert_eq!(self.tree.parent(vmo.id), vmo.parent, "parent of VMO {at}");
        let children = self
            .vmos
            .iter()
            .filter(|child| child.parent == Some(vmo.id))
            .count();
        assert_eq!(self.tree.children(vmo.id), children, "children of VMO {at}");
        assert_eq!(
            self.tree.is_alone(vmo.id),
            self.is_alone(at),
            "relatives of VMO {at}"
        );
        for other in &self.vmos {
            let same = self.tree.memory(vmo.id) == self.tree.memory(other.id);
            assert_eq!(same, vmo.memory == other.memory, "memory of VMO {at}");
        }
    }

    /// The two halves, so that ranges are looked at too.
    fn check_attribution(&self, at: usize, readers: &HashMap<u64, u64>) {
        for pages in [0..7, 7..u64::MAX] {
            let mut expected = Attribution::default();
            if self.vmos[at].own {
                let inside = self.inside(at, pages.clone());
                let content = &self.memories[&self.vmos[at].memory].pages;
                for content in &content[inside.start as usize..inside.end as usize] {
                    if let Some(&count) = readers.get(content) {
                        expected.populated += 1;
                        expected.private += u64::from(count == 1);
                        *expected.shares.entry(count).or_default() += 1;
                    }
                }
            }
            assert_eq!(
                self.tree.attribution(self.vmos[at].id, pages),
                expected,
                "charge of VMO {at}"
            );
        }
    }

    /// The tree refers to each content that somebody can see once, and to nothing else: no more than eager copies.
    fn check_references(&self, readers: &HashMap<u64, u64>) {
        let referred: u64 = self.tree.layers().map(|(_, pages)| pages).sum();
        assert_eq!(referred, readers.len() as u64, "pages referred to");
    }

    fn forget_dead_layers(&mut self) {
        let dead: BTreeSet<LayerId> = self.tree.take_dead_layers().collect();
        for &layer in &dead {
            assert_eq!(self.tree.layer_pages(layer), 0);
        }
        // If a dead layer is still seen, reading it finds no bytes.
        self.bytes.retain(|(layer, _), _| !dead.contains(layer));
        for (layer, _) in self.bytes.keys() {
            assert!(
                self.tree.layer_pages(*layer) > 0,
                "{layer:?} was not reported as dead"
            );
        }
    }

    /// Content -> how many memories have it.
    fn readers(&self) -> HashMap<u64, u64> {
        let mut readers = HashMap::new();
        for memory in self.memories.values() {
            let contents: HashSet<u64> = memory
                .pages
                .iter()
                .copied()
                .filter(|&content| content != 0)
                .collect();
            for content in contents {
                *readers.entry(content).or_default() += 1;
            }
        }
        readers
    }

    fn assert_unseen_by_others(&self, writer: usize, (layer, page): (LayerId, u64)) {
        for other in self
            .vmos
            .iter()
            .filter(|other| other.memory != self.vmos[writer].memory)
        {
            for seen in 0..self.tree.pages(other.id) {
                assert_ne!(
                    self.tree.resolve(other.id, seen),
                    Place::In(layer, page),
                    "a write would change a relative"
                );
            }
        }
    }

    fn read(&self, v: impl Shows, page: u64) -> u64 {
        match self.tree.resolve(v, page) {
            Place::Zero => 0,
            Place::In(layer, page) => self.bytes[&(layer, page)],
        }
    }

    fn content(&self, at: usize, page: u64) -> u64 {
        let inside = self.inside(at, page..page + 1);
        let content = &self.memories[&self.vmos[at].memory].pages;
        inside
            .clone()
            .next()
            .map_or(0, |page| content[page as usize])
    }

    fn pages(&self, at: usize) -> u64 {
        let vmo = &self.vmos[at];
        let all = 0..self.memories[&vmo.memory].pages.len() as u64;
        let window = vmo.window.clone().unwrap_or(all);
        window.end - window.start
    }

    /// `pages` of a VMO as pages of its memory, without what lies past the end of either.
    fn inside(&self, at: usize, pages: Range<u64>) -> Range<u64> {
        let start = self.vmos[at]
            .window
            .as_ref()
            .map_or(0, |window| window.start);
        let end = self.memories[&self.vmos[at].memory].pages.len() as u64;
        let cut = |page: u64| (start + page.min(self.pages(at))).min(end);
        cut(pages.start)..cut(pages.end)
    }

    fn is_alone(&self, at: usize) -> bool {
        let family = self.memories[&self.vmos[at].memory].family;
        self.memories
            .values()
            .filter(|memory| memory.family == family)
            .count()
            == 1
    }

    fn memory_mut(&mut self, at: usize) -> &mut Memory {
        self.memories.get_mut(&self.vmos[at].memory).unwrap()
    }

    fn add_memory(&mut self, pages: Vec<u64>, family: u64) -> u64 {
        let home = LayerId(self.next());
        let memory = self.next();
        self.memories.insert(
            memory,
            Memory {
                pages,
                family,
                home,
            },
        );
        memory
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}
