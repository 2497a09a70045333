//! Handles as a program holds them.

use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::sync::Arc;

use crate::engine::Engine;
use crate::info::{HandleBasicInfo, HandleCountInfo, Koid, Name, ObjectType};
use crate::object::{Object, VmObject, VmarObject};
use crate::process::ProcessObject;
use crate::report::{call, running};
use crate::rights::Rights;
use crate::signals::{SignalState, Signals, WaitResult};
use crate::status::Status;
use crate::thread::ThreadObject;
use crate::time::MonotonicInstant;

/// A handle of this process: a reference to an object, with rights. Dropping it closes it.
///
/// See `zx_handle_close`, `zx_handle_duplicate`, `zx_handle_replace`.
#[derive(PartialEq, Eq, Hash)]
pub struct Handle(u32);

impl Handle {
    /// Takes over a value that was given away by [`Handle::into_raw`]. Any other value gives a handle whose calls answer `BAD_HANDLE`.
    pub fn from_raw(raw: u32) -> Handle {
        Handle(raw)
    }

    /// The value; whoever has it closes it.
    pub fn into_raw(self) -> u32 {
        let raw = self.0;
        mem::forget(self);
        raw
    }

    /// The value, as `zx_handle_t`.
    pub fn raw_handle(&self) -> u32 {
        self.0
    }

    /// Closes the handle of a value that nobody owns as a [`Handle`]. 0 is nobody's handle and may be closed. `zx_handle_close`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`.
    pub fn close_raw(raw: u32) -> Result<(), Status> {
        call(|engine| {
            let closed = close(engine, raw);
            if closed || raw == 0 {
                Ok(())
            } else {
                Err(Status::BAD_HANDLE)
            }
        })
    }

    /// Closes all of the handles at one instant, passing over zeros. `zx_handle_close_many`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE` if a value is no handle, or stands there twice; the others are closed all the same.
    pub fn close_many(raw: &[u32]) -> Result<(), Status> {
        call(|engine| {
            let closed = engine.handles.remove_all(raw);
            let asked = raw.iter().filter(|&&raw| raw != 0).count();
            let all = closed.len() == asked;
            for (raw, object) in closed {
                end_waits(raw, &object);
            }
            if all { Ok(()) } else { Err(Status::BAD_HANDLE) }
        })
    }

    /// Whether it is a handle of this process. `ZX_INFO_HANDLE_VALID`, which answers `BAD_HANDLE` where this is false.
    pub fn is_valid(&self) -> bool {
        Engine::running().is_some_and(|engine| engine.handles.names(self.0, |_| true))
    }

    /// The name of an object of any type. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `ACCESS_DENIED` without `GET_PROPERTY`.
    pub fn get_name(&self) -> Result<Name, Status> {
        call(|engine| {
            let (object, rights) = self.object(engine)?;
            check(rights, Rights::GET_PROPERTY)?;
            Ok(object.name())
        })
    }

    /// Names an object of any type. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `ACCESS_DENIED` without `SET_PROPERTY`, `NOT_SUPPORTED` for a VMAR.
    pub fn set_name(&self, name: &Name) -> Result<(), Status> {
        call(|engine| {
            let (object, rights) = self.object(engine)?;
            check(rights, Rights::SET_PROPERTY)?;
            object.set_name(*name)
        })
    }

    pub(crate) fn new(engine: &Engine, object: Object, rights: Rights) -> Result<Handle, Status> {
        engine.handles.insert(object, rights).map(Handle)
    }

    pub(crate) fn object(&self, engine: &Engine) -> Result<(Object, Rights), Status> {
        engine.handles.get(self.0).ok_or(Status::BAD_HANDLE)
    }

    /// The VMO, if the handle is one of a VMO and has all of `needs`; its rights.
    pub(crate) fn vmo(
        &self,
        engine: &Engine,
        needs: Rights,
    ) -> Result<(Arc<VmObject>, Rights), Status> {
        self.typed(engine, Object::vmo, needs)
    }

    /// As [`Handle::vmo`] for a VMAR.
    pub(crate) fn vmar(
        &self,
        engine: &Engine,
        needs: Rights,
    ) -> Result<(Arc<VmarObject>, Rights), Status> {
        self.typed(engine, Object::vmar, needs)
    }

    /// As [`Handle::vmo`] for a process.
    pub(crate) fn process(
        &self,
        engine: &Engine,
        needs: Rights,
    ) -> Result<(Arc<ProcessObject>, Rights), Status> {
        self.typed(engine, Object::process, needs)
    }

    /// As [`Handle::vmo`] for a thread.
    pub(crate) fn thread(
        &self,
        engine: &Engine,
        needs: Rights,
    ) -> Result<(Arc<ThreadObject>, Rights), Status> {
        self.typed(engine, Object::thread, needs)
    }

    fn typed<T>(
        &self,
        engine: &Engine,
        of_type: impl FnOnce(Object) -> Result<T, Status>,
        needs: Rights,
    ) -> Result<(T, Rights), Status> {
        let (object, rights) = self.object(engine)?;
        let object = of_type(object)?;
        check(rights, needs)?;
        Ok((object, rights))
    }
}

/// Looks for rights that a call needs.
fn check(held: Rights, needs: Rights) -> Result<(), Status> {
    if held.contains(needs) {
        Ok(())
    } else {
        Err(Status::ACCESS_DENIED)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // On a stack that the engine serves the handle stays: a leak, not a hang.
        if let Some(engine) = running() {
            close(engine, self.0);
        }
    }
}

/// Closes a handle; tells whether it was one.
fn close(engine: &Engine, raw: u32) -> bool {
    let Some((object, _)) = engine.handles.remove(raw) else {
        return false;
    };
    end_waits(raw, &object);
    // The object may end here, with the table unlocked.
    drop(object);
    true
}

/// Tells those who wait on a handle that was just closed.
fn end_waits(raw: u32, object: &Object) {
    if let Some(signals) = object.signals() {
        signals.handle_closed(raw);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#x})", self.0)
    }
}

/// What every typed handle can do. The names are those of Fuchsia's `zx` crate.
pub trait HandleBased: AsRef<Handle> + From<Handle> + Into<Handle> {
    /// The value, as `zx_handle_t`.
    fn raw_handle(&self) -> u32 {
        self.as_ref().raw_handle()
    }

    /// Another handle to the same object, with `rights` (`Rights::SAME_RIGHTS`: those that this one has). `zx_handle_duplicate`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`; `ACCESS_DENIED` without `DUPLICATE`; `INVALID_ARGS` if `rights` has one that this handle lacks.
    fn duplicate_handle(&self, rights: Rights) -> Result<Self, Status> {
        let duplicate = |engine: &Engine| engine.handles.duplicate(self.raw_handle(), rights);
        call(duplicate).map(|raw| Handle(raw).into())
    }

    /// A handle with fewer rights in place of this one, which is closed in any case. `zx_handle_replace`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`; `INVALID_ARGS` if `rights` has one that this handle lacks.
    fn replace_handle(self, rights: Rights) -> Result<Self, Status> {
        call(|engine| {
            let raw = self.into().into_raw();
            let object = engine.handles.get(raw);
            let replaced = engine.handles.replace(raw, rights);
            if let Some((object, _)) = object {
                end_waits(raw, &object);
            }
            replaced.map(|raw| Handle(raw).into())
        })
    }

    /// What the handle refers to and allows. `ZX_INFO_HANDLE_BASIC`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`.
    fn basic_info(&self) -> Result<HandleBasicInfo, Status> {
        call(|engine| {
            let (object, rights) = self.as_ref().object(engine)?;
            let object_type = match &object {
                Object::Vmo(_) => ObjectType::VMO,
                Object::Vmar(_) => ObjectType::VMAR,
                Object::Process(_) => ObjectType::PROCESS,
                Object::Thread(_) => ObjectType::THREAD,
            };
            Ok(HandleBasicInfo {
                koid: object.koid(),
                rights,
                object_type,
                related_koid: match &object {
                    Object::Thread(_) => engine.process.koid,
                    _ => Koid::INVALID,
                },
            })
        })
    }

    /// How many handles there are to the object, in all threads of the process. Looks at all handles of the process. `ZX_INFO_HANDLE_COUNT`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`; `ACCESS_DENIED` without `INSPECT`.
    fn count_info(&self) -> Result<HandleCountInfo, Status> {
        call(|engine| {
            let (object, rights) = self.as_ref().object(engine)?;
            check(rights, Rights::INSPECT)?;
            let koid = object.koid();
            let count = engine.handles.count(|other| other.koid() == koid);
            Ok(HandleCountInfo {
                // There are a million values.
                handle_count: count as u32,
            })
        })
    }

    /// Takes user signals of the object away, then adds some. `zx_object_signal`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`; `ACCESS_DENIED` without `SIGNAL`; `INVALID_ARGS` for another bit than those of `USER_ALL`.
    fn signal(&self, clear: Signals, set: Signals) -> Result<(), Status> {
        call(|engine| {
            let signals = signals_of(self.as_ref(), engine, Rights::SIGNAL)?.1;
            if !Signals::USER_ALL.contains(clear | set) {
                return Err(Status::INVALID_ARGS);
            }
            signals.change(clear, set);
            Ok(())
        })
    }

    /// Waits until the object has one of `signals`, which it may have already, even with the deadline passed; until the handle is closed, or until the deadline, never
    /// ending before. `zx_object_wait_one`.
    ///
    /// The wait does not keep the object alive.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`; `ACCESS_DENIED` without `WAIT`.
    fn wait_one(&self, signals: Signals, deadline: MonotonicInstant) -> WaitResult {
        let wait = |engine: &'static Engine| {
            let (koid, state) = signals_of(self.as_ref(), engine, Rights::WAIT)?;
            let raw = self.raw_handle();
            let is_open = || engine.handles.names(raw, |object| object.koid() == koid);
            Ok(state.wait(raw, signals, deadline, is_open))
        };
        call(wait).unwrap_or_else(WaitResult::Err)
    }

    /// Gives the typed handle up for the plain one.
    fn into_handle(self) -> Handle {
        self.into()
    }
}

impl HandleBased for Handle {}

/// The signals of a handle's object, if the handle has `right`. The object itself is let go.
fn signals_of(
    handle: &Handle,
    engine: &Engine,
    right: Rights,
) -> Result<(Koid, Arc<SignalState>), Status> {
    let (object, rights) = handle.object(engine)?;
    check(rights, right)?;
    // Zircon's answer for what cannot be waited for; no handle to a VMAR has a right that leads here.
    let signals = object.signals().ok_or(Status::NOT_SUPPORTED)?;
    Ok((object.koid(), signals.clone()))
}

impl AsRef<Handle> for Handle {
    fn as_ref(&self) -> &Handle {
        self
    }
}

/// A handle that somebody else owns: it can be used like one's own, and is not closed when it is dropped.
///
/// For C programs, which keep plain values: `Unowned::<Vmo>::from_raw_handle(raw).get_size()`.
pub struct Unowned<T: HandleBased>(ManuallyDrop<T>);

impl<T: HandleBased> Unowned<T> {
    /// The handle of a value. If it is none, or one of another type, or closed meanwhile, calls answer as Zircon's do.
    pub fn from_raw_handle(raw: u32) -> Unowned<T> {
        Unowned(ManuallyDrop::new(Handle::from_raw(raw).into()))
    }
}

impl<T: HandleBased> Deref for Unowned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: HandleBased> fmt::Debug for Unowned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unowned({:?})", self.0.as_ref())
    }
}
