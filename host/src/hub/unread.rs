//! Memory for messages that nobody has read yet: bounded for each tenant and for all of them, however many connections there are.
//!
//! A message is kept once for all who are to read it and counts until the last of them has it, in whatever buffer it waits.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::message::Message;

/// A tenant has one such part of the memory of all.
const PARTS: usize = 4;

/// Bytes that a connection may always have unread.
const ALWAYS: usize = 64 << 10;

/// What stands around a message as an event of a stream. Text for WebSockets is cut out of it, so that neither is a copy.
const BEFORE: &str = "data: ";
const AFTER: &str = "\n\n";

/// Messages that nobody has read, of all tenants.
#[derive(Clone)]
pub struct Unread(Arc<All>);

struct All {
    limit: usize,
    bytes: AtomicUsize,
}

/// The same of one tenant.
pub struct TenantUnread {
    all: Arc<All>,
    bytes: AtomicUsize,
    connections: AtomicUsize,
}

/// A message as it crosses the wire. Clones share it.
#[derive(Clone)]
pub struct Frame(Arc<Kept>);

struct Kept {
    event: String,
    unread: Arc<TenantUnread>,
}

impl Unread {
    /// At most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(All { limit, bytes: AtomicUsize::new(0) }))
    }

    /// The part of a tenant without connections.
    pub fn of_tenant(&self) -> Arc<TenantUnread> {
        Arc::new(TenantUnread { all: self.0.clone(), bytes: AtomicUsize::new(0), connections: AtomicUsize::new(0) })
    }
}

impl TenantUnread {
    /// Notes that a connection opens.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a connection has ended.
    pub fn closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a connection of which so many bytes are unread may get one more message. When there is too much, those with more
    /// than their share may not: whoever reads as fast as messages come has next to nothing unread.
    pub fn may_grow(&self, unread: usize) -> bool {
        let (own, all) = (self.bytes.load(Ordering::Relaxed), self.all.bytes.load(Ordering::Relaxed));
        let of_tenant = self.all.limit / PARTS;
        let share = of_tenant / self.connections.load(Ordering::Relaxed).max(1);
        let is_modest = unread <= share.max(ALWAYS);
        (own <= of_tenant || is_modest) && (all <= self.all.limit || unread == 0)
    }
}

impl Frame {
    /// The message, made once for all who receive it.
    pub fn new(message: &Message, unread: &Arc<TenantUnread>) -> Self {
        let json = serde_json::to_string(message).expect("a struct of strings is always JSON");
        // JSON has no line breaks.
        let event = [BEFORE, &json, AFTER].concat();
        unread.bytes.fetch_add(event.len(), Ordering::Relaxed);
        unread.all.bytes.fetch_add(event.len(), Ordering::Relaxed);
        Self(Arc::new(Kept { event, unread: unread.clone() }))
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.0.event.len()
    }

    /// The message as JSON.
    pub fn text(&self) -> &str {
        &self.0.event[BEFORE.len()..self.size() - AFTER.len()]
    }

    /// An event of a stream, without a copy.
    pub fn into_event(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// The text of a WebSocket's message, without a copy.
    pub fn into_text(self) -> Bytes {
        let end = self.size() - AFTER.len();
        self.into_event().slice(BEFORE.len()..end)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self.0.event.as_bytes()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.text()).finish()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.unread.bytes.fetch_sub(self.event.len(), Ordering::Relaxed);
        self.unread.all.bytes.fetch_sub(self.event.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(size: usize, unread: &Arc<TenantUnread>) -> Frame {
        Frame::new(&Message { data: "x".repeat(size), ..Message::default() }, unread)
    }

    #[test]
    fn a_message_counts_until_nobody_has_it() {
        let all = Unread::new(1 << 20);
        let tenant = all.of_tenant();
        let first = frame(1_000, &tenant);
        let size = first.size();
        assert!(size > 1_000 && all.0.bytes.load(Ordering::Relaxed) == size);

        let (second, text) = (first.clone().into_event(), first.into_text());
        assert_eq!(tenant.bytes.load(Ordering::Relaxed), size);
        assert_eq!(second, [b"data: ", &text[..], b"\n\n"].concat());
        drop(second);
        assert_eq!(tenant.bytes.load(Ordering::Relaxed), size);

        drop(text);
        assert_eq!((tenant.bytes.load(Ordering::Relaxed), all.0.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn those_with_more_than_their_share_give_way() {
        let all = Unread::new(4 << 20);
        let (loud, quiet) = (all.of_tenant(), all.of_tenant());
        (0..4).for_each(|_| loud.opened());
        quiet.opened();
        assert!(loud.may_grow(1 << 20), "there is room");

        let held: Vec<Frame> = (0..20).map(|_| frame(60_000, &loud)).collect();
        assert!(!loud.may_grow(300_000));
        assert!(loud.may_grow(200_000) && loud.may_grow(0));
        assert!(quiet.may_grow(300_000), "another tenant has its own part");

        drop(held);
        assert!(loud.may_grow(300_000));
    }

    #[test]
    fn when_all_is_used_nobody_has_two_messages_unread() {
        let all = Unread::new(1 << 20);
        let tenants: Vec<_> = (0..5).map(|_| all.of_tenant()).collect();

        let _held: Vec<Frame> = tenants.iter().map(|tenant| frame(230_000, tenant)).collect();

        assert!(tenants.iter().all(|tenant| !tenant.may_grow(1) && tenant.may_grow(0)));
    }
}
