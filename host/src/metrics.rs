//! Counters and gauges of the server, for Prometheus; README.md lists them.
//!
//! None has a label for a tenant or a function: there is no bound on how many there are. `/fn/stats` tells of these.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use self::process::Process;
use crate::{
    event_queue::Waiting,
    run::{Outcome, Run},
    runtime::occupancy::Occupancy,
};

mod process;

/// What is counted while the server runs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    runs: Family<Ended, Counter>,
    seconds: Family<Ended, Histogram, fn() -> Histogram>,
    queue_seconds: Histogram,
    fuel: Counter,
    refused: Counter,
    turned_away: Counter,
    compiles: Family<Compile, Counter>,
    compile_seconds: Histogram,
    connections: Gauge<u64, AtomicU64>,
    connections_refused: Counter,
}

/// What is the case at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Runs in a slot.
    pub running: usize,
    /// Runs that wait.
    pub waiting: usize,
    /// Slots there are.
    pub slots: u32,
    /// Events whose functions have not all run.
    pub events: Waiting,
    /// What is in use of the runtime.
    pub runtime: Occupancy,
    /// Open realtime connections.
    pub realtime_connections: usize,
    /// Functions that are being compiled.
    pub compiling: usize,
    /// Functions that wait to be compiled.
    pub compile_waiting: usize,
    /// Bytes that the database takes.
    pub database_bytes: u64,
}

/// A connection that is counted until this is dropped.
pub struct Connection(Metrics);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Compile {
    kind: &'static str,
    outcome: &'static str,
}

/// Upper bounds in seconds: from a small script to the time that an upload may take.
const COMPILE_SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0];

/// Upper bounds in seconds: from a fresh run that does nothing to the wall clock of a run.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The same for waiting: from a free slot to an event over its rate, which waits for the next minute.
const QUEUE_SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

impl Default for Counted {
    fn default() -> Self {
        Self {
            runs: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            queue_seconds: Histogram::new(QUEUE_SECONDS),
            fuel: Counter::default(),
            refused: Counter::default(),
            turned_away: Counter::default(),
            compiles: Family::default(),
            compile_seconds: Histogram::new(COMPILE_SECONDS),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts a run that has ended.
    pub fn ran(&self, run: &Run) {
        let ended = Ended { outcome: run.outcome.as_str() };
        self.0.runs.get_or_create(&ended).inc();
        self.0.fuel.inc_by(u64::try_from(run.fuel).unwrap_or_default());
        self.0.queue_seconds.observe(run.queued_us as f64 / 1e6);
        // What was not started took no time.
        if run.outcome != Outcome::Chain {
            self.0.seconds.get_or_create(&ended).observe(run.duration_us as f64 / 1e6);
        }
    }

    /// Counts a run that did not start because a quota is used up.
    pub fn refused(&self) {
        self.0.refused.inc();
    }

    /// Counts a caller that was turned away because too many wait.
    pub fn turned_away(&self) {
        self.0.turned_away.inc();
    }

    /// Counts something that was compiled, or refused or stopped while it was.
    pub fn compiled(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.not_compiled(kind, outcome);
        self.0.compile_seconds.observe(took.as_secs_f64());
    }

    /// Counts an upload that was turned away before it was compiled.
    pub fn not_compiled(&self, kind: &'static str, outcome: &'static str) {
        self.0.compiles.get_or_create(&Compile { kind, outcome }).inc();
    }

    /// Counts an open connection of any kind until the result is dropped.
    pub fn connection(&self) -> Connection {
        self.0.connections.inc();
        Connection(self.clone())
    }

    /// Counts a connection that was closed at once, because there are too many.
    pub fn connection_refused(&self) {
        self.0.connections_refused.inc();
    }

    /// All of it in the text format of OpenMetrics.
    pub fn text(&self, now: &Now) -> String {
        let mut registry = Registry::default();
        if let Some(process) = Process::now() {
            process.register(&mut registry);
        }
        let thimble = registry.sub_registry_with_prefix("thimble");
        thimble.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        self.0.register(thimble);
        now.register(thimble);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}

impl Counted {
    fn register(&self, registry: &mut Registry) {
        registry.register("runs", "Runs that have ended, by outcome", self.runs.clone());
        registry.register("run_seconds", "How long runs took, by outcome", self.seconds.clone());
        registry.register("queue_seconds", "How long runs waited for a slot", self.queue_seconds.clone());
        registry.register("fuel", "Fuel that runs have used", self.fuel.clone());
        registry.register("refused", "Runs that a quota kept from starting", self.refused.clone());
        registry.register(
            "turned_away",
            "Callers that were turned away because too many wait",
            self.turned_away.clone(),
        );
        registry.register(
            "compiles",
            "Uploads that were compiled or refused, by kind and outcome",
            self.compiles.clone(),
        );
        registry.register("compile_seconds", "How long compiling took", self.compile_seconds.clone());
        registry.register("connections", "Open connections of all kinds", self.connections.clone());
        registry.register(
            "connections_refused",
            "Connections that were closed at once because there are too many",
            self.connections_refused.clone(),
        );
    }
}

impl Now {
    fn register(&self, registry: &mut Registry) {
        let Self { events, runtime, .. } = self;
        for (name, help, value) in [
            ("slots", "Functions that can run at once", u64::from(self.slots)),
            ("slots_used", "Functions that run", self.running as u64),
            ("queue_waiting", "Runs that wait", self.waiting as u64),
            ("events_waiting", "Events whose functions have not all run", events.events as u64),
            ("events_waiting_bytes", "Bytes of these events", events.bytes as u64),
            ("memory_slots", "Memories of functions that there can be at once", runtime.memories),
            ("memory_slots_used", "Memories of functions in use", runtime.memories_used),
            ("memory_slots_warm", "Memories that are kept for the next runs", runtime.memories_warm),
            ("memory_slots_warm_bytes", "Bytes that are kept in these", runtime.memories_warm_bytes),
            ("compiling", "Functions that are being compiled", self.compiling as u64),
            ("compile_waiting", "Functions that wait to be compiled", self.compile_waiting as u64),
            ("realtime_connections", "Open realtime connections", self.realtime_connections as u64),
            ("database_bytes", "What the database takes", self.database_bytes),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
}
