//! What was thrown, as text for people: `Name: message`, and where.

use crate::{
    inspect, memory,
    quickjs::{Ctx, Error, Object, Value},
    text::Text,
};

/// Longest text of an error.
const LIMIT: usize = 4 << 10;

/// Errors that are the cause of one another, at most.
const CAUSES: usize = 4;

/// What the host knows this outcome by.
const OUT_OF_MEMORY: &str = "InternalError: out of memory";

/// Whether it is the error of a full memory.
pub fn is_out_of_memory(text: &str) -> bool {
    text.starts_with(OUT_OF_MEMORY)
}

/// The text of an error of the binding; a pending exception is taken and described.
pub fn text(ctx: &Ctx<'_>, error: Error) -> String {
    match error {
        Error::Exception => describe(&ctx.catch()),
        error => error.to_string(),
    }
}

/// The text of something that was thrown. Never throws itself.
pub fn describe(thrown: &Value<'_>) -> String {
    let mut text = String::new();
    if let Some(error) = thrown.as_object().filter(|_| thrown.is_error()) {
        write_error(&mut text, error, CAUSES);
    } else if thrown.is_null() && memory::was_refused() {
        // QuickJS throws `null` when there is no room for an error.
        text.push_str(OUT_OF_MEMORY);
    } else if thrown.is_string() {
        text.push_str(&inspect::shown(thrown));
    } else {
        text.push_str("thrown: ");
        text.push_str(&inspect::shown(thrown));
    }
    text.truncate(inspect::clipped(&text, LIMIT).len());
    text
}

fn write_error(out: &mut String, error: &Object<'_>, causes: usize) {
    out.push_str(&headline(error));
    if let Some(stack) = property(error, "stack") {
        let stack = stack.trim_end();
        if !stack.is_empty() {
            out.push('\n');
            out.push_str(stack);
        }
    }
    let cause = own(error, "cause");
    if let Some(cause) = cause.filter(|_| causes > 0 && out.len() < LIMIT) {
        out.push_str("\ncaused by: ");
        match cause.as_object().filter(|_| cause.is_error()) {
            Some(cause) => write_error(out, cause, causes - 1),
            None => out.push_str(&inspect::shown(&cause)),
        }
    }
}

/// `Name: message`, as `Error.prototype.toString` writes it.
pub fn headline(error: &Object<'_>) -> String {
    let name = property(error, "name").unwrap_or_else(|| "Error".into());
    match property(error, "message") {
        Some(message) if !message.is_empty() => format!("{name}: {message}"),
        _ => name,
    }
}

/// A property that is a string. A getter that throws counts as none: the description must not fail.
fn property(object: &Object<'_>, name: &str) -> Option<String> {
    let value = own(object, name).filter(Value::is_string)?;
    let text = Text::of(&value).ok()?;
    Some(inspect::clipped(&text, LIMIT).to_owned())
}

fn own<'js>(object: &Object<'js>, name: &str) -> Option<Value<'js>> {
    let value: Result<Value<'js>, Error> = object.get(name);
    match value {
        Ok(value) if value.is_undefined() => None,
        Ok(value) => Some(value),
        Err(_) => {
            object.ctx().catch();
            None
        }
    }
}
