//! Runs the engine's initialiser once and keeps its memory, so that no run has to make a QuickJS runtime and its globals.

use anyhow::{Context, Result};
use wasmtime::{Caller, Engine, Extern, Linker, Module, Store};
use wasmtime_wizer::{WasmtimeWizer, Wizer};

/// The module with its memory as the initialiser leaves it.
pub async fn snapshot(module: &[u8], stack_bytes: u32) -> Result<Vec<u8>> {
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument(module)?;

    let engine = Engine::default();
    let module = Module::new(&engine, &instrumented)?;
    let mut linker: Linker<()> = Linker::new(&engine);
    // Constants, so that the same sources make the same bytes. The engine takes new seeds in every run.
    linker.func_wrap("thimble:functions/clock@0.1.0", "now", || 0_u64)?;
    linker.func_wrap("thimble:functions/random@0.1.0", "random", || 0x5eed_5eed_5eed_5eed_u64)?;
    linker.func_wrap("thimble:functions/log@0.1.0", "log", log)?;
    linker.define_unknown_imports_as_traps(&module)?;

    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate_async(&mut store, &module).await?;
    for name in ["_initialize", wizer.get_init_func()] {
        if let Ok(initialise) = instance.get_typed_func::<(), ()>(&mut store, name) {
            let done = initialise.call_async(&mut store, ()).await;
            done.map_err(anyhow::Error::from).with_context(|| format!("the engine's `{name}` failed"))?;
        }
    }
    // What lies on the stack is dead.
    let memory = instance.get_memory(&mut store, "memory").context("the engine exports no memory")?;
    memory.data_mut(&mut store)[..stack_bytes as usize].fill(0);

    Ok(wizer.snapshot(&context, &mut WasmtimeWizer { store: &mut store, instance }).await?)
}

/// The engine says why it cannot be initialised.
fn log(mut caller: Caller<'_, ()>, _level: u32, text: u32, length: u32) {
    if let Some(Extern::Memory(memory)) = caller.get_export("memory") {
        let text = memory.data(&caller).get(text as usize..text as usize + length as usize).unwrap_or_default();
        eprintln!("{}", String::from_utf8_lossy(text));
    }
}
