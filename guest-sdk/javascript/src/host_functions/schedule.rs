//! `schedule`: functions that run later.

use super::{Failure, HostFunction, data, name, options};
use crate::{
    json,
    quickjs::{Ctx, Value},
    world::thimble::functions::schedule,
};

pub(super) const FUNCTIONS: &[HostFunction] =
    &[HostFunction { name: c"schedule", parameters: &["function", "payload", "when"], optional: 2, call: schedule }];

fn schedule<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Result<Value<'js>, Failure> {
    let function = name(args, 0, "function")?;
    let payload = match args.get(1) {
        Some(value) if !value.is_undefined() => Some(data(args, 1, "payload")?),
        _ => None,
    };
    let when = options(ctx, args, 2, "when")?;
    let job = schedule::schedule(&function, payload.as_deref().unwrap_or("null"), &when)?;
    Ok(json::parse(ctx, job)?)
}
