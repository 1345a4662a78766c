//! Memory for the bodies of all requests that are under way: so much in all, and no more than a quarter of it for one client.
//!
//! A body is charged as it arrives, and what was promised does not count: otherwise a few connections that announce bodies and
//! never send them would take everything. Nobody waits for room, because those who waited would hold what others wait for.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::client_address::neighbourhood;

/// No client has more than one such part.
const PARTS: usize = 4;

/// What is left for bodies. Clones share it.
#[derive(Clone)]
pub struct BodyBudget(Arc<Budget>);

struct Budget {
    bytes: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    all: usize,
    /// Only of those who use some.
    by_client: HashMap<IpAddr, usize>,
}

/// What one request has used, until it is dropped.
pub struct Charge {
    budget: BodyBudget,
    client: IpAddr,
    bytes: AtomicUsize,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has no room for more requests at the moment")]
pub struct NoRoom;

impl BodyBudget {
    /// So many bytes in all.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Budget { bytes, used: Mutex::default() }))
    }

    /// Begins a request.
    pub fn charge(&self, client: IpAddr) -> Charge {
        Charge { budget: self.clone(), client: neighbourhood(client), bytes: AtomicUsize::new(0) }
    }

    fn take(&self, client: IpAddr, bytes: usize) -> Result<(), NoRoom> {
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = used.by_client.get(&client).copied().unwrap_or(0).saturating_add(bytes);
        let all = used.all.saturating_add(bytes);
        if all > self.0.bytes || of_client > self.0.bytes / PARTS {
            return Err(NoRoom);
        }
        used.all = all;
        used.by_client.insert(client, of_client);
        Ok(())
    }

    fn give_back(&self, client: IpAddr, bytes: usize) {
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.all -= bytes;
        if let Some(of_client) = used.by_client.get_mut(&client) {
            *of_client -= bytes;
            if *of_client == 0 {
                used.by_client.remove(&client);
            }
        }
    }
}

impl Charge {
    /// Uses so many bytes more.
    pub fn add(&self, bytes: usize) -> Result<(), NoRoom> {
        self.budget.take(self.client, bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        match self.bytes.load(Ordering::Relaxed) {
            0 => {}
            bytes => self.budget.give_back(self.client, bytes),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn no_client_has_more_than_a_quarter() {
        let budget = BodyBudget::new(400);
        let (first, second) = (budget.charge(client(1)), budget.charge(client(1)));

        first.add(60).unwrap();
        second.add(40).unwrap();
        assert_eq!(second.add(1), Err(NoRoom));
        assert_eq!(budget.charge(client(2)).add(100), Ok(()));

        drop(first);
        assert_eq!(second.add(60), Ok(()));
    }

    #[test]
    fn all_clients_together_have_no_more_than_there_is() {
        let budget = BodyBudget::new(400);
        let charges: Vec<_> = (0..5).map(|number| budget.charge(client(number))).collect();

        for charge in &charges[..4] {
            charge.add(100).unwrap();
        }
        assert_eq!(charges[4].add(1), Err(NoRoom));

        drop(charges);
        let used = budget.0.used.lock().unwrap();
        assert!(used.all == 0 && used.by_client.is_empty());
    }
}
