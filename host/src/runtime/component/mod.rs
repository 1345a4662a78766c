//! Components that were made elsewhere: compiled in a child process, held against the world, and kept as native code.
//!
//! Nothing of an upload is parsed in the server's own process beyond its first bytes ([`format`]): limits, validation and
//! Cranelift run in the child ([`child`]), which may fail in any way it likes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

use self::compiler::Compiler;
use super::{Prepared, compile::UploadError};
use crate::{function::COMPONENT, host_functions::Invocation};

mod bounds;
pub mod child;
mod compiler;
mod fit;
mod format;

/// How components are compiled; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileConfig {
    /// The program that compiles, called as this one is; empty for this one.
    pub program: String,
    /// Components that compile at once; 0 for one less than there are cores, at least 1.
    pub places: usize,
    /// Milliseconds that one may take.
    pub wall_ms: u64,
    /// Seconds of a processor that one may take.
    pub cpu_seconds: u64,
    /// Bytes of address space of the program that compiles.
    pub memory: u64,
}

/// What compiles components and links them to the world.
pub struct Components {
    compiler: Compiler,
    linker: Linker<Invocation>,
    engine: Engine,
}

impl Components {
    /// Components whose imports are what `linker` has: the world, without the engine of our own functions.
    pub fn new(config: &CompileConfig, engine: &Engine, linker: Linker<Invocation>, guest_memory: usize) -> Self {
        Self { compiler: Compiler::new(config, guest_memory), linker, engine: engine.clone() }
    }

    /// Refuses what is no component at a glance.
    pub fn check(&self, name: &str, bytes: &[u8], limit: usize) -> Result<(), UploadError> {
        format::check(name, bytes, limit)
    }

    /// The native code of a component, made in a child process that ends when this is dropped.
    pub async fn compile(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, UploadError> {
        self.compiler.compile(name, bytes).await
    }

    /// Links native code to the world.
    ///
    /// # Safety
    ///
    /// The code must come from [`Self::compile`], with these settings of the engine, and nobody else may have had a hand in it.
    pub unsafe fn link(&self, name: &str, native: &[u8]) -> Result<Prepared, UploadError> {
        // SAFETY: as the caller promises.
        let component = unsafe { Component::deserialize(&self.engine, native) }
            .map_err(|error| UploadError::Refused(fit::too_large(name, &error)))?;
        let function = fit::link(&self.engine, &self.linker, &component)
            .map_err(|why| UploadError::Refused(format!("`{name}` cannot run here: {why}")))?;
        Ok(Prepared::new(function, COMPONENT))
    }
}

/// SHA-256 of a component in hex: names its files.
pub fn hash(component: &[u8]) -> String {
    hex::encode(Sha256::digest(component))
}
