//! Runs the functions that are asked before documents are changed.
//!
//! Whoever makes the change waits for them, and may be a function that holds a slot itself. So they have slots of their own, and
//! those that run before the writes of such functions have others again: nobody who holds a slot waits for one of the same
//! level, and the last level waits for nobody, so that always somebody can go on.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{
    Acts, Begun, Dispatcher, Due, Inner, NotCalled, PART, describe,
    slots::{Kind, Slot, Slots},
};
use crate::{
    documents::{Answer, Asked, BeforeHooks, DocumentsError, Work},
    event::{BeforeChange, Cause, Event},
    function::Function,
    hooks,
    identity::Identity,
    listeners::Matched,
    run::Outcome,
    runtime::RuntimeConfig,
    store::Transaction,
};

/// Runs that have ended and are not in the history yet: one write may ask thousands of times, and does not wait for each.
const RECORDING: usize = 64;

/// Slots by level, and places for runs that are being recorded.
pub(super) struct HookSlots {
    levels: Vec<Slots>,
    recording: Arc<Semaphore>,
}

/// What documents ask. It does not keep the dispatcher, which has the documents.
struct Hooks(Weak<Inner>);

impl HookSlots {
    pub(super) fn new(config: &RuntimeConfig) -> Self {
        let levels = config.hook_slots().into_iter().map(Slots::new).collect();
        Self { levels, recording: Arc::new(Semaphore::new(RECORDING)) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Slots> {
        self.levels.iter()
    }
}

impl Dispatcher {
    /// For whoever changes documents: asks the functions that run before that.
    pub fn hooks(&self) -> Arc<dyn BeforeHooks> {
        Arc::new(Hooks(Arc::downgrade(&self.0)))
    }
}

#[async_trait]
impl BeforeHooks for Hooks {
    async fn ask(&self, name: &str, who: Identity, change: BeforeChange, cause: Cause, work: Box<Work>) -> Asked {
        match self.0.upgrade() {
            Some(dispatcher) => dispatcher.ask(name, who, change, cause, work).await,
            None => not_run(work, NotCalled::Busy.into()),
        }
    }

    fn patience(&self) -> Duration {
        let limits = self.0.upgrade().map(|dispatcher| dispatcher.parts.runtime.limits().clone());
        Duration::from_millis(limits.map_or(0, |limits| limits.wall_ms))
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), DocumentsError> {
        match self.0.upgrade() {
            Some(dispatcher) => dispatcher.parts.services.commit(transaction).await,
            None => Err(DocumentsError::Interrupted),
        }
    }
}

fn not_run(work: Box<Work>, answer: Answer) -> Asked {
    Asked { work: Some(work), answer, recorded: None }
}

impl From<NotCalled> for Answer {
    fn from(not_called: NotCalled) -> Self {
        match not_called {
            NotCalled::Busy => Self::Busy(not_called.to_string()),
            NotCalled::Gone(_) => Self::Gone,
            NotCalled::Quota { message, retry_after } => Self::Refused { message, retry_after },
        }
    }
}

impl Inner {
    async fn ask(
        self: Arc<Self>,
        name: &str,
        who: Identity,
        change: BeforeChange,
        cause: Cause,
        work: Box<Work>,
    ) -> Asked {
        let registry = &self.parts.registry;
        let trigger = hooks::trigger(change.kind, &change.collection);
        let is_asked = |function: &Arc<Function>| function.trigger == trigger;
        let Some(function) = registry.get(&who.tenant, name).filter(is_asked) else {
            return not_run(work, Answer::Gone);
        };
        let (event, queued) = (Event::before(who, change, cause), Instant::now());
        let slot = match self.slot_of_hook(&function, &event).await {
            Ok(slot) => slot,
            Err(not_called) => return not_run(work, not_called.into()),
        };
        // As it is now: it may have been updated, or deleted, while the write waited.
        let Some(function) = registry.current(&function).filter(is_asked) else {
            return not_run(work, Answer::Gone);
        };
        // From here on it runs to its end, also when whoever waits for it goes away.
        let (this, queued) = (self.clone(), queued.elapsed());
        let run = tokio::spawn(async move { this.run_hook(&function, &event, work, queued, slot).await });
        // It only fails to join by a panic, which has been reported, or when the server ends.
        run.await.unwrap_or_else(|_| Asked { work: None, answer: NotCalled::Busy.into(), recorded: None })
    }

    /// A slot of the level; none for a run that will not be started, because others stand too deep in each other already.
    ///
    /// What comes from outside waits like any caller. A function that writes waits as long as it may run: it holds a slot
    /// already, and there are only so many of those.
    async fn slot_of_hook(&self, function: &Function, event: &Event) -> Result<Option<Slot>, NotCalled> {
        let Some(slots) = self.hooks.levels.get(event.cause.waiting as usize) else { return Ok(None) };
        let is_from_outside = event.cause.depth == 0;
        let of_tenant = slots.count_of_tenant(&function.tenant).waiting;
        if is_from_outside && (slots.count().waiting >= self.queue || of_tenant >= self.queue.div_ceil(PART)) {
            self.parts.metrics.turned_away();
            return Err(NotCalled::Busy);
        }
        let due = Due { function, matched: Matched::Channel, event };
        if let Err(refused) = self.parts.usage.begin(function) {
            self.parts.metrics.refused();
            if refused.is_first {
                self.record_refused(&due, &refused.message).await;
            }
            return Err(NotCalled::Quota { message: refused.message, retry_after: refused.retry_after });
        }
        let wanted = self.wanted(function, Kind::Answer);
        let wait = if is_from_outside { self.wait } else { Duration::MAX };
        if let Ok(slot) = tokio::time::timeout(wait, slots.take(&wanted)).await {
            return Ok(slot);
        }
        self.parts.metrics.turned_away();
        let not_called = self.waited_too_long(slots, function, &wanted);
        if self.parts.usage.not_started(function)
            && let NotCalled::Quota { message, .. } = &not_called
        {
            self.record_refused(&due, message).await;
        }
        Err(not_called)
    }

    async fn run_hook(
        self: Arc<Self>,
        function: &Function,
        event: &Event,
        work: Box<Work>,
        queued: Duration,
        slot: Option<Slot>,
    ) -> Asked {
        let _working = self.working.token();
        let due = Due { function, matched: Matched::Channel, event };
        let begun = Begun::now(&self.parts.clock, queued);
        let started = Instant::now();
        let mut ended = self.start(&begun.id, &due, Acts::Within(work)).await;
        drop(slot);
        self.count(&due, ended.fuel);
        let work = ended.work.take();
        let (run, result) = describe(&due, begun, started.elapsed(), ended);
        self.parts.metrics.ran(&run);
        let answer = match run.outcome {
            Outcome::Ok => Answer::Returned(result),
            outcome => Answer::Failed(outcome, run.error.clone().unwrap_or_default()),
        };
        // Taken last: who waits here holds nothing that another one could wait for. It is never closed.
        let recording = self.hooks.recording.clone().acquire_owned().await.ok();
        let this = self.clone();
        let recorded = self.working.spawn(async move {
            this.record_run(&run).await;
            drop(recording);
        });
        Asked { work, answer, recorded: Some(recorded) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::{config::Config, runtime::HOOKS_DEEP};

    #[test]
    fn every_level_has_slots_and_together_they_are_about_as_many_as_all_others() {
        let of = |slots| {
            let config = Config::from_toml("thimble.toml", &format!("[runtime]\nslots = {slots}")).unwrap();
            HookSlots::new(&config.runtime).all().map(Slots::all).collect::<Vec<_>>()
        };

        assert_eq!(of(64), [32, 16, 8, 8]);
        for slots in [1, 2, 3, 7] {
            assert!(of(slots).len() == HOOKS_DEEP && of(slots).iter().all(|slots| *slots >= 1), "{slots}");
        }
    }
}
