//! A JavaScript value that is given back when it is dropped.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::slice;

use rquickjs_sys as js;

/// A value of a context.
pub(crate) struct Value {
    context: NonNull<js::JSContext>,
    raw: js::JSValue,
}

impl Value {
    /// # Safety
    ///
    /// `raw` is a value of this context, whose one reference is given away. The context stays alive and on its thread as long as the value.
    pub(crate) unsafe fn new(context: NonNull<js::JSContext>, raw: js::JSValue) -> Value {
        Value { context, raw }
    }

    pub(crate) fn raw(&self) -> js::JSValue {
        self.raw
    }

    /// The reference, to be given back by somebody else.
    pub(crate) fn into_raw(self) -> js::JSValue {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    pub(crate) fn is_undefined(&self) -> bool {
        // SAFETY: it is a value.
        unsafe { js::JS_IsUndefined(self.raw) }
    }

    pub(crate) fn is_exception(&self) -> bool {
        // SAFETY: it is a value.
        unsafe { js::JS_IsException(self.raw) }
    }

    /// Whether the other one is this very object.
    pub(crate) fn is_same(&self, other: &Value) -> bool {
        // SAFETY: both are values of the context, which is alive; they are borrowed.
        unsafe { js::JS_IsStrictEqual(self.context.as_ptr(), self.raw, other.raw) }
    }

    /// The exception that the context has pending.
    pub(crate) fn take_exception(context: NonNull<js::JSContext>) -> Value {
        // SAFETY: the context is alive, and the reference becomes the result's.
        unsafe { Value::new(context, js::JS_GetException(context.as_ptr())) }
    }

    /// The text of a string (of another value that which `String(value)` gives). `None` with an exception pending where there is none.
    pub(crate) fn text(&self) -> Option<String> {
        let context = self.context.as_ptr();
        let mut length = 0;
        // SAFETY: the value is one of the context's, which is alive.
        let start = unsafe { js::JS_ToCStringLen2(context, &raw mut length, self.raw, false) };
        let start = NonNull::new(start.cast_mut())?;
        // SAFETY: QuickJS gave so many bytes, which are there until they are given back.
        let text = unsafe {
            let bytes = slice::from_raw_parts(start.as_ptr().cast::<u8>(), length as usize);
            let text = String::from_utf8_lossy(bytes).into_owned();
            js::JS_FreeCString(context, start.as_ptr());
            text
        };
        Some(text)
    }

    /// Calls this function with one argument.
    pub(crate) fn call(&self, argument: &Value) -> Value {
        let context = self.context;
        let mut arguments = [argument.raw];
        // SAFETY: the values are the context's, which is alive; the arguments are borrowed, the result is ours.
        unsafe {
            let raw = js::JS_Call(
                context.as_ptr(),
                self.raw,
                js::JS_UNDEFINED,
                1,
                arguments.as_mut_ptr(),
            );
            Value::new(context, raw)
        }
    }

    /// Sets a property of this object. False with an exception pending if it cannot be.
    pub(crate) fn set(&self, name: &CStr, value: Value) -> bool {
        // SAFETY: the values are the context's, which is alive; JS_SetPropertyStr takes the reference of `value`.
        let set = unsafe {
            js::JS_SetPropertyStr(
                self.context.as_ptr(),
                self.raw,
                name.as_ptr(),
                value.into_raw(),
            )
        };
        set >= 0
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        // SAFETY: the value is one of the context's, which is alive; the new reference is the result's.
        unsafe {
            Value::new(
                self.context,
                js::JS_DupValue(self.context.as_ptr(), self.raw),
            )
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the context is alive.
        unsafe { js::JS_FreeValue(self.context.as_ptr(), self.raw) };
    }
}
