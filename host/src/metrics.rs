//! Counters and gauges of the server, for Prometheus.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::run::Run;

/// What is counted while the server runs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    runs: Family<Outcome, Counter>,
    seconds: Histogram,
    fuel: Counter,
    refused: Counter,
    turned_away: Counter,
    compiles: Family<Compile, Counter>,
    compile_seconds: Histogram,
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
    /// Open realtime connections.
    pub connections: usize,
    /// Functions that are being compiled.
    pub compiling: usize,
    /// Functions that wait to be compiled.
    pub compile_waiting: usize,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
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

impl Default for Counted {
    fn default() -> Self {
        Self {
            runs: Family::default(),
            seconds: Histogram::new(SECONDS),
            fuel: Counter::default(),
            refused: Counter::default(),
            turned_away: Counter::default(),
            compiles: Family::default(),
            compile_seconds: Histogram::new(COMPILE_SECONDS),
        }
    }
}

impl Metrics {
    /// Counts a run that has ended.
    pub fn ran(&self, run: &Run) {
        self.0.runs.get_or_create(&Outcome { outcome: run.outcome.as_str() }).inc();
        self.0.seconds.observe(run.duration_us as f64 / 1e6);
        self.0.fuel.inc_by(u64::try_from(run.fuel).unwrap_or_default());
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

    /// All of it in the text format of OpenMetrics.
    pub fn text(&self, now: Now) -> String {
        let mut registry = Registry::with_prefix("thimble");
        let counted = &self.0;
        registry.register("runs", "Runs that have ended, by outcome", counted.runs.clone());
        registry.register("run_seconds", "How long runs took", counted.seconds.clone());
        registry.register("fuel", "Fuel that runs have used", counted.fuel.clone());
        registry.register("refused", "Runs that a quota kept from starting", counted.refused.clone());
        registry.register(
            "turned_away",
            "Callers that were turned away because too many wait",
            counted.turned_away.clone(),
        );
        registry.register("compiles", "Functions that were compiled, by kind and outcome", counted.compiles.clone());
        registry.register("compile_seconds", "How long compiling took", counted.compile_seconds.clone());
        for (name, help, value) in [
            ("slots", "Functions that can run at once", u64::from(now.slots)),
            ("slots_used", "Functions that run", now.running as u64),
            ("queue_waiting", "Runs that wait", now.waiting as u64),
            ("realtime_connections", "Open realtime connections", now.connections as u64),
            ("compiling", "Functions that are being compiled", now.compiling as u64),
            ("compile_waiting", "Functions that wait to be compiled", now.compile_waiting as u64),
        ] {
            let gauge: Gauge<u64, AtomicU64> = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
