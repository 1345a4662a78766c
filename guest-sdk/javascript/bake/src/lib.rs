//! Turns the freshly built JavaScript engine into `engine.wasm`, the component that the server makes functions from.
//!
//! Three steps: [`rewire`] leaves the engine with no import but the world's, [`snapshot`] runs its initialiser and keeps the
//! memory, [`component`] wraps the result. [`sources`] tells whether the committed engine is that of the committed sources.

mod component;
mod rewire;
mod snapshot;
pub mod sources;

use anyhow::Result;

/// What baking made.
pub struct Baked {
    /// A component of the world `function` whose first core module is the engine.
    pub component: Vec<u8>,
    /// Bytes of the engine's core module.
    pub module_bytes: usize,
    /// Bytes of its stack, which lies first in its memory.
    pub stack_bytes: u32,
}

/// Bakes the module that cargo built.
pub async fn bake(module: &[u8]) -> Result<Baked> {
    let rewired = rewire::rewire(module)?;
    let snapshot = snapshot::snapshot(&rewired.module, rewired.stack_bytes).await?;
    let module = component::finish(&snapshot, rewired.stack_bytes)?;
    let component = component::wrap(&module)?;
    Ok(Baked { component, module_bytes: module.len(), stack_bytes: rewired.stack_bytes })
}
