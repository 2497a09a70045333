//! A clone family as the rules of attribution see it, run beside the real one: each page of a VMO has a content or none, and a content
//! belongs to those VMOs that would read it.

use cowspace::{Koid, Policy, Vmo, VmoChildOptions, VmoOp, VmoOptions};
use host_memory::probe::Probe;

use crate::zircon::{Region, bytes, firsts, put};
use crate::{RW, memory, page};

/// One byte, and a name: no content of a family has the value of another.
type Content = u8;

struct Member {
    vmo: Vmo,
    koid: Koid,
    parent: Option<usize>,
    pages: Vec<Option<Content>>,
    /// Where it is mapped, if it is.
    region: Option<Region>,
}

/// How the VMOs of a family are held and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// By calls.
    Calls,
    /// By calls, and they can be resized.
    Resizable,
    /// By stores through a mapping of the whole VMO.
    Mapped(Policy),
    /// The same, and they can be resized.
    ResizableMapped(Policy),
}

impl Access {
    /// Each way.
    pub const ALL: [Access; 6] = [
        Access::Calls,
        Access::Resizable,
        Access::Mapped(Policy::Traced),
        Access::Mapped(Policy::Native),
        Access::ResizableMapped(Policy::Traced),
        Access::ResizableMapped(Policy::Native),
    ];

    /// Whether the VMOs can be resized.
    pub fn resizable(self) -> bool {
        matches!(self, Access::Resizable | Access::ResizableMapped(_))
    }

    fn is_mapped(self) -> bool {
        matches!(self, Access::Mapped(_) | Access::ResizableMapped(_))
    }

    /// Whether a snapshot really copies: native mappings (all are, where nothing can be traced) of what cannot be a private mapping of a layer. The copies are attributed as such,
    /// so what Zircon shares may be private here.
    fn keeps_copies(self) -> bool {
        match self {
            Access::ResizableMapped(Policy::Native) => true,
            Access::ResizableMapped(Policy::Traced) => !Probe::get().traced.is_yes(),
            Access::Mapped(_) | Access::Calls | Access::Resizable => false,
        }
    }

    fn policy(self) -> Option<Policy> {
        match self {
            Access::Mapped(policy) | Access::ResizableMapped(policy) => Some(policy),
            Access::Calls | Access::Resizable => None,
        }
    }
}

/// A family, real and as the model has it. Its members are numbered in the order in which they are made.
pub struct Family {
    access: Access,
    members: Vec<Option<Member>>,
    contents: Content,
}

impl Family {
    /// A family of one VMO that holds nothing.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new(access: Access, pages: usize) -> Family {
        let mut options = VmoOptions::empty();
        options.set(VmoOptions::RESIZABLE, access.resizable());
        let vmo = Vmo::create_with_opts(options, bytes(pages)).expect("a small VMO can be made");
        let mut family = Family {
            access,
            members: Vec::new(),
            contents: 0,
        };
        family.enter(vmo, None, vec![None; pages]);
        family
    }

    fn enter(&mut self, vmo: Vmo, parent: Option<usize>, pages: Vec<Option<Content>>) {
        let region = self.access.policy().map(|policy| {
            let region = Region::new(pages.len());
            region.map_with(0, &vmo, pages.len(), RW, policy);
            region
        });
        let koid = vmo.info().expect("a VMO has info").koid;
        self.members.push(Some(Member {
            vmo,
            koid,
            parent,
            pages,
            region,
        }));
    }

    /// Makes a snapshot of pages of a member.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn snapshot(&mut self, parent: usize, first: usize, pages: usize) {
        let mut options = VmoChildOptions::SNAPSHOT;
        options.set(VmoChildOptions::RESIZABLE, self.access.resizable());
        let member = self.member(parent);
        let vmo = member
            .vmo
            .create_child(options, bytes(first), bytes(pages))
            .expect("a snapshot can be made");
        let seen = (first..first + pages).map(|page| member.pages.get(page).copied().flatten());
        let seen = seen.collect();
        self.enter(vmo, Some(parent), seen);
    }

    /// Whether a member was not closed yet.
    pub fn is_open(&self, member: usize) -> bool {
        self.members[member].is_some()
    }

    fn member(&self, member: usize) -> &Member {
        self.members[member].as_ref().expect("an open member")
    }

    fn member_mut(&mut self, member: usize) -> &mut Member {
        self.members[member].as_mut().expect("an open member")
    }

    /// Writes to a page, if the member still is so long.
    pub fn write(&mut self, member: usize, at: usize) {
        self.contents += 1;
        let value = self.contents;
        let member = self.member_mut(member);
        if at >= member.pages.len() {
            return;
        }
        member.pages[at] = Some(value);
        match &member.region {
            Some(region) => memory(region.at(at), 1).store_u8(0, value),
            None => put(&member.vmo, at, value),
        }
    }

    /// Zeroes pages, as far as the member has them.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn zero(&mut self, member: usize, first: usize, pages: usize) {
        let member = self.member_mut(member);
        let end = member.pages.len().min(first + pages);
        if first >= end {
            return;
        }
        member.pages[first..end].fill(None);
        member
            .vmo
            .op_range(VmoOp::ZERO, bytes(first), bytes(end - first))
            .expect("pages inside can be zeroed");
    }

    /// Gives a member another size.
    ///
    /// # Panics
    ///
    /// If it is refused.
    pub fn resize(&mut self, member: usize, pages: usize) {
        let member = self.member_mut(member);
        member.pages.truncate(pages);
        member.pages.resize(pages, None);
        member
            .vmo
            .set_size(bytes(pages))
            .expect("a resizable VMO can be resized");
    }

    /// Ends a member. Its children become those of its parent.
    pub fn close(&mut self, member: usize) {
        let Some(closed) = self.members[member].take() else {
            return;
        };
        for other in self.members.iter_mut().flatten() {
            if other.parent == Some(member) {
                other.parent = closed.parent;
            }
        }
    }

    /// Compares everything that can be seen of every member.
    ///
    /// # Panics
    ///
    /// If the real family and the model differ.
    pub fn check(&self, what: &dyn Fn() -> String) {
        for (index, member) in self.members.iter().enumerate() {
            if let Some(member) = member {
                self.check_member(index, member, what);
            }
        }
    }

    fn check_member(&self, index: usize, member: &Member, what: &dyn Fn() -> String) {
        let what = || format!("VMO {index} ({:?}) after {}", self.access, what());
        let expected: Vec<u8> = member.pages.iter().map(|page| page.unwrap_or(0)).collect();
        assert_eq!(
            firsts(&member.vmo, member.pages.len()),
            expected,
            "by calls: {}",
            what()
        );

        let info = member.vmo.info().expect("a VMO has info");
        let parent = member
            .parent
            .map_or(Koid::INVALID, |parent| self.member(parent).koid);
        assert_eq!(info.parent_koid, parent, "parent: {}", what());
        let children = self.members.iter().flatten();
        let children = children.filter(|other| other.parent == Some(index)).count();
        assert_eq!(info.num_children, children, "children: {}", what());

        let size = page() as u64;
        let mut populated = 0;
        let mut private = 0;
        let mut scaled = 0u128;
        for content in member.pages.iter().flatten() {
            let sharers = self.sharers(*content);
            populated += size;
            private += if sharers == 1 { size } else { 0 };
            scaled += share(size, sharers as u64);
        }
        let real = (
            info.populated_bytes,
            info.populated_private_bytes,
            info.populated_scaled_bytes,
            info.populated_fractional_scaled_bytes,
        );
        let whole = (scaled >> 63) as u64;
        let fraction = (scaled & ((1 << 63) - 1)) as u64;
        // Pages that were only read may count as written.
        let inexact = self.access.is_mapped() && !crate::are_counts_exact();
        if inexact || self.access.keeps_copies() {
            let all = if inexact {
                member.pages.len() as u64 * size
            } else {
                populated
            };
            assert!((populated..=all).contains(&real.0), "populated: {}", what());
            assert!((private..=all).contains(&real.1), "private: {}", what());
            assert!((whole..=all).contains(&real.2), "scaled: {}", what());
        } else {
            assert_eq!(
                real,
                (populated, private, whole, fraction),
                "(populated, private, scaled, fraction): {}",
                what()
            );
        }
        let committed = (
            info.committed_bytes,
            info.committed_private_bytes,
            info.committed_scaled_bytes,
            info.committed_fractional_scaled_bytes,
        );
        assert_eq!(committed, real, "committed is populated: {}", what());

        if let Some(region) = &member.region {
            let mapped = region.maps()[0].2.min(member.pages.len());
            let loads = (0..mapped).map(|at| memory(region.at(at), 1).load_u8(0));
            assert_eq!(
                loads.collect::<Vec<u8>>(),
                expected[..mapped],
                "by loads: {}",
                what()
            );
        }
    }

    /// How many members would read a content at some page.
    fn sharers(&self, content: Content) -> usize {
        let members = self.members.iter().flatten();
        members
            .filter(|member| member.pages.contains(&Some(content)))
            .count()
    }
}

/// A page divided by its share count, with 63 bits behind the point, truncated as Zircon does it: the fraction of one byte first, then as
/// many of them as the division leaves over.
pub(crate) fn share(page: u64, sharers: u64) -> u128 {
    let one_byte = 1u64 << 63;
    (u128::from(page / sharers) << 63) + u128::from(one_byte / sharers) * u128::from(page % sharers)
}
