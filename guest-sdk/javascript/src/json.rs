//! JSON text to JavaScript values and back.

use crate::{
    quickjs::{Ctx, Error, Result, Value, qjs},
    text::{self, Text},
};

/// Parses as `JSON.parse` does.
pub fn parse<'js>(ctx: &Ctx<'js>, json: String) -> Result<Value<'js>> {
    let mut json = json.into_bytes();
    let length = json.len();
    text::reserve(ctx, json.try_reserve_exact(1))?;
    json.push(0); // QuickJS wants a zero behind the end
    // SAFETY: the buffer holds `length` bytes and the zero.
    unsafe {
        let value = qjs::JS_ParseJSON(ctx.as_raw().as_ptr(), json.as_ptr().cast(), length as _, c"<json>".as_ptr());
        from_raw(ctx, value)
    }
}

/// Writes as `JSON.stringify` does; `None` for what has no JSON, as `undefined` or a function.
pub fn stringify<'js>(value: &Value<'js>) -> Result<Option<Text<'js>>> {
    let ctx = value.ctx();
    // SAFETY: the value lives in this context.
    let json = unsafe {
        let json = qjs::JS_JSONStringify(ctx.as_raw().as_ptr(), value.as_raw(), qjs::JS_UNDEFINED, qjs::JS_UNDEFINED);
        from_raw(ctx, json)?
    };
    if json.is_undefined() { Ok(None) } else { Text::of(&json).map(Some) }
}

/// A value that QuickJS returned, or the exception it signals.
///
/// # Safety
/// The value's reference is given away, and it belongs to this context.
pub unsafe fn from_raw<'js>(ctx: &Ctx<'js>, value: qjs::JSValue) -> Result<Value<'js>> {
    let value = unsafe { Value::from_raw(ctx.clone(), value) };
    if value.is_exception() { Err(Error::Exception) } else { Ok(value) }
}
