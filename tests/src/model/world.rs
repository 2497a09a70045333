//! The real engine and the model side by side.

use std::fmt::Debug;
use std::sync::OnceLock;

use cowspace::{HandleBased, Policy, Status};

use super::memory::Contents;
use super::objects::{Objects, VmoHandle};
use super::ops::{Op, Program};
use super::space::{PAGES, Space, VmarHandle};
use crate::zircon::Region;

/// How often everything is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looks {
    /// After each step. Asking for object info brings the engine's knowledge up to date, so that what comes of not asking stays unseen.
    Always,
    /// When the program says so, and at its end.
    WhenAsked,
}

/// The real engine and the model.
pub struct World {
    pub(super) objects: Objects,
    pub(super) vmos: Vec<VmoHandle>,
    pub(super) space: Space,
    /// The first is one to the world's own VMAR with all rights, and stays.
    pub(super) vmars: Vec<VmarHandle>,
    pub(super) contents: Contents,
    policy: Option<Policy>,
    looks: Looks,
    pub(super) origin: u64,
    step: usize,
    /// The world's own VMAR, which ends with the world.
    _own: Region,
}

impl World {
    /// An empty world. With a policy all mappings get that, whatever the program says.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new(policy: Option<Policy>, looks: Looks) -> World {
        let own = Region::new(PAGES);
        let vmar = crate::zircon::with_rights(&own.vmar, cowspace::Rights::SAME_RIGHTS);
        let rights = crate::zircon::rights_of(&vmar);
        World {
            objects: Objects::default(),
            vmos: Vec::new(),
            space: Space::new(own.base),
            vmars: vec![VmarHandle {
                vmar,
                region: 0,
                rights,
            }],
            contents: Contents::default(),
            policy,
            looks,
            origin: 0,
            step: 0,
            _own: own,
        }
    }

    /// The same for VMOs that are looked at from the byte `origin` on, which is page-aligned: their sizes, and all offsets in them, are so much larger than the
    /// program says.
    pub fn with_origin(self, origin: u64) -> World {
        World { origin, ..self }
    }

    /// Runs a program, and compares everything at its end.
    ///
    /// # Panics
    ///
    /// If the engine and the model differ.
    pub fn run(&mut self, program: &Program) {
        for op in &program.0 {
            self.step += 1;
            self.take(op);
            let (vmos, space) = (&self.vmos, &self.space);
            self.objects.end_unused(|object| {
                let shows = |slot: &super::space::Slot| {
                    slot.shown.is_some_and(|shown| shown.object == object)
                };
                vmos.iter().any(|handle| handle.object == object) || space.slots.iter().any(shows)
            });
            if self.looks == Looks::Always {
                self.check_infos();
                self.check_maps_of_all();
            }
        }
        self.check_infos();
        self.check_bytes();
        self.check_space();
        // Once more: looking must not have changed anything.
        self.check_infos();
        self.check_bytes();
    }

    fn take(&mut self, op: &Op) {
        match *op {
            Op::Create {
                pages,
                resizable,
                discardable,
            } => self.create(pages, resizable, discardable),
            Op::Child {
                vmo,
                options,
                first,
                pages,
            } => self.child(vmo, options, first, pages),
            Op::CloneMapping { part, options } => self.clone_mapping(part, options),
            Op::Freeze { part } => self.freeze(part),
            Op::Duplicate { vmo, without, with } => self.duplicate(vmo, without, with),
            Op::Replace { vmo, without, with } => self.replace(vmo, without, with),
            Op::ReplaceAsExecutable { vmo } => self.replace_as_executable(vmo),
            Op::Close { vmo } => self.close(vmo),
            Op::Write { vmo, at, len } => self.write(vmo, at, len),
            Op::Range { vmo, op, at, len } => self.range_op(vmo, op, at, len),
            Op::Pages {
                vmo,
                op,
                first,
                pages,
            } => {
                self.range_op(vmo, op, first * crate::page(), pages * crate::page());
            }
            Op::Transfer(step) => self.transfer(step),
            Op::Resize { vmo, bytes } => self.resize(vmo, bytes),
            Op::StreamSize {
                vmo,
                bytes,
                property,
            } => self.set_stream_size(vmo, bytes, property),
            Op::Lock { vmo, op } => self.lock(vmo, op),
            Op::Read { vmo } => self.read(vmo),
            Op::Info => {
                self.check_infos();
                self.check_maps_of_all();
            }
            Op::Allocate {
                vmar,
                place,
                pages,
                flags,
            } => self.allocate(vmar, place, pages, flags),
            Op::Map {
                vmar,
                vmo,
                place,
                first,
                pages,
                flags,
                native,
            } => {
                self.map(vmar, vmo, place, first, pages, flags, native);
            }
            Op::MapAll { vmar, vmo, native } => self.map_all(vmar, vmo, native),
            Op::Unmap { part } => self.unmap(part),
            Op::Protect { part, flags } => self.protect(part, flags),
            Op::VmarRange { part, op } => self.vmar_range(part, op),
            Op::Destroy { vmar } => self.destroy(vmar),
            Op::DuplicateVmar {
                vmar,
                without,
                with,
            } => self.duplicate_vmar(vmar, without, with),
            Op::CloseVmar { vmar } => self.close_vmar(vmar),
            Op::Store { mapping, at, len } => self.store(mapping, at, len),
            Op::Load { mapping } => self.load(mapping),
            Op::Maps { vmar } => self.maps(vmar),
        }
    }

    /// The policy that a mapping really gets.
    pub(super) fn policy(&self, native: bool) -> Policy {
        match self.policy {
            Some(Policy::Native) => Policy::Native,
            None if native => Policy::Native,
            _ if tracing_works() => Policy::Traced,
            _ => Policy::Native,
        }
    }

    /// Compares what a call answers with what it must answer. `None`: both have failed.
    #[track_caller]
    pub(super) fn agree<T: Debug, U: Debug>(
        &self,
        call: &str,
        real: Result<T, Status>,
        expected: Result<U, Status>,
    ) -> Option<(T, U)> {
        match (real, expected) {
            (Ok(real), Ok(expected)) => Some((real, expected)),
            (Err(real), Err(expected)) if real == expected => None,
            (real, expected) => panic!("{}, {call}: {real:?} and not {expected:?}", self.now()),
        }
    }

    /// For messages.
    pub(super) fn now(&self) -> String {
        format!("step {}", self.step)
    }

    /// Enters a handle, and compares what it is.
    pub(super) fn enter(&mut self, vmo: cowspace::Vmo, object: usize, rights: cowspace::Rights) {
        let info = vmo.basic_info().expect("the handle is valid");
        assert_eq!(
            info.rights,
            rights,
            "{}: rights of a new handle",
            self.now()
        );
        self.vmos.push(VmoHandle {
            vmo,
            object,
            rights,
        });
    }
}

/// What a number means where there are `count` things.
pub(super) fn pick(number: usize, count: usize) -> Option<usize> {
    number.checked_rem(count)
}

fn tracing_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| cowspace::record_faults(1).is_some())
}
