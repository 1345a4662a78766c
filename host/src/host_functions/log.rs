//! `log`: the run's log.

use wasmtime::Result;

use super::{
    Invocation,
    world::thimble::functions::log::{Host, Level},
};
use crate::runtime::log;

impl Host for Invocation {
    fn log(&mut self, level: Level, message: String) -> Result<()> {
        // Not counted as a host call: what is over the limits is cut. A loop that only logs ends by its fuel.
        self.charge_fuel(message.len())?;
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        self.log.add(level, &message);
        Ok(())
    }
}
