//! The open connections of this process and the channels they have joined, apart for each tenant.
//!
//! Knows who is where and queues what they are to read. What a message means is decided in `trigger/realtime.rs`, and how
//! it reaches a client in `api/realtime.rs`. Nothing here waits: every lock is held for a moment and never over an await.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use uuid::Uuid;

use self::{
    elsewhere::{Elsewhere, Outgoing, Place, Readers},
    unread::{TenantUnread, Unread},
};
use crate::{
    config::RealtimeConfig,
    edge::{
        client_address::neighbourhood,
        shares::{Share, Shares},
    },
    identity::Identity,
    message::Message,
    permissions::Permissions,
};

pub mod elsewhere;
mod unread;

pub use unread::Frame;

/// A connection whose unread messages are larger than this together is too slow, however few they are.
const QUEUE_BYTES: usize = 4 << 20;

/// Connections and channels of all tenants. Clones share them.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

struct Shared {
    config: RealtimeConfig,
    /// As many as there may be connections; each holds one.
    slots: Arc<Semaphore>,
    capacity: u32,
    of_tenant: Shares<Arc<str>>,
    of_address: Shares<IpAddr>,
    unread: Unread,
    elsewhere: Elsewhere,
    tenants: Mutex<HashMap<Arc<str>, Tenant>>,
}

/// What is open of one tenant.
#[derive(Clone)]
struct Tenant {
    members: Arc<Mutex<Members>>,
    unread: Arc<TenantUnread>,
}

/// Connections and channels of one tenant.
///
/// They share one lock: a broadcast under it reaches all members of a channel in the same order, and one tenant's traffic
/// does not hold up another's.
#[derive(Default)]
struct Members {
    connections: HashMap<Uuid, Member>,
    channels: HashMap<Arc<str>, HashMap<Uuid, Arc<Connection>>>,
}

struct Member {
    connection: Arc<Connection>,
    joined: HashSet<Arc<str>>,
}

/// Why a connection is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    /// The server has as many as it may.
    #[error("all {0} realtime connections are in use; `realtime.connections` allows more")]
    Server(u32),
    /// The tenant has.
    #[error("this app has {0} realtime connections, which is as many as one app may have; close some and try again")]
    Tenant(usize),
    /// The client's address has.
    #[error(
        "there are {0} realtime connections from your address, which is as many as one address may have; \
         close some and try again"
    )]
    Address(usize),
}

/// Why a channel is not joined: the connection is in as many as it may be.
#[derive(Debug, thiserror::Error)]
#[error("a connection may join at most {0} channels; open another connection for more")]
pub struct TooManyChannels(usize);

impl Hub {
    /// A hub without connections, of a process that is alone.
    pub fn new(config: &RealtimeConfig) -> Self {
        Self::of_node(config, Uuid::new_v4())
    }

    /// A hub without connections, of one of several nodes.
    pub fn of_node(config: &RealtimeConfig, node: Uuid) -> Self {
        let capacity = u32::try_from(config.connections).unwrap_or(u32::MAX);
        let slots = Arc::new(Semaphore::new(capacity as usize));
        Self(Arc::new(Shared {
            config: config.clone(),
            slots,
            capacity,
            of_tenant: Shares::new(config.connections_per_app),
            of_address: Shares::new(config.connections_per_address),
            unread: Unread::new(config.unread_bytes),
            elsewhere: Elsewhere::new(node),
            tenants: Mutex::default(),
        }))
    }

    /// The limits of connections and messages.
    pub fn config(&self) -> &RealtimeConfig {
        &self.0.config
    }

    /// What members on other nodes are to hear.
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.0.elsewhere
    }

    /// Opens a connection for a client at that address, if it is known; it lasts until the answer is dropped.
    pub fn connect(&self, tenant: &str, client: Option<IpAddr>) -> Result<Connected, Full> {
        let Shared { slots, capacity, of_tenant, of_address, .. } = &*self.0;
        let tenant: Arc<str> = tenant.into();
        let of_tenant = of_tenant.take(tenant.clone()).ok_or_else(|| Full::Tenant(of_tenant.most()))?;
        let of_address = match client.map(neighbourhood) {
            Some(client) => Some(of_address.take(client).ok_or_else(|| Full::Address(of_address.most()))?),
            None => None,
        };
        let slot = slots.clone().try_acquire_owned().map_err(|_| Full::Server(*capacity))?;
        let new = || Tenant { members: Arc::default(), unread: self.0.unread.of_tenant() };
        let Tenant { members, unread } = lock(&self.0.tenants).entry(tenant.clone()).or_insert_with(new).clone();
        let sid = self.0.elsewhere.sid();
        let connection = Arc::new(Connection::new(sid, tenant, unread, &self.0.config));
        let member = Member { connection: connection.clone(), joined: HashSet::new() };
        lock(&members).connections.insert(connection.sid, member);
        Ok(Connected { hub: self.clone(), connection, _places: (slot, of_tenant, of_address) })
    }

    /// The tenant's open connection with that sid.
    pub fn find(&self, tenant: &str, sid: &str) -> Option<Arc<Connection>> {
        let sid = Uuid::parse_str(sid).ok()?;
        let members = self.members(tenant)?;
        let member = lock(&members).connections.get(&sid)?.connection.clone();
        Some(member)
    }

    /// Makes a connection a member of a channel; whether it was not one already.
    pub fn join(&self, connection: &Connection, channel: &str) -> Result<bool, TooManyChannels> {
        let Some(members) = self.members(&connection.tenant) else { return Ok(false) };
        let is_new = lock(&members).join(connection.sid, channel, self.0.config.channels)?;
        if is_new {
            self.0.elsewhere.members_changed(&connection.tenant, channel.into());
        }
        Ok(is_new)
    }

    /// All channels that have members here, and how many.
    pub fn members_here(&self) -> Vec<(Place, usize)> {
        let tenants: Vec<_> = lock(&self.0.tenants).iter().map(|(key, tenant)| (key.clone(), tenant.clone())).collect();
        let of_tenant = |(key, tenant): (Arc<str>, Tenant)| {
            let members = lock(&tenant.members);
            let channels = members.channels.iter();
            channels.map(|(channel, members)| ((key.clone(), channel.clone()), members.len())).collect::<Vec<_>>()
        };
        tenants.into_iter().flat_map(of_tenant).collect()
    }

    /// How many members a channel has here.
    pub fn presence(&self, tenant: &str, channel: &str) -> usize {
        self.members(tenant).and_then(|members| lock(&members).channels.get(channel).map(HashMap::len)).unwrap_or(0)
    }

    /// Queues a message for every member of a channel, on whichever node.
    pub fn broadcast(&self, tenant: &str, channel: &str, message: &Message) {
        self.broadcast_to(tenant, channel, message, None);
    }

    /// Queues a message for the members of a channel that may hear of a document.
    pub fn broadcast_to(&self, tenant: &str, channel: &str, message: &Message, readers: Option<&Readers>) {
        let crossing = self.0.elsewhere.said(tenant, channel, message, readers);
        self.deliver(tenant, channel, message, readers, crossing);
    }

    /// Queues a message that comes from another node for the members here.
    pub fn hear(&self, tenant: &str, channel: &str, message: &Message, readers: Option<&Readers>) {
        self.deliver(tenant, channel, message, readers, None);
    }

    fn deliver(
        &self,
        tenant: &str,
        channel: &str,
        message: &Message,
        readers: Option<&Readers>,
        crossing: Option<Outgoing>,
    ) {
        let send = |crossing: Option<Outgoing>| crossing.into_iter().for_each(|it| self.0.elsewhere.send(it));
        let here = self.tenant(tenant).filter(|_| self.presence(tenant, channel) > 0);
        let Some(Tenant { members, unread }) = here else { return send(crossing) };
        let frame = Frame::new(message, &unread);
        let mut members = lock(&members);
        // Under the same lock: so that all hear it in the same order.
        send(crossing);
        let Some(listeners) = members.channels.get(channel) else { return };
        let readers = readers.map(|readers| (Permissions::of(&readers.collection), readers));
        let may_hear =
            |who: &Identity| readers.is_none_or(|(permissions, of)| permissions.may_read(who, &of.account, &of.owner));
        let slow: Vec<_> =
            listeners.values().filter(|member| member.is(may_hear) && !member.push(&frame)).cloned().collect();
        for connection in slow {
            self.forget(&mut members, &connection);
            connection.close(End::TooSlow);
        }
    }

    /// Takes a connection out of all channels.
    fn forget(&self, members: &mut Members, connection: &Connection) {
        for channel in members.remove(connection.sid) {
            self.0.elsewhere.members_changed(&connection.tenant, channel);
        }
    }

    /// Queues a message for one connection.
    pub fn send(&self, connection: &Connection, message: &Message) {
        if !connection.push(&Frame::new(message, &connection.unread)) {
            self.end(connection, End::TooSlow);
        }
    }

    /// Takes a connection out of all channels and tells its transport to close it.
    pub fn end(&self, connection: &Connection, why: End) {
        if let Some(members) = self.members(&connection.tenant) {
            self.forget(&mut lock(&members), connection);
        }
        connection.close(why);
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.0.capacity as usize - self.0.slots.available_permits()
    }

    /// Returns once no connection is open; for shutdown.
    pub async fn drained(&self) {
        // Fails only when the semaphore is closed, which nothing does.
        let _ = self.0.slots.acquire_many(self.0.capacity).await;
    }

    fn tenant(&self, tenant: &str) -> Option<Tenant> {
        lock(&self.0.tenants).get(tenant).cloned()
    }

    fn members(&self, tenant: &str) -> Option<Arc<Mutex<Members>>> {
        self.tenant(tenant).map(|tenant| tenant.members)
    }

    /// Forgets a tenant that nobody is connected to. It can only be found through the map, so nobody else holds it then.
    fn forget_empty(&self, tenant: &str) {
        let mut tenants = lock(&self.0.tenants);
        let is_empty =
            |tenant: &Tenant| Arc::strong_count(&tenant.members) == 1 && lock(&tenant.members).connections.is_empty();
        if tenants.get(tenant).is_some_and(is_empty) {
            tenants.remove(tenant);
        }
    }
}

impl Members {
    fn join(&mut self, sid: Uuid, channel: &str, limit: usize) -> Result<bool, TooManyChannels> {
        // A connection that has ended in the meantime joins nothing.
        let Some(member) = self.connections.get_mut(&sid) else { return Ok(false) };
        if member.joined.contains(channel) {
            return Ok(false);
        }
        if member.joined.len() >= limit {
            return Err(TooManyChannels(limit));
        }
        let channel: Arc<str> = channel.into();
        member.joined.insert(channel.clone());
        self.channels.entry(channel).or_default().insert(sid, member.connection.clone());
        Ok(true)
    }

    /// Returns the channels that it was in.
    fn remove(&mut self, sid: Uuid) -> HashSet<Arc<str>> {
        let Some(member) = self.connections.remove(&sid) else { return HashSet::new() };
        for channel in &member.joined {
            if let Some(members) = self.channels.get_mut(channel) {
                members.remove(&sid);
                if members.is_empty() {
                    self.channels.remove(channel);
                }
            }
        }
        member.joined
    }
}

/// An open connection, in the hands of its transport. Dropping it ends the connection and removes all traces of it.
pub struct Connected {
    hub: Hub,
    connection: Arc<Connection>,
    _places: (OwnedSemaphorePermit, Share<Arc<str>>, Option<Share<IpAddr>>),
}

impl Deref for Connected {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.end(&self.connection, End::Gone);
        self.hub.forget_empty(&self.connection.tenant);
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client went away.
    Gone,
    /// The client does not read as fast as messages come.
    TooSlow,
    /// The client did not authenticate in time.
    NotAuthenticated,
    /// The session it authenticated with is over.
    SessionEnded,
    /// The server stops.
    Shutdown,
}

impl End {
    /// What the client is told before the end, as the data of an `error`.
    fn error(self) -> Option<&'static str> {
        match self {
            Self::TooSlow => Some("too slow: you did not read your messages as fast as they came; connect again"),
            Self::NotAuthenticated => Some("nobody authenticated on this connection; connect again and send `auth`"),
            Self::SessionEnded => Some("your session has ended; sign in again"),
            Self::Gone | Self::Shutdown => None,
        }
    }
}

/// Who a connection authenticated as, and with what.
#[derive(Clone)]
pub struct Session {
    /// The user.
    pub identity: Arc<Identity>,
    /// The session token, to check again that it is still valid.
    pub token: Arc<str>,
}

/// One client's connection, on whichever transport.
pub struct Connection {
    sid: Uuid,
    tenant: Arc<str>,
    session: Mutex<Option<Session>>,
    rate: Mutex<Rate>,
    capacity: usize,
    unread: Arc<TenantUnread>,
    queue: Mutex<Queue>,
    /// Told when there is something new to read.
    changed: Notify,
    end: watch::Sender<Option<End>>,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    closed: bool,
}

impl Connection {
    fn new(sid: Uuid, tenant: Arc<str>, unread: Arc<TenantUnread>, config: &RealtimeConfig) -> Self {
        unread.opened();
        Self {
            sid,
            tenant,
            session: Mutex::default(),
            rate: Mutex::new(Rate::new(config)),
            capacity: config.queue,
            unread,
            queue: Mutex::default(),
            changed: Notify::new(),
            end: watch::Sender::new(None),
        }
    }

    /// The id that messages from this connection carry.
    pub fn sid(&self) -> Uuid {
        self.sid
    }

    /// Public key of the tenant it belongs to.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Who it authenticated as.
    pub fn session(&self) -> Option<Session> {
        lock(&self.session).clone()
    }

    /// Notes who it authenticated as; `false` when that is somebody else than before, which changes nothing.
    pub fn authenticate(&self, identity: Identity, token: &str) -> bool {
        let mut session = lock(&self.session);
        let same = session.as_ref().is_none_or(|session| session.identity.user == identity.user);
        if same {
            *session = Some(Session { identity: Arc::new(identity), token: token.into() });
        }
        same
    }

    /// Whether it authenticated as somebody of whom `condition` is true.
    fn is(&self, condition: impl Fn(&Identity) -> bool) -> bool {
        lock(&self.session).as_ref().is_some_and(|session| condition(&session.identity))
    }

    /// Whether one more message from the client keeps within its rate.
    pub fn may_send(&self) -> bool {
        lock(&self.rate).take(Instant::now())
    }

    /// The next message to the client, in the order they were queued; `None` once the connection has ended and the
    /// last was read. May be dropped while it waits without losing a message. For one reader.
    pub async fn next(&self) -> Option<Frame> {
        loop {
            let changed = self.changed.notified();
            {
                let mut queue = lock(&self.queue);
                if let Some(frame) = queue.take() {
                    return Some(frame);
                }
                if queue.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Waits until the connection ends, and says why.
    pub async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await;
        end.ok().and_then(|end| *end).unwrap_or(End::Gone)
    }

    /// Queues a message; `false` when there is no room. A connection that has ended takes no more of them.
    fn push(&self, frame: &Frame) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return true;
        }
        // Sizes are compared before adding, so that any one message fits.
        if queue.frames.len() >= self.capacity || queue.bytes > QUEUE_BYTES || !self.unread.may_grow(queue.bytes) {
            return false;
        }
        queue.add(frame.clone());
        self.changed.notify_one();
        true
    }

    /// Ends the connection; only the first reason counts. What a slow reader has not read is given up: it would be held
    /// for as long as the client pleases.
    fn close(&self, why: End) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return;
        }
        queue.closed = true;
        if why == End::TooSlow {
            tracing::info!(tenant = %self.tenant, sid = %self.sid, "dropped a connection that reads too slowly");
            queue.clear();
        }
        if let Some(text) = why.error() {
            let sid = self.sid.to_string();
            let last_words = Message { sid, kind: "error".into(), data: text.into(), ..Message::default() };
            queue.add(Frame::new(&last_words, &self.unread));
        }
        self.end.send_replace(Some(why));
        self.changed.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.unread.closed();
    }
}

impl Queue {
    fn add(&mut self, frame: Frame) {
        self.bytes += frame.size();
        self.frames.push_back(frame);
    }

    fn take(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.size();
        Some(frame)
    }

    fn clear(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }
}

/// A bucket of tokens, one for each message, that fills at the rate a client may keep up.
pub(crate) struct Rate {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Rate {
    pub(crate) fn new(config: &RealtimeConfig) -> Self {
        let burst = f64::from(config.burst);
        Self { tokens: burst, burst, per_second: f64::from(config.messages_per_second), filled: Instant::now() }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// Nothing that is done under these locks panics half-way, so what a poisoned one guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
pub(crate) mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    /// Small limits, which tests can reach.
    pub(crate) fn config() -> RealtimeConfig {
        RealtimeConfig {
            queue: 8,
            message_bytes: 1_024,
            channels: 3,
            messages_per_second: 10,
            burst: 20,
            connections: 6,
            connections_per_app: 6,
            connections_per_address: 6,
            unread_bytes: 64 << 20,
        }
    }

    pub(crate) fn user(tenant: &str, name: &str) -> Identity {
        Identity {
            tenant: tenant.into(),
            account: format!("account of {name}"),
            user: name.into(),
            email: format!("{name}@example.com"),
            role: 50,
        }
    }

    /// What waits to be read.
    pub(crate) fn unread(connected: &Connected) -> Vec<Message> {
        std::iter::from_fn(|| connected.next().now_or_never().flatten())
            .map(|frame| serde_json::from_str(frame.text()).unwrap())
            .collect()
    }

    fn member(hub: &Hub, tenant: &str, channel: &str) -> Connected {
        let connected = hub.connect(tenant, None).unwrap();
        connected.authenticate(user(tenant, "ann"), "token");
        assert!(hub.join(&connected, channel).unwrap());
        connected
    }

    fn saying(data: impl Into<String>) -> Message {
        Message { kind: "chan_out".into(), data: data.into(), ..Message::default() }
    }

    fn data(messages: Vec<Message>) -> Vec<String> {
        messages.into_iter().map(|message| message.data).collect()
    }

    #[tokio::test]
    async fn members_of_a_channel_get_its_messages_in_order_and_others_none() {
        let hub = Hub::new(&config());
        let (ann, ben, eve) = (member(&hub, "a", "lobby"), member(&hub, "a", "lobby"), member(&hub, "a", "other"));

        for n in 1..=3 {
            hub.broadcast("a", "lobby", &saying(n.to_string()));
        }

        assert_eq!(data(unread(&ann)), ["1", "2", "3"]);
        assert_eq!(data(unread(&ben)), ["1", "2", "3"]);
        assert!(unread(&eve).is_empty());
    }

    #[tokio::test]
    async fn a_broadcast_is_serialised_once() {
        let hub = Hub::new(&config());
        let (ann, ben) = (member(&hub, "a", "lobby"), member(&hub, "a", "lobby"));

        hub.broadcast("a", "lobby", &saying("hello"));

        let [of_ann, of_ben] = [ann.next().await.unwrap(), ben.next().await.unwrap()];
        assert!(std::ptr::eq(of_ann.text(), of_ben.text()));
    }

    #[tokio::test]
    async fn channels_of_the_same_name_are_apart_for_each_tenant() {
        let hub = Hub::new(&config());
        let (ann, bob) = (member(&hub, "a", "lobby"), member(&hub, "b", "lobby"));

        hub.broadcast("a", "lobby", &saying("hello"));

        assert_eq!(unread(&ann).len(), 1);
        assert!(unread(&bob).is_empty());
        assert_eq!((hub.presence("a", "lobby"), hub.presence("b", "lobby"), hub.presence("c", "lobby")), (1, 1, 0));
        assert!(hub.find("b", &ann.sid().to_string()).is_none());
        assert!(hub.find("a", &ann.sid().to_string()).is_some());
    }

    #[tokio::test]
    async fn only_those_who_may_read_get_a_message() {
        let hub = Hub::new(&config());
        let (ann, ben) = (member(&hub, "a", "lobby"), hub.connect("a", None).unwrap());
        ben.authenticate(user("a", "ben"), "token");
        hub.join(&ben, "lobby").unwrap();

        let readers = Readers { collection: "x_700_".into(), account: "account of ben".into(), owner: "ben".into() };
        hub.broadcast_to("a", "lobby", &saying("for ben"), Some(&readers));

        assert!(unread(&ann).is_empty());
        assert_eq!(data(unread(&ben)), ["for ben"]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_dropped_with_a_reason_and_does_not_hold_up_others() {
        let hub = Hub::new(&config());
        let (slow, fast) = (member(&hub, "a", "lobby"), member(&hub, "a", "lobby"));

        let mut read = 0;
        for n in 0..100 {
            hub.broadcast("a", "lobby", &saying(n.to_string()));
            read += unread(&fast).len();
        }

        assert_eq!(read, 100);
        assert_eq!(slow.ended().await, End::TooSlow);
        let last_words = unread(&slow);
        assert_eq!(last_words.len(), 1);
        assert!(last_words[0].kind == "error" && last_words[0].data.starts_with("too slow"));
        assert!(slow.next().await.is_none());
        assert_eq!(hub.presence("a", "lobby"), 1);
    }

    #[tokio::test]
    async fn unread_messages_are_bounded_by_their_size_too() {
        let hub = Hub::new(&RealtimeConfig { queue: 1_000, ..config() });
        let ann = member(&hub, "a", "lobby");
        let large = saying("x".repeat(QUEUE_BYTES));

        hub.broadcast("a", "lobby", &large);
        assert_eq!(unread(&ann).len(), 1, "one message always fits");
        hub.broadcast("a", "lobby", &large);
        hub.broadcast("a", "lobby", &large);

        assert_eq!(ann.ended().now_or_never(), Some(End::TooSlow));
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_connection_that_is_dropped() {
        let hub = Hub::new(&config());
        let (ann, ben) = (member(&hub, "a", "lobby"), member(&hub, "a", "lobby"));
        let (connection, sid) = (Arc::clone(&ann), ann.sid().to_string());
        hub.join(&ann, "of ann alone").unwrap();

        drop(ann);
        assert_eq!(connection.ended().await, End::Gone);
        assert!(hub.find("a", &sid).is_none());
        assert_eq!((hub.presence("a", "lobby"), hub.connections()), (1, 1));
        assert!(!hub.join(&connection, "too late").unwrap());
        assert_eq!(lock(&hub.members("a").unwrap()).channels.len(), 1);

        drop((ben, connection));
        assert!(lock(&hub.0.tenants).is_empty());
        hub.drained().now_or_never().unwrap();
    }

    #[tokio::test]
    async fn the_server_has_so_many_connections_and_no_more() {
        let hub = Hub::new(&config());
        let mut open: Vec<_> = (0..6).map(|_| hub.connect("a", None).unwrap()).collect();

        let refusal = hub.connect("b", None).err().unwrap().to_string();
        assert!(refusal.contains("all 6 realtime connections"), "{refusal}");

        open.pop();
        assert!(hub.connect("b", None).is_ok());
    }

    #[tokio::test]
    async fn neither_a_tenant_nor_an_address_has_all_connections() {
        let hub = Hub::new(&RealtimeConfig { connections_per_app: 2, connections_per_address: 3, ..config() });
        let [here, there] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().ok());

        let mut of_a: Vec<_> = (0..2).map(|_| hub.connect("a", here).unwrap()).collect();
        assert!(matches!(hub.connect("a", None), Err(Full::Tenant(2))));
        let of_b = hub.connect("b", there).unwrap();
        assert!(matches!(hub.connect("b", here), Err(Full::Address(3))), "neighbours count together");
        assert!(hub.connect("b", "192.0.2.1".parse().ok()).is_ok());

        of_a.pop();
        assert!(hub.connect("a", here).is_ok());
        drop((of_a, of_b));
    }

    #[tokio::test]
    async fn a_connection_joins_so_many_channels_and_each_once() {
        let hub = Hub::new(&config());
        let ann = member(&hub, "a", "1");

        assert!(!hub.join(&ann, "1").unwrap());
        assert!(hub.join(&ann, "2").unwrap());
        assert!(hub.join(&ann, "3").unwrap());

        assert!(hub.join(&ann, "4").unwrap_err().to_string().contains("at most 3 channels"));
        assert!(!hub.join(&ann, "3").unwrap());
        assert_eq!(hub.presence("a", "4"), 0);
    }

    #[tokio::test]
    async fn what_was_queued_before_the_end_can_still_be_read() {
        let hub = Hub::new(&config());
        let ann = member(&hub, "a", "lobby");

        hub.send(&ann, &saying("before"));
        hub.end(&ann, End::SessionEnded);
        hub.end(&ann, End::Shutdown);
        hub.send(&ann, &saying("after"));

        assert_eq!(ann.ended().await, End::SessionEnded);
        assert_eq!(data(unread(&ann)), ["before", "your session has ended; sign in again"]);
    }

    #[tokio::test]
    async fn a_reader_that_stops_waiting_misses_nothing() {
        let hub = Hub::new(&config());
        let ann = member(&hub, "a", "lobby");

        assert!(ann.next().now_or_never().is_none());
        let reader = tokio::spawn({
            let connection = Arc::clone(&ann);
            async move { connection.next().await }
        });
        tokio::task::yield_now().await;
        hub.broadcast("a", "lobby", &saying("hello"));

        assert!(reader.await.unwrap().unwrap().text().contains("hello"));
    }

    #[tokio::test]
    async fn a_connection_stays_the_user_it_became() {
        let hub = Hub::new(&config());
        let ann = hub.connect("a", None).unwrap();

        assert!(ann.authenticate(user("a", "ann"), "first"));
        assert!(ann.authenticate(user("a", "ann"), "second"));
        assert!(!ann.authenticate(user("a", "ben"), "third"));

        let session = ann.session().unwrap();
        assert_eq!((session.identity.user.as_str(), &*session.token), ("ann", "second"));
    }

    #[test]
    fn the_rate_allows_a_burst_and_then_so_many_in_a_second() {
        let mut rate = Rate::new(&config());
        let start = rate.filled;
        let allowed = |rate: &mut Rate, at: Duration| (0..100).filter(|_| rate.take(start + at)).count();

        assert_eq!(allowed(&mut rate, Duration::ZERO), 20);
        assert_eq!(allowed(&mut rate, Duration::from_secs(1)), 10);
        assert_eq!(allowed(&mut rate, Duration::from_secs(3600)), 20);
    }
}
