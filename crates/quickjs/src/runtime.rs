//! A runtime: made, found again in a clone, and told to evaluate.

use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use host_memory::heap::{Box, Heap, HeapError, Stored};
use rquickjs_sys as js;
use thiserror::Error;

use crate::call::{self, Call, Connected, Stream};
use crate::memory::{FUNCTIONS, Memory};
use crate::value::Value;

/// How much of the stack a script may use unless [`Limits`] say otherwise, in bytes: half of what Rust gives a thread.
pub const DEFAULT_STACK: usize = 1 << 20;

/// What a warmed runtime allocates before it looks for garbage, in bytes. Looking means to write to every object: a child would copy its whole heap.
const BEFORE_GC: usize = 64 << 20;

/// What a runtime that is warmed further allocates before [`Runtime::settle`] looks for garbage again: children have three quarters of [`BEFORE_GC`] left in any case.
const BEFORE_SETTLING_GC: usize = BEFORE_GC / 4;

/// Why there is no runtime.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The heap cannot be used.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// QuickJS could not make a runtime.
    #[error("the heap is too small for a JavaScript runtime: give it some megabytes")]
    TooSmall,
    /// The runtime was made by a process with another image.
    #[error(
        "the JavaScript runtime is of another program: only forks of the process that made it can use it"
    )]
    OtherImage,
}

/// What a script may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run; `None` for as long as it likes. A single operation of the engine (the sorting of an array, say) is not interrupted.
    pub time: Option<Duration>,
    /// How many bytes of memory it may have more than there are in use; `None` for as many as the heap has.
    pub memory: Option<usize>,
    /// How many bytes of this thread's stack it may use. More than there are ends the process when they are used.
    pub stack: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: None,
            memory: None,
            stack: DEFAULT_STACK,
        }
    }
}

/// How a script has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// With this value as text (an object as JSON); `None` for `undefined`. A promise is waited for.
    Value(Option<String>),
    /// It called `exit` with this code.
    Exit(i32),
    /// By this exception, or by a rejected promise for which nobody has cared: `name: message`, and JavaScript's stack below it, a frame a line.
    Exception(String),
    /// Its time was over.
    Timeout,
    /// By an exception, after it had been refused memory.
    OutOfMemory,
}

/// The heap's root.
struct Engine {
    /// The address of [`image_mark`] in the process that made this.
    image: usize,
    memory: NonNull<Memory>,
    runtime: NonNull<js::JSRuntime>,
    context: NonNull<js::JSContext>,
    /// Bytes in use when the warming was last ended with a look for garbage.
    collected: Option<usize>,
    /// Makes text of a value. A reference is held for ever.
    show: js::JSValue,
}

// SAFETY: (1) the Memory, the runtime, the context and the function lie in the heap, with all that they point to, for QuickJS allocates from the Memory alone; (2) other pointers of
// theirs are to code and constants, and `Runtime::open` lets nobody use them in another image; those to a running `eval` are null whenever the root can be borrowed.
unsafe impl Stored for Engine {}

/// Its address tells images of the program apart.
fn image_mark() -> usize {
    (call::write as *const ()).addr()
}

/// A QuickJS runtime with one context, all of it in a [`Heap`].
///
/// Scripts have the language's own globals, `console` (`log`, `info`, `debug`, `warn`, `error`) and `exit(code)`.
///
/// Dropping it frees nothing, as with the heap.
pub struct Runtime {
    heap: Heap,
}

impl Runtime {
    /// Makes a runtime in a heap that has no root.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`]; [`Error::Heap`] if the heap has a root already.
    pub fn create(mut heap: Heap) -> Result<Runtime, Error> {
        let allocator = heap.allocator();
        let memory =
            Box::try_new_in(Memory::new(allocator), allocator).map_err(|_| Error::TooSmall)?;
        let memory = NonNull::from(Box::leak(memory));
        // SAFETY: (1) the functions take the address of a Memory, which is never freed; (2) what QuickJS gives is checked for null; (3) the runtime is in the same heap, and never freed.
        let (runtime, context) = unsafe {
            let runtime = js::JS_NewRuntime2(&FUNCTIONS, memory.as_ptr().cast());
            let runtime = NonNull::new(runtime).ok_or(Error::TooSmall)?;
            memory.as_ref().serve(runtime);
            let context = js::JS_NewContext(runtime.as_ptr());
            (runtime, NonNull::new(context).ok_or(Error::TooSmall)?)
        };
        let mut engine = Engine {
            image: image_mark(),
            memory,
            runtime,
            context,
            collected: None,
            show: js::JS_UNDEFINED,
        };
        let show = engine.prepare().ok_or(Error::TooSmall)?;
        engine.show = show.into_raw();
        let engine = Box::try_new_in(engine, allocator).map_err(|_| Error::TooSmall)?;
        heap.set_root(engine)?;
        Ok(Runtime { heap })
    }

    /// Finds the runtime in a clone of its heap.
    ///
    /// # Errors
    ///
    /// [`Error::Heap`] if the heap has no runtime, [`Error::OtherImage`] if it is one of another program's.
    pub fn open(mut heap: Heap) -> Result<Runtime, Error> {
        if heap.root::<Engine>()?.image != image_mark() {
            return Err(Error::OtherImage);
        }
        Ok(Runtime { heap })
    }

    /// The memory that the runtime lies in.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// Evaluates a script; `name` stands for it in stack traces. What the script writes is given to `console` as it comes.
    ///
    /// Errors of the script are an [`Ending`]; the runtime can be used after each.
    ///
    /// A script that is stopped may leave reactions to promises to be run. They are, with the next script and within its limits.
    ///
    /// # Errors
    ///
    /// [`Error::Heap`] never happens to a runtime that was made or opened.
    pub fn eval(
        &mut self,
        source: &str,
        name: &str,
        limits: &Limits,
        console: &mut dyn FnMut(Stream, &str),
    ) -> Result<Ending, Error> {
        let deadline = limits
            .time
            .and_then(|time| Instant::now().checked_add(time));
        // Borrowed as long as the script runs: a clone made meanwhile is no use to anybody.
        let engine = self.heap.root::<Engine>()?;
        let call = Call::new(console, deadline);
        engine.memory().allow(limits.memory);
        // SAFETY: (1) the runtime is alive, and on this thread; (2) scripts run in here alone, and the call outlives the connection.
        let _connected = unsafe {
            js::JS_UpdateStackTop(engine.runtime.as_ptr());
            js::JS_SetMaxStackSize(engine.runtime.as_ptr(), limits.stack as js::size_t);
            Connected::new(engine.runtime, &call)
        };
        let ended = engine.run(&call, source, name);
        let ending = ended.unwrap_or_else(|| engine.failure(&call));
        engine.memory().allow(None);
        Ok(ending)
    }

    /// Ends the warming: collects garbage, and puts off the next time that it is collected, so that children with little to do need not copy the heap for it.
    ///
    /// May be called again when more was loaded. Then it collects only if much has come into use since: it writes to every object.
    ///
    /// # Errors
    ///
    /// As [`Runtime::eval`].
    pub fn settle(&mut self) -> Result<(), Error> {
        let mut engine = self.heap.root::<Engine>()?;
        let used = engine.memory().used();
        let collected = match engine.collected {
            Some(collected) if used <= collected.saturating_add(BEFORE_SETTLING_GC) => collected,
            _ => {
                engine.collect();
                engine.memory().used()
            }
        };
        engine.collected = Some(collected);
        engine.collect_at(collected.saturating_add(BEFORE_GC.max(collected / 2)));
        Ok(())
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("heap", &self.heap)
            .finish_non_exhaustive()
    }
}

impl Engine {
    fn memory(&self) -> &Memory {
        // SAFETY: it lies in the heap, is never freed, and is on this thread.
        unsafe { self.memory.as_ref() }
    }

    fn collect(&self) {
        let mut nobody = |_: Stream, _: &str| ();
        let call = Call::new(&mut nobody, None);
        // SAFETY: as in `Runtime::eval`; a finalizer may run a script's function.
        unsafe {
            js::JS_UpdateStackTop(self.runtime.as_ptr());
            let _connected = Connected::new(self.runtime, &call);
            js::JS_RunGC(self.runtime.as_ptr());
        }
    }

    /// Has garbage collected when so many bytes are in use.
    fn collect_at(&self, used: usize) {
        // SAFETY: the runtime is alive.
        unsafe { js::JS_SetGCThreshold(self.runtime.as_ptr(), used as js::size_t) };
    }

    /// Gives a new context what this crate adds to the language. The result is the function that makes text of values.
    fn prepare(&self) -> Option<Value> {
        let global = self.global();
        for (name, function, parameters) in [
            (c"__write", call::write as Native, 2),
            (c"__exit", call::exit as Native, 1),
        ] {
            let function = self.function(name, function, parameters);
            if function.is_exception() || !global.set(name, function) {
                return None;
            }
        }
        let show = self.evaluate(include_str!("prelude.js"), c"<cowspace>");
        (!show.is_exception()).then_some(show)
    }

    fn global(&self) -> Value {
        // SAFETY: the context is alive, and the reference is ours.
        unsafe { Value::new(self.context, js::JS_GetGlobalObject(self.context.as_ptr())) }
    }

    fn function(&self, name: &CStr, function: Native, parameters: c_int) -> Value {
        let kind = js::JSCFunctionEnum_JS_CFUNC_generic;
        let context = self.context.as_ptr();
        // SAFETY: (1) the context is alive; (2) the function has the type that goes with its kind; (3) the reference is ours.
        unsafe {
            let raw =
                js::JS_NewCFunction2(context, Some(function), name.as_ptr(), parameters, kind, 0);
            Value::new(self.context, raw)
        }
    }

    fn evaluate(&self, source: &str, name: &CStr) -> Value {
        // QuickJS reads one byte more than it is told of.
        let mut terminated = Vec::with_capacity(source.len() + 1);
        terminated.extend_from_slice(source.as_bytes());
        terminated.push(0);
        let length = source.len() as js::size_t;
        // SAFETY: (1) the context is alive; (2) there are so many bytes, and a zero; (3) the reference is ours.
        unsafe {
            let raw = js::JS_Eval(
                self.context.as_ptr(),
                terminated.as_ptr().cast(),
                length,
                name.as_ptr(),
                js::JS_EVAL_TYPE_GLOBAL as c_int,
            );
            Value::new(self.context, raw)
        }
    }

    /// Evaluates, does what was put off, and waits for a promise. `None` with an exception pending if the script failed.
    fn run(&self, call: &Call<'_>, source: &str, name: &str) -> Option<Ending> {
        let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
        let value = self.evaluate(source, &name);
        if value.is_exception() {
            return None;
        }
        self.run_jobs(call)?;
        let value = self.settled(value)?;
        if let Some(promise) = call.unhandled() {
            self.settled(promise)?;
        }
        if value.is_undefined() {
            return Some(Ending::Value(None));
        }
        Some(Ending::Value(Some(self.show(&value)?)))
    }

    /// Runs the reactions to settled promises until there are no more.
    fn run_jobs(&self, call: &Call<'_>) -> Option<()> {
        loop {
            let mut context = std::ptr::null_mut();
            // SAFETY: the runtime is alive. (There is one context, so the one that is told is ours.)
            match unsafe { js::JS_ExecutePendingJob(self.runtime.as_ptr(), &raw mut context) } {
                0 => return Some(()),
                failed if failed < 0 => return None,
                _ if call.is_over() => return None,
                _ => (),
            }
        }
    }

    /// The value of a promise; another value is its own.
    fn settled(&self, value: Value) -> Option<Value> {
        let context = self.context.as_ptr();
        // SAFETY: the context is alive, and the value one of its own.
        match unsafe { js::JS_PromiseState(context, value.raw()) } {
            js::JSPromiseStateEnum_JS_PROMISE_FULFILLED => {
                // SAFETY: as above; the reference is ours.
                Some(unsafe {
                    Value::new(self.context, js::JS_PromiseResult(context, value.raw()))
                })
            }
            js::JSPromiseStateEnum_JS_PROMISE_REJECTED => {
                // SAFETY: as above; the reason becomes the pending exception.
                unsafe { js::JS_Throw(context, js::JS_PromiseResult(context, value.raw())) };
                None
            }
            _ => Some(value),
        }
    }

    /// The text of a value. `None` with an exception pending if a script's own function has thrown it.
    fn show(&self, value: &Value) -> Option<String> {
        // SAFETY: the context is alive; the root's reference stays where it is, and this is one more.
        let show = unsafe {
            let raw = js::JS_DupValue(self.context.as_ptr(), self.show);
            Value::new(self.context, raw)
        };
        let text = show.call(value);
        if text.is_exception() {
            return None;
        }
        text.text()
    }

    /// How the script has failed that left an exception.
    fn failure(&self, call: &Call<'_>) -> Ending {
        let exception = Value::take_exception(self.context);
        if let Some(code) = call.exit_code() {
            return Ending::Exit(code);
        }
        if call.timed_out() {
            return Ending::Timeout;
        }
        if self.memory().refused() {
            return Ending::OutOfMemory;
        }
        let text = self.show(&exception);
        let unknown = || {
            drop(Value::take_exception(self.context));
            "an exception that cannot be made text".to_owned()
        };
        Ending::Exception(text.unwrap_or_else(unknown))
    }
}

/// A C function that scripts can call.
type Native =
    unsafe extern "C" fn(*mut js::JSContext, js::JSValue, c_int, *mut js::JSValue) -> js::JSValue;
