//! Evaluates an uploaded function once, inside the engine and within limits, and keeps what it changed.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use wasmtime::{AsContextMut, Caller, Engine, Instance, InstancePre, Linker, Memory, Module, Store, Trap};

use super::{delta, template::Template};
use crate::{
    clock::Clock,
    runtime::{
        compile::UploadError,
        limits::{Limits, MemoryMeter},
        log::RunLog,
    },
};

/// A function that was evaluated.
#[derive(Debug)]
pub struct Loaded {
    /// Core module that puts an engine into the state after evaluating.
    pub delta: Vec<u8>,
    /// `handle.length`.
    pub parameters: u32,
    /// What the top level logged.
    pub log: Vec<String>,
}

/// The engine, ready to evaluate uploads.
pub struct Loader {
    instance: InstancePre<State>,
    /// Memory of the engine before anything was evaluated.
    base: Vec<u8>,
    template: Arc<Template>,
    engine: Engine,
    clock: Arc<Clock>,
}

struct State {
    memory: MemoryMeter,
    log: RunLog,
    clock: Arc<Clock>,
}

/// What `thimble_load` tells of a function.
#[derive(Deserialize)]
struct Report {
    parameters: u32,
    /// The top level read the clock or randomness, so its result must not be frozen.
    impure: bool,
}

impl Loader {
    /// Links the engine to what may be used while loading: its log, the clock and randomness.
    pub async fn new(
        engine: &Engine,
        module: &Module,
        template: Arc<Template>,
        clock: Arc<Clock>,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        linker.func_wrap("thimble:functions/log@0.1.0", "log", log)?;
        linker.func_wrap("thimble:functions/clock@0.1.0", "now", |caller: Caller<'_, State>| {
            caller.data().clock.nanoseconds()
        })?;
        linker.func_wrap("thimble:functions/random@0.1.0", "random", rand::random::<u64>)?;
        // The engine itself refuses the other host functions while loading, with an error that can be caught.
        linker.define_unknown_imports_as_traps(module)?;
        let mut loader = Self {
            instance: linker.instantiate_pre(module)?,
            base: Vec::new(),
            template,
            engine: engine.clone(),
            clock,
        };
        let sandbox = loader.sandbox(&Limits::unlimited()).await?;
        loader.base = sandbox.memory.data(&sandbox.store).to_vec();
        Ok(loader)
    }

    /// Compiles and evaluates a function; errors name positions in `file`.
    pub async fn load(&self, file: &str, source: &str, limits: &Limits) -> Result<Loaded, UploadError> {
        let wall = Duration::from_millis(limits.load_wall_ms);
        tokio::time::timeout(wall, self.evaluate(file, source, limits)).await.unwrap_or_else(|_| {
            Err(UploadError::Refused(format!(
                "the top level of {file} did not finish within {} ms: move the work into `handle`, or look for a loop that never ends",
                limits.load_wall_ms
            )))
        })
    }

    async fn evaluate(&self, file: &str, source: &str, limits: &Limits) -> Result<Loaded, UploadError> {
        // Compiling leaves garbage behind, so evaluating happens in a fresh engine: what remains there is the function's.
        let mut compiler = self.sandbox(limits).await?;
        let bytecode = compiler.compile(file, source).await?;
        drop(compiler);

        let mut sandbox = self.sandbox(limits).await?;
        let report = sandbox.load(file, &bytecode, false).await?;
        let log = std::mem::take(&mut sandbox.store.data_mut().log).into_lines();
        if report.impure {
            // Clock and randomness would be frozen: keep the bytecode only, and evaluate it in every run.
            // One at a time: an upload takes one slot.
            drop(sandbox);
            sandbox = self.sandbox(limits).await?;
            sandbox.load(file, &bytecode, true).await?;
        }
        let delta = delta::module(&self.base, sandbox.memory.data(&sandbox.store), self.template.stack.clone());
        if delta.len() > limits.delta_bytes {
            return Err(UploadError::TooLarge(format!(
                "the top level of {file} leaves {} bytes in memory, more than the {} allowed: build large tables inside `handle`",
                delta.len(),
                limits.delta_bytes
            )));
        }
        Ok(Loaded { delta, parameters: report.parameters, log })
    }

    async fn sandbox(&self, limits: &Limits) -> wasmtime::Result<Sandbox> {
        let state =
            State { memory: MemoryMeter::new(limits.memory), log: RunLog::new(limits), clock: self.clock.clone() };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_fuel(limits.fuel)?;
        store.epoch_deadline_async_yield_and_update(1);
        let instance = self.instance.instantiate_async(&mut store).await?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::format_err!("the engine exports no memory"))?;
        Ok(Sandbox { store, instance, memory })
    }
}

fn log(mut caller: Caller<'_, State>, level: u32, text: u32, length: u32) -> wasmtime::Result<()> {
    let memory = caller
        .get_export("memory")
        .and_then(|export| export.into_memory())
        .ok_or_else(|| wasmtime::format_err!("the engine exports no memory"))?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let text = slice(bytes, text, length)?;
    state.log.add(level.try_into().unwrap_or_default(), &String::from_utf8_lossy(text));
    Ok(())
}

/// One engine that evaluates one function and is dropped.
struct Sandbox {
    store: Store<State>,
    instance: Instance,
    memory: Memory,
}

impl Sandbox {
    async fn compile(&mut self, file: &str, source: &str) -> Result<Vec<u8>, UploadError> {
        let name = self.put(file.as_bytes()).await?;
        let text = self.put(source.as_bytes()).await?;
        let compile = self.instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut self.store, "thimble_compile")?;
        let answer = compile.call_async(&mut self.store, (name.0, name.1, text.0, text.1)).await;
        let answer = answer.map_err(|trap| self.explain(file, "compiling", trap))?;
        self.answer(answer)?.map_err(UploadError::Refused)
    }

    async fn load(&mut self, file: &str, bytecode: &[u8], deferred: bool) -> Result<Report, UploadError> {
        let blob = self.put(bytecode).await?;
        let load = self.instance.get_typed_func::<(u32, u32, u32), u32>(&mut self.store, "thimble_load")?;
        let answer = load.call_async(&mut self.store, (blob.0, blob.1, u32::from(deferred))).await;
        let answer = answer.map_err(|trap| self.explain(file, "evaluating the top level of", trap))?;
        let report = self.answer(answer)?.map_err(UploadError::Refused)?;
        serde_json::from_slice(&report).map_err(|error| UploadError::Internal(error.into()))
    }

    /// Copies bytes into the engine; it takes ownership of them.
    async fn put(&mut self, bytes: &[u8]) -> Result<(u32, u32), UploadError> {
        let length = u32::try_from(bytes.len()).map_err(|_| UploadError::TooLarge("the upload is too large".into()))?;
        let realloc = self.instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut self.store, "cabi_realloc")?;
        let at = realloc.call_async(&mut self.store, (0, 0, 1, length)).await?;
        self.memory.write(self.store.as_context_mut(), at as usize, bytes).map_err(wasmtime::Error::from)?;
        Ok((at, length))
    }

    /// Reads `{tag, pointer, length}`: bytes, or the text of an error.
    fn answer(&self, at: u32) -> wasmtime::Result<Result<Vec<u8>, String>> {
        let memory = self.memory.data(&self.store);
        let word = |index: u32| -> wasmtime::Result<u32> {
            let bytes = slice(memory, at.saturating_add(4 * index), 4)?;
            Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        };
        let bytes = slice(memory, word(1)?, word(2)?)?.to_vec();
        Ok(match word(0)? {
            0 => Ok(bytes),
            _ => Err(String::from_utf8_lossy(&bytes).into_owned()),
        })
    }

    /// A trap is the function's doing; its owner is told what happened.
    fn explain(&self, file: &str, doing: &str, trap: wasmtime::Error) -> UploadError {
        let why = match trap.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => "it did not finish within the fuel of a run: look for a loop that never ends",
            Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => {
                "the call stack overflowed: it recurses or nests too deeply"
            }
            Some(_) if self.store.data().memory.refused => "it needs more memory than a run may have",
            Some(_) => "the engine could not go on",
            None => return UploadError::Internal(anyhow::Error::from(trap)),
        };
        UploadError::Refused(format!("{doing} {file} failed: {why}"))
    }
}

/// Bytes of the engine's memory; whatever it claims, nothing outside of it is read.
fn slice(memory: &[u8], at: u32, length: u32) -> wasmtime::Result<&[u8]> {
    let range = at as usize..at as usize + length as usize;
    memory.get(range).ok_or_else(|| wasmtime::format_err!("the engine points outside of its memory"))
}
