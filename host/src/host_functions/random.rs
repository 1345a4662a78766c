//! `random`: the run's randomness.

use wasmtime::Result;

use super::{Invocation, world::thimble::functions::random::Host};

impl Host for Invocation {
    // Not counted as a host call: it only seeds the guest's own generator, and its fuel bounds it.
    fn random(&mut self) -> Result<u64> {
        Ok(rand::random())
    }
}
