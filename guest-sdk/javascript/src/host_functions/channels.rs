//! `channels`: messages to members of a channel and to other functions.

use super::{Failure, HostFunction, name};
use crate::{
    json,
    quickjs::{Ctx, Value},
    text::Text,
    world::thimble::functions::channels,
};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    HostFunction { name: c"send", parameters: &["type", "data", "channel"], optional: 0, call: send },
    HostFunction { name: c"publish", parameters: &["channel", "type", "data"], optional: 0, call: publish },
];

/// The older function: text goes out as it is.
fn send<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Result<Value<'js>, Failure> {
    let (kind, channel) = (name(args, 0, "type")?, name(args, 2, "channel")?);
    let text = match args.get(1) {
        Some(value) if value.is_string() => Some(Text::of(value)?),
        Some(value) => json::stringify(value)?,
        None => None,
    };
    channels::send(&channel, &kind, text.as_deref().unwrap_or("null"))?;
    Ok(Value::new_null(ctx.clone()))
}

/// The newer one: data is always JSON, so a string arrives in quotes.
fn publish<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Result<Value<'js>, Failure> {
    let (channel, kind) = (name(args, 0, "channel")?, name(args, 1, "type")?);
    let json = match args.get(2) {
        Some(value) => json::stringify(value)?,
        None => None,
    };
    channels::publish(&channel, &kind, json.as_deref().unwrap_or("null"))?;
    Ok(Value::new_null(ctx.clone()))
}
