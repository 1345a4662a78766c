//! Promises that were rejected and that nobody waits for: logged, since nobody else would learn of them.

use std::{
    cell::RefCell,
    ffi::c_void,
    ptr::{NonNull, null_mut},
};

use crate::{
    errors,
    quickjs::{Ctx, Persistent, Value, qjs},
    world::thimble::functions::log::{self, Level},
};

/// Rejections that are remembered, at most: they keep their promises alive.
const LIMIT: usize = 100;

struct Rejection {
    promise: Persistent<Value<'static>>,
    text: String,
}

thread_local! {
    static REJECTIONS: RefCell<Vec<Rejection>> = const { RefCell::new(Vec::new()) };
}

/// Makes QuickJS tell of rejections.
pub fn track(ctx: &Ctx<'_>) {
    // SAFETY: the callback expects what QuickJS passes.
    unsafe { qjs::JS_SetHostPromiseRejectionTracker(qjs::JS_GetRuntime(ctx.as_raw().as_ptr()), Some(note), null_mut()) };
}

unsafe extern "C" fn note(
    ctx: *mut qjs::JSContext,
    promise: qjs::JSValue,
    reason: qjs::JSValue,
    handled: bool,
    _: *mut c_void,
) {
    let Some(ctx) = NonNull::new(ctx) else { return };
    // SAFETY: QuickJS lends both values, so each needs a reference of its own.
    let (ctx, promise, reason) = unsafe {
        let context = Ctx::from_raw(ctx);
        let own = |value| Value::from_raw(context.clone(), qjs::JS_DupValue(ctx.as_ptr(), value));
        (context.clone(), own(promise), own(reason))
    };
    if handled {
        return forget(&promise);
    }
    let full = REJECTIONS.with_borrow(|rejections| rejections.len() >= LIMIT);
    if !full {
        // Described now: a stack trace is text already, and what the reason holds can be freed.
        let text = errors::describe(&reason);
        let promise = Persistent::save(&ctx, promise);
        REJECTIONS.with_borrow_mut(|rejections| rejections.push(Rejection { promise, text }));
    }
}

/// Somebody waits for the promise after all.
pub fn forget(promise: &Value<'_>) {
    let promise = Persistent::save(promise.ctx(), promise.clone());
    REJECTIONS.with_borrow_mut(|rejections| rejections.retain(|rejection| rejection.promise != promise));
}

/// Logs what nobody waited for, and starts anew.
pub fn log_all() {
    for rejection in REJECTIONS.take() {
        log::log(Level::Error, &format!("unhandled rejection: {}", rejection.text));
    }
}

/// Logs an exception that nobody could catch.
pub fn log(thrown: &Value<'_>) {
    log::log(Level::Error, &format!("uncaught: {}", errors::describe(thrown)));
}
