//! What a process knows that it has in hand.
//!
//! The database knows it too, but the two may differ: a connection that is lost at the wrong moment takes the news along that a
//! transaction was committed. What only the database believes to be in the hands of this process would be run by nobody.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is as old as this has been heard of, or never will be: no call waits so long for the database.
pub const HEARD: Duration = Duration::from_secs(30);

/// Deliveries in the hands of this process.
#[derive(Default)]
pub struct Hands(Mutex<HashSet<i64>>);

impl Hands {
    /// They were given to this process.
    pub fn take(&self, deliveries: impl IntoIterator<Item = i64>) {
        self.held().extend(deliveries);
    }

    /// They are done, or were given back.
    pub fn give(&self, deliveries: &[i64]) {
        let mut held = self.held();
        for delivery in deliveries {
            held.remove(delivery);
        }
    }

    /// All of them.
    pub fn all(&self) -> HashSet<i64> {
        self.held().clone()
    }

    /// Of what the database believes to be in hand, with whether it is so old that it has been heard of: what is not. `before`
    /// was in hand before the database was asked; what it does not know of that was given back with what it stood behind.
    pub fn lost(&self, before: &HashSet<i64>, believed: &[(i64, bool)]) -> Vec<i64> {
        let mut held = self.held();
        let lost = believed.iter().filter(|(delivery, is_old)| *is_old && !held.contains(delivery)).map(|(id, _)| *id);
        let lost = lost.collect();
        let believed: HashSet<i64> = believed.iter().map(|(delivery, _)| *delivery).collect();
        held.retain(|delivery| !before.contains(delivery) || believed.contains(delivery));
        lost
    }

    fn held(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_heard_of_is_lost_once_it_is_old() {
        let hands = Hands::default();
        hands.take([1, 2, 3]);
        hands.give(&[1]);
        let before = hands.all();
        hands.take([4]);

        let lost = hands.lost(&before, &[(2, true), (4, false), (5, true), (6, false)]);

        assert_eq!(lost, [5]);
        assert_eq!(hands.all(), HashSet::from([2, 4]), "3 is in the store again, 4 has come since");
    }
}
