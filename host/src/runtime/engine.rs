//! The settings of wasmtime, each with its reason, and the clock that makes guests yield.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig, Strategy,
};

/// Native stack of a guest: with the engine's own (shadow) stack it decides how deep JavaScript recurses; see
/// `tests/javascript.rs` for the depth that is promised.
const WASM_STACK: usize = 4 << 20;

/// Core instances of one component.
const CORE_INSTANCES: u32 = 16;

/// Memories of one component. Each reserves 4 GiB of address space in each slot.
pub const MEMORIES: u32 = 1;

/// Tables of one component.
const TABLES: u32 = 8;

/// Room for host functions beyond the guest's own stack.
const HOST_STACK: usize = 1 << 20;

/// Makes an engine that only compiles, for the engine of [`new`] to run: the process it is in has little memory.
pub fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(config().parallel_compilation(false))
}

/// Makes the one wasmtime engine of this process, with room for `slots` guests of at most `memory` bytes each.
pub fn new(slots: u32, memory: usize) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::default();
    // A JavaScript component has five core instances (engine, delta and three small adapters); components of other languages
    // come with up to sixteen. There is room for as many runs of the largest as there are slots: nobody's component may
    // keep another one from its slot.
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES)
        .total_memories(slots * MEMORIES)
        .total_tables(slots * TABLES)
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(20_000)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(2 << 20)
        .max_memory_size(memory)
        // All JavaScript functions share one memory image, so any slot is warm for any of them: keep as many as there are.
        .max_unused_warm_slots(slots)
        // Page faults are the price of a cold slot. 1 MiB covers what a small function touches; more makes giving a slot
        // back slower than it makes taking it faster.
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        // Ask the kernel which pages were touched instead of clearing all that are kept; falls back where the kernel cannot.
        .pagemap_scan(Enabled::Auto);

    Engine::new(config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
}

/// What code is compiled for and with.
fn config() -> Config {
    let mut config = Config::new();
    config
        // Never Winch for uploaded code, and never a fast but weaker optimisation level.
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Fuel bounds work, epochs give the thread back, and the wall clock of the run bounds everything else.
        .consume_fuel(true)
        .operator_cost(costs())
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(WASM_STACK + HOST_STACK)
        // A stack that one guest left is zero for the next.
        .async_stack_zeroing(true)
        // The image of the engine is copied on write, not copied: this is what makes a cold start cheap.
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(16 << 20)
        // No component of this world needs concurrency; without it a call costs a few microseconds less, and known faults
        // of it cannot be reached.
        .concurrency_support(false)
        // Proposals that no guest needs. What is off cannot be attacked.
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        // Host frames say nothing to the owner of a function, and gathering them is slow.
        .wasm_backtrace_max_frames(None);
    config
}

/// Fuel of instructions, where wasmtime's defaults are far from the time they take.
fn costs() -> OperatorCost {
    let mut costs = OperatorCost::new();
    // A machine fills ten bytes and more in the time of any other instruction; counted by the byte, a function that makes
    // large buffers runs out of fuel in half a second. The wall clock bounds it, and an epoch passes between two fills.
    costs.variable.memory_fill_per_byte = 0;
    // The opposite: asking for memory that is refused takes a call into the host.
    costs.MemoryGrow = 200;
    costs
}

/// Advances the engine's epoch every millisecond while guests run, so that none keeps a thread for longer.
///
/// While nothing runs, the thread sleeps: an idle server stays idle.
#[derive(Debug)]
pub struct Ticker {
    state: Arc<TickerState>,
}

#[derive(Debug, Default)]
struct TickerState {
    running: AtomicUsize,
    asleep: Mutex<bool>,
    wake: Condvar,
}

/// While it lives, the epoch advances.
#[derive(Debug)]
pub struct Ticking(Arc<TickerState>);

const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest before the thread goes to sleep: long enough that a busy server never pays for waking it.
const IDLE_TICKS: u32 = 100;

impl Ticker {
    /// Starts the thread. It ends with the last handle of the engine.
    pub fn start(engine: &Engine) -> std::io::Result<Self> {
        let state = Arc::new(TickerState::default());
        let (weak, ticking) = (engine.weak(), state.clone());
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut idle = 0;
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
                idle = if ticking.running.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
                if idle >= IDLE_TICKS {
                    ticking.sleep();
                    idle = 0;
                }
            }
        })?;
        Ok(Self { state })
    }

    /// Keeps the epoch advancing until the result is dropped.
    pub fn tick(&self) -> Ticking {
        if self.state.running.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut asleep = self.state.asleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if std::mem::take(&mut *asleep) {
                self.state.wake.notify_one();
            }
        }
        Ticking(self.state.clone())
    }
}

impl TickerState {
    fn sleep(&self) {
        let mut asleep = self.asleep.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *asleep = self.running.load(Ordering::SeqCst) == 0;
        while *asleep {
            // The time-out lets the thread notice that the engine is gone.
            let (guard, waited) =
                self.wake.wait_timeout(asleep, Duration::from_secs(5)).unwrap_or_else(|poisoned| poisoned.into_inner());
            asleep = guard;
            if waited.timed_out() {
                return;
            }
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
