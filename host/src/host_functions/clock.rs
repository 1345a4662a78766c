//! `clock`: the time of the run.

use wasmtime::Result;

use super::{Invocation, world::thimble::functions::clock::Host};

impl Host for Invocation {
    // Not counted as a host call: a script reads the clock as often as it likes, its fuel bounds it.
    fn now(&mut self) -> Result<u64> {
        Ok(self.services.clock.nanoseconds())
    }
}
