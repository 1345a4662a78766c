//! `log` and `console`: entries of the run's log. Usable while loading as well.

use crate::{
    inspect,
    quickjs::{Ctx, Object, Result, Value, prelude::Rest},
    runtime,
    world::thimble::functions::log::{self, Level},
};

/// Defines the globals `log` and `console`.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    runtime::define_function(globals, c"log", 1, |args| write(Level::Info, args))?;
    let console = Object::new(ctx.clone())?;
    runtime::define_function(&console, c"debug", 0, |args| write(Level::Debug, args))?;
    runtime::define_function(&console, c"log", 0, |args| write(Level::Info, args))?;
    runtime::define_function(&console, c"info", 0, |args| write(Level::Info, args))?;
    runtime::define_function(&console, c"warn", 0, |args| write(Level::Warn, args))?;
    runtime::define_function(&console, c"error", 0, |args| write(Level::Error, args))?;
    runtime::define(globals, c"console", console.into_value())
}

/// One entry: the arguments with a space between. Without arguments there is none, as with StaticBackend.
fn write(level: Level, Rest(args): Rest<Value<'_>>) {
    if args.is_empty() {
        return;
    }
    let mut entry = String::new();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            entry.push(' ');
        }
        entry.push_str(&inspect::shown(arg));
        if entry.len() > inspect::LIMIT {
            break;
        }
    }
    log::log(level, &entry);
}
