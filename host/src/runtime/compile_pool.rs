//! Whose upload is compiled when, and how much of that a tenant may have.
//!
//! A few places, given to the tenant that has the fewest and has compiled least in this minute; who has no place waits, but
//! not with many uploads. Nobody compiles for longer than the limits of an upload allow, yet that is long enough to be
//! noticed: one that takes longer than a few seconds therefore keeps its place, but another tenant gets one beside it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::compile::UploadError;
use crate::{clock::Clock, metrics::Metrics};

/// From this time on, something that compiles keeps no other tenant waiting.
const LONG: Duration = Duration::from_secs(3);

/// So many uploads wait in all.
const WAITING: usize = 64;

/// A tenant has at most this part of the places.
const PART: usize = 2;

const MINUTE: i64 = 60;

/// What somebody compiles for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Somebody uploads it, whose tenant may compile for so long in a minute.
    Upload(Duration),
    /// A run needs it, whose number is bounded and which has waited for its turn.
    Run,
}

/// How a pool gives out its places.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What is compiled in them.
    pub kind: &'static str,
    /// How many there are.
    pub places: usize,
    /// Uploads of one tenant that may wait.
    pub waiting: usize,
}

/// Places in which something is compiled. Cheap to clone.
#[derive(Clone)]
pub struct CompilePool(Arc<Inner>);

struct Inner {
    rules: Rules,
    spent: Spent,
    metrics: Metrics,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    running: Vec<Running>,
    waiting: VecDeque<Waiter>,
}

struct Running {
    id: u64,
    tenant: Arc<str>,
    since: Instant,
}

struct Waiter {
    id: u64,
    tenant: Arc<str>,
    is_upload: bool,
    wake: oneshot::Sender<Place>,
}

/// A place; given back, and the time in it counted, when this is dropped.
pub struct Place {
    pool: CompilePool,
    id: u64,
    tenant: Arc<str>,
    since: Instant,
    outcome: &'static str,
}

impl CompilePool {
    /// A pool whose time counts against what `spent` has.
    pub fn new(rules: Rules, spent: Spent, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { rules, spent, metrics, queue: Mutex::default() }))
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// [`UploadError::Busy`] when too many wait, [`UploadError::Quota`] when the tenant has compiled for too long.
    pub async fn enter(&self, tenant: &Arc<str>, purpose: Purpose) -> Result<Place, UploadError> {
        let entered = match self.ask(tenant, purpose) {
            Ok((id, place)) => self.wait(id, place).await,
            Err(error) => Err(error),
        };
        entered.inspect_err(|error| self.0.metrics.not_compiled(self.0.rules.kind, error.outcome()))
    }

    /// How much compiles and waits.
    pub fn count(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.running.len(), queue.waiting.len())
    }

    fn ask(&self, tenant: &Arc<str>, purpose: Purpose) -> Result<(u64, oneshot::Receiver<Place>), UploadError> {
        let is_upload = match purpose {
            Purpose::Upload(allowance) => {
                self.0.spent.check(tenant, allowance)?;
                true
            }
            Purpose::Run => false,
        };
        let (wake, place) = oneshot::channel();
        let mut queue = self.lock();
        let id = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Waiter { id, tenant: tenant.clone(), is_upload, wake });
        let granted = queue.grant(&self.0);
        if is_upload && let Some(error) = queue.too_many(id, tenant, &self.0.rules) {
            queue.waiting.retain(|waiter| waiter.id != id);
            drop(queue);
            self.give(granted);
            return Err(error);
        }
        drop(queue);
        self.give(granted);
        Ok((id, place))
    }

    async fn wait(&self, id: u64, mut place: oneshot::Receiver<Place>) -> Result<Place, UploadError> {
        let _leave = Leave { pool: self, id };
        loop {
            tokio::select! {
                biased;
                place = &mut place => {
                    return place.map_err(|_| UploadError::Internal(anyhow::anyhow!("the pool has ended")));
                }
                // What compiles becomes long without telling anybody.
                () = tokio::time::sleep(LONG / 4) => self.give_all(),
            }
        }
    }

    fn give_all(&self) {
        let granted = self.lock().grant(&self.0);
        self.give(granted);
    }

    /// Outside of the lock: a place whose owner has gone away is given back at once.
    fn give(&self, granted: Vec<(oneshot::Sender<Place>, Running)>) {
        for (wake, Running { id, tenant, since }) in granted {
            drop(wake.send(Place { pool: self.clone(), id, tenant, since, outcome: "abandoned" }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Gives the places that are free to those who wait.
    fn grant(&mut self, pool: &Inner) -> Vec<(oneshot::Sender<Place>, Running)> {
        let mut granted = Vec::new();
        while let Some(next) = self.next(pool) {
            let Some(Waiter { id, tenant, wake, .. }) = self.waiting.remove(next) else { break };
            let since = Instant::now();
            self.running.push(Running { id, tenant: tenant.clone(), since });
            granted.push((wake, Running { id, tenant, since }));
        }
        granted
    }

    /// Whose turn it is.
    fn next(&self, pool: &Inner) -> Option<usize> {
        let places = pool.rules.places;
        let long = self.running.iter().filter(|running| running.since.elapsed() >= LONG).count();
        // As many as there are places may be long beside those that are not.
        let counted = self.running.len() - long.min(places);
        let is_beside = self.running.len() >= places;
        if counted >= places {
            return None;
        }
        let most = if is_beside { 1 } else { places.div_ceil(PART) };
        let waiting = self.waiting.iter().enumerate();
        let may = waiting.filter(|(_, waiter)| self.of(&waiter.tenant) < most);
        may.min_by_key(|(_, waiter)| (self.of(&waiter.tenant), pool.spent.of(&waiter.tenant))).map(|(index, _)| index)
    }

    /// Places that a tenant has.
    fn of(&self, tenant: &str) -> usize {
        self.running.iter().filter(|running| &*running.tenant == tenant).count()
    }

    /// Why this upload may not wait, if it does and may not.
    fn too_many(&self, id: u64, tenant: &str, rules: &Rules) -> Option<UploadError> {
        let uploads = || self.waiting.iter().filter(|waiter| waiter.is_upload);
        if !uploads().any(|waiter| waiter.id == id) {
            return None;
        }
        let own = uploads().filter(|waiter| &*waiter.tenant == tenant).count();
        if own > rules.waiting {
            let others = if rules.waiting == 1 { "another upload" } else { "other uploads" };
            return Some(UploadError::Busy(format!(
                "{others} of this app wait to be compiled already: try again soon"
            )));
        }
        (uploads().count() > WAITING)
            .then(|| UploadError::Busy("the server is compiling too many uploads: try again soon".into()))
    }
}

impl Place {
    /// Notes how it ended; what is dropped without was abandoned.
    pub fn ended<T>(&mut self, result: &Result<T, UploadError>) {
        self.outcome = result.as_ref().map_or_else(UploadError::outcome, |_| "ok");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let took = self.since.elapsed();
        let Inner { rules, spent, metrics, .. } = &*self.pool.0;
        metrics.compiled(rules.kind, self.outcome, took);
        spent.add(&self.tenant, took);
        self.pool.lock().running.retain(|running| running.id != self.id);
        self.pool.give_all();
    }
}

/// Leaves the queue, also when the caller goes away while it waits.
struct Leave<'a> {
    pool: &'a CompilePool,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.pool.lock().waiting.retain(|waiter| waiter.id != self.id);
    }
}

/// What tenants have compiled in this minute (UTC). Cheap to clone.
#[derive(Clone)]
pub struct Spent(Arc<SpentInner>);

struct SpentInner {
    clock: Arc<Clock>,
    /// The minute, counted from the Unix epoch, and the time of each tenant in it.
    minute: Mutex<(i64, HashMap<Arc<str>, Duration>)>,
}

impl Spent {
    /// Nothing yet.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self(Arc::new(SpentInner { clock, minute: Mutex::default() }))
    }

    /// What a tenant has compiled in this minute.
    pub fn of(&self, tenant: &str) -> Duration {
        self.this_minute().1.get(tenant).copied().unwrap_or_default()
    }

    fn add(&self, tenant: &Arc<str>, time: Duration) {
        *self.this_minute().1.entry(tenant.clone()).or_default() += time;
    }

    fn check(&self, tenant: &str, allowance: Duration) -> Result<(), UploadError> {
        if self.of(tenant) < allowance {
            return Ok(());
        }
        let left = MINUTE - self.0.clock.now().timestamp().rem_euclid(MINUTE);
        Err(UploadError::Quota {
            message: format!(
                "this app may compile for {} ms in a minute, and has; the operator raises the limit with \
                 `tenant.compile_ms`",
                allowance.as_millis()
            ),
            retry_after: Duration::from_secs(u64::try_from(left).unwrap_or(1)),
        })
    }

    fn this_minute(&self) -> MutexGuard<'_, (i64, HashMap<Arc<str>, Duration>)> {
        let minute = self.0.clock.now().timestamp().div_euclid(MINUTE);
        let mut spent = self.0.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.0 != minute {
            *spent = (minute, HashMap::new());
        }
        spent
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    const UPLOAD: Purpose = Purpose::Upload(Duration::from_secs(30));

    fn pool(places: usize, waiting: usize) -> (CompilePool, Arc<Clock>) {
        let clock = Arc::new(Clock::default());
        let rules = Rules { kind: "test", places, waiting };
        (CompilePool::new(rules, Spent::new(clock.clone()), Metrics::default()), clock)
    }

    fn tenant(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn who_has_fewer_places_and_less_time_goes_first() {
        let (pool, _) = pool(1, 9);
        let (a, b) = (tenant("a"), tenant("b"));
        let first = pool.enter(&a, UPLOAD).await.unwrap();
        let mut of_a = Box::pin(pool.enter(&a, UPLOAD));
        let mut of_b = Box::pin(pool.enter(&b, UPLOAD));
        assert!(poll!(&mut of_a).is_pending() && poll!(&mut of_b).is_pending());
        assert_eq!(pool.count(), (1, 2));

        drop(first);

        let second = of_b.now_or_never().unwrap().unwrap();
        assert!(poll!(&mut of_a).is_pending());
        drop(second);
        of_a.now_or_never().unwrap().unwrap();
        assert_eq!(pool.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_tenant_has_half_of_the_places_and_one_upload_waits() {
        let (pool, _) = pool(3, 1);
        let (a, b) = (tenant("a"), tenant("b"));
        let _two = (pool.enter(&a, UPLOAD).await.unwrap(), pool.enter(&a, UPLOAD).await.unwrap());
        let mut third = Box::pin(pool.enter(&a, UPLOAD));
        assert!(poll!(&mut third).is_pending());

        let refused = pool.enter(&a, UPLOAD).await.err().unwrap();
        assert!(refused.to_string().contains("another upload of this app"), "{refused}");
        let _other = pool.enter(&b, UPLOAD).now_or_never().unwrap().unwrap();
        // A run waits however many do.
        let mut run = Box::pin(pool.enter(&a, Purpose::Run));
        assert!(poll!(&mut run).is_pending());
        assert_eq!(pool.count(), (3, 2));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue_and_its_place() {
        let (pool, _) = pool(1, 1);
        let (a, b) = (tenant("a"), tenant("b"));
        let first = pool.enter(&a, UPLOAD).await.unwrap();
        let mut gone = Box::pin(pool.enter(&a, UPLOAD));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        assert_eq!(pool.count(), (1, 0));

        let mut granted = Box::pin(pool.enter(&b, UPLOAD));
        assert!(poll!(&mut granted).is_pending());
        drop(first);
        assert_eq!(pool.count(), (1, 0), "it has its place, and has not looked yet");
        drop(granted);
        assert_eq!(pool.count(), (0, 0));
    }

    #[tokio::test]
    async fn what_takes_long_keeps_no_other_tenant_waiting() {
        let (pool, _) = pool(1, 2);
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let _long = pool.enter(&a, UPLOAD).await.unwrap();
        let mut again = Box::pin(pool.enter(&a, UPLOAD));
        assert!(poll!(&mut again).is_pending());
        pool.lock().running[0].since = Instant::now().checked_sub(LONG).unwrap();

        let _beside = pool.enter(&b, UPLOAD).now_or_never().unwrap().unwrap();
        let mut third = Box::pin(pool.enter(&c, UPLOAD));

        assert!(poll!(&mut again).is_pending(), "it is the tenant's own");
        assert!(poll!(&mut third).is_pending(), "there is one place beside one place");
        pool.lock().running[1].since = Instant::now().checked_sub(LONG).unwrap();
        assert!(poll!(&mut third).is_pending(), "however long both take");
    }

    #[tokio::test]
    async fn time_in_a_place_counts_until_the_minute_is_over() {
        let (pool, clock) = pool(1, 1);
        let a = tenant("a");
        pool.0.spent.add(&a, Duration::from_secs(30));

        let refused = pool.enter(&a, UPLOAD).await.err().unwrap();
        assert!(refused.to_string().contains("30000 ms in a minute"), "{refused}");
        assert!(matches!(refused, UploadError::Quota { retry_after, .. } if retry_after <= Duration::from_secs(60)));
        assert!(pool.enter(&tenant("b"), UPLOAD).await.is_ok());
        assert!(pool.enter(&a, Purpose::Run).await.is_ok());

        clock.advance(Duration::from_secs(60));
        drop(pool.enter(&a, UPLOAD).await.unwrap());
        assert!(pool.0.spent.of("a") > Duration::ZERO);
    }
}
