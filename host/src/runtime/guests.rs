//! Threads that only guests run on, and whose turn it is.
//!
//! A busy guest must not keep a socket, the database, or another tenant waiting. So guests have threads of their own, give them
//! back about every millisecond, and the next one is always of the tenant that had the least time lately, and within it of
//! the function that had the least: a single run beside ten thousand busy ones of another tenant starts at once.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap, VecDeque},
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

/// Queues that take turns, so that each gets as much time as any other (fair queueing by virtual time).
#[derive(Default)]
struct Fair<Q> {
    queues: HashMap<Arc<str>, Share<Q>>,
    /// Queues with something in them, the one that had the least time first.
    order: BTreeSet<(u64, Arc<str>)>,
    /// Time that the queue had whose turn was last. Who comes back after a pause starts here: time not used is not saved.
    now: u64,
}

#[derive(Default)]
struct Share<Q> {
    time: u64,
    queue: Q,
}

trait Queue: Default {
    fn is_empty(&self) -> bool;
}

impl<T> Queue for VecDeque<T> {
    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

impl<Q: Queue> Queue for Fair<Q> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// Idle queues are forgotten when there are so many more than others.
const IDLE: usize = 256;

impl<Q: Queue> Fair<Q> {
    /// Adds to a queue.
    fn with(&mut self, name: &Arc<str>, add: impl FnOnce(&mut Q)) {
        let share = self.queues.entry(name.clone()).or_default();
        let was_empty = share.queue.is_empty();
        add(&mut share.queue);
        if was_empty && !share.queue.is_empty() {
            share.time = share.time.max(self.now);
            self.order.insert((share.time, name.clone()));
        }
    }

    /// Takes from the queue whose turn it is.
    fn next<T>(&mut self, take: impl FnOnce(&mut Q) -> Option<T>) -> Option<T> {
        let (time, name) = self.order.first()?.clone();
        self.now = time;
        let share = self.queues.get_mut(&name)?;
        let taken = take(&mut share.queue);
        if share.queue.is_empty() {
            self.order.remove(&(time, name));
        }
        taken
    }

    /// Notes that a queue had time, and returns it.
    fn charge(&mut self, name: &Arc<str>, time: u64) -> Option<&mut Q> {
        if self.queues.len() > 2 * self.order.len() + IDLE {
            let now = self.now;
            self.queues.retain(|other, share| !share.queue.is_empty() || share.time > now || other == name);
        }
        let share = self.queues.get_mut(name)?;
        let before = share.time;
        share.time += time;
        if !share.queue.is_empty() && self.order.remove(&(before, name.clone())) {
            self.order.insert((share.time, name.clone()));
        }
        if self.order.is_empty() {
            // Nobody waits: all begin anew.
            self.now = self.now.max(share.time);
        }
        Some(&mut share.queue)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn owner(tenant: &str, function: &str) -> Owner {
        Owner { tenant: tenant.into(), function: function.into() }
    }

    /// Which of some queues has its turn, when each turn takes a unit of time.
    fn turns(fair: &mut Fair<Fair<VecDeque<&'static str>>>, count: usize) -> Vec<&'static str> {
        let mut turns = Vec::new();
        for _ in 0..count {
            let turn = fair.next(|functions| functions.next(VecDeque::pop_front)).unwrap();
            let (tenant, function) = turn.split_once('.').unwrap();
            fair.charge(&tenant.into(), 1).unwrap().charge(&function.into(), 1);
            turns.push(turn);
        }
        turns
    }

    fn add(fair: &mut Fair<Fair<VecDeque<&'static str>>>, task: &'static str) {
        let (tenant, function) = task.split_once('.').unwrap();
        fair.with(&tenant.into(), |functions| functions.with(&function.into(), |tasks| tasks.push_back(task)));
    }

    #[test]
    fn turns_go_round_between_tenants_and_within_them_between_functions() {
        let mut fair = Fair::default();
        for _ in 0..8 {
            add(&mut fair, "a.one");
        }
        add(&mut fair, "a.two");
        add(&mut fair, "b.one");
        add(&mut fair, "b.one");

        let turns = turns(&mut fair, 6);

        assert_eq!(turns.iter().filter(|turn| turn.starts_with('b')).count(), 2, "{turns:?}");
        assert!(turns[..4].contains(&"a.two"), "{turns:?}");
    }

    #[test]
    fn who_comes_new_has_its_turn_at_once_and_time_not_used_is_not_saved() {
        let mut fair = Fair::default();
        for _ in 0..100 {
            add(&mut fair, "a.one");
        }
        turns(&mut fair, 50);

        for _ in 0..20 {
            add(&mut fair, "b.one");
        }
        let turns = turns(&mut fair, 10);

        assert!(turns[..2].contains(&"b.one"), "{turns:?}");
        assert_eq!(turns.iter().filter(|turn| **turn == "a.one").count(), 5, "{turns:?}");
    }

    #[test]
    fn idle_queues_are_forgotten() {
        let mut fair = Fair::default();
        for number in 0..10_000 {
            let name: Arc<str> = number.to_string().into();
            fair.with(&name, |tasks: &mut VecDeque<u8>| tasks.push_back(1));
            fair.next(VecDeque::pop_front).unwrap();
            fair.charge(&name, 1);
        }
        assert!(fair.queues.len() <= IDLE + 2, "{}", fair.queues.len());
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
