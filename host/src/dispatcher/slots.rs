//! Who may run now: places for runs, handed out fairly.
//!
//! Whoever waits does so in a queue of its tenant and function. A free slot goes to the tenant that holds the fewest, and in it
//! to the function whose turn it is, by turns of those who wait for an answer and of events. While others wait, no tenant holds
//! more than a quarter of the slots; and some slots stay free for tenants that hardly use any or give them back at once, so that
//! a short run need not wait for long ones to end.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::runtime::guests::Owner;

/// While others wait, a tenant holds at most this part of the slots …
const PART: u32 = 4;

/// … and this part is kept for tenants that hardly use any.
const RESERVED_PART: u32 = 8;

/// For so long it counts that a tenant has held slots.
const MEMORY: Duration = Duration::from_secs(10);

/// Who has held fewer slots than this on average in that time hardly uses any.
const HARDLY: f64 = 0.5;

/// A run that held a slot for less than this was brief. Tenants all of whose latest runs were use the slots that are kept as
/// well, this part of all: they give them back at once, and must not wait for those of others that take seconds.
const BRIEF: Duration = Duration::from_millis(500);
const BRIEF_PART: u32 = 16;

/// Tenants that have nothing to do are forgotten when there are so many.
const MANY: usize = 1_024;

/// The slots. Cheap to clone.
#[derive(Clone)]
pub struct Slots(Arc<Mutex<State>>);

/// A place for one run, given back when it is dropped.
pub struct Slot {
    /// `None` when it has been given back.
    slots: Option<Slots>,
    owner: Owner,
    since: Instant,
}

/// Who wants a slot, and how many it may hold.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose run.
    pub owner: Owner,
    /// Runs of the function at the same time.
    pub function: u32,
    /// Runs of the tenant at the same time.
    pub tenant: u32,
    /// What the run is for.
    pub kind: Kind,
}

/// What a run is for. Of one tenant the two take turns, so that whoever waits for an answer does not wait for all the events
/// that one change can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody waits for its answer.
    Answer,
    /// Something happened, and nobody waits.
    Event,
}

/// What keeps a run from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The function runs as often as it may.
    Function,
    /// The tenant does.
    Tenant,
    /// The server has no slot for it.
    Server,
}

/// How many runs run and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In a slot.
    pub running: usize,
    /// For a slot.
    pub waiting: usize,
}

struct State {
    all: u32,
    free: u32,
    waiting: usize,
    tenants: HashMap<Arc<str>, Tenant>,
    /// Tenants for which somebody waits.
    queue: BTreeSet<Arc<str>>,
}

#[derive(Default)]
struct Tenant {
    running: u32,
    waiting: usize,
    most: u32,
    functions: HashMap<Arc<str>, Function>,
    /// Functions for which somebody waits, the next one first, for each kind of call …
    turns: [VecDeque<Arc<str>>; 2],
    /// … and the kind that is next.
    next: usize,
    recent: Recent,
}

#[derive(Default)]
struct Function {
    running: u32,
    most: u32,
    waiting: [VecDeque<oneshot::Sender<Slot>>; 2],
}

/// Seconds of slots held, of which older ones count less and less.
#[derive(Clone, Copy, Default)]
struct Recent {
    seconds: f64,
    at: Option<Instant>,
    /// When a slot was given back that was not held briefly.
    long: Option<Instant>,
}

/// A place in the queue, left when it is dropped.
struct Ticket<'a> {
    slots: &'a Slots,
    owner: &'a Owner,
    given: oneshot::Receiver<Slot>,
    is_given: bool,
}

impl Slots {
    /// So many slots.
    pub fn new(slots: u32) -> Self {
        let state = State { all: slots, free: slots, waiting: 0, tenants: HashMap::new(), queue: BTreeSet::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a slot. Who stops waiting leaves the queue. `None` only when the slots are gone.
    pub async fn take(&self, wanted: &Wanted) -> Option<Slot> {
        let (give, given) = oneshot::channel();
        {
            let mut state = self.lock();
            state.enter(wanted, give);
            state.grant(self);
        }
        let mut ticket = Ticket { slots: self, owner: &wanted.owner, given, is_given: false };
        let slot = (&mut ticket.given).await.ok();
        ticket.is_given = true;
        slot
    }

    /// What keeps a run of this owner from starting now.
    pub fn held(&self, wanted: &Wanted) -> Held {
        let state = self.lock();
        let tenant = state.tenants.get(&wanted.owner.tenant);
        let function = tenant.and_then(|tenant| tenant.functions.get(&wanted.owner.function));
        if function.is_some_and(|function| function.running >= wanted.function) {
            Held::Function
        } else if tenant.is_some_and(|tenant| tenant.running >= wanted.tenant) {
            Held::Tenant
        } else {
            Held::Server
        }
    }

    /// How many there are.
    pub fn all(&self) -> u32 {
        self.lock().all
    }

    /// Runs of all tenants.
    pub fn count(&self) -> Count {
        let state = self.lock();
        Count { running: (state.all - state.free) as usize, waiting: state.waiting }
    }

    /// Runs of a tenant.
    pub fn count_of_tenant(&self, tenant: &str) -> Count {
        let state = self.lock();
        let count = |tenant: &Tenant| Count { running: tenant.running as usize, waiting: tenant.waiting };
        state.tenants.get(tenant).map(count).unwrap_or_default()
    }

    /// Runs of a function.
    pub fn count_of_function(&self, tenant: &str, function: &str) -> Count {
        let state = self.lock();
        let function = state.tenants.get(tenant).and_then(|tenant| tenant.functions.get(function));
        let waiting = |function: &Function| function.waiting.iter().map(VecDeque::len).sum();
        let count = |function: &Function| Count { running: function.running as usize, waiting: waiting(function) };
        function.map(count).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, wanted: &Wanted, give: oneshot::Sender<Slot>) {
        let Owner { tenant: name, function } = &wanted.owner;
        if self.tenants.len() >= MANY {
            self.forget();
        }
        let tenant = self.tenants.entry(name.clone()).or_default();
        tenant.most = wanted.tenant;
        tenant.waiting += 1;
        let lane = tenant.functions.entry(function.clone()).or_default();
        lane.most = wanted.function;
        let kind = wanted.kind as usize;
        if lane.waiting[kind].is_empty() {
            tenant.turns[kind].push_back(function.clone());
        }
        lane.waiting[kind].push_back(give);
        self.queue.insert(name.clone());
        self.waiting += 1;
    }

    /// Somebody stopped waiting.
    fn leave(&mut self, owner: &Owner) {
        let Some(tenant) = self.tenants.get_mut(&owner.tenant) else { return };
        let Some(function) = tenant.functions.get_mut(&owner.function) else { return };
        let mut left = 0;
        for waiting in &mut function.waiting {
            let before = waiting.len();
            waiting.retain(|give| !give.is_closed());
            left += before - waiting.len();
        }
        tenant.waiting -= left;
        self.waiting -= left;
        self.tidy(owner);
    }

    /// Hands out free slots as long as there is somebody who may have one.
    fn grant(&mut self, slots: &Slots) {
        while self.free > 0 {
            let Some(name) = self.next_tenant() else { return };
            let Some(tenant) = self.tenants.get_mut(&name) else { return };
            let Some((function, give)) = tenant.next_run() else { return };
            tenant.waiting -= 1;
            tenant.running += 1;
            self.waiting -= 1;
            self.free -= 1;
            let owner = Owner { tenant: name, function };
            let slot = Slot { slots: Some(slots.clone()), owner: owner.clone(), since: Instant::now() };
            if let Err(mut unwanted) = give.send(slot) {
                // Without its slots it does not give itself back, which would lock what is locked.
                unwanted.slots = None;
                self.give_back(&owner, unwanted.since);
            }
            self.tidy(&owner);
        }
    }

    fn give_back(&mut self, owner: &Owner, since: Instant) {
        self.free += 1;
        if let Some(tenant) = self.tenants.get_mut(&owner.tenant) {
            tenant.running -= 1;
            tenant.recent.add(since);
            if let Some(function) = tenant.functions.get_mut(&owner.function) {
                function.running -= 1;
            }
        }
        self.tidy(owner);
    }

    /// Removes what is empty.
    fn tidy(&mut self, owner: &Owner) {
        let Some(tenant) = self.tenants.get_mut(&owner.tenant) else { return };
        if let Some(function) = tenant.functions.get(&owner.function) {
            for (turns, waiting) in tenant.turns.iter_mut().zip(&function.waiting) {
                if waiting.is_empty() {
                    turns.retain(|name| *name != owner.function);
                }
            }
            if function.running == 0 && function.waiting.iter().all(VecDeque::is_empty) {
                tenant.functions.remove(&owner.function);
            }
        }
        if tenant.waiting == 0 {
            self.queue.remove(&owner.tenant);
        }
    }

    fn forget(&mut self) {
        self.tenants.retain(|_, tenant| tenant.running > 0 || tenant.waiting > 0 || tenant.recent.average() > 0.01);
    }

    /// The tenant that gets the next slot: of those that may have one the lightest, then the one that holds the fewest.
    fn next_tenant(&self) -> Option<Arc<str>> {
        let weight = |tenant: &Tenant| (!tenant.is_light(), tenant.running, tenant.recent.average());
        let candidates = self.queue.iter().filter_map(|name| Some((name, self.tenants.get(name)?)));
        let able = candidates.filter(|(_, tenant)| self.may_run(tenant)).map(|(name, tenant)| (weight(tenant), name));
        let lightest =
            able.min_by(|(one, _), (two, _)| (one.0, one.1).cmp(&(two.0, two.1)).then(one.2.total_cmp(&two.2)));
        lightest.map(|(_, name)| name.clone())
    }

    fn may_run(&self, tenant: &Tenant) -> bool {
        if tenant.running >= tenant.most || !tenant.can_run() {
            return false;
        }
        let is_alone = self.queue.len() == 1;
        tenant.is_light()
            || tenant.is_brief(self.all)
            || self.free > self.all / RESERVED_PART && (is_alone || tenant.running < self.all.div_ceil(PART))
    }
}

impl Tenant {
    fn is_light(&self) -> bool {
        self.running < 2 && self.recent.average() < HARDLY
    }

    fn is_brief(&self, all: u32) -> bool {
        self.running < all / BRIEF_PART && self.recent.is_brief()
    }

    fn can_run(&self) -> bool {
        self.place(0).or_else(|| self.place(1)).is_some()
    }

    /// Where in its queue the next function is that may run for this kind of call.
    fn place(&self, kind: usize) -> Option<usize> {
        self.turns[kind].iter().position(|name| self.functions.get(name).is_some_and(|function| function.can_run(kind)))
    }

    /// Takes the next run from the queue; its function has its next turn after the others, and its kind after the other.
    fn next_run(&mut self) -> Option<(Arc<str>, oneshot::Sender<Slot>)> {
        let (kind, place) = [self.next, 1 - self.next].into_iter().find_map(|kind| Some((kind, self.place(kind)?)))?;
        self.next = 1 - kind;
        let name = self.turns[kind].remove(place)?;
        self.turns[kind].push_back(name.clone());
        let function = self.functions.get_mut(&name)?;
        let give = function.waiting[kind].pop_front()?;
        function.running += 1;
        Some((name, give))
    }
}

impl Function {
    fn can_run(&self, kind: usize) -> bool {
        self.running < self.most && !self.waiting[kind].is_empty()
    }
}

impl Recent {
    fn add(&mut self, since: Instant) {
        let now = Instant::now();
        let held = now.duration_since(since);
        let long = if held < BRIEF { self.long } else { Some(now) };
        *self = Self { seconds: self.left(now) + held.as_secs_f64(), at: Some(now), long };
    }

    fn is_brief(&self) -> bool {
        self.at.is_some() && self.long.is_none_or(|at| at.elapsed() > MEMORY)
    }

    fn left(&self, now: Instant) -> f64 {
        let age = self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        self.seconds * (-age / MEMORY.as_secs_f64()).exp()
    }

    /// Slots held on average.
    fn average(&self) -> f64 {
        self.left(Instant::now()) / MEMORY.as_secs_f64()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            let mut state = slots.lock();
            state.give_back(&self.owner, self.since);
            state.grant(&slots);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.is_given {
            return;
        }
        self.given.close();
        // It may have been given at the last moment. Dropped without the lock, since that takes it.
        let slot = self.given.try_recv();
        if slot.is_err() {
            self.slots.lock().leave(self.owner);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    fn wanted(tenant: &str, function: &str) -> Wanted {
        let owner = Owner { tenant: tenant.into(), function: function.into() };
        Wanted { owner, function: u32::MAX, tenant: u32::MAX, kind: Kind::Answer }
    }

    fn now(slots: &Slots, tenant: &str) -> Option<Slot> {
        slots.take(&wanted(tenant, "f")).now_or_never().flatten()
    }

    fn all_now(slots: &Slots, tenant: &str) -> Vec<Slot> {
        std::iter::from_fn(|| now(slots, tenant)).collect()
    }

    #[test]
    fn alone_a_tenant_has_all_slots_but_those_kept_for_others() {
        let slots = Slots::new(64);

        let held = all_now(&slots, "a");

        assert_eq!(held.len(), 56);
        assert!(now(&slots, "b").is_some(), "a tenant that uses none starts at once");
        assert_eq!(slots.count(), Count { running: 56, waiting: 0 });
        drop(held);
        assert_eq!(slots.count(), Count::default());
    }

    #[test]
    fn while_others_wait_nobody_gets_more_than_a_quarter() {
        let slots = Slots::new(16);
        let of_a = all_now(&slots, "a");
        assert_eq!(of_a.len(), 14);
        let of_b = all_now(&slots, "b");
        assert_eq!(of_b.len(), 2, "those that are kept for tenants that hold hardly any");

        let (one, two) = (wanted("a", "f"), wanted("b", "f"));
        let mut next_of_a = pin!(slots.take(&one));
        let mut next_of_b = pin!(slots.take(&two));
        assert!(next_of_a.as_mut().now_or_never().is_none() && next_of_b.as_mut().now_or_never().is_none());
        drop(of_a.into_iter().take(3).collect::<Vec<_>>());

        assert!(next_of_b.now_or_never().is_some(), "b holds fewer");
    }

    #[test]
    fn a_function_and_a_tenant_run_as_often_as_they_may() {
        let slots = Slots::new(64);
        let once = Wanted { function: 1, ..wanted("a", "once") };
        let twice = Wanted { tenant: 2, ..wanted("a", "other") };

        let first = slots.take(&once).now_or_never().flatten().unwrap();
        assert!(slots.take(&once).now_or_never().is_none());
        assert_eq!(slots.held(&once), Held::Function);
        let second = slots.take(&twice).now_or_never().flatten().unwrap();
        assert!(slots.take(&twice).now_or_never().is_none());
        assert_eq!(slots.held(&twice), Held::Tenant);

        assert_eq!(slots.count_of_function("a", "once"), Count { running: 1, waiting: 0 });
        assert_eq!(slots.count_of_tenant("a"), Count { running: 2, waiting: 0 });
        drop((first, second));
        assert_eq!(slots.lock().tenants["a"].functions.len(), 0);
    }

    #[test]
    fn functions_of_a_tenant_take_turns() {
        let slots = Slots::new(1);
        let held = now(&slots, "a").unwrap();
        let (f, g) = (wanted("a", "f"), wanted("a", "g"));
        let mut first = pin!(slots.take(&f));
        let mut second = pin!(slots.take(&f));
        let mut other = pin!(slots.take(&g));
        for waits in [first.as_mut().now_or_never(), second.as_mut().now_or_never(), other.as_mut().now_or_never()] {
            assert!(waits.is_none());
        }

        drop(held);
        let first = first.now_or_never().flatten().unwrap();
        drop(first);

        assert!(second.as_mut().now_or_never().is_none());
        drop(other.now_or_never().flatten().unwrap());
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn who_waits_for_an_answer_does_not_wait_for_all_events() {
        let slots = Slots::new(1);
        let held = now(&slots, "a").unwrap();
        let events: Vec<_> =
            (0..500).map(|n| Wanted { kind: Kind::Event, ..wanted("a", &format!("event-{n}")) }).collect();
        let mut events: Vec<_> = events.iter().map(|event| Box::pin(slots.take(event))).collect();
        assert!(events.iter_mut().all(|event| event.as_mut().now_or_never().is_none()));
        let call = wanted("a", "called");
        let mut call = pin!(slots.take(&call));
        assert!(call.as_mut().now_or_never().is_none());

        drop(held);
        // One event at most is before it: each that is given the slot gives it back at once.
        let given = events.iter_mut().filter_map(|event| event.as_mut().now_or_never()).take(1).count();

        assert_eq!((given, call.now_or_never().flatten().is_some()), (1, true));
        let left = events.iter_mut().skip(1).filter_map(|event| event.as_mut().now_or_never()).count();
        assert_eq!(left, 499);
    }

    #[test]
    fn a_busy_tenant_of_brief_runs_does_not_wait_for_the_long_ones_of_others() {
        let slots = Slots::new(64);
        let _held = all_now(&slots, "a");
        {
            let mut state = slots.lock();
            let tenant = state.tenants.entry("b".into()).or_default();
            tenant.recent = Recent { seconds: 40.0, at: Some(Instant::now()), long: None };
        }

        let of_b = all_now(&slots, "b");
        assert_eq!(of_b.len(), 4, "it is no light one, but gives back at once");
        slots.lock().tenants.get_mut("b").unwrap().recent.long = Some(Instant::now());
        drop(of_b);

        assert!(now(&slots, "b").is_none(), "one of its runs was long");
        assert!(now(&slots, "c").is_some());
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let slots = Slots::new(1);
        let held = now(&slots, "a").unwrap();
        let b = wanted("b", "f");
        {
            let mut waits = pin!(slots.take(&b));
            assert!(waits.as_mut().now_or_never().is_none());
            assert_eq!(slots.count(), Count { running: 1, waiting: 1 });
        }
        assert_eq!(slots.count(), Count { running: 1, waiting: 0 });

        {
            let mut waits = pin!(slots.take(&b));
            assert!(waits.as_mut().now_or_never().is_none());
            drop(held);
            assert_eq!(slots.count(), Count { running: 1, waiting: 0 }, "given, but not yet taken");
        }

        assert_eq!(slots.count(), Count::default());
        assert!(now(&slots, "c").is_some());
    }

    #[test]
    fn ten_thousand_that_wait_do_not_delay_one_of_another_tenant() {
        let slots = Slots::new(64);
        let held = all_now(&slots, "a");
        let a = wanted("a", "f");
        let mut waiting: Vec<_> = (0..10_000).map(|_| Box::pin(slots.take(&a))).collect();
        assert!(waiting.iter_mut().all(|waits| waits.as_mut().now_or_never().is_none()));

        for _ in 0..100 {
            assert!(now(&slots, "b").is_some());
        }
        drop((waiting, held));
        assert_eq!(slots.count(), Count::default());
    }

    #[test]
    fn tenants_that_have_nothing_to_do_are_forgotten() {
        let slots = Slots::new(4);

        for number in 0..3 * MANY {
            drop(now(&slots, &number.to_string()).unwrap());
        }

        assert!(slots.lock().tenants.len() <= MANY);
    }
}
