//! Something happened: what triggers make and the dispatcher turns into runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    document::{ChangeKind, Document},
    identity::Identity,
    listeners::Matched,
    message::Message,
};

/// One thing that functions may wait for.
#[derive(Clone, Debug)]
pub struct Event {
    /// As whom the functions run.
    pub identity: Identity,
    /// What happened.
    pub kind: EventKind,
    /// What it happened because of.
    pub cause: Cause,
    /// Each function runs for the events of one key one after the other: of one channel, or of one document.
    pub key: String,
    /// The functions that it is kept for.
    pub deliveries: Vec<Delivery>,
    /// Whether it was taken up again: then only those run for it that it is kept for.
    pub again: bool,
}

/// An event on its way to a function that it is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names it in the store.
    pub id: i64,
    /// Id of the function.
    pub function: String,
    /// How the function's trigger fits.
    pub matched: Matched,
    /// Runs for it that failed.
    pub attempts: u32,
}

/// What happened, with all that a function is told of it.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A call over HTTP of one function by name.
    Web(WebRequest),
    /// A call of one function by name whose time has come; with its payload.
    Scheduled(Value),
    /// A message in a channel; a changed document is a message of type `db_created`, `db_updated` or `db_deleted` in the
    /// channel `db-<collection>`.
    Message(Message),
    /// A document is about to be changed, and whoever changes it waits for the functions that run before that.
    Before(BeforeChange),
}

/// A change that is about to be made.
#[derive(Clone, Debug)]
pub struct BeforeChange {
    /// Where.
    pub collection: String,
    /// What is done.
    pub kind: ChangeKind,
    /// The document as it would be stored; for a deletion as it is. JSON, like the others.
    pub document: Arc<str>,
    /// As it is; `None` for a creation.
    pub before: Option<Arc<str>>,
    /// The fields that whoever makes the change gave; `None` for a deletion.
    pub changes: Option<Arc<str>>,
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
    /// Runs that wait for what happens because of this, one for the other: each was made before a write of the one before it.
    pub waiting: u32,
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

/// An event as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept<I, M, K> {
    identity: I,
    message: M,
    key: K,
    cause: KeptCause,
}

/// A chain as it is kept, with what is left of its budget. Events of one chain that are taken up again each have a budget of their
/// own from there.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct KeptCause {
    trace: String,
    depth: u32,
    before: Vec<String>,
    runs: u64,
    fuel: u64,
}

impl KeptCause {
    /// What was left when it was kept.
    fn budget(&self) -> Arc<Budget> {
        Arc::new(Budget { runs: self.runs.into(), fuel: self.fuel.into() })
    }
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
        Self { trace_id: uuid::Uuid::new_v4().simple().to_string(), depth: 0, waiting: 0, before: None }
    }

    /// The cause of what a run of `function` does that has this cause. The first run of a chain gets a budget for all that
    /// follows: runs, and their fuel together.
    pub fn by(&self, function: &str, runs: u64, fuel: u64) -> Self {
        let budget = match &self.before {
            Some(before) => before.budget.clone(),
            None => Arc::new(Budget { runs: runs.into(), fuel: fuel.into() }),
        };
        let link = Link { function: function.to_owned(), before: self.before.clone(), budget };
        Self { trace_id: self.trace_id.clone(), depth: self.depth + 1, waiting: 0, before: Some(Arc::new(link)) }
    }

    /// The same for a run that others wait for.
    pub fn waited_for_by(self, waiting: u32) -> Self {
        Self { waiting, ..self }
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

    fn to_kept(&self) -> KeptCause {
        let left = |of: fn(&Budget) -> &AtomicU64| {
            self.before.as_deref().map_or(0, |link| of(&link.budget).load(Ordering::Relaxed))
        };
        KeptCause {
            trace: self.trace_id.clone(),
            depth: self.depth,
            before: self.links().map(|link| link.function.clone()).collect(),
            runs: left(|budget| &budget.runs),
            fuel: left(|budget| &budget.fuel),
        }
    }

    fn from_kept(kept: KeptCause) -> Self {
        let budget = kept.budget();
        Self::of(kept, &budget)
    }

    fn of(kept: KeptCause, budget: &Arc<Budget>) -> Self {
        let link = |before, function| Some(Arc::new(Link { function, before, budget: budget.clone() }));
        let before = kept.before.into_iter().rev().fold(None, link);
        Self { trace_id: kept.trace, depth: kept.depth, waiting: 0, before }
    }

    /// The runs before, the last one first.
    fn links(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(self.before.as_deref(), |link| link.before.as_deref())
    }

    /// The functions of the chain in order, with `last` at the end: `a → b → a`.
    pub fn path(&self, last: &str) -> String {
        let mut names: Vec<&str> =
            std::iter::once(last).chain(self.links().map(|link| link.function.as_str())).collect();
        names.reverse();
        names.join(" → ")
    }
}

/// Chains of causes that go on in jobs. Those of one chain share one budget, however many wait here. Clones share them.
#[derive(Clone)]
pub struct Chains(moka::sync::Cache<String, Arc<Budget>>);

/// Chains whose budgets are remembered, and for how long: what goes on is due soon, but may be tried again later.
const CHAINS: u64 = 100_000;
const REMEMBERED: Duration = Duration::from_secs(3_600);

impl Default for Chains {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(CHAINS).time_to_idle(REMEMBERED).build())
    }
}

impl Chains {
    /// The text that a chain is kept as until [`Self::go_on`]; `None` when it comes from outside and has only begun.
    pub fn keep(&self, cause: &Cause) -> Option<String> {
        let budget = &cause.before.as_deref()?.budget;
        self.0.get_with_by_ref(&cause.trace_id, || budget.clone());
        serde_json::to_string(&cause.to_kept()).ok()
    }

    /// The chain that was kept as a text.
    pub fn go_on(&self, text: &str) -> Cause {
        let Ok(kept) = serde_json::from_str::<KeptCause>(text) else { return Cause::outside() };
        let budget = self.0.get_with_by_ref(&kept.trace, || kept.budget());
        Cause::of(kept, &budget)
    }
}

impl Event {
    /// A call of one function over HTTP.
    pub fn web(identity: Identity, request: WebRequest) -> Self {
        let (kind, cause) = (EventKind::Web(request), Cause::outside());
        Self { identity, kind, cause, key: String::new(), deliveries: Vec::new(), again: false }
    }

    /// A call of one function whose time has come.
    pub fn scheduled(identity: Identity, payload: Value, cause: Cause) -> Self {
        let kind = EventKind::Scheduled(payload);
        Self { identity, kind, cause, key: String::new(), deliveries: Vec::new(), again: false }
    }

    /// A question to the functions that run before a change.
    pub fn before(identity: Identity, change: BeforeChange, cause: Cause) -> Self {
        let kind = EventKind::Before(change);
        Self { identity, kind, cause, key: String::new(), deliveries: Vec::new(), again: false }
    }

    /// A message in a channel.
    pub fn message(identity: Identity, message: Message, cause: Cause) -> Self {
        let key = message.channel.clone();
        Self { identity, kind: EventKind::Message(message), cause, key, deliveries: Vec::new(), again: false }
    }

    /// A changed document; for a deletion as it was.
    pub fn change(identity: Identity, collection: &str, kind: ChangeKind, document: &Document, cause: Cause) -> Self {
        let data = match kind {
            ChangeKind::Created | ChangeKind::Updated => document.text.to_string(),
            ChangeKind::Deleted => Value::from(&*document.id).to_string(),
        };
        let channel = format!("db-{collection}");
        let key = format!("{channel}/{}", document.id);
        let message = Message { kind: kind.message_type().into(), data, channel, ..Message::default() };
        Self { key, ..Self::message(identity, message, cause) }
    }

    /// The text that it is kept as; `None` for what is never kept.
    pub fn to_text(&self) -> Option<String> {
        let EventKind::Message(message) = &self.kind else { return None };
        let kept = Kept { identity: &self.identity, message, key: &self.key, cause: self.cause.to_kept() };
        serde_json::to_string(&kept).ok()
    }

    /// The event that was kept as a text; `None` when this is none.
    pub fn from_text(text: &str, deliveries: Vec<Delivery>) -> Option<Self> {
        let kept: Kept<Identity, Message, String> = serde_json::from_str(text).ok()?;
        let cause = Cause::from_kept(kept.cause);
        Some(Self { key: kept.key, deliveries, again: true, ..Self::message(kept.identity, kept.message, cause) })
    }

    /// Bytes that it takes while it waits, about.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = 512;
        let content = match &self.kind {
            EventKind::Web(_) | EventKind::Scheduled(_) | EventKind::Before(_) => 0,
            EventKind::Message(message) => message.data.len() + message.channel.len() + message.kind.len(),
        };
        FIXED + content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_same_after_it_was_kept() {
        let message =
            Message { channel: "lobby".into(), kind: "chan_out".into(), data: "ä".into(), ..Message::default() };
        let cause = Cause::outside().by("a", 5, 100).by("b", 0, 0);
        cause.end(10);
        let event = Event::message(Identity::anonymous("one".into()), message.clone(), cause.clone());

        let again = Event::from_text(&event.to_text().unwrap_or_default(), Vec::new());

        let Some(Event { identity, kind: EventKind::Message(kept), cause: kept_cause, again: true, .. }) = again else {
            unreachable!("it was kept as {:?}", event.to_text())
        };
        assert_eq!((identity, kept), (event.identity, message));
        assert_eq!(
            (kept_cause.depth, kept_cause.path("c"), &kept_cause.trace_id),
            (2, "a → b → c".into(), &cause.trace_id)
        );
        assert_eq!(kept_cause.to_kept().fuel, 90);
        assert_eq!(std::iter::repeat_with(|| kept_cause.begin()).take_while(Result::is_ok).count(), 5);
    }

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

    #[test]
    fn the_jobs_of_a_chain_share_its_budget() {
        let (chains, outside) = (Chains::default(), Cause::outside());
        assert_eq!(chains.keep(&outside), None);
        let by_a = outside.by("a", 3, 100);
        let kept = chains.keep(&by_a).unwrap_or_default();

        let jobs = [chains.go_on(&kept), chains.go_on(&kept)];
        assert_eq!([jobs[0].begin(), jobs[1].begin(), by_a.begin()], [Ok(()); 3]);
        assert_eq!(jobs[0].begin(), Err(Spent::Runs));
        assert_eq!((jobs[0].path("b"), jobs[0].depth, &jobs[0].trace_id), ("a → b".into(), 1, &outside.trace_id));

        let elsewhere = Chains::default().go_on(&kept);
        assert_eq!(std::iter::repeat_with(|| elsewhere.begin()).take_while(Result::is_ok).count(), 3);
    }
}
