//! How much one run may use, and the counting of its memory.

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use crate::run::Outcome;

/// Limits of a run and of an upload; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Instructions, roughly: a tight loop uses one or two for each operation.
    pub fuel: u64,
    /// Milliseconds from the start of a run to its end, host calls included.
    pub wall_ms: u64,
    /// Bytes of all memories and tables of a run together.
    pub memory: usize,
    /// Bytes of all log entries of a run together.
    pub log_bytes: usize,
    /// Log entries of a run.
    pub log_lines: usize,
    /// Bytes of one log entry.
    pub log_line_bytes: usize,
    /// Bytes of the text of an error.
    pub error_bytes: usize,
    /// Bytes of what `handle` returns.
    pub result_bytes: usize,
    /// Reads of documents in a run, each call one.
    pub reads: u64,
    /// Writes of documents in a run, each call one.
    pub writes: u64,
    /// Bytes of all documents that a run writes.
    pub bytes_written: u64,
    /// Messages that a run sends to channels.
    pub messages: u64,
    /// Mails of a run.
    pub mails: u64,
    /// Jobs that a run schedules.
    pub jobs: u64,
    /// Requests that a run makes over HTTP.
    pub fetches: u64,
    /// Runs that may stand one behind the other in a chain of causes, besides the first.
    pub chain_depth: u32,
    /// Runs that one run may cause, with those that they cause …
    pub chain_runs: u64,
    /// … and the fuel of all of them together.
    pub chain_fuel: u64,
    /// Bytes of a function's source.
    pub source_bytes: usize,
    /// Bytes of any upload.
    pub upload_bytes: usize,
    /// Bytes that the top level of a function may leave in memory.
    pub delta_bytes: usize,
    /// Milliseconds for evaluating the top level of an upload.
    pub load_wall_ms: u64,
    /// Which of them the function's owner made narrower than the operator's; never set in a file.
    #[serde(skip)]
    pub own: Vec<Setting>,
}

/// A limit that the owner of a function can make narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// [`Limits::fuel`].
    Fuel,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::wall_ms`].
    Timeout,
}

/// A host function ends the run with this: which limit was hit, and the sentence for the history.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stopped {
    /// How the run ends.
    pub outcome: Outcome,
    /// What was used up and how to raise it.
    pub message: String,
}

/// Adds up all memories and tables of one store; what would go over the limit is refused, not trapped, so that a guest can
/// handle it.
#[derive(Debug)]
pub struct MemoryMeter {
    limit: usize,
    used: usize,
    /// Largest sum so far, in bytes.
    pub peak: usize,
    /// Whether a growth was refused.
    pub refused: bool,
}

/// Bytes that an element of a table is counted for.
const TABLE_ELEMENT: usize = size_of::<usize>();

impl MemoryMeter {
    /// A meter for a store that may use `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, peak: 0, refused: false }
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let wanted = self.used.saturating_add(bytes);
        if wanted > self.limit {
            self.refused = true;
            return false;
        }
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        true
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT)))
    }
}

impl Limits {
    /// Who raises a limit, and with what.
    pub fn how_to_raise(&self, setting: Setting) -> String {
        let (flag, name) = match setting {
            Setting::Fuel => ("--fuel", "limits.fuel"),
            Setting::Memory => ("--memory", "limits.memory"),
            Setting::Timeout => ("--timeout", "limits.wall_ms"),
        };
        if self.own.contains(&setting) {
            format!("the function's own limit is raised with `thimble function update … {flag}`")
        } else {
            format!("the operator raises the limit with `{name}`")
        }
    }

    /// No limits at all; for preparing the engine itself, never for a function.
    pub(crate) fn unlimited() -> Self {
        const MOST: usize = usize::MAX;
        Self {
            fuel: u64::MAX,
            wall_ms: u64::MAX,
            memory: MOST,
            log_bytes: MOST,
            log_lines: MOST,
            log_line_bytes: MOST,
            error_bytes: MOST,
            result_bytes: MOST,
            reads: u64::MAX,
            writes: u64::MAX,
            bytes_written: u64::MAX,
            messages: u64::MAX,
            mails: u64::MAX,
            jobs: u64::MAX,
            fetches: u64::MAX,
            chain_depth: u32::MAX,
            chain_runs: u64::MAX,
            chain_fuel: u64::MAX,
            source_bytes: MOST,
            upload_bytes: MOST,
            delta_bytes: MOST,
            load_wall_ms: u64::MAX,
            own: Vec::new(),
        }
    }
}
