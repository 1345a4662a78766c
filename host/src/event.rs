//! Something happened: what triggers make and the dispatcher turns into runs.

use serde_json::{Map, Value};

use crate::{identity::Identity, message::Message};

/// How deep a chain of causes (a run's write triggers a run …) may go before it is stopped.
pub const MAX_CHAIN_DEPTH: u32 = 8;

/// One thing that functions may wait for.
#[derive(Clone, Debug)]
pub struct Event {
    /// As whom the functions run.
    pub identity: Identity,
    /// What happened.
    pub kind: EventKind,
    /// What it happened because of.
    pub cause: Cause,
}

/// What happened, with all that a function is told of it.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A call over HTTP of one function by name.
    Web(WebRequest),
    /// A message in a channel; a changed document is a message of type `db_created`, `db_updated` or `db_deleted` in the
    /// channel `db-<collection>`.
    Message(Message),
}

/// The part of an HTTP request that a function sees.
#[derive(Clone, Debug, Default)]
pub struct WebRequest {
    /// Parsed body; `None` when the request had none that could be parsed (reference, section 4.3).
    pub body: Option<Value>,
    /// Query parameters, the first value of each.
    pub query: Map<String, Value>,
    /// Headers in lower case, the first value of each, without credentials.
    pub headers: Map<String, Value>,
}

/// The chain of causes that an event belongs to.
#[derive(Clone, Debug)]
pub struct Cause {
    /// Shared by all runs of one chain.
    pub trace_id: String,
    /// 0 for what came from outside, one more for each run in between.
    pub depth: u32,
}

impl Cause {
    /// The start of a new chain.
    pub fn outside() -> Self {
        Self { trace_id: uuid::Uuid::new_v4().simple().to_string(), depth: 0 }
    }

    /// The cause of what a run with this cause does.
    pub fn next(&self) -> Self {
        Self { trace_id: self.trace_id.clone(), depth: self.depth + 1 }
    }
}

/// The way of events from where they are made to the dispatcher; bounded, so that producers wait when it is full.
pub type EventSender = tokio::sync::mpsc::Sender<Event>;
