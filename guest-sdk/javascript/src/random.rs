//! `Math.random` and `crypto`, from the world's randomness: new in every run, although the engine is a snapshot.

use std::cell::RefCell;

use crate::{
    json, phase,
    quickjs::{Ctx, Exception, Object, Result, Value, qjs},
    runtime,
    world::thimble::functions::random,
};

thread_local! {
    /// Seeded by the first `Math.random` of a run.
    static GENERATOR: RefCell<Option<fastrand::Rng>> = const { RefCell::new(None) };
}

/// `crypto.getRandomValues` fills no more at once: the standard's limit.
const QUOTA: usize = 65_536;

/// A new run has a new seed.
pub fn forget_seed() {
    GENERATOR.set(None);
}

/// Defines `Math.random` and `crypto`.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    let math: Object<'js> = globals.get("Math")?;
    runtime::define_function(&math, c"random", 0, math_random)?;

    let crypto = Object::new(ctx.clone())?;
    runtime::define_function(&crypto, c"randomUUID", 0, uuid)?;
    runtime::define_function(&crypto, c"getRandomValues", 1, fill)?;
    runtime::define(globals, c"crypto", crypto.into_value())
}

fn math_random() -> f64 {
    phase::read_something_new();
    GENERATOR.with_borrow_mut(|generator| generator.get_or_insert_with(|| fastrand::Rng::with_seed(random::random())).f64())
}

/// A version 4 UUID.
fn uuid() -> String {
    phase::read_something_new();
    let high = random::random() & !0xf000 | 0x4000;
    let low = random::random() & !(0b11 << 62) | 0b10 << 62;
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff)
}

fn fill<'js>(ctx: Ctx<'js>, array: Value<'js>) -> Result<Value<'js>> {
    phase::read_something_new();
    // SAFETY: only looks at the value.
    let kind = unsafe { qjs::JS_GetTypedArrayType(array.as_raw()) };
    let integers = qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT8C..=qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_BIG_UINT64;
    if !u32::try_from(kind).is_ok_and(|kind| integers.contains(&kind)) {
        return Err(Exception::throw_type(&ctx, "crypto.getRandomValues fills a typed array of integers"));
    }
    let (mut offset, mut length, mut buffer_length) = (0, 0, 0);
    // SAFETY: the value is a typed array; the bytes are written before any script runs again. An array whose buffer is gone has
    // no buffer to fill, and QuickJS throws.
    let bytes = unsafe {
        let context = ctx.as_raw().as_ptr();
        let buffer =
            qjs::JS_GetTypedArrayBuffer(context, array.as_raw(), &mut offset, &mut length, std::ptr::null_mut());
        let buffer = json::from_raw(&ctx, buffer)?;
        let start = qjs::JS_GetArrayBuffer(context, &mut buffer_length, buffer.as_raw());
        if start.is_null() {
            if buffer_length == 0 && !ctx.has_exception() {
                return Ok(array);
            }
            return Err(crate::quickjs::Error::Exception);
        }
        std::slice::from_raw_parts_mut(start, buffer_length as usize)
    };
    let (offset, length) = (offset as usize, length as usize);
    if length > QUOTA {
        // SAFETY: both strings end in zero.
        unsafe {
            let text = c"crypto.getRandomValues fills at most 65536 bytes at once";
            qjs::JS_ThrowDOMException(ctx.as_raw().as_ptr(), c"QuotaExceededError".as_ptr(), text.as_ptr());
        }
        return Err(crate::quickjs::Error::Exception);
    }
    if let Some(bytes) = bytes.get_mut(offset..offset + length) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random::random().to_le_bytes()[..chunk.len()]);
        }
    }
    Ok(array)
}
