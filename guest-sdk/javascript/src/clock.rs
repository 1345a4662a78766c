//! `performance`, and the clock behind it and behind `Date`.

use std::cell::Cell;

use crate::{
    phase,
    quickjs::{Ctx, Object, Result},
    runtime,
    world::thimble::functions::clock,
};

thread_local! {
    /// When the clock was first read in this run, for `performance`.
    static ORIGIN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Nanoseconds since 1970, as the host says.
pub fn now() -> u64 {
    phase::read_something_new();
    clock::now()
}

/// A new run has a new origin.
pub fn forget_origin() {
    ORIGIN.set(None);
}

/// QuickJS's own `performance` would count from when the engine was baked.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    let performance = Object::new(ctx.clone())?;
    runtime::define_function(&performance, c"now", 0, || {
        let now = now();
        milliseconds(now.saturating_sub(origin(now)))
    })?;
    runtime::define_getter(&performance, c"timeOrigin", || milliseconds(origin(now())))?;
    runtime::define(globals, c"performance", performance.into_value())
}

fn origin(now: u64) -> u64 {
    ORIGIN.get().unwrap_or_else(|| {
        ORIGIN.set(Some(now));
        now
    })
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
