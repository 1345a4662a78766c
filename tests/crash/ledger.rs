//! What was asked for, and what of it was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

/// Of everything, what was acknowledged. What was not may have happened as well.
#[derive(Default)]
pub struct Ledger(Mutex<Entries>);

#[derive(Default)]
pub struct Entries {
    /// Orders by id.
    pub orders: BTreeSet<String>,
    /// Orders that their function fails for, asked for or acknowledged: how many.
    pub marked: usize,
    /// Batches of documents by name.
    pub batches: BTreeSet<String>,
    /// How often was counted, and how often that was acknowledged.
    pub counts: (u64, u64),
    /// What each writer has told.
    pub news: BTreeMap<u64, Vec<u64>>,
    /// What each member has said.
    pub said: BTreeMap<u64, Vec<u64>>,
    /// Jobs by the id that the server gave them, with the number in their payload.
    pub jobs: BTreeMap<String, String>,
    /// Answers that were neither yes nor "try again".
    pub surprises: Vec<String>,
}

impl Ledger {
    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    pub fn summary(&self) -> String {
        let entries = self.entries();
        let all = |of: &BTreeMap<u64, Vec<u64>>| of.values().map(Vec::len).sum::<usize>();
        format!(
            "{} orders ({} marked), {} batches, {} counts, {} news, {} chat messages and {} jobs were acknowledged",
            entries.orders.len(),
            entries.marked,
            entries.batches.len(),
            entries.counts.1,
            all(&entries.news),
            all(&entries.said),
            entries.jobs.len()
        )
    }
}
