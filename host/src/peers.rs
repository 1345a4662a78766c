//! The other nodes that share the database: tells them what members there are to hear, hears what they tell, and takes over what
//! they change.
//!
//! What crosses is gathered by the hub (`hub/elsewhere.rs`) and carried by the store (`store/exchange.rs`); here is decided when
//! it is sent, and what is made of what comes. A process whose store nobody else can use does nothing of this.
//!
//! Each node's messages arrive at the others in its order, once. What a node misses while its connection is lost it reads
//! afterwards, if that is within a minute.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::lines::pack;
use crate::{
    accounts::Accounts,
    channels::Channels,
    edge::client_address::neighbourhood,
    hub::{
        Hub, Rate,
        elsewhere::{Batch, Crossing, Elsewhere, Listing, Outgoing, Posted},
    },
    message::Message,
    registry::Registry,
    store::{
        Beat, Exchange, Store, StoreError,
        exchange::{IsWhole, Notice, Relayed},
    },
    trigger::realtime::Conversation,
    usage::Usage,
};

mod lines;

/// How often the others hear that this node lives, and how often is looked for what was missed.
const BEAT: Duration = Duration::from_secs(5);

/// After a failure the others are believed to live, and to have members everywhere, for so long: they may have been taken for
/// gone only because they could not reach the database either.
const DOUBT: Duration = Duration::from_secs(30);

/// Pauses before something is tried again: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Bytes of messages that are sent together.
const BYTES: usize = 1 << 20;

/// What waits is sent before the end, but not for longer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Polls for changes look at the latest ones only, unless the last look is longer ago than this.
const LATELY: Duration = Duration::from_secs(300);

/// Posts for one connection that wait for their turn.
const POSTS: usize = 64;

/// Callers whose posts for other nodes are counted, and how many times the rate of one connection each of them has: there may be
/// many behind one address.
const CALLERS: u64 = 10_000;
const CONNECTIONS: u32 = 20;

/// The other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

/// What they are told from, and who hears what they tell.
pub struct Parts {
    /// Carries it.
    pub store: Arc<dyn Store>,
    /// Members.
    pub hub: Hub,
    /// Where posts go.
    pub channels: Channels,
    /// Users.
    pub accounts: Accounts,
    /// Functions.
    pub registry: Registry,
    /// The operator's quotas.
    pub usage: Usage,
}

struct Inner {
    parts: Parts,
    /// None when there cannot be others.
    exchange: Option<Arc<dyn Exchange>>,
    /// Something failed: who else lives is not certain until then.
    doubt: Mutex<Option<Instant>>,
    /// Whether the log says so already.
    has_failed: AtomicBool,
    /// A node has come or gone.
    nodes: Notify,
    /// Posts that wait, by the connection they are for; an entry for each that somebody works on.
    posts: Mutex<HashMap<String, VecDeque<Posted>>>,
    callers: moka::sync::Cache<IpAddr, Arc<Mutex<Rate>>>,
    working: TaskTracker,
    end: CancellationToken,
}

/// What this node has heard of the others.
#[derive(Default)]
struct Heard {
    /// The last batch of each node. There are as many as have ever been while this one lives; they are small.
    batches: HashMap<String, i64>,
    /// The last change of each tenant.
    changes: HashMap<String, i64>,
    /// When these were compared.
    compared: Option<Instant>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Peers {
    /// Knows nobody before [`Self::start`].
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            exchange: parts.store.exchange(),
            parts,
            doubt: Mutex::default(),
            has_failed: AtomicBool::new(false),
            nodes: Notify::new(),
            posts: Mutex::default(),
            callers: moka::sync::Cache::builder().max_capacity(CALLERS).time_to_idle(Duration::from_secs(60)).build(),
            working: TaskTracker::new(),
            end: CancellationToken::new(),
        }))
    }

    /// Tells and hears until [`Self::finish`].
    pub fn start(&self) {
        let until_end = |work: futures_util::future::BoxFuture<'static, ()>| {
            let end = self.0.end.clone();
            self.0.working.spawn(async move { end.run_until_cancelled(work).await });
        };
        let live = self.0.clone();
        until_end(Box::pin(async move { live.live().await }));
        let Some(exchange) = self.0.exchange.clone() else { return };
        let (changed, changes) = mpsc::unbounded_channel();
        let [hear, refresh, send] = [(); 3].map(|()| self.0.clone());
        let listens = exchange.clone();
        until_end(Box::pin(async move { hear.hear(&*listens, &changed).await }));
        until_end(Box::pin(async move { refresh.refresh(changes).await }));
        self.0.working.spawn(async move { send.send(&*exchange).await });
    }

    /// Sends what waits; for the end, when nothing more is said here.
    pub async fn finish(&self) {
        self.0.end.cancel();
        self.0.working.close();
        let _ = timeout(LAST_WORDS, self.0.working.wait()).await;
    }

    /// Hands on a message that was posted here with the id of a connection of another node, as far as that is one.
    pub async fn forward(&self, tenant: &str, message: Message, bearer: Option<&str>, caller: Option<IpAddr>) {
        let Inner { parts: Parts { hub, accounts, .. }, .. } = &*self.0;
        if !hub.elsewhere().may_have(&message.sid) || !self.0.may_forward(caller) {
            return;
        }
        let is_auth = message.kind == "auth";
        let proofs = if is_auth { [Some(message.data.as_str()), None] } else { [Some(message.token.as_str()), bearer] };
        let mut user = None;
        for token in proofs.into_iter().flatten() {
            user = user.or(accounts.session(tenant, token).await.ok().map(|identity| identity.user));
        }
        // The connection's node has to know the session; the database must not.
        let data = if is_auth { accounts.seal(tenant, &message.data) } else { Ok(message.data) };
        match data {
            Ok(data) => {
                let message = Message { data, token: String::new(), ..message };
                hub.elsewhere().post(Posted { tenant: tenant.into(), message, user });
            }
            Err(error) => tracing::error!(%error, "a session cannot be handed to the node of its connection"),
        }
    }
}

impl Inner {
    fn elsewhere(&self) -> &Elsewhere {
        self.parts.hub.elsewhere()
    }

    /// Says again and again that this node lives, and who else does.
    async fn live(&self) {
        loop {
            match self.parts.store.beat().await {
                Ok(beat) => self.met(&beat),
                Err(error) => self.failed(&error, "the database did not hear that this server lives"),
            }
            let _ = timeout(BEAT, self.nodes.notified()).await;
        }
    }

    fn met(&self, beat: &Beat) {
        let is_active = !beat.others.is_empty() || self.is_in_doubt();
        self.elsewhere().set_others(beat.others.iter().map(String::as_str), is_active);
        if beat.is_new && is_active {
            self.elsewhere().list(Listing::All);
        }
    }

    /// Hears what others tell; when the connection is lost, again as soon as it can be had.
    async fn hear(self: &Arc<Self>, exchange: &dyn Exchange, changed: &mpsc::UnboundedSender<String>) {
        let (mut heard, mut pause) = (Heard::default(), PAUSE);
        loop {
            let begun = Instant::now();
            if let Err(error) = self.listen(exchange, &mut heard, changed).await {
                self.failed(&error, "other nodes are not heard until the database is back");
            }
            if begun.elapsed() > BEAT {
                pause = PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen(
        self: &Arc<Self>,
        exchange: &dyn Exchange,
        heard: &mut Heard,
        changed: &mpsc::UnboundedSender<String>,
    ) -> Result<()> {
        let mut news = exchange.listen().await?;
        // What there was before, and what others may have forgotten of this node.
        self.catch_up(exchange, heard, false).await?;
        self.compare(exchange, heard, changed).await?;
        if self.elsewhere().is_active() {
            self.elsewhere().list(Listing::All);
        }
        self.nodes.notify_one();
        if self.has_failed.swap(false, Ordering::Relaxed) {
            tracing::info!("other nodes are heard again");
        }
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut since_others = Instant::now();
        loop {
            let notice = tokio::select! {
                notice = news.next() => notice?,
                _ = ticks.tick() => {
                    if self.elsewhere().is_active() {
                        since_others = Instant::now();
                        self.compare(exchange, heard, changed).await?;
                        if self.catch_up(exchange, heard, true).await? {
                            tracing::warn!("notices of other nodes did not come: listening anew");
                            return Ok(());
                        }
                    }
                    if since_others.elapsed() < LATELY {
                        exchange.forget_relayed().await?;
                    }
                    continue;
                }
            };
            match notice {
                Notice::Nodes => self.nodes.notify_one(),
                // It is only sent in vain when the server ends.
                Notice::Changed(tenant) => drop(changed.send(tenant)),
                Notice::Relayed(relayed, is_whole) => self.relayed(exchange, heard, relayed, is_whole).await?,
            }
        }
    }

    async fn relayed(
        self: &Arc<Self>,
        exchange: &dyn Exchange,
        heard: &mut Heard,
        it: Relayed,
        is_whole: IsWhole,
    ) -> Result<()> {
        let last = heard.batches.get(&it.node).copied().unwrap_or_default();
        if it.number <= last {
            return Ok(());
        }
        if it.number == last + 1 && is_whole == IsWhole::Yes {
            self.apply(heard, it);
            return Ok(());
        }
        self.catch_up(exchange, heard, false).await?;
        if heard.batches.get(&it.node).copied().unwrap_or_default() < it.number {
            tracing::warn!(node = it.node, "messages of another node were missed: the database has them no longer");
            self.apply(heard, it);
        }
        Ok(())
    }

    /// Reads what was relayed and not heard; whether there was something.
    async fn catch_up(self: &Arc<Self>, exchange: &dyn Exchange, heard: &mut Heard, late: bool) -> Result<bool> {
        let mut some = false;
        loop {
            let missed = exchange.relayed(&heard.batches, late).await?;
            if missed.is_empty() {
                return Ok(some);
            }
            some = true;
            for relayed in missed {
                self.apply(heard, relayed);
            }
        }
    }

    fn apply(self: &Arc<Self>, heard: &mut Heard, Relayed { node, number, batch }: Relayed) {
        for line in batch.split('\n').filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(Crossing::Said { tenant, channel, message, readers }) => {
                    self.parts.hub.hear(&tenant, &channel, &message, readers.as_ref());
                }
                Ok(Crossing::Posted(posted)) => self.posted(posted),
                Err(error) => tracing::error!(%error, node, "a message of another node cannot be read"),
            }
        }
        heard.batches.insert(node, number);
    }

    /// Looks which tenants have changed, whatever was heard of it.
    async fn compare(
        &self,
        exchange: &dyn Exchange,
        heard: &mut Heard,
        changed: &mpsc::UnboundedSender<String>,
    ) -> Result<()> {
        let begun = Instant::now();
        let lately = heard.compared.is_some_and(|compared| compared.elapsed() < LATELY);
        // At the start everything was read from the store a moment ago.
        for (tenant, version) in exchange.changes(lately || heard.compared.is_none()).await? {
            if heard.changes.insert(tenant.clone(), version) != Some(version) {
                let _ = changed.send(tenant);
            }
        }
        heard.compared = Some(begun);
        Ok(())
    }

    /// Takes over what has changed of tenants.
    async fn refresh(&self, mut changed: mpsc::UnboundedReceiver<String>) {
        let mut tenants = BTreeSet::new();
        while let Some(tenant) = changed.recv().await {
            tenants.insert(tenant);
            // A few changes of one tenant are one.
            while let Ok(tenant) = changed.try_recv() {
                tenants.insert(tenant);
            }
            while let Some(tenant) = tenants.pop_first() {
                if let Err(error) = self.refresh_tenant(&tenant).await {
                    tracing::warn!(
                        error = &*error as &dyn std::error::Error,
                        tenant,
                        "what another node has changed is not known yet; trying again"
                    );
                    tenants.insert(tenant);
                    sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }

    async fn refresh_tenant(&self, tenant: &str) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Parts { store, accounts, registry, usage, .. } = &self.parts;
        accounts.forget_users(tenant).await;
        registry.refresh(tenant).await?;
        if let Some(tenant) = store.tenant(tenant).await? {
            usage.set_own(&tenant.id, tenant.quota);
        }
        Ok(())
    }

    /// Sends what the hub gathers, one batch after the other: while one is under way the next gathers, so that many messages
    /// cost one transaction.
    async fn send(&self, exchange: &dyn Exchange) {
        let mut number = 1;
        while let Some(batch) = self.next().await {
            if batch.dropped > 0 {
                tracing::warn!(
                    messages = batch.dropped,
                    "members on other nodes miss messages: too many wait for the database"
                );
            }
            self.tell_members(exchange, &batch).await;
            self.elsewhere().known(&batch);
            let heard = self.heard_elsewhere(exchange, batch).await;
            let packed = pack(heard);
            if !packed.is_empty() {
                self.persist(|| exchange.relay(number, &packed)).await;
                number += packed.len() as i64;
            }
        }
    }

    /// What is to be sent next; at the end, what is left.
    async fn next(&self) -> Option<Batch> {
        match self.end.run_until_cancelled(self.elsewhere().next(BYTES)).await {
            Some(batch) => Some(batch),
            None => self.elsewhere().take(BYTES),
        }
    }

    async fn tell_members(&self, exchange: &dyn Exchange, batch: &Batch) {
        match batch.listing {
            Some(Listing::All) => {
                self.persist(|| {
                    let members = self.parts.hub.members_here();
                    async move { exchange.list_members(Some(&members)).await }
                })
                .await;
            }
            Some(Listing::Nothing) => drop(self.persist(|| exchange.list_members(None)).await),
            None if batch.members.is_empty() => {}
            None => {
                let count = |(tenant, channel): &(Arc<str>, Arc<str>)| {
                    ((tenant.clone(), channel.clone()), self.parts.hub.presence(tenant, channel))
                };
                self.persist(|| {
                    let members: Vec<_> = batch.members.iter().map(count).collect();
                    async move { exchange.set_members(&members).await }
                })
                .await;
            }
        }
    }

    /// Those of the messages that somebody on another node may have to hear.
    async fn heard_elsewhere(&self, exchange: &dyn Exchange, batch: Batch) -> Vec<String> {
        let mut places: Vec<_> = batch.messages.iter().filter_map(|message| message.place.clone()).collect();
        places.sort_unstable();
        places.dedup();
        let heard = match places.is_empty() || self.is_in_doubt() {
            true => None,
            false => self.persist(|| exchange.heard(&places)).await,
        };
        // Also when that was tried more than once: the answer may be that of a database that has just forgotten all members.
        let heard = heard.filter(|_| !self.is_in_doubt());
        let heard: Option<HashMap<_, _>> = heard.map(|heard| places.iter().zip(heard).collect());
        let is_heard = |message: &Outgoing| match (&heard, &message.place) {
            (Some(heard), Some(place)) => heard.get(place).copied().unwrap_or(true),
            (None, _) | (_, None) => true,
        };
        batch.messages.into_iter().filter(is_heard).map(|message| message.line).collect()
    }

    /// Tries until the database has done it. `None`: it never will.
    async fn persist<T, F: Future<Output = Result<T>> + Send>(&self, work: impl Fn() -> F) -> Option<T> {
        let mut pause = PAUSE;
        loop {
            match work().await {
                Ok(done) => return Some(done),
                Err(error @ StoreError::Unavailable(_)) => self.failed(&error, "other nodes are told later"),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "other nodes cannot be told");
                    return None;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Notes that something failed. Who was alone is believed to be alone still.
    fn failed(&self, error: &StoreError, what: &str) {
        if self.elsewhere().is_active() {
            *self.doubt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DOUBT);
        }
        if !self.end.is_cancelled() && !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = error as &dyn std::error::Error, "{what}");
        }
    }

    fn is_in_doubt(&self) -> bool {
        let doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        doubt.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a caller keeps to a rate with what is to be handed on: a post to a connection that is not there costs next to
    /// nothing, this does.
    fn may_forward(&self, caller: Option<IpAddr>) -> bool {
        let Some(caller) = caller.map(neighbourhood) else { return true };
        let mut config = self.parts.hub.config().clone();
        config.burst = config.burst.saturating_mul(CONNECTIONS);
        config.messages_per_second = config.messages_per_second.saturating_mul(CONNECTIONS);
        let rate = self.callers.get_with(caller, || Arc::new(Mutex::new(Rate::new(&config))));
        rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }

    /// Does what a message asks for that was posted to another node, after those that came before for the same connection.
    fn posted(self: &Arc<Self>, posted: Posted) {
        if self.parts.hub.find(&posted.tenant, &posted.message.sid).is_none() {
            return;
        }
        let sid = posted.message.sid.clone();
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_worked_on = posts.contains_key(&sid);
        let waiting = posts.entry(sid.clone()).or_default();
        // Whoever posts faster than the rate of a connection is not heard.
        if waiting.len() < POSTS {
            waiting.push_back(posted);
        }
        if !is_worked_on {
            let inner = self.clone();
            tokio::spawn(async move {
                while let Some(posted) = inner.next_post(&sid) {
                    inner.receive(posted).await;
                }
            });
        }
    }

    /// The next post for a connection. When there is none, nobody works on it any more.
    fn next_post(&self, sid: &str) -> Option<Posted> {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        let next = posts.get_mut(sid)?.pop_front();
        if next.is_none() {
            posts.remove(sid);
        }
        next
    }

    async fn receive(&self, Posted { tenant, mut message, user }: Posted) {
        let Parts { hub, channels, accounts, .. } = &self.parts;
        let Some(connection) = hub.find(&tenant, &message.sid) else { return };
        if message.kind == "auth" {
            let Ok(data) = accounts.unseal(&tenant, &message.data) else {
                return tracing::error!(
                    "a session from another node cannot be read: do all nodes have the same master key?"
                );
            };
            message.data = data;
        }
        let conversation = Conversation { sessions: accounts, channels, connection: &connection };
        conversation.receive_from_afar(message, user.as_deref()).await;
    }
}
