//! JavaScript strings as Rust text, without copying them.

use std::ops::Deref;

use crate::quickjs::{Ctx, Error, Result, Value, qjs};

/// The text of a JavaScript value. A lone surrogate, which UTF-8 cannot hold, is U+FFFD.
pub struct Text<'js> {
    ctx: Ctx<'js>,
    bytes: &'js [u8],
}

impl<'js> Text<'js> {
    /// Converts as `String(value)` does; a symbol or a `toString` that throws is an exception.
    pub fn of(value: &Value<'js>) -> Result<Self> {
        let ctx = value.ctx().clone();
        let mut length = 0;
        // SAFETY: on success QuickJS returns `length` bytes that stay until `JS_FreeCString`.
        unsafe {
            let bytes = qjs::JS_ToCStringLen2(ctx.as_raw().as_ptr(), &mut length, value.as_raw(), false);
            if bytes.is_null() {
                return Err(Error::Exception);
            }
            let bytes = bytes.cast_mut().cast::<u8>();
            if std::str::from_utf8(std::slice::from_raw_parts(bytes, length as usize)).is_err() {
                // Only a string with surrogates is encoded so, and such a string was copied: nobody else sees these bytes.
                replace_surrogates(std::slice::from_raw_parts_mut(bytes, length as usize));
            }
            Ok(Self { ctx, bytes: std::slice::from_raw_parts(bytes, length as usize) })
        }
    }

    /// A copy, or an out-of-memory exception when there is no room for one.
    pub fn to_owned(&self) -> Result<String> {
        let mut copy = String::new();
        reserve(&self.ctx, copy.try_reserve_exact(self.len()))?;
        copy.push_str(self);
        Ok(copy)
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: `of` checked it, or replaced what was wrong.
        unsafe { std::str::from_utf8_unchecked(self.bytes) }
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `JS_ToCStringLen2`.
        unsafe { qjs::JS_FreeCString(self.ctx.as_raw().as_ptr(), self.bytes.as_ptr().cast()) }
    }
}

/// Turns a refused reservation into the exception that QuickJS throws itself.
pub fn reserve(ctx: &Ctx<'_>, reserved: std::result::Result<(), std::collections::TryReserveError>) -> Result<()> {
    reserved.map_err(|_| {
        // SAFETY: the context is alive.
        unsafe { qjs::JS_ThrowOutOfMemory(ctx.as_raw().as_ptr()) };
        Error::Exception
    })
}

/// A surrogate takes three bytes in QuickJS's encoding, and so does U+FFFD.
fn replace_surrogates(bytes: &mut [u8]) {
    let mut start = 0;
    while let Err(error) = std::str::from_utf8(&bytes[start..]) {
        start += error.valid_up_to();
        let end = (start + 3).min(bytes.len());
        bytes[start..end].copy_from_slice(&"\u{fffd}".as_bytes()[..end - start]);
        start = end;
    }
}
