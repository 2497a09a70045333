//! The process as an object.

use std::sync::{Arc, OnceLock};

use nix::unistd::getpid;

use crate::engine::Engine;
use crate::handle::new_koid;
use crate::handles::{Handle, HandleBased};
use crate::hash::{HashMap, HashSet};
use crate::info::{Koid, MapsInfo, Name, VmoInfo, VmoInfoFlags};
use crate::object::{Object, VmObject};
use crate::report::call;
use crate::rights::Rights;
use crate::signals::{SignalState, Signals};
use crate::status::Status;
use crate::task::{Task, TaskName};
use crate::vmar::process_maps;

/// This process.
///
/// Its own signal (`ZX_PROCESS_TERMINATED`) is never seen, the user signals are.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Process(Handle);

impl Process {
    /// This process. Each call gives a new handle, with `ZX_DEFAULT_PROCESS_RIGHTS`, to the one object. `zx_process_self`.
    ///
    /// # Errors
    ///
    /// `NO_RESOURCES` if there is no handle left, or the engine cannot start; `BAD_STATE` in a forked copy of the process.
    pub fn self_handle() -> Result<Process, Status> {
        call(|engine| {
            let object = Object::Process(engine.process.clone());
            Handle::new(engine, object, Rights::PROCESS_DEFAULT).map(Process)
        })
    }

    /// All that is mapped, see [`process_maps`]. `ZX_INFO_PROCESS_MAPS`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `NO_MEMORY`.
    pub fn maps(&self) -> Result<Vec<MapsInfo>, Status> {
        call(|engine| self.0.process(engine, Rights::INSPECT).map(drop))?;
        process_maps()
    }

    /// A record for each handle to a VMO (`VIA_HANDLE`, with its rights) and for each mapping (`VIA_MAPPING`, without rights); neighbours that are one mapping count
    /// once. `ZX_INFO_PROCESS_VMOS`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `NO_MEMORY`.
    pub fn vmos(&self) -> Result<Vec<VmoInfo>, Status> {
        call(|engine| {
            self.0.process(engine, Rights::INSPECT)?;
            vmos(engine)
        })
    }

    /// The process's name, which on Linux is that of its main thread. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `GET_PROPERTY`.
    pub fn get_name(&self) -> Result<Name, Status> {
        call(|engine| Ok(self.0.process(engine, Rights::GET_PROPERTY)?.0.name()))
    }

    /// Names the process. Linux shows the first 15 bytes of it. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `SET_PROPERTY`.
    pub fn set_name(&self, name: &Name) -> Result<(), Status> {
        call(|engine| {
            let (process, _) = self.0.process(engine, Rights::SET_PROPERTY)?;
            process.set_name(*name);
            Ok(())
        })
    }
}

impl AsRef<Handle> for Process {
    fn as_ref(&self) -> &Handle {
        &self.0
    }
}

impl From<Handle> for Process {
    fn from(handle: Handle) -> Process {
        Process(handle)
    }
}

impl From<Process> for Handle {
    fn from(process: Process) -> Handle {
        process.0
    }
}

impl HandleBased for Process {}

/// The process as handles refer to it.
pub(crate) struct ProcessObject {
    pub(crate) koid: Koid,
    pub(crate) signals: Arc<SignalState>,
    /// Its main thread, which carries its name; looked for when first asked, because few ask and a fresh child is in a hurry.
    main_thread: OnceLock<(Task, TaskName)>,
}

impl ProcessObject {
    pub(crate) fn new() -> ProcessObject {
        ProcessObject {
            koid: new_koid(),
            signals: Arc::new(SignalState::new(Signals::NONE)),
            main_thread: OnceLock::new(),
        }
    }

    /// `None` if `/proc` does not tell of it now: there may be no descriptor to be had.
    fn main_thread(&self) -> Option<&(Task, TaskName)> {
        if self.main_thread.get().is_none() {
            let task = Task::find(getpid().as_raw())?;
            let name = TaskName::of(&task);
            // Another thread may have been faster.
            let _ = self.main_thread.set((task, name));
        }
        self.main_thread.get()
    }

    pub(crate) fn name(&self) -> Name {
        self.main_thread()
            .map_or_else(Name::default, |(task, name)| name.get(task))
    }

    pub(crate) fn set_name(&self, name: Name) {
        if let Some((task, given)) = self.main_thread() {
            given.set(task, name);
        }
    }
}

fn vmos(engine: &'static Engine) -> Result<Vec<VmoInfo>, Status> {
    // The objects of a record stay until all locks are released.
    let handles = engine.handles.entries();
    let space = engine.space();
    let first = |mapping: &&_| space.begins_mapping(mapping);
    let mapped = space.mappings().filter(first);
    let mapped: Vec<Arc<VmObject>> = mapped.map(|mapping| mapping.vmo().clone()).collect();
    drop(space);

    let mut mappings: HashMap<Koid, usize> = HashMap::default();
    for vmo in &mapped {
        *mappings.entry(vmo.koid).or_default() += 1;
    }
    let mut reconciled = HashSet::default();
    let mut seen: HashMap<Koid, VmoInfo> = HashMap::default();
    let mut record = |vmo: &Arc<VmObject>, via, handle_rights| {
        let mut info = match seen.get(&vmo.koid) {
            Some(info) => *info,
            None => {
                let mut content = vmo.family_content(engine);
                if reconciled.insert(Arc::as_ptr(&vmo.family)) {
                    content.reconcile_family()?;
                }
                let mappings = mappings.get(&vmo.koid).copied().unwrap_or(0);
                let info = vmo.record(&content.state, mappings, Rights::NONE);
                seen.insert(vmo.koid, info);
                info
            }
        };
        info.flags.remove(VmoInfoFlags::VIA_HANDLE);
        info.flags.insert(via);
        info.handle_rights = handle_rights;
        Ok(info)
    };
    let mut records = Vec::with_capacity(handles.len() + mapped.len());
    for (_, object, rights) in &handles {
        if let Object::Vmo(vmo) = object {
            records.push(record(vmo, VmoInfoFlags::VIA_HANDLE, *rights)?);
        }
    }
    for vmo in &mapped {
        records.push(record(vmo, VmoInfoFlags::VIA_MAPPING, Rights::NONE)?);
    }
    Ok(records)
}
