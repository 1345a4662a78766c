//! `event`: what this run is for. Each property is asked of the host when it is read.

use super::needs_a_run;
use crate::{
    json,
    quickjs::{Ctx, Object, Result, Value, qjs},
    runtime,
    world::thimble::functions::event,
};

/// Defines the global `event`.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    let object = Object::new(ctx.clone())?;
    runtime::define_getter(&object, c"runId", |ctx: Ctx<'js>| needs_a_run(&ctx, "event.runId").map(|()| event::run_id()))?;
    runtime::define_getter(&object, c"kind", |ctx: Ctx<'js>| needs_a_run(&ctx, "event.kind").map(|()| event::kind()))?;
    runtime::define_getter(&object, c"user", |ctx: Ctx<'js>| parsed(&ctx, "event.user", event::user))?;
    runtime::define_getter(&object, c"headers", |ctx: Ctx<'js>| parsed(&ctx, "event.headers", event::headers))?;
    runtime::define_getter(&object, c"traceId", |ctx: Ctx<'js>| {
        needs_a_run(&ctx, "event.traceId").map(|()| event::trace_id())
    })?;
    // SAFETY: the object lives in this context.
    if unsafe { qjs::JS_PreventExtensions(ctx.as_raw().as_ptr(), object.as_value().as_raw()) } < 0 {
        return Err(crate::quickjs::Error::Exception);
    }
    runtime::define(globals, c"event", object.into_value())
}

fn parsed<'js>(ctx: &Ctx<'js>, name: &str, read: fn() -> String) -> Result<Value<'js>> {
    needs_a_run(ctx, name)?;
    json::parse(ctx, read())
}
