//! The objects that handles refer to.

use std::ops::Range;
use std::sync::Arc;

use crate::lock::Mutex;
use page_tree::{MemoryId, VmoId};

use crate::aspace::VmarId;
use crate::discard::LockCount;
use crate::engine::Engine;
use crate::family::{Family, FamilyState};
use crate::handle::new_koid;
use crate::info::{Koid, Name};
use crate::process::ProcessObject;
use crate::recording;
use crate::signals::{SignalState, Signals};
use crate::status::Status;
use crate::stream_size::StreamSize;
use crate::thread::ThreadObject;

/// What a handle can refer to.
#[derive(Clone)]
pub(crate) enum Object {
    Vmo(Arc<VmObject>),
    Vmar(Arc<VmarObject>),
    Process(Arc<ProcessObject>),
    Thread(Arc<ThreadObject>),
}

/// A virtual memory object. It lives while a handle or a mapping refers to it, and ends by leaving its family.
///
/// Stays outside: the bytes and how they are shared, which belong to the family's [`crate::family::CowPages`].
pub(crate) struct VmObject {
    pub(crate) koid: Koid,
    pub(crate) family: Arc<Family>,
    pub(crate) vmo: VmoId,
    pub(crate) memory: MemoryId,
    pub(crate) kind: VmoKind,
    pub(crate) resizable: bool,
    /// Made with SNAPSHOT and NO_WRITE.
    pub(crate) immutable: bool,
    /// The sum of the offsets of the clones and slices on the way from the family's root, in bytes.
    pub(crate) root_offset: u64,
    pub(crate) stream: Arc<StreamSize>,
    /// Made with DISCARDABLE.
    pub(crate) discardable: Option<LockCount>,
    pub(crate) signals: Arc<SignalState>,
    name: Mutex<Name>,
}

/// How a VMO came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VmoKind {
    Root,
    Clone,
    /// Begins at this page of the memory.
    Slice(u64),
    Reference,
}

/// What a VMO is made with.
pub(crate) struct NewVmo {
    pub(crate) kind: VmoKind,
    pub(crate) name: Name,
    pub(crate) resizable: bool,
    pub(crate) immutable: bool,
    pub(crate) root_offset: u64,
    pub(crate) stream: Arc<StreamSize>,
    pub(crate) discardable: bool,
}

impl NewVmo {
    pub(crate) fn new(kind: VmoKind, stream: Arc<StreamSize>) -> NewVmo {
        NewVmo {
            kind,
            name: Name::default(),
            resizable: false,
            immutable: false,
            root_offset: 0,
            stream,
            discardable: false,
        }
    }
}

impl VmObject {
    /// The object for a VMO that the family's tree already has.
    pub(crate) fn new(
        family: &Arc<Family>,
        state: &mut FamilyState,
        vmo: VmoId,
        new: NewVmo,
    ) -> Arc<VmObject> {
        let koid = new_koid();
        let signals = Arc::new(SignalState::new(Signals::VMO_ZERO_CHILDREN));
        let memory = state.enter(vmo, koid, &signals, new.resizable);
        Arc::new(VmObject {
            koid,
            family: family.clone(),
            vmo,
            memory,
            kind: new.kind,
            resizable: new.resizable,
            immutable: new.immutable,
            root_offset: new.root_offset,
            stream: new.stream,
            discardable: new.discardable.then(LockCount::default),
            signals,
            name: Mutex::new(new.name),
        })
    }

    /// The page of the memory at which the VMO begins.
    pub(crate) fn first_page(&self) -> u64 {
        match self.kind {
            VmoKind::Slice(first) => first,
            _ => 0,
        }
    }

    pub(crate) fn name(&self) -> Name {
        *self.name.lock()
    }

    pub(crate) fn set_name(&self, name: Name) {
        *self.name.lock() = name;
        recording::note_name(self.koid, name);
    }
}

impl Drop for VmObject {
    fn drop(&mut self) {
        // A forked copy must not touch locks that another thread may have held at the fork, and has nothing to end.
        if Engine::running().is_some() {
            let garbage = self.family.lock().close(self.vmo);
            drop(garbage);
        }
    }
}

/// A VMAR as handles refer to it; the region itself belongs to the VMAR tree and outlives its handles.
pub(crate) struct VmarObject {
    pub(crate) koid: Koid,
    pub(crate) id: VmarId,
    /// Where it lies, or lay before it was destroyed.
    pub(crate) range: Range<usize>,
}

impl VmarObject {
    pub(crate) fn new(id: VmarId, range: Range<usize>) -> VmarObject {
        VmarObject {
            koid: new_koid(),
            id,
            range,
        }
    }
}

impl Object {
    pub(crate) fn koid(&self) -> Koid {
        match self {
            Object::Vmo(vmo) => vmo.koid,
            Object::Vmar(vmar) => vmar.koid,
            Object::Process(process) => process.koid,
            Object::Thread(thread) => thread.koid,
        }
    }

    /// The object's signals. A VMAR has none.
    pub(crate) fn signals(&self) -> Option<&Arc<SignalState>> {
        match self {
            Object::Vmo(vmo) => Some(&vmo.signals),
            Object::Vmar(_) => None,
            Object::Process(process) => Some(&process.signals),
            Object::Thread(thread) => Some(&thread.signals),
        }
    }

    /// The object's name; empty if it has none.
    pub(crate) fn name(&self) -> Name {
        match self {
            Object::Vmo(vmo) => vmo.name(),
            Object::Vmar(_) => Name::default(),
            Object::Process(process) => process.name(),
            Object::Thread(thread) => thread.name(),
        }
    }

    /// Names the object. `NOT_SUPPORTED` if it cannot be named.
    pub(crate) fn set_name(&self, name: Name) -> Result<(), Status> {
        match self {
            Object::Vmo(vmo) => vmo.set_name(name),
            Object::Vmar(_) => return Err(Status::NOT_SUPPORTED),
            Object::Process(process) => process.set_name(name),
            Object::Thread(thread) => thread.set_name(name),
        }
        Ok(())
    }

    pub(crate) fn vmo(self) -> Result<Arc<VmObject>, Status> {
        match self {
            Object::Vmo(vmo) => Ok(vmo),
            _ => Err(Status::WRONG_TYPE),
        }
    }

    pub(crate) fn vmar(self) -> Result<Arc<VmarObject>, Status> {
        match self {
            Object::Vmar(vmar) => Ok(vmar),
            _ => Err(Status::WRONG_TYPE),
        }
    }

    pub(crate) fn process(self) -> Result<Arc<ProcessObject>, Status> {
        match self {
            Object::Process(process) => Ok(process),
            _ => Err(Status::WRONG_TYPE),
        }
    }

    pub(crate) fn thread(self) -> Result<Arc<ThreadObject>, Status> {
        match self {
            Object::Thread(thread) => Ok(thread),
            _ => Err(Status::WRONG_TYPE),
        }
    }
}
