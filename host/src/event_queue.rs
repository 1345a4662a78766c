//! The way of events from where they are made to the dispatcher.
//!
//! Bounded for each tenant, by number and by bytes, until the last function has run for an event: when a tenant's share is full,
//! whoever makes events for that tenant waits, and nobody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::event::Event;

/// The dispatcher takes no more events: the server ends.
#[derive(Debug, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Closed;

/// Where events are handed in. Cheap to clone.
#[derive(Clone)]
pub struct EventSender {
    events: mpsc::UnboundedSender<Queued>,
    rooms: Arc<Rooms>,
}

/// Where they come out.
pub struct EventReceiver {
    events: mpsc::UnboundedReceiver<Queued>,
}

/// An event that holds its room until it is dropped.
pub struct Queued {
    /// What happened.
    pub event: Event,
    _room: Held,
}

/// Room for one event.
pub struct Room<'a> {
    events: &'a mpsc::UnboundedSender<Queued>,
    held: Held,
}

type Held = [OwnedSemaphorePermit; 4];

struct Rooms {
    all: Space,
    size: Size,
    share: Size,
    tenants: Mutex<HashMap<Arc<str>, Space>>,
}

/// Events that hold room: they wait, or their functions have not all run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub events: usize,
    /// Bytes of all of them, those of each rounded up to a KiB.
    pub bytes: usize,
}

/// How many events, and how many units of bytes.
#[derive(Clone, Copy)]
struct Size {
    events: u32,
    units: u32,
}

#[derive(Clone)]
struct Space {
    events: Arc<Semaphore>,
    units: Arc<Semaphore>,
}

/// Bytes are counted in these.
const UNIT: usize = 1 << 10;

/// No tenant holds more than this part of what there is.
const PART: u32 = 4;

/// Empty rooms are given up when there are so many.
const MANY: usize = 1_024;

/// A queue for `events` events of together `bytes` bytes; a tenant has at most a quarter of each.
pub fn queue(events: usize, bytes: usize) -> (EventSender, EventReceiver) {
    let most = |number: usize| u32::try_from(number).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
    let all = Size { events: most(events), units: most(bytes / UNIT) };
    let share = Size { events: all.events.div_ceil(PART), units: all.units.div_ceil(PART) };
    let (sender, receiver) = mpsc::unbounded_channel();
    let rooms = Arc::new(Rooms { all: Space::new(all), size: all, share, tenants: Mutex::default() });
    (EventSender { events: sender, rooms }, EventReceiver { events: receiver })
}

impl EventSender {
    /// Waits for room for an event of a tenant; `bytes` as [`Event::bytes`] counts them.
    pub async fn room(&self, tenant: &Arc<str>, bytes: usize) -> Result<Room<'_>, Closed> {
        // What is larger than a share waits until it is alone.
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.rooms.share.units);
        let own = self.rooms.of(tenant);
        // The tenant's first: nobody waits for the common room while holding a place in it.
        let held = [
            take(&own.events, 1).await?,
            take(&own.units, units).await?,
            take(&self.rooms.all.events, 1).await?,
            take(&self.rooms.all.units, units).await?,
        ];
        if self.events.is_closed() { Err(Closed) } else { Ok(Room { events: &self.events, held }) }
    }

    /// What waits at the moment.
    pub fn waiting(&self) -> Waiting {
        let Rooms { all, size, .. } = &*self.rooms;
        let events = (size.events as usize).saturating_sub(all.events.available_permits());
        let units = (size.units as usize).saturating_sub(all.units.available_permits());
        Waiting { events, bytes: units * UNIT }
    }
}

impl EventSender {
    /// Room for an event of a tenant if there is some now.
    pub fn room_now(&self, tenant: &Arc<str>, bytes: usize) -> Option<Room<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.rooms.share.units);
        let (own, all) = (self.rooms.of(tenant), &self.rooms.all);
        let take = |semaphore: &Arc<Semaphore>, permits| semaphore.clone().try_acquire_many_owned(permits).ok();
        let held = [take(&own.events, 1)?, take(&own.units, units)?, take(&all.events, 1)?, take(&all.units, units)?];
        (!self.events.is_closed()).then_some(Room { events: &self.events, held })
    }
}

impl Room<'_> {
    /// Hands the event in. It is dropped when nobody takes events any more.
    pub fn send(self, event: Event) {
        let _ = self.events.send(Queued { event, _room: self.held });
    }
}

impl EventReceiver {
    /// The next event; `None` when no more will come.
    pub async fn recv(&mut self) -> Option<Queued> {
        self.events.recv().await
    }

    /// Takes no more; those that wait still come out.
    pub fn close(&mut self) {
        self.events.close();
    }
}

impl Rooms {
    fn of(&self, tenant: &Arc<str>) -> Space {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= MANY {
            tenants.retain(|_, space| !space.is_empty(self.share));
        }
        tenants.entry(tenant.clone()).or_insert_with(|| Space::new(self.share)).clone()
    }
}

impl Space {
    fn new(Size { events, units }: Size) -> Self {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        Self { events: semaphore(events), units: semaphore(units) }
    }

    /// Nobody holds a place in it or is about to.
    fn is_empty(&self, share: Size) -> bool {
        Arc::strong_count(&self.events) == 1 && self.events.available_permits() == share.events as usize
    }
}

async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, Closed> {
    // Never closed.
    semaphore.clone().acquire_many_owned(permits).await.map_err(|_| Closed)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{event::Cause, identity::Identity, message::Message};

    fn event(tenant: &str, bytes: usize) -> Event {
        let message = Message { data: "x".repeat(bytes), ..Message::default() };
        Event::message(Identity::anonymous(tenant.into()), message, Cause::outside())
    }

    fn has_room(sender: &EventSender, tenant: &str, bytes: usize) -> bool {
        let event = event(tenant, bytes);
        match sender.room(&event.identity.tenant.clone(), event.bytes()).now_or_never() {
            Some(room) => room.unwrap().send(event),
            None => return false,
        }
        true
    }

    #[tokio::test]
    async fn a_tenant_that_fills_its_share_waits_alone_until_its_events_are_done() {
        let (sender, mut receiver) = queue(8, 1 << 20);

        assert!(has_room(&sender, "a", 1) && has_room(&sender, "a", 1));
        assert_eq!(sender.waiting(), Waiting { events: 2, bytes: 2 * UNIT });
        assert!(!has_room(&sender, "a", 1));
        assert!(has_room(&sender, "b", 1));

        let first = receiver.recv().await.unwrap();
        assert!(!has_room(&sender, "a", 1), "taken, but not done");
        drop(first);
        assert_eq!(sender.waiting().events, 2);
        assert!(has_room(&sender, "a", 1));
    }

    #[tokio::test]
    async fn bytes_count_as_well_and_one_event_always_fits() {
        let (sender, mut receiver) = queue(1_000, 64 << 10);

        assert!(has_room(&sender, "a", 1 << 20), "larger than all there is");
        assert!(!has_room(&sender, "a", 1));
        assert!(has_room(&sender, "b", 1));
        drop(receiver.recv().await);
        assert!(has_room(&sender, "a", 10_000));
        assert!(!has_room(&sender, "a", 10_000));
    }

    #[tokio::test]
    async fn what_waits_at_the_end_still_comes_out() {
        let (sender, mut receiver) = queue(8, 1 << 20);
        assert!(has_room(&sender, "a", 1));

        receiver.close();

        assert!(sender.room(&"a".into(), 1).await.is_err());
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_none());
    }

    #[test]
    fn rooms_of_tenants_that_are_gone_are_given_up() {
        let (sender, mut receiver) = queue(100_000, 1 << 30);

        for number in 0..3 * MANY {
            assert!(has_room(&sender, &number.to_string(), 1));
            assert!(receiver.recv().now_or_never().flatten().is_some());
        }

        assert!(sender.rooms.tenants.lock().unwrap().len() <= MANY);
    }
}
