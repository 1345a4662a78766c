//! Something happened: what triggers make and the dispatcher turns into runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value};

use crate::{identity::Identity, message::Message};

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
    /// The run that made the event; `None` for what came from outside.
    before: Option<Arc<Link>>,
}

/// A run in a chain.
#[derive(Debug)]
struct Link {
    function: String,
    before: Option<Arc<Link>>,
    /// What is left to all that the chain's first run causes, directly or not.
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    runs: AtomicU64,
    fuel: AtomicU64,
}

/// A chain has used up what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Runs.
    Runs,
    /// Fuel.
    Fuel,
}

impl Cause {
    /// The start of a new chain.
    pub fn outside() -> Self {
        Self { trace_id: uuid::Uuid::new_v4().simple().to_string(), depth: 0, before: None }
    }

    /// The cause of what a run of `function` does that has this cause. The first run of a chain gets a budget for all that
    /// follows: runs, and their fuel together.
    pub fn by(&self, function: &str, runs: u64, fuel: u64) -> Self {
        let budget = match &self.before {
            Some(before) => before.budget.clone(),
            None => Arc::new(Budget { runs: runs.into(), fuel: fuel.into() }),
        };
        let link = Link { function: function.to_owned(), before: self.before.clone(), budget };
        Self { trace_id: self.trace_id.clone(), depth: self.depth + 1, before: Some(Arc::new(link)) }
    }

    /// Takes one run from the chain's budget. What came from outside costs nothing.
    pub fn begin(&self) -> Result<(), Spent> {
        let Some(Link { budget, .. }) = self.before.as_deref() else { return Ok(()) };
        if budget.fuel.load(Ordering::Relaxed) == 0 {
            return Err(Spent::Fuel);
        }
        let one_less = |runs: u64| runs.checked_sub(1);
        budget.runs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).map(drop).map_err(|_| Spent::Runs)
    }

    /// Takes the fuel of a run that has ended from the chain's budget.
    pub fn end(&self, fuel: u64) {
        if let Some(Link { budget, .. }) = self.before.as_deref() {
            let less = |left: u64| Some(left.saturating_sub(fuel));
            let _ = budget.fuel.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// The functions of the chain in order, with `last` at the end: `a → b → a`.
    pub fn path(&self, last: &str) -> String {
        let before = std::iter::successors(self.before.as_deref(), |link| link.before.as_deref());
        let mut names: Vec<&str> = std::iter::once(last).chain(before.map(|link| link.function.as_str())).collect();
        names.reverse();
        names.join(" → ")
    }
}

impl Event {
    /// Bytes that it takes while it waits, about.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = 512;
        let content = match &self.kind {
            EventKind::Web(_) => 0,
            EventKind::Message(message) => message.data.len() + message.channel.len() + message.kind.len(),
        };
        FIXED + content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_knows_its_way_and_shares_one_budget() {
        let outside = Cause::outside();
        assert_eq!(outside.begin(), Ok(()));
        assert_eq!(outside.path("a"), "a");

        let by_a = outside.by("a", 2, 100);
        let by_b = by_a.by("b", 9, 9);

        assert_eq!((by_b.depth, by_b.path("a").as_str()), (2, "a → b → a"));
        assert_eq!(by_b.trace_id, outside.trace_id);
        assert_eq!([by_b.begin(), by_a.begin(), by_b.begin()], [Ok(()), Ok(()), Err(Spent::Runs)]);
        by_b.end(1_000);
        assert_eq!(by_a.begin(), Err(Spent::Fuel));
        assert_eq!(outside.by("a", 1, 1).begin(), Ok(()), "another run from outside has a budget of its own");
    }
}
