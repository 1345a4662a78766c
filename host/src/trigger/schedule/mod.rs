//! The clock as a trigger: each task at its ticks, each job at its time.
//!
//! Ticks are claimed in the store before anything is done, so that each of them is done once, however many nodes look at the
//! same store; a job is done at least once. What a node has begun it holds with a lease, which it renews while it lives.
//!
//! # Ticks that nobody was there for
//!
//! A tick is done when it is at most a minute late (or one interval, when that is shorter). Those that are later, because the
//! server was not running or its clock was set forward, are noted in the history as one entry, `missed`; a task that catches
//! up runs once for all of them. When the clock is set back, what comes often goes on by the new time, and what comes
//! rarely is not done a second time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    channels::Channels,
    clock::Clock,
    dispatcher::Dispatcher,
    event::{Cause, Chains},
    outgoing::Outgoing,
    registry::Registry,
    schedule::Schedule,
    store::{Begun, Store, StoreError},
    task::{CatchUp, Job, Task, TaskOutcome, TaskRun},
};

mod jobs;
mod perform;

/// How tasks and jobs are done; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// Seconds of the shortest `@every`.
    pub least_every_s: u64,
    /// How often a job is tried.
    pub attempts: u32,
}

/// What tasks and jobs are done with.
pub struct Parts {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<Clock>,
    /// The functions that they name.
    pub registry: Registry,
    /// Runs them.
    pub dispatcher: Dispatcher,
    /// Where messages go.
    pub channels: Channels,
    /// Calls URLs.
    pub outgoing: Outgoing,
    /// Chains that go on in jobs.
    pub chains: Chains,
    /// Told when something may be due earlier than it was.
    pub changed: Arc<Notify>,
}

/// Does tasks and jobs at their time. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler(Arc<Inner>);

struct Inner {
    config: TasksConfig,
    parts: Parts,
    /// Names this process in what it has begun.
    node: String,
    /// What has begun and not ended.
    working: TaskTracker,
    /// Jobs that run here, of each tenant.
    jobs: Mutex<HashMap<String, u32>>,
    /// Ids of the task runs and jobs that this process has begun and knows of: the connection to the database may be lost before
    /// it hears that it has begun one.
    begun: Mutex<HashSet<String>>,
}

/// Why a task cannot be run now.
#[derive(Debug, thiserror::Error)]
pub enum NotRun {
    /// It runs, and may not overlap itself.
    #[error("the task `{0}` is running: wait for its end, or let it overlap with `overlap`")]
    Running(String),
    /// It was deleted meanwhile.
    #[error("task `{0}` not found")]
    Unknown(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Ending,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The latest that a tick is still done.
const GRACE: TimeDelta = TimeDelta::minutes(1);

/// The store is looked at at least this often: other nodes change it, and the clock can be set without a word.
const POLL: Duration = Duration::from_secs(5);

/// How long a node is believed to live after it has said so, and how often it says so.
const LEASE: TimeDelta = TimeDelta::seconds(30);
const RENEW: Duration = Duration::from_secs(10);

/// Tasks that are claimed in one go, and how many at the same time: the store commits them together.
const TASKS: u32 = 256;
const CLAIMS: usize = 32;

/// Jobs of one tenant that run on this node at the same time.
const JOBS: u32 = 16;

/// Missed ticks are counted up to this many.
const COUNTED: usize = 10_000;

/// Bytes of what is kept of an entry's detail.
const MAX_DETAIL: usize = 4 << 10;

type Result<T> = std::result::Result<T, StoreError>;

impl Scheduler {
    /// A scheduler that does nothing before [`Self::start`].
    pub fn new(config: TasksConfig, parts: Parts) -> Self {
        Self(Arc::new(Inner {
            config,
            parts,
            node: Uuid::new_v4().to_string(),
            working: TaskTracker::new(),
            jobs: Mutex::default(),
            begun: Mutex::default(),
        }))
    }

    /// Reads a schedule as the operator's settings allow it.
    pub fn parse(&self, interval: &str, time_zone: &str) -> std::result::Result<Schedule, String> {
        Schedule::parse(interval, time_zone, Duration::from_secs(self.0.config.least_every_s))
    }

    /// Begins nothing more after `shutdown`.
    pub fn start(&self, shutdown: CancellationToken) {
        let (live, work) = (self.clone(), self.clone());
        let end = shutdown.clone();
        self.0.working.spawn(async move { live.0.live(&end).await });
        self.0.working.spawn(async move { work.work(&shutdown).await });
    }

    /// Waits for what has begun; for the end, after `shutdown`.
    pub async fn finish(&self) {
        self.0.working.close();
        self.0.working.wait().await;
    }

    /// A task was added or changed: it may be due before everything else.
    pub fn changed(&self) {
        self.0.parts.changed.notify_one();
    }

    /// Runs a task now, whatever its schedule says. Returns the entry in its history, which is still running.
    pub async fn run_now(&self, task: Task) -> std::result::Result<TaskRun, NotRun> {
        let scheduler = self.clone();
        // To its end, also when whoever asked goes away: what is recorded as running has to run.
        let begun = self.0.working.spawn(async move {
            let run = TaskRun { manual: true, ..scheduler.0.entry(&task, scheduler.0.parts.clock.now()) };
            match scheduler.0.parts.store.start_task_run(&run).await? {
                Begun::Started => {}
                Begun::Overlaps => return Err(NotRun::Running(task.name)),
                Begun::Lost => return Err(NotRun::Unknown(task.name)),
            }
            scheduler.spawn(task, run.clone());
            Ok(run)
        });
        begun.await.unwrap_or(Err(NotRun::Ending))
    }

    async fn work(&self, shutdown: &CancellationToken) {
        let clock = &self.0.parts.clock;
        // Set back while the server was not running, perhaps.
        let mut last = DateTime::<Utc>::MAX_UTC;
        while !shutdown.is_cancelled() {
            let now = clock.now();
            let poll = now + POLL;
            let next = match self.pass(now, now < last - GRACE).await {
                Ok(next) => next.unwrap_or(poll).min(poll),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tasks wait: the database does not answer"
                    );
                    poll
                }
            };
            last = now;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.0.parts.changed.notified() => {}
                () = clock.sleep_until(next) => {}
                // By another clock: this one may have been set back since it was read, and the next tick is hours away then.
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Begins what is due. Returns when to look again.
    async fn pass(&self, now: DateTime<Utc>, is_set_back: bool) -> Result<Option<DateTime<Utc>>> {
        if is_set_back {
            self.0.realign(now).await?;
        }
        let due = self.0.parts.store.due(now, TASKS, JOBS).await?;
        let more = due.tasks.len() as u32 == TASKS;
        let ticks = due.tasks.into_iter().map(|task| self.tick(task, now));
        let mut again = more;
        let mut ticks = futures_util::stream::iter(ticks).buffer_unordered(CLAIMS);
        while let Some(tick) = ticks.next().await {
            again |= tick?;
        }
        for job in due.jobs {
            self.begin_job(job, now).await?;
        }
        Ok(if again { Some(now) } else { due.next })
    }

    /// Claims a tick and does what it stands for; whether the task may be due again.
    async fn tick(&self, task: Task, now: DateTime<Utc>) -> Result<bool> {
        let (Some(tick), store) = (task.next, &self.0.parts.store) else { return Ok(false) };
        let schedule = match Schedule::parse(&task.interval, &task.time_zone, Duration::ZERO) {
            Ok(schedule) => schedule,
            // It was good when it was stored; a later version may read it otherwise.
            Err(error) => {
                let run = TaskRun {
                    outcome: TaskOutcome::Missed,
                    completed: Some(now),
                    detail: error,
                    ..self.0.entry(&task, tick)
                };
                store.claim_tick(&task, None, Some(&run)).await?;
                return Ok(false);
            }
        };
        let following = schedule.next(tick, tick);
        let grace = following.map_or(GRACE, |following| GRACE.min(following - tick));
        let (run, next) = if now - tick <= grace {
            (self.0.entry(&task, tick), following)
        } else {
            self.0.late(&task, &schedule, tick, now, now - grace)
        };
        let begun = store.claim_tick(&task, next, Some(&run)).await?;
        if begun == Begun::Started && run.outcome == TaskOutcome::Running {
            self.spawn(task, run);
        }
        Ok(begun != Begun::Lost && next.is_some_and(|next| next <= now))
    }

    fn spawn(&self, task: Task, mut run: TaskRun) {
        let (inner, known) = (self.0.clone(), self.0.know(&run.id));
        self.0.working.spawn(async move {
            let _known = known;
            let ended = inner.perform(&task, &run).await;
            run.completed = Some(inner.parts.clock.now());
            run.outcome = ended.outcome;
            run.detail = cut(ended.detail);
            run.run = ended.run;
            let outcome = run.outcome.as_str();
            tracing::debug!(task = task.name, tenant = task.tenant, outcome, detail = run.detail, "task ended");
            while !inner.settled(inner.parts.store.end_task_run(&run).await).await {}
        });
    }
}

impl Inner {
    /// A new entry for the history of a task, for what begins now.
    fn entry(&self, task: &Task, due: DateTime<Utc>) -> TaskRun {
        let now = self.parts.clock.now();
        TaskRun {
            id: Uuid::new_v4().to_string(),
            tenant: task.tenant.clone(),
            task: task.id.clone(),
            due,
            manual: false,
            started: now,
            completed: None,
            outcome: TaskOutcome::Running,
            detail: String::new(),
            run: None,
            trace_id: Cause::outside().trace_id,
            node: self.node.clone(),
            lease: now + LEASE,
        }
    }

    /// What becomes of a tick that is too late, and of those between it and now: an entry, and the tick to go on with.
    fn late(
        &self,
        task: &Task,
        schedule: &Schedule,
        tick: DateTime<Utc>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> (TaskRun, Option<DateTime<Utc>>) {
        let (last, others) =
            schedule.between(tick, until, COUNTED).map_or((tick, 0), |(_, last, number)| (last, number));
        if task.catch_up == CatchUp::Once {
            return (self.entry(task, last), schedule.next(now, tick));
        }
        let time = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S UTC");
        let which = match others {
            0 => format!("the tick of {}", time(tick)),
            others if others == COUNTED => format!("more than {COUNTED} ticks since {}", time(tick)),
            others => format!("{} ticks from {} to {}", others + 1, time(tick), time(last)),
        };
        let run = TaskRun {
            outcome: TaskOutcome::Missed,
            completed: Some(now),
            detail: format!("not started: the server was not there for {which}"),
            ..self.entry(task, tick)
        };
        (run, schedule.next(until, tick))
    }

    /// After the clock was set back: the next tick of what comes often would be far away by the new time.
    async fn realign(&self, now: DateTime<Utc>) -> Result<()> {
        for task in self.parts.store.waiting_tasks().await? {
            let Some(next) = task.next else { continue };
            let Ok(schedule) = Schedule::parse(&task.interval, &task.time_zone, Duration::ZERO) else { continue };
            let (Some(earlier), Some(following)) = (schedule.next(now, next), schedule.next(next, next)) else {
                continue;
            };
            if earlier < next && next - now > (following - next) * 2 {
                self.parts.store.claim_tick(&task, Some(earlier), None).await?;
            }
        }
        Ok(())
    }

    /// Says that this node lives, and takes over what nodes had that do not.
    async fn live(&self, shutdown: &CancellationToken) {
        let mut renewals = tokio::time::interval(RENEW);
        renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = renewals.tick() => {}
            }
            let now = self.parts.clock.now();
            let known = self.begun().iter().cloned().collect();
            match self.parts.store.renew_leases(&self.node, known, now, now + LEASE).await {
                Ok(0) => {}
                Ok(taken) => {
                    tracing::info!(taken, "tasks and jobs were interrupted by the end of their server");
                    self.parts.changed.notify_one();
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "what runs here could not be kept");
                }
            }
        }
    }

    /// Whether the end of what has run is settled; it is tried until it is, since otherwise it would be running for ever. When
    /// the store is closed before, the next server finds it interrupted.
    async fn settled(&self, stored: Result<bool>) -> bool {
        const PAUSE: Duration = Duration::from_secs(1);
        match stored {
            Ok(_)
            | Err(StoreError::Database(sqlx::Error::PoolClosed) | StoreError::Unavailable(sqlx::Error::PoolClosed)) => {
                true
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the end of a task is not stored; it is tried again"
                );
                tokio::time::sleep(PAUSE).await;
                false
            }
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashSet<String>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a task run or a job has begun here.
    fn know(self: &Arc<Self>, id: &str) -> Known {
        self.begun().insert(id.to_owned());
        Known { inner: self.clone(), id: id.to_owned() }
    }

    /// Takes a place for a job of a tenant, if there is one.
    fn take_place(self: &Arc<Self>, job: &Job) -> Option<Place> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = jobs.entry(job.tenant.clone()).or_default();
        if *running >= JOBS {
            return None;
        }
        *running += 1;
        Some(Place { inner: self.clone(), tenant: job.tenant.clone() })
    }
}

/// Something that has begun here, until it is dropped.
struct Known {
    inner: Arc<Inner>,
    id: String,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.inner.begun().remove(&self.id);
    }
}

/// A job's place among those of its tenant, until it is dropped.
struct Place {
    inner: Arc<Inner>,
    tenant: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = jobs.get_mut(&self.tenant) {
            *running -= 1;
            if *running == 0 {
                jobs.remove(&self.tenant);
            }
        }
        self.inner.parts.changed.notify_one();
    }
}

/// The beginning of a text that may be long.
fn cut(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}
