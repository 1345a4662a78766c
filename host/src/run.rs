//! What is recorded of one run of a function.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a run ended. The names are those of the history and of error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// `handle` returned.
    Ok,
    /// `handle` threw, or returned what cannot be JSON.
    Error,
    /// It executed more instructions than its fuel allows.
    Fuel,
    /// It took longer than its wall clock allows.
    Timeout,
    /// It needed more memory than it may have.
    Memory,
    /// It called itself too deeply.
    Stack,
    /// It used up another limit: of the run (writes, size of the result), of the function or of its tenant (runs a minute).
    Quota,
    /// It was not started, because the chain of causes behind it is too deep or has used up its budget.
    Chain,
    /// It threw the error of a transaction that could not be committed, because what it had read was changed by others.
    Conflict,
    /// The platform did not let it end: the server ended, or the database was away. Only runs for kept events, which run again.
    Interrupted,
}

impl Outcome {
    /// The word in the history and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Fuel => "fuel",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Quota => "quota",
            Self::Chain => "chain",
            Self::Conflict => "conflict",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [Outcome; 10] = [
            Outcome::Ok,
            Outcome::Error,
            Outcome::Fuel,
            Outcome::Timeout,
            Outcome::Memory,
            Outcome::Stack,
            Outcome::Quota,
            Outcome::Chain,
            Outcome::Conflict,
            Outcome::Interrupted,
        ];
        ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// What a run did with the platform; each is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// Reads of documents.
    pub reads: u64,
    /// Writes of documents.
    pub writes: u64,
    /// Bytes of the documents it wrote.
    pub bytes_written: u64,
    /// Messages it sent to channels.
    pub messages: u64,
    /// Mails it sent.
    pub mails: u64,
    /// Jobs it scheduled.
    pub jobs: u64,
}

/// One run, as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Also in the header `X-Run-Id` of the answer.
    pub id: String,
    /// Public key of the tenant.
    pub tenant: String,
    /// Id of the function.
    pub function: String,
    /// Version that ran.
    pub version: i64,
    /// What the function was called for: `web`, or the channel or type that matched.
    pub trigger: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Text of what was thrown, or which limit was hit and how to raise it; at most 4 KiB.
    pub error: Option<String>,
    /// When it started.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub completed: DateTime<Utc>,
    /// Microseconds of wall clock.
    pub duration_us: i64,
    /// Fuel used, by the guest and by host calls.
    pub fuel: i64,
    /// Bytes of all memories and tables at their largest.
    pub peak_memory: i64,
    /// Microseconds of them on a thread …
    pub guest_us: i64,
    /// … and in host calls; the rest it was ready and others had the threads.
    pub host_us: i64,
    /// Microseconds that it waited for a slot before it started.
    pub queued_us: i64,
    /// What it did with the platform.
    pub used: Used,
    /// Shared by all runs of one chain of causes.
    pub trace_id: String,
    /// Runs that stand before it in the chain.
    pub depth: u32,
    /// The functions of the chain in order, itself last: `a → b → a`.
    pub chain: String,
    /// Log lines in order.
    pub log: Vec<String>,
}
