//! What a running script calls back: its output, `exit`, and the question whether its time is over.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::slice;
use std::time::Instant;

use rquickjs_sys as js;

use crate::value::Value;

/// Where a script writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `console.log`, `info` and `debug`.
    Output,
    /// `console.warn` and `error`.
    Errors,
}

/// Takes what a script writes.
type Console<'a> = &'a mut dyn FnMut(Stream, &str);

/// A script that runs, on the stack of whoever has it run.
pub(crate) struct Call<'a> {
    console: RefCell<Console<'a>>,
    deadline: Option<Instant>,
    timed_out: Cell<bool>,
    exit: Cell<Option<i32>>,
    /// Rejected promises that nobody has taken care of so far.
    rejected: RefCell<Vec<Value>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(console: Console<'a>, deadline: Option<Instant>) -> Call<'a> {
        Call {
            console: RefCell::new(console),
            deadline,
            timed_out: Cell::new(false),
            exit: Cell::new(None),
            rejected: RefCell::new(Vec::new()),
        }
    }

    /// The first of the promises that were rejected, and that nobody has taken care of.
    pub(crate) fn unhandled(&self) -> Option<Value> {
        self.rejected.borrow().first().cloned()
    }

    /// The script's exit code, if it has called `exit`.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.exit.get()
    }

    /// Whether the script was ended because of its time.
    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.get()
    }

    /// Whether the script's time is over. Then it must be ended.
    pub(crate) fn is_over(&self) -> bool {
        let over = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        self.timed_out.set(self.timed_out.get() || over);
        over
    }
}

/// While it lives the runtime's callbacks are answered by a call.
pub(crate) struct Connected(NonNull<js::JSRuntime>);

impl Connected {
    /// # Safety
    ///
    /// The runtime is alive, and its scripts run only while both the call and the result are there.
    pub(crate) unsafe fn new(runtime: NonNull<js::JSRuntime>, call: &Call<'_>) -> Connected {
        let call = (&raw const *call).cast_mut().cast();
        // SAFETY: the runtime is alive, by the caller.
        unsafe {
            js::JS_SetRuntimeOpaque(runtime.as_ptr(), call);
            js::JS_SetInterruptHandler(runtime.as_ptr(), Some(interrupt), call);
            js::JS_SetHostPromiseRejectionTracker(runtime.as_ptr(), Some(rejection), call);
        }
        Connected(runtime)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // SAFETY: the runtime is alive, by whoever made this.
        unsafe {
            js::JS_SetRuntimeOpaque(self.0.as_ptr(), null_mut());
            js::JS_SetInterruptHandler(self.0.as_ptr(), None, null_mut());
            js::JS_SetHostPromiseRejectionTracker(self.0.as_ptr(), None, null_mut());
        }
    }
}

/// QuickJS asks every so many instructions: whether to end the script, with an exception that it cannot catch.
unsafe extern "C" fn interrupt(_: *mut js::JSRuntime, call: *mut c_void) -> c_int {
    // SAFETY: a call is connected as long as the runtime has this handler.
    let call = unsafe { &*call.cast::<Call<'_>>() };
    c_int::from(call.is_over())
}

/// QuickJS tells of a promise that is rejected while nobody has asked for its reason, and once more when somebody does after all.
unsafe extern "C" fn rejection(
    context: *mut js::JSContext,
    promise: js::JSValue,
    _: js::JSValue,
    is_handled: bool,
    call: *mut c_void,
) {
    let Some(context) = NonNull::new(context) else {
        return;
    };
    // SAFETY: (1) a call is connected as long as the runtime has this tracker; (2) the context is alive, and the promise, one of its values, is borrowed: this is a
    // reference of ours.
    let (call, promise) = unsafe {
        let raw = js::JS_DupValue(context.as_ptr(), promise);
        (&*call.cast::<Call<'_>>(), Value::new(context, raw))
    };
    let mut rejected = call.rejected.borrow_mut();
    if !is_handled {
        rejected.push(promise);
    } else if let Some(at) = rejected.iter().rposition(|other| other.is_same(&promise)) {
        rejected.remove(at);
    }
}

/// `__write(stream, text)`.
pub(crate) unsafe extern "C" fn write(
    context: *mut js::JSContext,
    _: js::JSValue,
    count: c_int,
    arguments: *mut js::JSValue,
) -> js::JSValue {
    // SAFETY: QuickJS calls with a live context and so many arguments.
    let Some((call, [stream, text])) = (unsafe { called(context, count, arguments) }) else {
        return js::JS_UNDEFINED;
    };
    let (Some(stream), Some(text)) = (number(context, &stream), text.text()) else {
        return js::JS_EXCEPTION;
    };
    let stream = if stream == 2 {
        Stream::Errors
    } else {
        Stream::Output
    };
    // It is not borrowed: nothing that the console calls can run a script of this runtime.
    if let Ok(mut console) = call.console.try_borrow_mut() {
        console(stream, &text);
    }
    js::JS_UNDEFINED
}

/// `__exit(code)`: ends the script, which cannot catch it.
pub(crate) unsafe extern "C" fn exit(
    context: *mut js::JSContext,
    _: js::JSValue,
    count: c_int,
    arguments: *mut js::JSValue,
) -> js::JSValue {
    // SAFETY: QuickJS calls with a live context and so many arguments.
    let Some((call, [code])) = (unsafe { called(context, count, arguments) }) else {
        return js::JS_UNDEFINED;
    };
    let Some(code) = number(context, &code) else {
        return js::JS_EXCEPTION;
    };
    call.exit.set(Some(code));
    // SAFETY: the context is alive. The exception that is made pending is taken, marked and made pending again; the text has no
    // conversions for which there would have to be arguments.
    unsafe {
        js::JS_ThrowInternalError(context, c"exit".as_ptr());
        let exception = js::JS_GetException(context);
        js::JS_SetUncatchableError(context, exception);
        js::JS_Throw(context, exception)
    }
}

/// The call that a script belongs to, and its first arguments, for a function that it calls.
///
/// # Safety
///
/// The values are those of a call by QuickJS.
unsafe fn called<'a, const N: usize>(
    context: *mut js::JSContext,
    count: c_int,
    arguments: *mut js::JSValue,
) -> Option<(&'a Call<'a>, [Value; N])> {
    // SAFETY: (1) the context is alive; (2) what the runtime has is null or a call that is connected, which outlives what the script
    // calls; (3) there are so many arguments, borrowed, so each gets a reference of ours.
    unsafe {
        let call = js::JS_GetRuntimeOpaque(js::JS_GetRuntime(context));
        let call = call.cast::<Call<'_>>().as_ref()?;
        let context = NonNull::new(context)?;
        let count = usize::try_from(count).ok().filter(|count| *count >= N)?;
        let arguments = slice::from_raw_parts(arguments, count);
        Some((
            call,
            std::array::from_fn(|at| {
                let raw = js::JS_DupValue(context.as_ptr(), arguments[at]);
                Value::new(context, raw)
            }),
        ))
    }
}

/// `None` with an exception pending if it cannot be made a number.
fn number(context: *mut js::JSContext, value: &Value) -> Option<i32> {
    let mut number = 0;
    // SAFETY: the context is alive, and the value one of its own.
    let made = unsafe { js::JS_ToInt32(context, &raw mut number, value.raw()) };
    (made == 0).then_some(number)
}
