//! The snapshot as a component of the world.

use anyhow::{Context, Result};
use walrus::{ModuleConfig, RawCustomSection};
use wit_component::ComponentEncoder;

use crate::rewire::remove_exports;

/// Custom section that tells the host how large the stack is (u32, little endian): dead memory between two calls.
const STACK_SECTION: &str = "thimble:stack";

/// What was needed for baking only.
const HELPERS: [&str; 3] = ["wizer-initialize", "_initialize", "__wasm_call_ctors"];

/// Removes what only baking needed, and says how large the stack is.
pub fn finish(snapshot: &[u8], stack_bytes: u32) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    // Names would be half a megabyte that nobody reads: backtraces of guests are off.
    config.generate_name_section(false).generate_producers_section(false);
    let mut module = config.parse(snapshot)?;
    remove_exports(&mut module, |name| HELPERS.contains(&name));
    let stack = RawCustomSection { name: STACK_SECTION.into(), data: stack_bytes.to_le_bytes().to_vec() };
    module.customs.add(stack);
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

/// The module as a component. Its further exports (`thimble_compile`, `thimble_load`) stay reachable in the core module.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default().validate(true).module(module)?;
    encoder.encode().context("the engine is no component of the world")
}
