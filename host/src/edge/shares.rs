//! Places of which nobody may hold more than so many.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many places each holder has. Clones share them.
pub struct Shares<K>(Arc<Counts<K>>);

struct Counts<K> {
    most: usize,
    /// Only of those who hold one.
    held: Mutex<HashMap<K, usize>>,
}

/// One place, until it is dropped.
pub struct Share<K: Eq + Hash> {
    shares: Shares<K>,
    holder: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Everybody may hold `most`.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Counts { most, held: Mutex::default() }))
    }

    /// How many one holder may hold.
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// One more place for a holder; `None` when it has as many as it may.
    pub fn take(&self, holder: K) -> Option<Share<K>> {
        let mut held = self.held();
        let count = held.entry(holder.clone()).or_default();
        if *count >= self.0.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), holder })
    }
}

impl<K> Shares<K> {
    fn held(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing that is done under the lock panics.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        let Some(count) = held.get_mut(&self.holder) else { return };
        *count -= 1;
        if *count == 0 {
            held.remove(&self.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_holds_so_many_and_nothing_is_kept_of_who_holds_none() {
        let shares = Shares::new(2);

        let (one, two) = (shares.take("a"), shares.take("a"));
        assert!(one.is_some() && two.is_some() && shares.take("a").is_none());
        assert!(shares.take("b").is_some());

        drop(one);
        assert!(shares.take("a").is_some());
        drop(two);
        assert!(shares.held().is_empty());
    }
}
