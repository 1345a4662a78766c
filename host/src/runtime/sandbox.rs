//! One run: a fresh instance, one call, and how it ended.

use std::time::Duration;

use serde::de::IgnoredAny;
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};

use super::{
    Prepared,
    guests::Times,
    limits::{Limits, Setting, Stopped},
    log::truncated,
};
use crate::{
    documents::Work,
    host_functions::Invocation,
    run::{Outcome, Used},
};

/// How a run ended and what it used.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// JSON text that `handle` returned, if anything.
    pub result: Option<String>,
    /// Text of what was thrown, or which limit was hit and how to raise it.
    pub error: Option<String>,
    /// Log entries in order.
    pub log: Vec<String>,
    /// Fuel used by the guest and by host calls.
    pub fuel: u64,
    /// Bytes of all memories and tables at their largest.
    pub peak_memory: usize,
    /// What it did with the platform.
    pub used: Used,
    /// Where the time went.
    pub times: Times,
    /// What a run for a kept event did, to be committed.
    pub work: Option<Box<Work>>,
}

impl Ended {
    /// A run that the server did not finish: it panicked (which has been reported), or it ends.
    pub(super) fn unfinished() -> Self {
        tracing::error!("a run ended without an answer");
        Self::not_run(Outcome::Error, "internal error: the server could not finish the run".into())
    }

    /// A run that used nothing.
    pub(crate) fn not_run(outcome: Outcome, error: String) -> Self {
        Self {
            outcome,
            result: None,
            error: Some(error),
            log: Vec::new(),
            fuel: 0,
            peak_memory: 0,
            used: Used::default(),
            times: Times::default(),
            work: None,
        }
    }
}

/// Makes the sandbox, calls `handle`, and drops the sandbox, whatever happens.
///
/// Limits are set before anything is instantiated, since start functions are guest code too.
pub(super) async fn run(engine: &Engine, prepared: &Prepared, invocation: Invocation, args: Vec<String>) -> Ended {
    let limits = invocation.limits.clone();
    let mut store = Store::new(engine, invocation);
    store.limiter(|invocation| &mut invocation.memory);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_hostcall_fuel(HOST_CALL_BYTES);
    store.set_max_component_handles(1_000);
    // Only an engine without fuel refuses this.
    let fueled = store.set_fuel(limits.fuel);

    let call = async {
        fueled?;
        let instance = prepared.function.instantiate_async(&mut store).await?;
        instance.call_handle(&mut store, &args).await
    };
    // Dropping the call is what stops a host call that hangs; the store goes with it and is never used again.
    let called = tokio::time::timeout(Duration::from_millis(limits.wall_ms), call).await;

    let guest_fuel = limits.fuel - store.get_fuel().unwrap_or_default().min(limits.fuel);
    let fuel = guest_fuel.saturating_add(store.data().host_fuel());
    let memory = (store.data().memory.peak, store.data().memory.refused);
    let used = store.data().used();
    let is_conflict = matches!(&called, Ok(Ok(Err(thrown))) if store.data().is_conflict(thrown));
    let (log, work) = store.into_data().into_log_and_work();
    let (outcome, result, error) = match called {
        Err(_) => (Outcome::Timeout, None, Some(timeout_text(&limits))),
        Ok(Ok(Ok(result))) => match result {
            Some(json) if json.len() > limits.result_bytes => {
                (Outcome::Quota, None, Some(result_text(json.len(), &limits)))
            }
            Some(json) if !prepared.is_javascript() && serde_json::from_str::<IgnoredAny>(&json).is_err() => {
                (Outcome::Error, None, Some(NOT_JSON.into()))
            }
            result => (Outcome::Ok, result, None),
        },
        Ok(Ok(Err(thrown))) if thrown.starts_with(OUT_OF_MEMORY) => {
            (Outcome::Memory, None, Some(format!("{}\n{thrown}", memory_text(&limits))))
        }
        Ok(Ok(Err(thrown))) if is_conflict => (Outcome::Conflict, None, Some(thrown)),
        Ok(Ok(Err(thrown))) => (Outcome::Error, None, Some(thrown)),
        Ok(Err(trap)) => {
            let (outcome, text) = explain(&trap, prepared, memory.1, &limits);
            (outcome, None, Some(text))
        }
    };
    Ended {
        outcome,
        result,
        error: error.map(|text| truncated(&text, limits.error_bytes).into_owned()),
        log,
        fuel,
        peak_memory: memory.0,
        used,
        times: Times::default(),
        work,
    }
}

/// Bytes that one host call may copy out of a guest: the host allocates no more than this, whatever length a guest states.
const HOST_CALL_BYTES: usize = 8 << 20;

/// How QuickJS reports that its own memory limit, or the sandbox's, was reached.
const OUT_OF_MEMORY: &str = "InternalError: out of memory";

fn explain(trap: &wasmtime::Error, prepared: &Prepared, memory_refused: bool, limits: &Limits) -> (Outcome, String) {
    if let Some(stopped) = trap.downcast_ref::<Stopped>() {
        return (stopped.outcome, stopped.message.clone());
    }
    match trap.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => (Outcome::Fuel, fuel_text(limits)),
        Some(Trap::StackOverflow) => (Outcome::Stack, STACK.into()),
        Some(Trap::MemoryOutOfBounds) if below_memory(trap) => (Outcome::Stack, STACK.into()),
        Some(_) if memory_refused => (Outcome::Memory, memory_text(limits)),
        Some(_) if prepared.is_javascript() => {
            (Outcome::Error, "the function was stopped: the engine it runs in could not go on".into())
        }
        Some(trap) => (Outcome::Error, format!("the function was stopped: {trap}")),
        None if trap.root_cause().to_string().contains("allocated for hostcalls") => (
            Outcome::Quota,
            format!(
                "stopped: it passed more than {HOST_CALL_BYTES} bytes to the platform in one call, or returned as much"
            ),
        ),
        None if memory_refused => (Outcome::Memory, memory_text(limits)),
        // A component made elsewhere may break the rules of passing values in any way; only a full pool is the server's fault.
        None if !prepared.is_javascript() && !trap.is::<PoolConcurrencyLimitError>() => (
            Outcome::Error,
            format!("the function was stopped: it breaks the rules of components: {}", trap.root_cause()),
        ),
        None => {
            tracing::error!(error = format!("{trap:#}"), "a run failed for a reason that is not the function's");
            (Outcome::Error, "internal error: the server could not finish the run".into())
        }
    }
}

const NOT_JSON: &str = "stopped: what `handle` returned is not JSON text";

const STACK: &str = "stopped: the call stack overflowed. A function that calls itself without end is the usual cause";

/// The text of [`Outcome::Fuel`].
pub(crate) fn fuel_text(limits: &Limits) -> String {
    format!(
        "stopped: it used all of its fuel ({} instructions). A loop that never ends is the usual cause; {}",
        limits.fuel,
        limits.how_to_raise(Setting::Fuel)
    )
}

fn timeout_text(limits: &Limits) -> String {
    format!(
        "stopped: it took longer than {} ms, host calls included; {}",
        limits.wall_ms,
        limits.how_to_raise(Setting::Timeout)
    )
}

fn memory_text(limits: &Limits) -> String {
    format!("stopped: out of memory. A run may use {} bytes; {}", limits.memory, limits.how_to_raise(Setting::Memory))
}

fn result_text(bytes: usize, limits: &Limits) -> String {
    format!(
        "stopped: it returned {bytes} bytes, more than the {} allowed. The operator raises the limit with \
         `limits.result_bytes`",
        limits.result_bytes
    )
}

/// Whether the fault is an access just below address 0, where the engine's own stack ends: it lies first in memory.
fn below_memory(trap: &wasmtime::Error) -> bool {
    const BELOW: u64 = 0xfff0_0000;
    let text = format!("{trap:#}");
    let address =
        text.split("wasm address 0x").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_hexdigit()).next());
    address.and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|address| address >= BELOW)
}
