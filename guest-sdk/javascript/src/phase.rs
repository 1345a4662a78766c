//! What the engine is doing: evaluating a top level, when only the log may be used, or running `handle`.

use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Loading,
    Running,
}

thread_local! {
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Loading) };
    static IMPURE: Cell<bool> = const { Cell::new(false) };
}

/// Enters a phase; the top level counts as pure again.
pub fn enter(phase: Phase) {
    PHASE.set(phase);
    IMPURE.set(false);
}

pub fn current() -> Phase {
    PHASE.get()
}

/// Notes that clock or randomness was read: what depends on it must not be frozen.
pub fn read_something_new() {
    IMPURE.set(true);
}

/// Whether clock or randomness was read since the phase was entered.
pub fn impure() -> bool {
    IMPURE.get()
}
