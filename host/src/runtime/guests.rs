//! Threads that only guests run on, and whose turn it is.
//!
//! A busy guest must not keep a socket, the database, or another tenant waiting. So guests have threads of their own, give them
//! back about every millisecond, and the next one is always of the tenant that had the least time lately, and within it of
//! the function that had the least: a single run beside ten thousand busy ones of another tenant starts at once.

use std::{
    any::Any,
    collections::VecDeque,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_task::{Builder, Runnable};
use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::oneshot};

use crate::fair::Fair;

/// Whose code it is: turns go round between tenants, and within a tenant between its functions.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Public key of the tenant.
    pub tenant: Arc<str>,
    /// Id of the function.
    pub function: Arc<str>,
}

/// Where a task's time went; the rest of its life it waited for something else, a host call for instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// On a thread.
    pub running: Duration,
    /// Ready, but others had the threads.
    pub waiting: Duration,
}

/// What a task did instead of ending.
pub type Panic = Box<dyn Any + Send>;

/// The threads. They end when this is dropped.
pub struct GuestThreads {
    turns: Arc<Turns>,
}

/// The tasks that are ready.
#[derive(Default)]
struct Turns {
    ready: Mutex<Ready>,
    something: Condvar,
}

#[derive(Default)]
struct Ready {
    tenants: Fair<Fair<VecDeque<Task>>>,
    closed: bool,
}

type Task = Runnable<Arc<Meter>>;

struct Meter {
    owner: Owner,
    /// Nanoseconds; `since` is when it became ready, counted from `start`.
    running: AtomicU64,
    waiting: AtomicU64,
    since: AtomicU64,
    start: Instant,
}

impl GuestThreads {
    /// Starts the threads. Timers and channels that guests wait for belong to the runtime of `handle`.
    pub fn start(threads: usize, handle: &Handle) -> std::io::Result<Self> {
        let turns = Arc::new(Turns::default());
        for number in 0..threads {
            let (turns, handle) = (turns.clone(), handle.clone());
            std::thread::Builder::new().name(format!("guest-{number}")).spawn(move || {
                give_way();
                let _timers = handle.enter();
                turns.work();
            })?;
        }
        Ok(Self { turns })
    }

    /// Runs a task to its end, also when nobody waits for it any more.
    ///
    /// Dropping the threads drops the tasks: then, and only then, the error has no panic in it.
    pub async fn run<T: Send + 'static>(
        &self,
        owner: Owner,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (Result<T, Option<Panic>>, Times) {
        let zero = || AtomicU64::new(0);
        let meter = Arc::new(Meter { owner, running: zero(), waiting: zero(), since: zero(), start: Instant::now() });
        let (answer, answered) = oneshot::channel();
        let work = async move {
            // Whoever asked may have gone away.
            let _ = answer.send(AssertUnwindSafe(work).catch_unwind().await);
        };
        let turns = Arc::downgrade(&self.turns);
        let schedule = move |task: Task| {
            if let Some(turns) = turns.upgrade() {
                turns.push(task);
            }
        };
        let (task, handle) = Builder::new().metadata(meter.clone()).spawn(|_| work, schedule);
        handle.detach();
        task.schedule();
        let done = match answered.await {
            Ok(done) => done.map_err(Some),
            Err(_) => Err(None),
        };
        (done, meter.times())
    }
}

/// Lets the threads that serve sockets and the database go first: they have little to do, and everybody waits for them.
fn give_way() {
    // On Linux this concerns the thread that calls it. Elsewhere it would be the whole process, which is of no use.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "threads of functions have the priority of all others");
    }
}

/// How far guests stand back, from 0 (not at all) to 19. Beside a busy thread of the server one of these has a quarter of a core.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

impl Drop for GuestThreads {
    fn drop(&mut self) {
        let dropped = {
            let mut ready = self.turns.lock();
            ready.closed = true;
            std::mem::take(&mut ready.tenants)
        };
        self.turns.something.notify_all();
        // Outside of the lock: dropping a task drops what it holds.
        drop(dropped);
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: Task) {
        let meter = task.metadata();
        meter.ready();
        let Owner { tenant, function } = meter.owner.clone();
        let mut ready = self.lock();
        if ready.closed {
            drop(ready);
            return drop(task);
        }
        ready.tenants.with(&tenant, |functions| functions.with(&function, |tasks| tasks.push_back(task)));
        drop(ready);
        self.something.notify_one();
    }

    /// What a thread does all its life.
    fn work(&self) {
        while let Some(task) = self.next() {
            let meter = task.metadata().clone();
            meter.begins();
            let started = Instant::now();
            task.run();
            let took = nanoseconds(started.elapsed());
            meter.running.fetch_add(took, Ordering::Relaxed);
            self.lock().charge(&meter.owner, took);
        }
    }

    /// Waits for a task; `None` at the end.
    fn next(&self) -> Option<Task> {
        let mut ready = self.lock();
        loop {
            if ready.closed {
                return None;
            }
            if let Some(task) = ready.pop() {
                return Some(task);
            }
            ready = self.something.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Ready {
    fn pop(&mut self) -> Option<Task> {
        self.tenants.next(|functions| functions.next(VecDeque::pop_front))
    }

    fn charge(&mut self, owner: &Owner, nanoseconds: u64) {
        if let Some(functions) = self.tenants.charge(&owner.tenant, nanoseconds) {
            functions.charge(&owner.function, nanoseconds);
        }
    }
}

impl Meter {
    fn ready(&self) {
        self.since.store(nanoseconds(self.start.elapsed()), Ordering::Relaxed);
    }

    fn begins(&self) {
        let waited = nanoseconds(self.start.elapsed()).saturating_sub(self.since.load(Ordering::Relaxed));
        self.waiting.fetch_add(waited, Ordering::Relaxed);
    }

    fn times(&self) -> Times {
        let duration = |nanoseconds: &AtomicU64| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        Times { running: duration(&self.running), waiting: duration(&self.waiting) }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn owner(tenant: &str, function: &str) -> Owner {
        Owner { tenant: tenant.into(), function: function.into() }
    }

    /// Gives its thread back after each millisecond, like a guest.
    async fn busy(time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let slice = Instant::now() + Duration::from_millis(1);
            while Instant::now() < slice {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_single_task_does_not_wait_for_those_of_another_tenant() {
        let threads = Arc::new(GuestThreads::start(1, &Handle::current()).unwrap());
        let floods: Vec<_> = (0..50)
            .map(|_| {
                let threads = threads.clone();
                tokio::spawn(async move { threads.run(owner("a", "f"), busy(Duration::from_millis(20))).await })
            })
            .collect();
        tokio::task::yield_now().await;

        let started = Instant::now();
        threads.run(owner("b", "f"), busy(Duration::from_millis(1))).await.0.unwrap();
        let took = started.elapsed();

        assert!(floods.iter().any(|flood| !flood.is_finished()), "the others were done before");
        // By turns it has one of every two milliseconds; behind the fifty it would have waited for a second.
        assert!(took < Duration::from_millis(250), "it took {took:?}");
        for flood in floods {
            flood.await.unwrap().0.unwrap();
        }
    }

    #[tokio::test]
    async fn it_is_told_where_the_time_went() {
        let threads = GuestThreads::start(1, &Handle::current()).unwrap();

        let (done, times) = threads
            .run(owner("a", "f"), async {
                busy(Duration::from_millis(10)).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
                7
            })
            .await;

        assert_eq!(done.unwrap(), 7);
        assert!(times.running >= Duration::from_millis(10) && times.running < Duration::from_millis(30), "{times:?}");
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_alone() {
        let threads = GuestThreads::start(1, &Handle::current()).unwrap();

        let (panicked, _): (Result<(), _>, _) =
            threads.run(owner("a", "f"), async { unreachable!("for the test") }).await;

        assert!(panicked.unwrap_err().is_some());
        assert_eq!(threads.run(owner("a", "f"), async { 1 }).await.0.unwrap(), 1);
    }

    #[tokio::test]
    async fn nothing_runs_when_the_threads_have_ended() {
        let threads = GuestThreads::start(1, &Handle::current()).unwrap();

        threads.turns.lock().closed = true;

        assert!(threads.run(owner("a", "f"), async {}).await.0.unwrap_err().is_none());
    }
}
