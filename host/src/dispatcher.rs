//! Turns an [`Event`] into runs of the functions that wait for it, and records them.
//!
//! Triggers only make events, and the runtime only calls one function once; who runs, how many at a time and in which order,
//! is decided here. Knows nothing of HTTP or WebSockets.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    hooks::HookSlots,
    running::Running,
    slots::{Count, Held, Kind, Slot, Slots, Wanted},
};
use crate::{
    arguments,
    clock::Clock,
    documents::{DocumentsError, Work},
    event::{Delivery, Event, EventKind, Spent},
    event_queue::{EventReceiver, Queued},
    function::{self, Function},
    host_functions::{Call, Invocation, Services},
    listeners::Matched,
    metrics::Metrics,
    registry::Registry,
    run::{Outcome, Run},
    runtime::{Ended, HOOKS_DEEP, Runtime, RuntimeConfig, guests::Owner, limits::Limits},
    store::{Failure, Store, StoreError, Stored, Transaction},
    usage::Usage,
};

mod claims;
mod hooks;
mod retries;
mod running;
pub mod slots;

pub use claims::take_up;
pub use retries::EventsConfig;

/// A function is not called now.
#[derive(Debug, thiserror::Error)]
pub enum NotCalled {
    /// Too many runs wait already, or this one has waited too long.
    #[error("the server is busy: too many runs are waiting; try again in a moment")]
    Busy,
    /// The function was deleted while the call waited.
    #[error("function `{0}` not found")]
    Gone(String),
    /// A quota of the function or of its tenant is used up.
    #[error("{message}")]
    Quota {
        /// Which one, and who raises it.
        message: String,
        /// When there is more of it.
        retry_after: Duration,
    },
}

/// A run that has ended and is in the history.
#[derive(Debug)]
pub struct Finished {
    /// As recorded.
    pub run: Run,
    /// JSON text that `handle` returned, if anything.
    pub result: Option<String>,
}

/// What runs are made with.
pub struct Parts {
    /// The functions there are.
    pub registry: Registry,
    /// Calls them.
    pub runtime: Runtime,
    /// What they may ask for.
    pub services: Services,
    /// Where runs are recorded.
    pub store: Arc<dyn Store>,
    /// What has been used.
    pub usage: Usage,
    /// What is shown of the server.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<Clock>,
}

/// Decides what runs when. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    parts: Parts,
    slots: Slots,
    /// Those of functions that run before changes.
    hooks: HookSlots,
    retries: EventsConfig,
    /// Callers that wait for a slot: how many may in all, and for how long.
    queue: usize,
    wait: Duration,
    /// Calls and the lanes' work that have not ended.
    working: TaskTracker,
    lanes: Mutex<HashMap<LaneKey, VecDeque<Job>>>,
    /// Runs that wait in lanes, behind those that wait for a slot.
    in_lanes: AtomicUsize,
    running: Running,
}

/// Runs of one function for one channel happen one after the other, in the order of the events.
type LaneKey = (String, String);

#[derive(Clone)]
struct Job {
    function: Arc<Function>,
    matched: Matched,
    /// Shared by the functions that it runs; holds its room in the queue until the last of them has run.
    event: Arc<Queued>,
    /// When the event is kept for the function until it has run.
    delivery: Option<Delivery>,
}

/// A function that waits for an event, how its trigger fits, and the delivery when the event is kept for it.
type Waiting = (Arc<Function>, Matched, Option<Delivery>);

/// What became of an event's way to one function.
#[derive(PartialEq)]
enum Way {
    /// It is at its end.
    Done,
    /// The store has it again, and all that stand behind it.
    GivenBack,
    /// It is in other hands, or was done without a word: what stands behind it may still be in these.
    Lost,
    /// An earlier one is on its way here.
    OutOfTurn,
}

/// A run whose reads have changed meanwhile is repeated so often at once.
const REPEATS: u32 = 5;

/// How long an event waits for a function that this process does not know.
const UNKNOWN: Duration = Duration::from_secs(1);

/// How long to wait before a failure is noted again that could not be noted.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// What the history shows for a job.
const SCHEDULED: &str = "schedule";

/// A tenant has at most this part of those who wait.
const PART: usize = 4;

impl Dispatcher {
    /// A dispatcher of the registry's functions.
    pub fn new(config: &RuntimeConfig, retries: EventsConfig, parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            retries,
            slots: Slots::new(config.slots),
            hooks: HookSlots::new(config),
            queue: config.queue,
            wait: Duration::from_millis(config.wait_ms),
            working: TaskTracker::new(),
            lanes: Mutex::default(),
            in_lanes: AtomicUsize::new(0),
            running: Running::default(),
        }))
    }

    /// Runs one function for one event and waits for its end. The run goes on when the caller stops waiting.
    pub async fn call(&self, function: Arc<Function>, event: Event) -> Result<Finished, NotCalled> {
        let (queue, wait) = (self.0.queue, self.0.wait);
        self.call_within(function, event, queue, wait).await
    }

    /// The same for what nobody waits for: it stays in the queue until it has its turn.
    pub async fn call_patiently(&self, function: Arc<Function>, event: Event) -> Result<Finished, NotCalled> {
        self.call_within(function, event, usize::MAX, Duration::MAX).await
    }

    async fn call_within(
        &self,
        function: Arc<Function>,
        event: Event,
        queue: usize,
        wait: Duration,
    ) -> Result<Finished, NotCalled> {
        let dispatcher = self.clone();
        let run = tokio::spawn(async move {
            let _working = dispatcher.0.working.token();
            dispatcher.0.run_for_caller(&function, &event, queue, wait).await
        });
        // The task only fails to join when the server shuts down.
        run.await.unwrap_or(Err(NotCalled::Busy))
    }

    /// Takes events until `stop`, and then those that wait already. Events hold their room until they have run, so that who
    /// makes too many waits.
    pub async fn serve(self, mut events: EventReceiver, stop: CancellationToken) {
        let _working = self.0.working.token();
        let (tells, until) = (self.clone(), stop.clone());
        tokio::spawn(async move { tells.0.running.tell(&*tells.0.parts.store, &until).await });
        loop {
            let event = tokio::select! {
                biased;
                event = events.recv() => event,
                () = stop.cancelled() => {
                    events.close();
                    events.recv().await
                }
            };
            let Some(event) = event else { return };
            self.0.learn_functions_of(&event.event).await;
            let event = Arc::new(event);
            let (waiting, unknown) = self.0.waiting(&event.event);
            if !unknown.is_empty() {
                let dispatcher = self.clone();
                self.0.working.spawn(async move { dispatcher.0.release(unknown, UNKNOWN).await });
            }
            for (function, matched, delivery) in waiting {
                self.enqueue(Job { function, matched, event: event.clone(), delivery });
            }
        }
    }

    /// Runs of all functions: in slots, and waiting for one or behind others of their channel.
    pub fn count(&self) -> Count {
        let Count { running, waiting } = self.0.in_slots(Slots::count);
        Count { running, waiting: waiting + self.0.in_lanes.load(Ordering::Relaxed) }
    }

    /// How many functions can run at once, besides those that run before changes.
    pub fn slots(&self) -> u32 {
        self.0.slots.all()
    }

    /// Runs of one function, in slots and waiting.
    pub fn count_of(&self, function: &Function) -> Count {
        let Count { running, waiting } =
            self.0.in_slots(|slots| slots.count_of_function(&function.tenant, &function.id));
        let lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_function = lanes.iter().filter(|((id, _), _)| *id == function.id);
        // The first of a lane is in a slot or waits for one.
        let behind: usize = of_function.map(|(_, lane)| lane.len().saturating_sub(1)).sum();
        Count { running, waiting: waiting + behind }
    }

    /// Runs of a tenant, in slots and waiting.
    pub fn count_of_tenant(&self, tenant: &str) -> Count {
        let Count { running, waiting } = self.0.in_slots(|slots| slots.count_of_tenant(tenant));
        let lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = lanes.values().filter(|lane| lane.front().is_some_and(|job| job.function.tenant == tenant));
        let behind: usize = of_tenant.map(|lane| lane.len() - 1).sum();
        Count { running, waiting: waiting + behind }
    }

    /// Waits until every call and every event that was taken has run; for the end, after what makes them has stopped.
    pub async fn finish(&self) {
        self.0.working.close();
        self.0.working.wait().await;
    }

    /// Appends to the lane; the first job of a lane starts the task that empties it.
    fn enqueue(&self, job: Job) {
        let key = job.lane();
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(key.clone()).or_default();
        // Those that were committed at the same moment may come in any order. The front runs already.
        let is_later =
            |other: &Job| other.delivery.as_ref().zip(job.delivery.as_ref()).is_some_and(|(a, b)| a.id > b.id);
        let later = lane.iter().skip(1).rev().take_while(|other| is_later(other)).count();
        lane.insert(lane.len() - later, job);
        if lane.len() > 1 {
            self.0.in_lanes.fetch_add(1, Ordering::Relaxed);
        } else {
            let dispatcher = self.clone();
            self.0.working.spawn(async move { dispatcher.0.empty_lane(key).await });
        }
    }
}

impl Inner {
    /// With at most `queue` others before it, and after at most `wait`.
    async fn run_for_caller(
        &self,
        function: &Function,
        event: &Event,
        queue: usize,
        wait: Duration,
    ) -> Result<Finished, NotCalled> {
        let due = Due { function, matched: Matched::Channel, event };
        let of_tenant = self.slots.count_of_tenant(&function.tenant).waiting;
        if self.slots.count().waiting >= queue || of_tenant >= queue.div_ceil(PART) {
            self.parts.metrics.turned_away();
            return Err(NotCalled::Busy);
        }
        if let Err(refused) = self.parts.usage.begin(function) {
            self.parts.metrics.refused();
            // Once a minute, however many are refused.
            if refused.is_first {
                self.record_refused(&due, &refused.message).await;
            }
            return Err(NotCalled::Quota { message: refused.message, retry_after: refused.retry_after });
        }
        let (queued, wanted) = (Instant::now(), self.wanted(function, Kind::Answer));
        let Ok(slot) = tokio::time::timeout(wait, self.slots.take(&wanted)).await else {
            self.parts.metrics.turned_away();
            let not_called = self.waited_too_long(&self.slots, function, &wanted);
            let is_first = self.parts.usage.not_started(function);
            if let NotCalled::Quota { message, .. } = &not_called
                && is_first
            {
                self.record_refused(&due, message).await;
            }
            return Err(not_called);
        };
        // As it is now: it may have been updated, or deleted, while the call waited.
        let Some(function) = self.parts.registry.current(function) else {
            return Err(NotCalled::Gone(function.name.clone()));
        };
        Ok(self.run(&Due { function: &function, ..due }, queued.elapsed(), slot).await)
    }

    fn waited_too_long(&self, slots: &Slots, function: &Function, wanted: &Wanted) -> NotCalled {
        let the_function = format!("the function `{}`", function.name);
        let (who, most, raise) = match slots.held(wanted) {
            Held::Server => return NotCalled::Busy,
            Held::Function if function.version.limits.concurrency.is_some() => (
                the_function,
                wanted.function,
                "its own limit is raised with `thimble function update … --concurrency`",
            ),
            Held::Function => {
                (the_function, wanted.function, "the operator raises the limit with `function.concurrency`")
            }
            Held::Tenant => {
                ("this app".into(), wanted.tenant, "the operator raises the limit with `tenant.concurrency`")
            }
        };
        let waited = self.wait.as_millis();
        let message = format!(
            "not started: {who} may run {most} times at once, and none of these runs ended within {waited} ms; {raise}"
        );
        NotCalled::Quota { message, retry_after: Duration::from_secs(1) }
    }

    /// Runs a lane's jobs; each stays at its front while it runs, so that only one task works on a lane.
    async fn empty_lane(&self, key: LaneKey) {
        while let Some(job) = self.front(&key) {
            let queued = Instant::now();
            let way = match &job.delivery {
                Some(delivery) => self.deliver(&job, delivery, queued).await,
                None => {
                    self.run_for_event(&job.function, job.matched, &job.event.event, queued).await;
                    Way::Done
                }
            };
            match way {
                Way::Done | Way::GivenBack => {}
                // Its own comes first: what stands behind it must not be taken before it.
                Way::OutOfTurn => {
                    let own = job.delivery.iter().map(|delivery| delivery.id);
                    let lost = own.chain(self.drop_kept_behind(&key)).collect();
                    self.release(lost, Duration::ZERO).await;
                }
                Way::Lost => {
                    let lost = self.drop_kept_behind(&key);
                    self.release(lost, Duration::ZERO).await;
                }
            }
            drop(job);
            if !self.advance(&key) {
                return;
            }
        }
    }

    /// An event over the rate is not lost: it waits for the next minute. The function is taken as it is when it runs: it may have
    /// been updated, or deleted, while the event waited.
    async fn run_for_event(&self, function: &Function, matched: Matched, event: &Event, queued: Instant) {
        loop {
            let Some(function) = self.parts.registry.current(function) else { return };
            let due = Due { function: &function, matched, event };
            match self.parts.usage.begin(&function) {
                Ok(()) => break,
                Err(refused) if refused.is_rate => tokio::time::sleep(refused.retry_after).await,
                Err(refused) => {
                    self.parts.metrics.refused();
                    return drop(self.record_refused(&due, &refused.message).await);
                }
            }
        }
        let slot = self.slots.take(&self.wanted(function, Kind::Event)).await;
        if let Some(function) = self.parts.registry.current(function) {
            self.run(&Due { function: &function, matched, event }, queued.elapsed(), slot).await;
        }
    }

    /// Looks for functions that an event is kept for and that another node may have added just now.
    async fn learn_functions_of(&self, event: &Event) {
        let (registry, tenant) = (&self.parts.registry, &event.identity.tenant);
        let is_known = |delivery: &Delivery| registry.by_id(tenant, &delivery.function).is_some();
        if event.deliveries.iter().all(is_known) {
            return;
        }
        if let Err(error) = registry.refresh(tenant).await {
            tracing::warn!(error = %in_full(&error), "kept events wait: it is not known which functions there are");
        }
    }

    /// The functions that run for an event: those that it is kept for, and when it is new, those that it is not kept for. Besides,
    /// the deliveries whose functions nobody knows here.
    fn waiting(&self, event: &Event) -> (Vec<Waiting>, Vec<i64>) {
        let (mut waiting, mut unknown) = (Vec::new(), Vec::new());
        let EventKind::Message(message) = &event.kind else { return (waiting, unknown) };
        let (registry, tenant) = (&self.parts.registry, &event.identity.tenant);
        for delivery in &event.deliveries {
            match registry.by_id(tenant, &delivery.function) {
                Some(function) => waiting.push((function, delivery.matched, Some(delivery.clone()))),
                // One that was deleted has taken its deliveries with it; one that is new has yet to come here.
                None => unknown.push(delivery.id),
            }
        }
        if !event.again {
            let is_kept = |function: &Function| event.deliveries.iter().any(|kept| kept.function == function.id);
            let others = registry.listening(tenant, message).into_iter().filter(|(function, _)| {
                // One whose events are kept, and this is not, has it waiting behind others in the store.
                !is_kept(function) && function.version.delivery == function::Delivery::AtMostOnce
            });
            waiting.extend(others.map(|(function, matched)| (function, matched, None)));
        }
        (waiting, unknown)
    }

    /// Runs a function for an event that is kept, until it has run well or the store has the event again.
    async fn deliver(&self, job: &Job, delivery: &Delivery, queued: Instant) -> Way {
        let event = &job.event.event;
        let mut repeats = 0;
        loop {
            let Some(function) = self.parts.registry.current(&job.function) else { return Way::Done };
            let due = Due { function: &function, matched: job.matched, event };
            if let Err(refused) = self.parts.usage.begin(&function) {
                self.parts.metrics.refused();
                if refused.is_first {
                    self.record_refused(&due, &refused.message).await;
                }
                let retry_at = self.parts.clock.now() + refused.retry_after;
                let (delivery, error) = (delivery.id, refused.message);
                let failure = Failure { delivery, error, run: None, counts: false, retry_at: Some(retry_at) };
                return self.give_back(job, failure, None).await;
            }
            let slot = self.slots.take(&self.wanted(&function, Kind::Event)).await;
            let begun = Begun::now(&self.parts.clock, queued.elapsed());
            let started = Instant::now();
            let going = self.running.begin(delivery.id, describe_going(&due, &begun));
            let mut ended = self.start(&begun.id, &due, Acts::AtTheEnd).await;
            drop((slot, going));
            self.count(&due, ended.fuel);
            let work = ended.work.take();
            let (mut run, _) = describe(&due, begun, started.elapsed(), ended);
            self.parts.metrics.ran(&run);
            // A chain that is at its end does not go on when it is tried again.
            if matches!(run.outcome, Outcome::Ok | Outcome::Chain) {
                match self.complete(delivery.id, &run, work, event).await {
                    Ok(()) => return Way::Done,
                    Err(DocumentsError::Store(StoreError::Conflict)) if repeats + 1 < REPEATS => {
                        repeats += 1;
                        continue;
                    }
                    Err(DocumentsError::Store(StoreError::Conflict)) => {
                        run.outcome = Outcome::Error;
                        run.error = Some(format!(
                            "nothing of what the run did was stored: what it had read was changed by others each time it \
                             ended, {REPEATS} times in a row"
                        ));
                    }
                    Err(DocumentsError::Store(StoreError::ClaimLost)) => return Way::Lost,
                    Err(DocumentsError::Store(StoreError::OutOfTurn)) => return Way::OutOfTurn,
                    Err(error) => {
                        let of_the_platform = error.is_of_the_platform();
                        run.outcome = if of_the_platform { Outcome::Interrupted } else { Outcome::Error };
                        run.error = Some(format!("nothing of what the run did was stored: {error}"));
                    }
                }
            }
            return self.failed(job, delivery, run).await;
        }
    }

    /// Stores all that a run did, and ends the delivery.
    async fn complete(
        &self,
        delivery: i64,
        run: &Run,
        work: Option<Box<Work>>,
        event: &Event,
    ) -> Result<(), DocumentsError> {
        let (who, cause) = (event.identity.clone(), event.cause.clone());
        let nothing = || Ok(Transaction::new(who, Stored::UNLIMITED, cause));
        let mut transaction = work.map_or_else(nothing, |work| work.into_transaction())?;
        (transaction.run, transaction.delivery) = (Some(run.clone()), Some(delivery));
        self.parts.usage.records(run);
        if let Err(error) = self.parts.services.commit(transaction).await {
            self.parts.usage.not_recorded(run);
            return Err(error);
        }
        Ok(())
    }

    /// What the platform could not do is no fault of the function: it is tried until it can be done.
    async fn failed(&self, job: &Job, delivery: &Delivery, run: Run) -> Way {
        let error = run.error.clone().unwrap_or_else(|| run.outcome.as_str().to_owned());
        let counts = run.outcome != Outcome::Interrupted;
        let wait = if counts {
            self.retries.wait(delivery.attempts + 1, rand::random())
        } else {
            Some(self.retries.shortest(rand::random()))
        };
        let retry_at = wait.map(|wait| self.parts.clock.now() + wait);
        let failure = Failure { delivery: delivery.id, error, run: Some(run.id.clone()), counts, retry_at };
        self.give_back(job, failure, Some(run)).await
    }

    /// Tries until the store has noted it: the event is in nobody else's hands before. The store gives back what stands behind
    /// it as well, so nothing of that may run here any more.
    async fn give_back(&self, job: &Job, failure: Failure, run: Option<Run>) -> Way {
        run.iter().for_each(|run| self.parts.usage.records(run));
        loop {
            self.drop_kept_behind(&job.lane());
            match self.parts.store.fail(failure.clone(), run.clone()).await {
                Ok(usage) => {
                    self.parts.usage.learn(&usage);
                    return Way::GivenBack;
                }
                Err(StoreError::ClaimLost) => {
                    run.iter().for_each(|run| self.parts.usage.not_recorded(run));
                    return Way::Lost;
                }
                Err(error) if is_closed(&error) => return Way::Lost,
                Err(error) => {
                    tracing::error!(delivery = failure.delivery, error = %in_full(&error), "a failed event could not be noted; trying again");
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
            }
        }
    }

    /// Takes the kept ones behind the front out of a lane; their deliveries.
    fn drop_kept_behind(&self, key: &LaneKey) -> Vec<i64> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lane) = lanes.get_mut(key) else { return Vec::new() };
        let (mut is_front, mut dropped) = (true, Vec::new());
        lane.retain(|job| match &job.delivery {
            Some(delivery) if !std::mem::take(&mut is_front) => {
                dropped.push(delivery.id);
                false
            }
            _ => {
                is_front = false;
                true
            }
        });
        self.in_lanes.fetch_sub(dropped.len(), Ordering::Relaxed);
        dropped
    }

    /// Gives deliveries back that this process may have in hand; due after a while.
    async fn release(&self, deliveries: Vec<i64>, after: Duration) {
        if deliveries.is_empty() {
            return;
        }
        while let Err(error) = self.parts.store.release(deliveries.clone(), self.parts.clock.now() + after).await {
            if is_closed(&error) {
                return;
            }
            tracing::warn!(error = in_full(&error), "events could not be given back; trying again");
            tokio::time::sleep(NOTE_AGAIN).await;
        }
    }

    /// Counted in all slots together.
    fn in_slots(&self, count: impl Fn(&Slots) -> Count) -> Count {
        let counts = std::iter::once(&self.slots).chain(self.hooks.all()).map(count);
        counts.fold(Count::default(), |sum, count| Count {
            running: sum.running + count.running,
            waiting: sum.waiting + count.waiting,
        })
    }

    fn wanted(&self, function: &Function, kind: Kind) -> Wanted {
        Wanted {
            owner: Owner { tenant: function.tenant.as_str().into(), function: function.id.as_str().into() },
            function: self.parts.usage.of_function(function).concurrency,
            tenant: self.parts.usage.of_tenant(&function.tenant).concurrency,
            kind,
        }
    }

    fn front(&self, key: &LaneKey) -> Option<Job> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(key)?.front().cloned()
    }

    /// Drops the front; whether the lane goes on. An empty lane is removed.
    fn advance(&self, key: &LaneKey) -> bool {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lane) = lanes.get_mut(key) else { return false };
        lane.pop_front();
        if lane.is_empty() {
            lanes.remove(key);
            return false;
        }
        self.in_lanes.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Runs and records. The slot is free again before the run is recorded.
    async fn run(&self, due: &Due<'_>, queued: Duration, slot: Option<Slot>) -> Finished {
        let begun = Begun::now(&self.parts.clock, queued);
        let started = Instant::now();
        let ended = self.start(&begun.id, due, Acts::AtOnce).await;
        drop(slot);
        self.count(due, ended.fuel);
        let finished = self.record(due, begun, started.elapsed(), ended).await;
        self.parts.metrics.ran(&finished.run);
        finished
    }

    /// Runs a function, unless its chain is at its end.
    async fn start(&self, run: &str, due: &Due<'_>, acts: Acts) -> Ended {
        match may_follow(due, self.parts.runtime.limits()) {
            Ok(()) => self.call(run, due, acts).await,
            Err(why) => acts.not_run(Outcome::Chain, why),
        }
    }

    fn count(&self, due: &Due<'_>, fuel: u64) {
        due.event.cause.end(fuel);
        self.parts.usage.end(due.function, fuel);
    }

    async fn record_refused(&self, due: &Due<'_>, why: &str) -> Finished {
        let begun = Begun::now(&self.parts.clock, Duration::ZERO);
        let ended = Ended::not_run(Outcome::Quota, why.to_owned());
        self.record(due, begun, Duration::ZERO, ended).await
    }

    async fn record(&self, due: &Due<'_>, begun: Begun, took: Duration, ended: Ended) -> Finished {
        let (run, result) = describe(due, begun, took, ended);
        self.record_run(&run).await;
        Finished { run, result }
    }

    async fn record_run(&self, run: &Run) {
        self.parts.usage.records(run);
        match self.parts.store.record_run(run).await {
            Ok(usage) => self.parts.usage.learn(&usage),
            Err(error) => {
                self.parts.usage.not_recorded(run);
                tracing::error!(run = run.id, function = run.function, %error, "a run could not be recorded");
            }
        }
    }

    async fn call(&self, run: &str, due: &Due<'_>, acts: Acts) -> Ended {
        let Due { function, matched, event } = *due;
        let (version, runtime) = (&function.version, &self.parts.runtime);
        let component = self.component(function);
        let tenant = &event.identity.tenant;
        let prepared = runtime.prepared(tenant, &function.name, &version.code, &version.hash, component).await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(function = function.name, error = %in_full(&error), "a function cannot be loaded");
                let outcome = if is_away(&error) { Outcome::Interrupted } else { Outcome::Error };
                return acts.not_run(outcome, format!("the function could not be loaded: {error}"));
            }
        };
        let args = arguments::of(&event.kind, version.code.parameters(), matched);
        let (kind, headers) = match &event.kind {
            EventKind::Web(request) => ("web", request.headers.clone()),
            EventKind::Scheduled(_) => ("web", Default::default()),
            EventKind::Message(message) if crate::message::is_document_type(&message.kind) => {
                ("document", Default::default())
            }
            EventKind::Message(_) => ("message", Default::default()),
            EventKind::Before(_) => ("before", Default::default()),
        };
        let call = Call {
            run: run.to_owned(),
            function: function.id.as_str().into(),
            name: function.name.clone(),
            identity: event.identity.clone(),
            kind,
            headers,
            cause: event.cause.clone(),
        };
        let limits = version.limits.of_run(runtime.limits());
        let kept = matches!(acts, Acts::AtTheEnd);
        let invocation = Invocation::new(self.parts.services.clone(), call, limits, kept);
        let invocation = match acts {
            Acts::Within(work) => invocation.within(work),
            Acts::AtOnce | Acts::AtTheEnd => invocation,
        };
        runtime.run(prepared, invocation, args).await
    }

    /// The component that the function runs.
    async fn component(&self, function: &Function) -> anyhow::Result<Bytes> {
        let component = self.parts.store.component(&function.tenant, &function.id, function.version.number).await?;
        component.context("the component is not in the store any more")
    }
}

/// When it happens what a run does.
enum Acts {
    AtOnce,
    /// When all of it is committed.
    AtTheEnd,
    /// Together with the work of others.
    Within(Box<Work>),
}

impl Acts {
    /// A run that has done nothing.
    fn not_run(self, outcome: Outcome, why: String) -> Ended {
        let work = match self {
            Self::Within(work) => Some(work),
            Self::AtOnce | Self::AtTheEnd => None,
        };
        Ended { work, ..Ended::not_run(outcome, why) }
    }
}

impl Job {
    fn lane(&self) -> LaneKey {
        (self.function.id.clone(), self.event.event.key.clone())
    }
}

/// A run that has its turn.
struct Due<'a> {
    function: &'a Function,
    matched: Matched,
    event: &'a Event,
}

/// When it had it.
struct Begun {
    id: String,
    at: DateTime<Utc>,
    queued: Duration,
}

impl Begun {
    fn now(clock: &Clock, queued: Duration) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), at: clock.now(), queued }
    }
}

impl Due<'_> {
    /// As the history shows it.
    fn trigger(&self) -> String {
        match (&self.event.kind, self.matched) {
            (EventKind::Web(_), _) => crate::function::WEB_TRIGGER.to_owned(),
            (EventKind::Scheduled(_), _) => SCHEDULED.to_owned(),
            (EventKind::Before(_), _) => self.function.trigger.clone(),
            (EventKind::Message(message), Matched::Channel) => message.channel.clone(),
            (EventKind::Message(message), Matched::Type) => message.kind.clone(),
        }
    }
}

/// A run as it is recorded, and what `handle` returned.
fn describe(due: &Due<'_>, begun: Begun, took: Duration, ended: Ended) -> (Run, Option<String>) {
    let (run, result) = describe_quietly(due, begun, took, ended);
    let (id, outcome, us) = (&run.id, run.outcome.as_str(), run.duration_us);
    tracing::debug!(run = id, function = due.function.name, outcome, us, "ran");
    (run, result)
}

fn describe_quietly(due: &Due<'_>, begun: Begun, took: Duration, ended: Ended) -> (Run, Option<String>) {
    let Due { function, event, .. } = due;
    let run = Run {
        id: begun.id,
        tenant: function.tenant.clone(),
        function: function.id.clone(),
        version: function.version.number,
        trigger: due.trigger(),
        outcome: ended.outcome,
        error: ended.error,
        started: begun.at,
        completed: begun.at + chrono::Duration::from_std(took).unwrap_or_default(),
        duration_us: micros(took),
        guest_us: micros(ended.times.running),
        host_us: micros(took.saturating_sub(ended.times.running + ended.times.waiting)),
        queued_us: micros(begun.queued),
        fuel: i64::try_from(ended.fuel).unwrap_or(i64::MAX),
        peak_memory: i64::try_from(ended.peak_memory).unwrap_or(i64::MAX),
        used: ended.used,
        trace_id: event.cause.trace_id.clone(),
        depth: event.cause.depth,
        chain: event.cause.path(&function.name),
        log: ended.log,
    };
    (run, ended.result)
}

/// A run that goes on, as it would be recorded if its process ended.
fn describe_going(due: &Due<'_>, begun: &Begun) -> Run {
    let ended = Ended::not_run(Outcome::Interrupted, String::new());
    let begun = Begun { id: begun.id.clone(), ..*begun };
    describe_quietly(due, begun, Duration::ZERO, ended).0
}

/// Whether the chain of causes may go on with this run.
fn may_follow(due: &Due<'_>, limits: &Limits) -> Result<(), String> {
    let cause = &due.event.cause;
    let why = if cause.depth > limits.chain_depth {
        format!("{} runs came before it; the operator raises the limit with `limits.chain_depth`", cause.depth)
    } else if matches!(due.event.kind, EventKind::Before(_)) && cause.waiting as usize >= HOOKS_DEEP {
        format!("{} functions wait for it already, each before a write of the one before", cause.waiting)
    } else {
        match cause.begin() {
            Ok(()) => return Ok(()),
            Err(Spent::Runs) => format!(
                "its first run has caused {} others; the operator raises the limit with `limits.chain_runs`",
                limits.chain_runs
            ),
            Err(Spent::Fuel) => format!(
                "the runs that its first one caused have used {} fuel; the operator raises the limit with \
                 `limits.chain_fuel`",
                limits.chain_fuel
            ),
        }
    };
    let path = cause.path(&due.function.name);
    Err(format!(
        "not started: the chain {path} is at its end: {why}. A function that triggers itself is the usual cause"
    ))
}

/// Whether the store has ended, and nothing will work any more.
fn is_closed(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(sqlx::Error::PoolClosed) | StoreError::Database(sqlx::Error::PoolClosed))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whether something failed because the database is away.
fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_of_the_platform))
}

/// An error with its causes, and without a backtrace: host frames say nothing, and gathering them is slow.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
