//! Threads as objects.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::gettid;

use crate::handle::new_koid;
use crate::handles::{Handle, HandleBased};
use crate::hash::HashMap;
use crate::info::{Koid, Name};
use crate::lock::Mutex;
use crate::object::Object;
use crate::report::call;
use crate::rights::Rights;
use crate::signals::{SignalState, Signals};
use crate::status::Status;
use crate::task::{Task, TaskName, own_run_time};

thread_local! {
    /// The koid of the thread's object, if it has one.
    static OWN: Cell<Koid> = const { Cell::new(Koid::INVALID) };
}

/// A thread of this process.
///
/// Its own signals (`ZX_THREAD_RUNNING`, `_SUSPENDED`, `_TERMINATED`) do not exist here, only the user signals do.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Thread(Handle);

/// What `ZX_INFO_THREAD_STATS` says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadStats {
    /// Its time on a CPU so far.
    pub total_runtime: Duration,
    /// The CPU that it was on last.
    pub last_scheduled_cpu: u32,
}

impl Thread {
    /// The calling thread. Each call gives a new handle, with `ZX_DEFAULT_THREAD_RIGHTS`, to the thread's one object. `zx_thread_self`.
    ///
    /// # Errors
    ///
    /// `NO_RESOURCES` if there is no handle left, or the engine cannot start; `BAD_STATE` in a forked copy of the process.
    pub fn self_handle() -> Result<Thread, Status> {
        call(|engine| {
            let thread = engine.threads.own()?;
            Handle::new(engine, Object::Thread(thread), Rights::THREAD_DEFAULT).map(Thread)
        })
    }

    /// How much the thread has run. `ZX_INFO_THREAD_STATS`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`; `ACCESS_DENIED` without `INSPECT`; `BAD_STATE` if the thread has ended.
    pub fn stats(&self) -> Result<ThreadStats, Status> {
        let (thread, _) = call(|engine| self.0.thread(engine, Rights::INSPECT))?;
        let run_time = if OWN.get() == thread.koid {
            own_run_time()
        } else {
            thread.task.run_time()
        };
        let (total_runtime, last_scheduled_cpu) = run_time.ok_or(Status::BAD_STATE)?;
        Ok(ThreadStats {
            total_runtime,
            last_scheduled_cpu,
        })
    }

    /// The thread's name. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `GET_PROPERTY`.
    pub fn get_name(&self) -> Result<Name, Status> {
        let (thread, _) = call(|engine| self.0.thread(engine, Rights::GET_PROPERTY))?;
        Ok(thread.name())
    }

    /// Names the thread. Linux shows the first 15 bytes of it. `ZX_PROP_NAME`.
    ///
    /// # Errors
    ///
    /// `BAD_HANDLE`, `WRONG_TYPE`, `ACCESS_DENIED` without `SET_PROPERTY`.
    pub fn set_name(&self, name: &Name) -> Result<(), Status> {
        let (thread, _) = call(|engine| self.0.thread(engine, Rights::SET_PROPERTY))?;
        thread.set_name(*name);
        Ok(())
    }
}

impl AsRef<Handle> for Thread {
    fn as_ref(&self) -> &Handle {
        &self.0
    }
}

impl From<Handle> for Thread {
    fn from(handle: Handle) -> Thread {
        Thread(handle)
    }
}

impl From<Thread> for Handle {
    fn from(thread: Thread) -> Handle {
        thread.0
    }
}

impl HandleBased for Thread {}

/// A thread as handles refer to it; it outlives the thread while there is a handle.
pub(crate) struct ThreadObject {
    pub(crate) koid: Koid,
    pub(crate) signals: Arc<SignalState>,
    task: Task,
    name: TaskName,
}

impl ThreadObject {
    pub(crate) fn name(&self) -> Name {
        self.name.get(&self.task)
    }

    pub(crate) fn set_name(&self, name: Name) {
        self.name.set(&self.task, name);
    }
}

/// The objects of threads that asked for theirs. LOCKS: a leaf.
pub(crate) struct Threads(Mutex<Table>);

struct Table {
    objects: HashMap<Koid, Arc<ThreadObject>>,
    /// With so many objects those of threads that have ended are thrown out: nothing tells when a thread ends.
    most: usize,
}

impl Threads {
    /// Before the first look for threads that have ended.
    const FEW: usize = 64;

    pub(crate) fn new() -> Threads {
        Threads(Mutex::new(Table {
            objects: HashMap::default(),
            most: Threads::FEW,
        }))
    }

    /// The calling thread's object, made when first asked for.
    fn own(&self) -> Result<Arc<ThreadObject>, Status> {
        if let Some(object) = self.0.lock().objects.get(&OWN.get()) {
            return Ok(object.clone());
        }
        let task = Task::find(gettid().as_raw()).ok_or(Status::NO_RESOURCES)?;
        let object = Arc::new(ThreadObject {
            koid: new_koid(),
            signals: Arc::new(SignalState::new(Signals::NONE)),
            name: TaskName::of(&task),
            task,
        });
        self.throw_out_ended();
        let copy = object.clone();
        self.0.lock().objects.insert(object.koid, copy);
        OWN.set(object.koid);
        Ok(object)
    }

    fn throw_out_ended(&self) {
        let table = self.0.lock();
        if table.objects.len() < table.most {
            return;
        }
        let mut objects: Vec<_> = table.objects.values().cloned().collect();
        drop(table);
        objects.retain(|object| !object.task.lives());
        let mut table = self.0.lock();
        for object in &objects {
            table.objects.remove(&object.koid);
        }
        table.most = Threads::FEW.max(2 * table.objects.len());
    }
}
