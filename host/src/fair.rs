//! Queues that take turns, so that each gets as much time as any other (fair queueing by virtual time).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

/// Queues by the name of who they belong to. Time is counted in any unit.
#[derive(Default)]
pub struct Fair<Q> {
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

/// What waits for one of those who take turns.
pub trait Queue: Default {
    /// Whether nothing waits.
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
    pub fn with(&mut self, name: &Arc<str>, add: impl FnOnce(&mut Q)) {
        let share = self.queues.entry(name.clone()).or_default();
        let was_empty = share.queue.is_empty();
        add(&mut share.queue);
        if was_empty && !share.queue.is_empty() {
            share.time = share.time.max(self.now);
            self.order.insert((share.time, name.clone()));
        }
    }

    /// Takes from the queue whose turn it is.
    pub fn next<T>(&mut self, take: impl FnOnce(&mut Q) -> Option<T>) -> Option<T> {
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
    pub fn charge(&mut self, name: &Arc<str>, time: u64) -> Option<&mut Q> {
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
}
