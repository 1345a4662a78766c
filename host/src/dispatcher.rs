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
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    arguments,
    clock::Clock,
    event::{Event, EventKind, MAX_CHAIN_DEPTH},
    function::Function,
    host_functions::{Call, Invocation, Services},
    registry::{Matched, Registry},
    run::{Outcome, Run},
    runtime::{Ended, Runtime, RuntimeConfig},
    store::Store,
};

/// A caller waits this long for a slot before it is told to come again.
const WAIT_FOR_SLOT: Duration = Duration::from_secs(5);

/// Too many runs wait already.
#[derive(Debug, thiserror::Error)]
#[error("the server is busy: too many runs are waiting; try again in a moment")]
pub struct Busy;

/// A run that has ended and is in the history.
#[derive(Debug)]
pub struct Finished {
    /// As recorded.
    pub run: Run,
    /// JSON text that `handle` returned, if anything.
    pub result: Option<String>,
}

/// Decides what runs when. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    registry: Registry,
    runtime: Runtime,
    services: Services,
    store: Arc<dyn Store>,
    clock: Arc<Clock>,
    slots: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    /// Calls and the lanes' work that have not ended.
    working: TaskTracker,
    lanes: Mutex<HashMap<LaneKey, VecDeque<Job>>>,
    queued: AtomicUsize,
    less_queued: Notify,
}

/// Runs of one function for one channel happen one after the other, in the order of the events.
type LaneKey = (String, String);

struct Job {
    function: Arc<Function>,
    matched: Matched,
    event: Event,
}

impl Dispatcher {
    /// A dispatcher of the registry's functions.
    pub fn new(
        config: &RuntimeConfig,
        registry: Registry,
        runtime: Runtime,
        services: Services,
        store: Arc<dyn Store>,
        clock: Arc<Clock>,
    ) -> Self {
        Self(Arc::new(Inner {
            registry,
            runtime,
            services,
            store,
            clock,
            slots: Semaphore::new(config.slots as usize),
            waiting: AtomicUsize::new(0),
            queue: config.queue,
            working: TaskTracker::new(),
            lanes: Mutex::default(),
            queued: AtomicUsize::new(0),
            less_queued: Notify::new(),
        }))
    }

    /// Runs one function for one event and waits for its end. The run goes on when the caller stops waiting.
    pub async fn call(&self, function: Arc<Function>, event: Event) -> Result<Finished, Busy> {
        let dispatcher = self.clone();
        let run = tokio::spawn(async move {
            let _working = dispatcher.0.working.token();
            let _place = dispatcher.0.place()?;
            let _slot = tokio::time::timeout(WAIT_FOR_SLOT, dispatcher.0.slot()).await.map_err(|_| Busy)?;
            Ok(dispatcher.0.run(&function, Matched::Type, event).await)
        });
        // The task only fails to join when the server shuts down.
        run.await.unwrap_or(Err(Busy))
    }

    /// Takes events until `stop`, and then those that wait already. When too many runs wait, it takes no more, and who makes
    /// them waits.
    pub async fn serve(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let _working = self.0.working.token();
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
            let EventKind::Message(message) = &event.kind else { continue };
            for (function, matched) in self.0.registry.listening(&event.identity.tenant, message) {
                self.0.room().await;
                self.enqueue(Job { function, matched, event: event.clone() }, &message.channel);
            }
        }
    }

    /// Waits until every call and every event that was taken has run; for the end, after what makes them has stopped.
    pub async fn finish(&self) {
        self.0.working.close();
        self.0.working.wait().await;
    }

    /// Appends to the lane; the first job of a lane starts the task that empties it.
    fn enqueue(&self, job: Job, channel: &str) {
        self.0.queued.fetch_add(1, Ordering::SeqCst);
        let key = (job.function.id.clone(), channel.to_owned());
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(key.clone()).or_default();
        lane.push_back(job);
        if lane.len() == 1 {
            let dispatcher = self.clone();
            self.0.working.spawn(async move { dispatcher.0.empty_lane(key).await });
        }
    }
}

impl Inner {
    /// Runs a lane's jobs; each stays at its front while it runs, so that only one task works on a lane.
    async fn empty_lane(&self, key: LaneKey) {
        while let Some(job) = self.front(&key) {
            let slot = self.slot().await;
            // As it is now: it may have been updated, or deleted, while the event waited.
            if let Some(function) = self.registry.current(&job.function) {
                self.run(&function, job.matched, job.event).await;
            }
            drop(slot);
            self.queued.fetch_sub(1, Ordering::SeqCst);
            self.less_queued.notify_waiters();
            if !self.advance(&key) {
                return;
            }
        }
    }

    fn front(&self, key: &LaneKey) -> Option<Job> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let job = lanes.get(key)?.front()?;
        Some(Job { function: job.function.clone(), matched: job.matched, event: job.event.clone() })
    }

    /// Drops the front; whether the lane goes on. An empty lane is removed.
    fn advance(&self, key: &LaneKey) -> bool {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = lanes.get_mut(key).is_some_and(|lane| {
            lane.pop_front();
            !lane.is_empty()
        });
        if !goes_on {
            lanes.remove(key);
        }
        goes_on
    }

    /// Waits until the queue has room.
    async fn room(&self) {
        loop {
            let changed = self.less_queued.notified();
            if self.queued.load(Ordering::SeqCst) < self.queue {
                return;
            }
            changed.await;
        }
    }

    /// A place among those who wait for their answer.
    fn place(&self) -> Result<Place<'_>, Busy> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.queue { Err(Busy) } else { Ok(place) }
    }

    /// Never closed, so never an error; without a permit the pool would refuse to instantiate.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    async fn run(&self, function: &Function, matched: Matched, event: Event) -> Finished {
        let id = uuid::Uuid::new_v4().to_string();
        let started = self.clock.now();
        let clock = std::time::Instant::now();
        let trigger = match (&event.kind, matched) {
            (EventKind::Web(_), _) => crate::function::WEB_TRIGGER.to_owned(),
            (EventKind::Message(message), Matched::Channel) => message.channel.clone(),
            (EventKind::Message(message), Matched::Type) => message.kind.clone(),
        };
        let trace_id = event.cause.trace_id.clone();
        let ended = if event.cause.depth > MAX_CHAIN_DEPTH {
            too_deep()
        } else {
            self.call(&id, function, matched, event).await
        };
        let run = Run {
            id,
            tenant: function.tenant.clone(),
            function: function.id.clone(),
            version: function.version.number,
            trigger,
            outcome: ended.outcome,
            error: ended.error,
            started,
            completed: self.completed(started, clock.elapsed()),
            duration_us: i64::try_from(clock.elapsed().as_micros()).unwrap_or(i64::MAX),
            fuel: i64::try_from(ended.fuel).unwrap_or(i64::MAX),
            peak_memory: i64::try_from(ended.peak_memory).unwrap_or(i64::MAX),
            trace_id,
            log: ended.log,
        };
        if let Err(error) = self.store.record_run(&run).await {
            tracing::error!(run = run.id, function = function.name, %error, "a run could not be recorded");
        }
        tracing::debug!(
            run = run.id,
            function = function.name,
            outcome = run.outcome.as_str(),
            us = run.duration_us,
            "ran"
        );
        Finished { run, result: ended.result }
    }

    fn completed(&self, started: DateTime<Utc>, elapsed: std::time::Duration) -> DateTime<Utc> {
        started + chrono::Duration::from_std(elapsed).unwrap_or_default()
    }

    async fn call(&self, run: &str, function: &Function, matched: Matched, event: Event) -> Ended {
        let version = &function.version;
        let prepared = match self.runtime.prepared(&function.name, &version.source, &version.hash).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(function = function.name, error = %in_full(&error), "a function cannot be loaded");
                return not_run(Outcome::Error, format!("the function could not be loaded: {error}"));
            }
        };
        let args = arguments::of(&event.kind, version.parameters, matched);
        let (kind, headers) = match event.kind {
            EventKind::Web(request) => ("web", request.headers),
            EventKind::Message(message) if crate::message::is_document_type(&message.kind) => {
                ("document", Default::default())
            }
            EventKind::Message(_) => ("message", Default::default()),
        };
        let call = Call {
            run: run.to_owned(),
            function: function.id.clone(),
            identity: event.identity,
            kind,
            headers,
            cause: event.cause,
        };
        let invocation = Invocation::new(self.services.clone(), call, self.runtime.limits().clone());
        self.runtime.run(prepared, invocation, args).await
    }
}

/// A place is left whenever its holder goes.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn too_deep() -> Ended {
    not_run(
        Outcome::Chain,
        format!(
            "not started: {} runs in one chain of causes came before it, and no more are allowed. A function that triggers \
             itself is the usual cause",
            MAX_CHAIN_DEPTH + 1
        ),
    )
}

/// An error with its causes, and without a backtrace: host frames say nothing, and gathering them is slow.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn not_run(outcome: Outcome, error: String) -> Ended {
    Ended { outcome, result: None, error: Some(error), log: Vec::new(), fuel: 0, peak_memory: 0 }
}
