//! What members on other nodes are to hear, and what other nodes are to know of the members here.
//!
//! It is only gathered here; `peers.rs` sends it. While this node is the only one, nothing is gathered.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::message::Message;

/// A tenant and one of its channels.
pub type Place = (Arc<str>, Arc<str>);

/// Bytes that may wait to be sent; one tenant has at most a quarter of it.
const WAITING: usize = 64 << 20;
const PART: usize = 4;

/// What a message takes besides its bytes, about.
const OVERHEAD: usize = 256;

/// With more changed channels than this, all of them are listed anew.
const MANY_CHANGED: usize = 50_000;

/// How long somebody who joins waits until other nodes know it; the database may be away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages and members of interest to other nodes. Clones share them.
#[derive(Clone)]
pub struct Elsewhere(Arc<Shared>);

struct Shared {
    /// Begins the ids of connections here, so that a node knows whose a connection is.
    tag: Tag,
    is_active: AtomicBool,
    others: RwLock<HashSet<Tag>>,
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Counts changes of members, and up to which of them others know.
    changes: AtomicU64,
    known: watch::Sender<u64>,
}

type Tag = [u8; 4];

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    of_tenant: HashMap<Arc<str>, usize>,
    dropped: u64,
    members: HashSet<Place>,
    listing: Option<Listing>,
}

/// What other nodes are to know of the members here, besides single changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Where there are any.
    All,
    /// Nothing: there is nobody to know it.
    Nothing,
}

/// A message that waits to be sent to other nodes.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where its hearers are; `None` when it is for one connection on whichever node.
    pub place: Option<Place>,
    tenant: Arc<str>,
    /// As it crosses: JSON in one line.
    pub line: String,
}

/// Everything that waits.
#[derive(Debug)]
pub struct Batch {
    /// Messages, in order.
    pub messages: Vec<Outgoing>,
    /// Messages that there was no room for since the last batch.
    pub dropped: u64,
    /// Channels whose members have changed.
    pub members: Vec<Place>,
    /// What is to be listed before.
    pub listing: Option<Listing>,
    /// Up to this change it is known then.
    changes: u64,
}

/// What crosses from node to node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Crossing {
    /// Something was said in a channel.
    Said {
        /// Public key of the tenant.
        tenant: Arc<str>,
        /// Where.
        channel: Arc<str>,
        /// What.
        message: Message,
        /// Who may hear it, when not everybody may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        readers: Option<Readers>,
    },
    /// A message was posted for a connection of another node.
    Posted(Posted),
}

/// A message that was posted to one node with the id of a connection of another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Posted {
    /// Public key of the tenant.
    pub tenant: Arc<str>,
    /// The message, without a token; the data of an `auth` is sealed.
    pub message: Message,
    /// The user whose session came with it.
    pub user: Option<String>,
}

/// Those who may hear of a document: the permissions of its collection say who.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readers {
    /// The document's collection.
    pub collection: String,
    /// The account that the document belongs to.
    pub account: String,
    /// Who created it.
    pub owner: String,
}

impl Elsewhere {
    /// Of a node that is alone; `node` is its id, or any other.
    pub fn new(node: Uuid) -> Self {
        Self(Arc::new(Shared {
            tag: tag(node),
            is_active: AtomicBool::new(false),
            others: RwLock::default(),
            waiting: Mutex::default(),
            changed: Notify::new(),
            changes: AtomicU64::new(0),
            known: watch::Sender::new(0),
        }))
    }

    /// A new id for a connection here.
    pub fn sid(&self) -> Uuid {
        let mut bytes = *Uuid::new_v4().as_bytes();
        bytes[..self.0.tag.len()].copy_from_slice(&self.0.tag);
        Uuid::from_bytes(bytes)
    }

    /// Whether a connection may be one of another node that lives.
    pub fn may_have(&self, sid: &str) -> bool {
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        !others.is_empty() && Uuid::parse_str(sid).is_ok_and(|sid| others.contains(&tag(sid)))
    }

    /// Whether there are other nodes.
    pub fn is_active(&self) -> bool {
        self.0.is_active.load(Ordering::Acquire)
    }

    /// Begins or ends to gather, and knows who the others are.
    pub fn set_others<'a>(&self, others: impl IntoIterator<Item = &'a str>, is_active: bool) {
        let others = others.into_iter().filter_map(|node| Uuid::parse_str(node).ok()).map(tag);
        *self.0.others.write().unwrap_or_else(PoisonError::into_inner) = others.collect();
        let was_active = self.0.is_active.swap(is_active, Ordering::AcqRel);
        if was_active != is_active {
            self.list(if is_active { Listing::All } else { Listing::Nothing });
        }
    }

    /// Has all members listed anew, or none.
    pub fn list(&self, listing: Listing) {
        let mut waiting = self.lock();
        waiting.members.clear();
        waiting.listing = Some(listing);
        if listing == Listing::Nothing {
            *waiting = Waiting { listing: Some(listing), ..Waiting::default() };
        }
        self.0.changed.notify_one();
    }

    /// What crosses, while there is somebody to hear it.
    pub(super) fn said(
        &self,
        tenant: &str,
        channel: &str,
        message: &Message,
        readers: Option<&Readers>,
    ) -> Option<Outgoing> {
        if !self.is_active() {
            return None;
        }
        let (tenant, channel): Place = (tenant.into(), channel.into());
        let crossing = Crossing::Said {
            tenant: tenant.clone(),
            channel: channel.clone(),
            message: message.clone(),
            readers: readers.cloned(),
        };
        Some(Outgoing { place: Some((tenant.clone(), channel)), tenant, line: line(&crossing) })
    }

    /// Sends what was posted for a connection of another node.
    pub fn post(&self, posted: Posted) {
        let tenant = posted.tenant.clone();
        self.send(Outgoing { place: None, tenant, line: line(&Crossing::Posted(posted)) });
    }

    /// Queues a message, unless its tenant has too many waiting: when the database is away or slow, other nodes miss some.
    pub(super) fn send(&self, message: Outgoing) {
        let size = message.line.len() + OVERHEAD;
        let mut waiting = self.lock();
        let of_tenant = waiting.of_tenant.get(&message.tenant).copied().unwrap_or_default();
        if waiting.bytes + size > WAITING || of_tenant + size > WAITING / PART {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += size;
        *waiting.of_tenant.entry(message.tenant.clone()).or_default() += size;
        waiting.messages.push_back(message);
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// Notes that the members of a channel have changed.
    pub(super) fn members_changed(&self, tenant: &Arc<str>, channel: Arc<str>) {
        if !self.is_active() {
            return;
        }
        let mut waiting = self.lock();
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        if waiting.listing.is_none() {
            waiting.members.insert((tenant.clone(), channel));
        }
        if waiting.members.len() > MANY_CHANGED {
            waiting.members.clear();
            waiting.listing = Some(Listing::All);
        }
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// Waits until the other nodes know the members as they are now.
    pub async fn settled(&self) {
        if !self.is_active() {
            return;
        }
        let (wanted, mut known) = (self.0.changes.load(Ordering::Acquire), self.0.known.subscribe());
        // Late, a message may be missed; that is better than no answer at all.
        let _ = timeout(PATIENCE, known.wait_for(|known| *known >= wanted)).await;
    }

    /// Waits until something is to be sent, and takes it: messages of at most `bytes` bytes, but at least one.
    pub async fn next(&self, bytes: usize) -> Batch {
        loop {
            let changed = self.0.changed.notified();
            if let Some(batch) = self.take(bytes) {
                return batch;
            }
            changed.await;
        }
    }

    /// What is to be sent now.
    pub fn take(&self, bytes: usize) -> Option<Batch> {
        let mut waiting = self.lock();
        let Waiting { messages, members, listing, dropped, .. } = &*waiting;
        if messages.is_empty() && members.is_empty() && listing.is_none() && *dropped == 0 {
            return None;
        }
        let (mut taken, mut size) = (Vec::new(), 0);
        while let Some(message) = waiting.messages.front() {
            size += message.line.len();
            if size > bytes && !taken.is_empty() {
                break;
            }
            taken.extend(waiting.take());
        }
        Some(Batch {
            messages: taken,
            dropped: std::mem::take(&mut waiting.dropped),
            members: waiting.members.drain().collect(),
            listing: waiting.listing.take(),
            changes: self.0.changes.load(Ordering::Acquire),
        })
    }

    /// Other nodes know the members that were taken with a batch.
    pub fn known(&self, batch: &Batch) {
        self.0.known.send_replace(batch.changes);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Outgoing> {
        let message = self.messages.pop_front()?;
        let size = message.line.len() + OVERHEAD;
        self.bytes -= size;
        if let Some(of_tenant) = self.of_tenant.get_mut(&message.tenant) {
            *of_tenant -= size;
            if *of_tenant == 0 {
                self.of_tenant.remove(&message.tenant);
            }
        }
        Some(message)
    }
}

fn tag(id: Uuid) -> Tag {
    let [a, b, c, d, ..] = *id.as_bytes();
    [a, b, c, d]
}

fn line(crossing: &Crossing) -> String {
    // JSON has no line breaks.
    serde_json::to_string(crossing).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const OTHER: &str = "11111111-2222-4333-8444-555555555555";

    fn elsewhere() -> Elsewhere {
        let elsewhere = Elsewhere::new(Uuid::new_v4());
        elsewhere.set_others([OTHER], true);
        assert_eq!(elsewhere.take(0).unwrap().listing, Some(Listing::All));
        elsewhere
    }

    fn say(elsewhere: &Elsewhere, tenant: &str, data: &str) {
        let message = Message { data: data.into(), ..Message::default() };
        if let Some(outgoing) = elsewhere.said(tenant, "lobby", &message, None) {
            elsewhere.send(outgoing);
        }
    }

    #[test]
    fn who_is_alone_gathers_nothing() {
        let alone = Elsewhere::new(Uuid::new_v4());

        say(&alone, "a", "hello");
        alone.members_changed(&"a".into(), "lobby".into());

        assert!(alone.take(1_000).is_none());
        assert!(alone.settled().now_or_never().is_some());
        assert!(!alone.may_have(&alone.sid().to_string()));
    }

    #[test]
    fn messages_are_taken_in_order_and_in_pieces() {
        let elsewhere = elsewhere();
        (0..5).for_each(|n| say(&elsewhere, "a", &n.to_string()));

        let size = elsewhere.lock().messages[0].line.len();
        let lines: Vec<_> = std::iter::from_fn(|| elsewhere.take(2 * size)).map(|batch| batch.messages).collect();

        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        let data = lines.concat().into_iter().map(|message| {
            let Crossing::Said { message, .. } = serde_json::from_str(&message.line).unwrap() else { unreachable!() };
            message.data
        });
        assert_eq!(data.collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
        assert!(elsewhere.lock().of_tenant.is_empty() && elsewhere.lock().bytes == 0);
    }

    #[test]
    fn a_tenant_with_too_much_that_waits_misses_messages_and_others_do_not() {
        let elsewhere = elsewhere();
        let large = "x".repeat(1 << 20);

        (0..20).for_each(|_| say(&elsewhere, "loud", &large));
        say(&elsewhere, "quiet", "hello");

        let batch = elsewhere.take(usize::MAX).unwrap();
        assert_eq!((batch.messages.len(), batch.dropped), (16, 5));
        assert!(batch.messages.last().unwrap().line.contains("quiet"));
    }

    #[test]
    fn who_joins_waits_until_others_know_it() {
        let elsewhere = elsewhere();
        elsewhere.members_changed(&"a".into(), "lobby".into());
        elsewhere.members_changed(&"a".into(), "lobby".into());
        let settled = elsewhere.settled();
        let mut settled = std::pin::pin!(settled);
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        assert!(settled.as_mut().poll(context).is_pending());

        let batch = elsewhere.take(0).unwrap();
        assert_eq!(batch.members, [("a".into(), "lobby".into())]);
        elsewhere.known(&batch);

        assert!(settled.as_mut().poll(context).is_ready());
    }

    #[test]
    fn a_connection_is_known_by_its_node() {
        let (one, two) = (Elsewhere::new(OTHER.parse().unwrap()), elsewhere());

        assert!(two.may_have(&one.sid().to_string()));
        assert_ne!(one.sid(), one.sid());
        for sid in [two.sid().to_string(), Uuid::nil().to_string(), "nonsense".into(), String::new()] {
            assert!(!two.may_have(&sid), "{sid}");
        }
        two.set_others([], true);
        assert!(!two.may_have(&one.sid().to_string()));
    }
}
