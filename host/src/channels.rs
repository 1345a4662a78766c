//! What is said in channels: who may say it, who hears it, and the event for the functions that wait for it.
//!
//! The hub knows who is a member and the dispatcher which function waits; both are only told here.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    clock::Clock,
    document::Document,
    event::{Cause, Event, EventKind},
    event_queue::{EventSender, Room, Waiting},
    hub::{Hub, elsewhere::Readers},
    identity::Identity,
    listeners::{Listener, Listeners},
    message::{MAX_NAME, Message, channel_name_error, is_document_type, is_platform_channel, is_platform_type},
    store::{Store, StoreError, Transaction},
    usage::Usage,
};

/// How long to wait when as many events of the tenant wait as may.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// The channels of all tenants, for whoever says something in them. Clones share them.
#[derive(Clone)]
pub struct Channels {
    hub: Hub,
    events: EventSender,
    listeners: Listeners,
    store: Arc<dyn Store>,
    usage: Usage,
    clock: Arc<Clock>,
}

/// Why a message was refused. The text is a sentence for whoever sent it.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The message itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The sender may not send such a message.
    #[error("{0}")]
    Forbidden(String),
    /// There is no room for the events it would cause.
    #[error("the server is busy and did not take the message; send it again in a moment")]
    Unavailable,
    /// The message has to be kept, and the store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Channels {
    /// Channels whose members are in `hub` and whose events go to `events`, kept in `store` when a function waits for them, within
    /// the quotas of their tenants.
    pub fn new(
        hub: Hub,
        events: EventSender,
        listeners: Listeners,
        store: Arc<dyn Store>,
        usage: Usage,
        clock: Arc<Clock>,
    ) -> Self {
        Self { hub, events, listeners, store, usage, clock }
    }

    /// The functions that messages are kept for.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The members of the channels.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Events that have not been dealt with.
    pub fn waiting(&self) -> Waiting {
        self.events.waiting()
    }

    /// Sends a message to the members of its channel and to the functions that wait for it. `message.sid` says where it
    /// comes from; a `chan_in` arrives as `chan_out`.
    pub async fn publish(&self, who: &Identity, message: Message, cause: Cause) -> Result<(), ChannelError> {
        let event = self.checked(who, message, cause)?;
        let this = self.clone();
        // To its end, also when whoever sends it goes away: an event that is kept and then forgotten would be run by nobody.
        let sent = tokio::spawn(async move {
            let room = this.room(&event).await?;
            let event = this.keep(event).await?;
            this.broadcast(&event);
            room.send(event);
            Ok(())
        });
        sent.await.unwrap_or(Err(ChannelError::Unavailable))
    }

    /// The event of a message that may be sent, for [`Self::sent`] once it is kept.
    pub fn checked(&self, who: &Identity, mut message: Message, cause: Cause) -> Result<Event, ChannelError> {
        check_names(&message)?;
        check_rights(who, &message, &cause)?;
        self.check_size(&message)?;
        message.token.clear();
        if message.kind == "chan_in" {
            message.kind = "chan_out".into();
        }
        Ok(Event::message(who.clone(), message, cause))
    }

    /// Stores an event when functions wait for it: from then on it is not lost.
    pub async fn keep(&self, event: Event) -> Result<Event, ChannelError> {
        let listeners = self.listeners_of(&event);
        if listeners.is_empty() {
            return Ok(event);
        }
        let most = self.usage.of_tenant(&event.identity.tenant).stored();
        let mut transaction = Transaction::new(event.identity.clone(), most, event.cause.clone());
        transaction.events.push((event.clone(), listeners));
        let kept = self.store.commit(transaction).await?.events.pop();
        Ok(kept.unwrap_or(event))
    }

    /// The functions that an event is kept for.
    pub fn listeners_of(&self, event: &Event) -> Vec<Listener> {
        match &event.kind {
            EventKind::Message(message) => self.listeners.of_message(&event.identity.tenant, message),
            EventKind::Web(_) | EventKind::Scheduled(_) | EventKind::Before(_) => Vec::new(),
        }
    }

    /// Tells of a message that was committed.
    pub async fn sent(&self, event: Event) {
        self.broadcast(&event);
        self.hand_over(event).await;
    }

    /// Tells those members of `db-<collection>` who may read the document, and the functions that wait for it.
    ///
    /// The change has happened and cannot be refused any more.
    pub async fn changed(&self, collection: &str, document: &Document, event: Event) {
        if let EventKind::Message(message) = &event.kind {
            let (account, owner) = (document.account.to_string(), document.owner.to_string());
            let readers = Readers { collection: collection.to_owned(), account, owner };
            self.hub.broadcast_to(&event.identity.tenant, &message.channel, message, Some(&readers));
        }
        self.hand_over(event).await;
    }

    /// How many members a channel has, on all nodes.
    pub async fn presence(&self, tenant: &str, channel: &str) -> usize {
        let here = self.hub.presence(tenant, channel);
        let exchange = self.store.exchange().filter(|_| self.hub.elsewhere().is_active());
        let Some(exchange) = exchange else { return here };
        match exchange.members(tenant, channel).await {
            Ok(elsewhere) => here + elsewhere,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "members on other nodes cannot be counted");
                here
            }
        }
    }

    fn broadcast(&self, event: &Event) {
        if let EventKind::Message(message) = &event.kind {
            self.hub.broadcast(&event.identity.tenant, &message.channel, message);
        }
    }

    /// When the tenant has no room for more events, the caller waits for it; an event that is kept can wait in the store instead. A
    /// run waits only for a while: it holds room itself, and all of them would wait for each other.
    async fn hand_over(&self, event: Event) {
        let deliveries: Vec<i64> = event.deliveries.iter().map(|delivery| delivery.id).collect();
        let room = self.events.room(&event.identity.tenant, event.bytes());
        let by_run = event.cause.depth > 0;
        let room = if deliveries.is_empty() && !by_run {
            room.await.map_err(drop)
        } else {
            timeout(WAIT_FOR_ROOM, room).await.map_err(drop).and_then(|room| room.map_err(drop))
        };
        if let Ok(room) = room {
            return room.send(event);
        }
        if deliveries.is_empty() {
            let tenant = &event.identity.tenant;
            return tracing::warn!(%tenant, key = event.key, "no function runs for this event: there is no room for more of them, or the server ends");
        }
        if let Err(error) = self.store.release(deliveries, self.clock.now()).await {
            tracing::warn!(%error, "events that there is no room for could not be given back; they run after the next start");
        }
    }

    /// Room for an event. Taken before anything is delivered, so that nothing is delivered that will not be processed.
    pub async fn room(&self, event: &Event) -> Result<Room<'_>, ChannelError> {
        match timeout(WAIT_FOR_ROOM, self.events.room(&event.identity.tenant, event.bytes())).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(ChannelError::Unavailable),
        }
    }

    fn check_size(&self, message: &Message) -> Result<(), ChannelError> {
        let limit = self.hub.config().message_bytes;
        let size = message.data.len();
        if size > limit {
            return Err(ChannelError::Invalid(format!("a message's data has at most {limit} bytes; this has {size}")));
        }
        Ok(())
    }
}

fn check_names(message: &Message) -> Result<(), ChannelError> {
    let kind = &message.kind;
    let type_error = if kind.is_empty() {
        Some("no type was specified".to_string())
    } else if kind.len() > MAX_NAME {
        Some(format!("a message's type has at most {MAX_NAME} bytes; this one has {}", kind.len()))
    } else {
        None
    };
    channel_name_error(&message.channel).or(type_error).map_or(Ok(()), |error| Err(ChannelError::Invalid(error)))
}

/// Keeps the types and channels of the platform to the platform and root. Functions may never tell of a changed document,
/// not even when they run for root: others would believe it.
fn check_rights(who: &Identity, message: &Message, cause: &Cause) -> Result<(), ChannelError> {
    let kind = message.kind.as_str();
    let from_function = cause.depth > 0;
    // Would start the functions that wait for somebody to join, for a call, or for a write.
    let is_trigger = matches!(kind, "join" | "web") || kind.starts_with("before:");
    let is_reserved = (is_platform_type(kind) || is_trigger) && !who.is_root();
    if is_reserved || (is_document_type(kind) && from_function) {
        return Err(ChannelError::Forbidden(format!("only the platform sends messages of type `{kind}`")));
    }
    if is_platform_channel(&message.channel) && !who.is_root() {
        return Err(ChannelError::Forbidden("you cannot write to database channel".into()));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::{
        document::{ChangeKind, Content, Document},
        event_queue::{self, EventReceiver},
        hub::{
            Connected,
            tests::{config, unread, user},
        },
    };
    use chrono::DateTime;
    use serde_json::json;

    async fn channels() -> (Channels, EventReceiver) {
        let (sender, events) = event_queue::queue(32, 1 << 20);
        let (store, clock) = (crate::store::tests::unused().await, Default::default());
        (
            Channels::new(
                Hub::new(&config()),
                sender,
                Listeners::default(),
                store,
                crate::usage::tests::unlimited(),
                clock,
            ),
            events,
        )
    }

    fn member(channels: &Channels, who: &Identity, channel: &str) -> Connected {
        let connected = channels.hub().connect(&who.tenant, None).unwrap();
        connected.authenticate(who.clone(), "token");
        channels.hub().join(&connected, channel).unwrap();
        connected
    }

    fn message(channel: &str, kind: &str, data: &str) -> Message {
        Message {
            sid: "user-msg".into(),
            kind: kind.into(),
            data: data.into(),
            channel: channel.into(),
            token: "secret".into(),
        }
    }

    fn told(event: Event) -> Message {
        match event.kind {
            EventKind::Message(message) => message,
            EventKind::Web(_) | EventKind::Scheduled(_) | EventKind::Before(_) => Message::default(),
        }
    }

    fn root() -> Identity {
        Identity { role: 100, ..user("a", "root") }
    }

    #[tokio::test]
    async fn a_published_message_reaches_members_and_functions_without_the_token() {
        let (channels, mut events) = channels().await;
        let (ann, ben) = (user("a", "ann"), user("a", "ben"));
        let hears = member(&channels, &ben, "news");
        let cause = Cause::outside();

        channels.publish(&ann, message("news", "flash", "1"), cause.clone()).await.unwrap();
        channels.publish(&ann, message("news", "chan_in", "2"), cause.clone()).await.unwrap();

        let expected = [("flash", "1"), ("chan_out", "2")]
            .map(|(kind, data)| Message { token: String::new(), ..message("news", kind, data) });
        assert_eq!(unread(&hears), expected);
        let event = events.recv().await.unwrap().event;
        assert_eq!((&event.identity, &event.cause.trace_id), (&ann, &cause.trace_id));
        assert_eq!([told(event), told(events.recv().await.unwrap().event)], expected);
    }

    #[tokio::test]
    async fn what_belongs_to_the_platform_is_refused_to_users() {
        let (channels, mut events) = channels().await;
        let ann = user("a", "ann");

        let types = ["joined", "init", "token", "ok", "error", "fn_call", "http_response", "db_created", "join", "web"];
        for kind in types {
            let refused = channels.publish(&ann, message("news", kind, ""), Cause::outside()).await;
            assert!(matches!(refused, Err(ChannelError::Forbidden(_))), "{kind}");
            channels.publish(&root(), message("news", kind, ""), Cause::outside()).await.unwrap();
            events.recv().await.unwrap();
        }
        let refused = channels.publish(&ann, message("db-tasks", "custom", ""), Cause::outside()).await.unwrap_err();
        assert_eq!(refused.to_string(), "you cannot write to database channel");
        channels.publish(&root(), message("db-tasks", "custom", ""), Cause::outside()).await.unwrap();
    }

    #[tokio::test]
    async fn a_function_never_tells_of_documents_even_for_root() {
        let (channels, _events) = channels().await;
        let cause = Cause::outside().by("function", 1, 1);

        let refused = channels.publish(&root(), message("db-tasks", "db_deleted", ""), cause).await;

        assert!(matches!(refused, Err(ChannelError::Forbidden(_))));
    }

    #[tokio::test]
    async fn a_message_has_a_channel_a_type_and_a_size() {
        let (channels, mut events) = channels().await;
        let large = "x".repeat(1_025);
        let long = "x".repeat(257);

        for (channel, kind, data, why) in [
            ("", "custom", "", "no channel was specified"),
            ("web", "custom", "", "name of a trigger"),
            (long.as_str(), "custom", "", "at most 256 bytes"),
            ("news", "", "", "no type was specified"),
            ("news", long.as_str(), "", "at most 256 bytes"),
            ("news", "custom", large.as_str(), "at most 1024 bytes; this has 1025"),
        ] {
            let refused = channels.publish(&root(), message(channel, kind, data), Cause::outside()).await.unwrap_err();
            assert!(matches!(&refused, ChannelError::Invalid(text) if text.contains(why)), "{refused}");
        }
        events.close();
        assert!(events.recv().await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_delivered_that_no_function_will_see() {
        let (channels, mut events) = channels().await;
        let ann = user("a", "ann");
        let hears = member(&channels, &ann, "news");
        for n in 0..8 {
            channels.publish(&ann, message("news", "custom", &n.to_string()), Cause::outside()).await.unwrap();
        }
        unread(&hears);

        let refused = channels.publish(&ann, message("news", "custom", "too many"), Cause::outside()).await;

        assert!(matches!(refused, Err(ChannelError::Unavailable)));
        assert!(unread(&hears).is_empty());
        drop(events.recv().await.unwrap());
        channels.publish(&ann, message("news", "custom", "fits"), Cause::outside()).await.unwrap();
    }

    fn document(owner: &Identity) -> Document {
        let content: Content = serde_json::from_value(json!({ "title": "é \"q\"" })).unwrap();
        Document::new("1".into(), owner, DateTime::UNIX_EPOCH, &content).unwrap()
    }

    async fn change(channels: &Channels, collection: &str, kind: ChangeKind, owner: &Identity) {
        let document = document(owner);
        let event = Event::change(owner.clone(), collection, kind, &document, Cause::outside());
        channels.changed(collection, &document, event).await;
    }

    #[tokio::test]
    async fn who_may_read_a_document_hears_of_its_changes() {
        let (channels, mut events) = channels().await;
        let ann = user("a", "ann");
        let colleague = Identity { account: ann.account.clone(), ..user("a", "cleo") };
        let (ben, stranger) = (user("a", "ben"), user("b", "ann"));

        for (collection, hearing) in [("x_700_", [1, 0, 0, 0]), ("x", [1, 1, 0, 0]), ("x_774_", [1, 1, 1, 0])] {
            let channel = format!("db-{collection}");
            let members = [&ann, &colleague, &ben, &stranger].map(|who| member(&channels, who, &channel));
            for (kind, name) in [
                (ChangeKind::Created, "db_created"),
                (ChangeKind::Updated, "db_updated"),
                (ChangeKind::Deleted, "db_deleted"),
            ] {
                change(&channels, collection, kind, &ann).await;

                let heard = members.each_ref().map(|member| unread(member).len());
                assert_eq!(heard, hearing, "{collection} {name}");
                let event = events.recv().await.unwrap().event;
                assert_eq!(event.identity, ann);
                let event = told(event);
                assert_eq!((event.kind.as_str(), &event.channel), (name, &channel));
            }
        }
    }

    #[tokio::test]
    async fn created_and_updated_bring_the_document_and_deleted_its_id() {
        let (channels, _events) = channels().await;
        let ann = user("a", "ann");
        let hears = member(&channels, &ann, "db-x");

        for kind in [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted] {
            change(&channels, "x", kind, &ann).await;
        }

        let document = r#"{"id":"1","accountId":"account of ann","title":"é \"q\""}"#;
        let data: Vec<_> = unread(&hears).into_iter().map(|message| message.data).collect();
        assert_eq!(data, [document, document, r#""1""#]);
    }
}
