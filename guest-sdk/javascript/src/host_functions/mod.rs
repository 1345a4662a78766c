//! The world as StaticBackend's functions know it: globals that answer `{ok, content}`.

use std::ffi::CStr;

use crate::{
    json,
    phase::{self, Phase},
    quickjs::{Ctx, Error, Exception, IntoJs, Object, Result, Value, prelude::Rest},
    runtime,
    text::Text,
    world::thimble::functions::types,
};

mod channels;
mod documents;
mod event;
mod mail;
mod schedule;
mod transactions;

/// Defines all of them.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    let functions = [documents::FUNCTIONS, channels::FUNCTIONS, mail::FUNCTIONS, schedule::FUNCTIONS];
    for function in functions.into_iter().flatten() {
        function.define(globals)?;
    }
    transactions::register(ctx, globals)?;
    event::register(ctx, globals)
}

/// One global function.
struct HostFunction {
    name: &'static CStr,
    /// What stands in the message about a wrong number of arguments.
    parameters: &'static [&'static str],
    /// How many of them may be left out.
    optional: usize,
    call: for<'js> fn(&Ctx<'js>, &[Value<'js>]) -> std::result::Result<Value<'js>, Failure>,
}

/// Why a call has no result.
enum Failure {
    /// The caller's own code threw, as a `toJSON` or a getter: passed on.
    Thrown(Error),
    /// Becomes `{ok: false, content}`.
    Refused(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Thrown(error)
    }
}

impl From<types::Error> for Failure {
    fn from(error: types::Error) -> Self {
        Self::Refused(error.message)
    }
}

impl HostFunction {
    fn define<'js>(&'static self, globals: &Object<'js>) -> Result<()> {
        let required = self.parameters.len() - self.optional;
        let call = |ctx: Ctx<'js>, Rest(args): Rest<Value<'js>>| self.answer(&ctx, &args);
        runtime::define_function(globals, self.name, required, call)
    }

    fn answer<'js>(&self, ctx: &Ctx<'js>, args: &[Value<'js>]) -> Result<Value<'js>> {
        let name = self.name.to_str().unwrap_or_default();
        needs_a_run(ctx, name)?;
        let required = self.parameters.len() - self.optional;
        let called = if (required..=self.parameters.len()).contains(&args.len()) {
            (self.call)(ctx, args)
        } else {
            Err(Failure::Refused(self.mismatch(args.len())))
        };
        let (ok, content) = match called {
            Ok(content) => (true, content),
            Err(Failure::Refused(message)) => (false, message.into_js(ctx)?),
            Err(Failure::Thrown(error)) => return Err(error),
        };
        let answer = Object::new(ctx.clone())?;
        runtime::put(&answer, c"ok", Value::new_bool(ctx.clone(), ok))?;
        runtime::put(&answer, c"content", content)?;
        Ok(answer.into_value())
    }

    /// The spelling is StaticBackend's: functions compare with it.
    fn mismatch(&self, given: usize) -> String {
        let name = self.name.to_str().unwrap_or_default();
        let (most, least) = (self.parameters.len(), self.parameters.len() - self.optional);
        let count = if most == least { most.to_string() } else { format!("{least} to {most}") };
        let plural = if most == 1 { "" } else { "s" };
        let parameters = self.parameters.join(", ");
        format!("argument missmatch: {name}({parameters}) takes {count} argument{plural}, not {given}")
    }
}

/// Refuses what a top level may not do: its result is kept for all runs, and it belongs to none.
fn needs_a_run(ctx: &Ctx<'_>, name: &str) -> Result<()> {
    match phase::current() {
        Phase::Running => Ok(()),
        Phase::Loading => {
            let message = format!("`{name}` is not available while loading: call it inside handle");
            Err(Exception::throw_message(ctx, &message))
        }
    }
}

/// The argument that names something: a collection, an id, a channel. Numbers count, since ids may be.
fn name<'js>(args: &[Value<'js>], index: usize, parameter: &str) -> std::result::Result<Text<'js>, Failure> {
    match args.get(index) {
        Some(value) if value.is_string() || value.is_number() => Ok(Text::of(value)?),
        _ => Err(Failure::Refused(format!("argument missmatch: `{parameter}` must be a string"))),
    }
}

/// The argument as JSON.
fn data<'js>(args: &[Value<'js>], index: usize, parameter: &str) -> std::result::Result<Text<'js>, Failure> {
    let json = match args.get(index) {
        Some(value) => json::stringify(value)?,
        None => None,
    };
    json.ok_or_else(|| Failure::Refused(format!("argument missmatch: `{parameter}` must be something that JSON can hold")))
}

/// The optional argument as JSON; `{}` when it was left out.
fn options<'js>(
    ctx: &Ctx<'js>,
    args: &[Value<'js>],
    index: usize,
    parameter: &str,
) -> std::result::Result<Text<'js>, Failure> {
    match args.get(index) {
        Some(value) if !value.is_undefined() && !value.is_null() => data(args, index, parameter),
        _ => Ok(json::stringify(Object::new(ctx.clone())?.as_value())?.ok_or(Error::Unknown)?),
    }
}
