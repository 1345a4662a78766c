//! The realtime protocol (`staticbackend-api.md`, section 3): what a message from a client does and what is answered.
//!
//! Transports hand over messages and carry the answers (`api/realtime.rs`); who is in which channel is the hub's business.
//! Tenant and user always come from the connection, never from a field of the message.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    accounts::{AccountError, Accounts},
    channels::{ChannelError, Channels},
    event::{Cause, Event},
    hub::{Connection, End, Session},
    identity::Identity,
    message::{MAX_NAME, Message, channel_name_error, is_platform_channel},
};

/// How often each connection's session is looked at again. With the 30 s that a user may be cached, an ended session is
/// noticed within 60 s.
const SESSION_CHECK: Duration = Duration::from_secs(20);

/// How long a connection may stay without authenticating.
const TIME_TO_AUTHENTICATE: Duration = Duration::from_secs(60);

/// Who knows which session tokens are valid.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// The user of a session of the tenant.
    async fn session(&self, tenant: &str, token: &str) -> Result<Identity, AccountError>;
}

#[async_trait]
impl Sessions for Accounts {
    async fn session(&self, tenant: &str, token: &str) -> Result<Identity, AccountError> {
        Accounts::session(self, tenant, token).await
    }
}

/// Speaks the protocol on one connection.
pub struct Conversation<'a> {
    /// Checks tokens.
    pub sessions: &'a dyn Sessions,
    /// Where messages go.
    pub channels: &'a Channels,
    /// The client's connection.
    pub connection: &'a Connection,
}

impl Conversation<'_> {
    /// Says hello: the client learns its connection's id.
    pub fn greet(&self) {
        self.reply("init", self.sid());
    }

    /// Does what a message asks for that came on the connection itself.
    pub async fn receive(&self, text: &str) {
        if !self.is_within_rate().await {
            return;
        }
        match serde_json::from_str(text) {
            Ok(message) => self.act(message).await,
            Err(error) => self.refuse(format!("this is not a message: {error}")),
        }
    }

    /// Does what a message asks for that was posted with the connection's id and perhaps a bearer token.
    ///
    /// Members of a channel know each other's ids, so an id proves nothing: once the connection is authenticated, the post
    /// must bring a session of the same user, or nothing happens.
    pub async fn receive_post(&self, message: Message, bearer: Option<&str>) {
        let is_proven = match self.connection.session() {
            Some(session) => self.is_from(&session.identity, &message, bearer).await,
            None => true,
        };
        if is_proven && self.is_within_rate().await {
            self.act(message).await;
        }
    }

    /// Does what a message asks for that was posted to another node, which knows whose session came with it.
    pub async fn receive_from_afar(&self, message: Message, user: Option<&str>) {
        let is_proven = self.connection.session().is_none_or(|session| user == Some(session.identity.user.as_str()));
        if is_proven && self.is_within_rate().await {
            self.act(message).await;
        }
    }

    /// Returns when the connection has to end: nobody authenticates, or the session is over.
    pub async fn supervise(&self) -> End {
        let opened = Instant::now();
        let mut checks = interval(SESSION_CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            if let Some(why) = self.check(opened.elapsed()).await {
                return why;
            }
        }
    }

    async fn check(&self, age: Duration) -> Option<End> {
        match self.connection.session() {
            Some(session) => {
                let user = self.sessions.session(self.connection.tenant(), &session.token).await;
                // Any other error is the server's own, and says nothing of the session.
                matches!(user, Err(AccountError::InvalidToken)).then_some(End::SessionEnded)
            }
            None => (age >= TIME_TO_AUTHENTICATE).then_some(End::NotAuthenticated),
        }
    }

    /// Whether a posted message brings a session of that user. An `auth` brings it as its data.
    async fn is_from(&self, user: &Identity, message: &Message, bearer: Option<&str>) -> bool {
        let proofs = match message.kind.as_str() {
            "auth" => [Some(message.data.as_str()), None],
            _ => [Some(message.token.as_str()), bearer],
        };
        for token in proofs.into_iter().flatten() {
            let poster = self.sessions.session(self.connection.tenant(), token).await;
            if poster.is_ok_and(|poster| poster.user == user.user) {
                return true;
            }
        }
        false
    }

    /// Whether a message comes within the rate. One that does not is refused, and the next is not heard before there is room for
    /// it: whoever floods is answered at the same rate.
    async fn is_within_rate(&self) -> bool {
        let may_send = self.connection.may_send();
        if !may_send {
            let limit = self.channels.hub().config().messages_per_second;
            self.refuse(format!("too many messages: at most {limit} in a second; wait and send it again"));
            sleep(Duration::from_secs(1) / limit.max(1)).await;
        }
        may_send
    }

    async fn act(&self, message: Message) {
        match message.kind.as_str() {
            "echo" => self.echo(message),
            "auth" => self.authenticate(message).await,
            "join" => self.join(message).await,
            "presence" => self.presence(message).await,
            "chan_in" => self.chan_in(message).await,
            unknown if unknown.len() > MAX_NAME => {
                self.refuse(format!("a message's type has at most {MAX_NAME} bytes; this one has {}", unknown.len()));
            }
            unknown => self.refuse(format!("{unknown} command not found")),
        }
    }

    fn echo(&self, message: Message) {
        let data = format!("echo: {}", message.data);
        self.send(Message { data, token: String::new(), ..message });
    }

    async fn authenticate(&self, message: Message) {
        let token = message.data;
        let identity = match self.sessions.session(self.connection.tenant(), &token).await {
            Ok(identity) => identity,
            Err(AccountError::InvalidToken) => return self.refuse("invalid token"),
            Err(error) => {
                tracing::error!(%error, "a session token could not be checked");
                return self.refuse("the server could not check your token; send `auth` again in a moment");
            }
        };
        if self.connection.authenticate(identity, &token) {
            self.reply("token", token);
        } else {
            self.refuse("this connection belongs to another user; open one of your own");
        }
    }

    async fn join(&self, message: Message) {
        let Some(session) = self.session_or_refuse() else { return };
        if let Err(error) = self.enter(&session.identity, message.data).await {
            self.refuse(error.to_string());
        }
    }

    /// Joins a channel. A member again says so to the client and to nobody else.
    async fn enter(&self, who: &Identity, channel: String) -> Result<(), ChannelError> {
        channel_name_error(&channel).map_or(Ok(()), |error| Err(ChannelError::Invalid(error)))?;
        let hub = self.channels.hub();
        let event = Message { data: channel.clone(), channel: channel.clone(), ..self.message("join") };
        let event = Event::message(who.clone(), event, Cause::outside());
        let room = self.channels.room(&event).await?;
        let is_new =
            hub.join(self.connection, &channel).map_err(|too_many| ChannelError::Invalid(too_many.to_string()))?;
        // Whoever is told that they are a member hears what others say from then on, on whichever node.
        hub.elsewhere().settled().await;
        self.reply("ok", channel.clone());
        if !is_new {
            return Ok(());
        }

        let joined = Message { data: self.sid(), channel: channel.clone(), ..self.message("joined") };
        hub.broadcast(&who.tenant, &channel, &joined);
        room.send(self.channels.keep(event).await?);
        Ok(())
    }

    async fn presence(&self, message: Message) {
        if self.session_or_refuse().is_none() {
            return;
        }
        let channel = message.data;
        let members = self.channels.presence(self.connection.tenant(), &channel).await;
        self.send(Message { data: members.to_string(), channel, ..self.message("presence") });
    }

    async fn chan_in(&self, message: Message) {
        let Some(session) = self.session_or_refuse() else { return };
        // Also root: documents are what speaks in these channels.
        if is_platform_channel(&message.channel) {
            return self.refuse("you cannot write to database channel");
        }
        let said = Message { sid: self.sid(), ..message };
        match self.channels.publish(&session.identity, said, Cause::outside()).await {
            Ok(()) => self.reply("ok", String::new()),
            Err(error) => self.refuse(error.to_string()),
        }
    }

    fn session_or_refuse(&self) -> Option<Session> {
        let session = self.connection.session();
        if session.is_none() {
            self.refuse("authenticate first: send `auth` with your session token as data");
        }
        session
    }

    fn refuse(&self, why: impl Into<String>) {
        self.reply("error", why.into());
    }

    fn reply(&self, kind: &str, data: String) {
        self.send(Message { data, ..self.message(kind) });
    }

    /// Sends a message to the client alone. The id is always that of its connection.
    fn send(&self, message: Message) {
        self.channels.hub().send(self.connection, &Message { sid: self.sid(), ..message });
    }

    fn message(&self, kind: &str) -> Message {
        Message { sid: self.sid(), kind: kind.into(), ..Message::default() }
    }

    fn sid(&self) -> String {
        self.connection.sid().to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::{collections::HashMap, sync::Mutex};

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        event::EventKind,
        event_queue::{self, EventReceiver},
        hub::{
            Connected, Hub,
            tests::{config, unread, user},
        },
        listeners::Listeners,
    };

    /// Sessions of the users `ann` and `ben` of the tenants `a` and `b`; a token is `<tenant>-<user>`.
    struct Fake(Mutex<HashMap<String, Identity>>);

    #[async_trait]
    impl Sessions for Fake {
        async fn session(&self, tenant: &str, token: &str) -> Result<Identity, AccountError> {
            let user = self.0.lock().unwrap().get(token).cloned();
            user.filter(|user| &*user.tenant == tenant).ok_or(AccountError::InvalidToken)
        }
    }

    struct Stage {
        sessions: Fake,
        channels: Channels,
        events: EventReceiver,
    }

    impl Stage {
        async fn new() -> Self {
            let (sender, events) = event_queue::queue(256, 1 << 20);
            let users = ["a", "b"].into_iter().flat_map(|tenant| ["ann", "ben"].map(|name| user(tenant, name)));
            let sessions = users.map(|user| (format!("{}-{}", user.tenant, user.user), user)).collect();
            let (store, clock) = (crate::store::tests::unused().await, Default::default());
            let channels = Channels::new(
                Hub::new(&config()),
                sender,
                Listeners::default(),
                store,
                crate::usage::tests::unlimited(),
                clock,
            );
            Self { sessions: Fake(Mutex::new(sessions)), channels, events }
        }

        fn connect(&self, tenant: &str) -> Connected {
            self.channels.hub().connect(tenant, None).unwrap()
        }

        async fn connect_as(&self, tenant: &str, name: &str) -> Connected {
            let connected = self.connect(tenant);
            let token = format!("{tenant}-{name}");
            let answers = self.says(&connected, "auth", &token, "").await;
            assert_eq!((answers[0].kind.as_str(), &answers[0].data), ("token", &token));
            connected
        }

        fn on<'a>(&'a self, connection: &'a Connection) -> Conversation<'a> {
            Conversation { sessions: &self.sessions, channels: &self.channels, connection }
        }

        /// Sends a message on a connection; what it has to read then.
        async fn says(&self, connected: &Connected, kind: &str, data: &str, channel: &str) -> Vec<Message> {
            let message =
                Message { kind: kind.into(), data: data.into(), channel: channel.into(), ..Message::default() };
            self.on(connected).receive(&serde_json::to_string(&message).unwrap()).await;
            unread(connected)
        }

        /// Posts a message with the id of a connection; what the connection has to read then.
        async fn posts(&self, connected: &Connected, message: Message, bearer: Option<&str>) -> Vec<Message> {
            self.on(connected).receive_post(message, bearer).await;
            unread(connected)
        }

        fn event(&mut self) -> Option<(Identity, Message)> {
            let event = self.events.recv().now_or_never()??.event;
            match event.kind {
                EventKind::Message(message) => Some((event.identity, message)),
                EventKind::Web(_) | EventKind::Scheduled(_) | EventKind::Before(_) => None,
            }
        }
    }

    /// Whatever a client says, it gets an answer that is one, nobody else hears of it, and it can go on.
    async fn hears(text: &str) {
        let mut stage = Stage::new().await;
        let (ann, other) = (stage.connect_as("a", "ann").await, stage.connect_as("b", "ben").await);
        while stage.event().is_some() {}

        stage.on(&ann).receive(text).await;

        assert!(unread(&other).is_empty(), "{text:?}");
        let answers = unread(&ann);
        assert!(answers.iter().all(|answer| answer.token.is_empty()), "{text:?}: {answers:?}");
        while let Some((identity, message)) = stage.event() {
            assert_eq!((&*identity.tenant, identity.role), ("a", user("a", "ann").role), "{text:?}");
            assert!(!crate::message::is_platform_type(&message.kind), "{text:?}: {message:?}");
        }
        let again = stage.says(&ann, "echo", "still there", "").await;
        assert!(!again.is_empty(), "{text:?}");
    }

    #[tokio::test]
    async fn what_is_in_the_corpus_is_answered() {
        for (_, text) in crate::corpus::texts("messages") {
            hears(&text).await;
        }
    }

    #[test]
    fn any_message_is_answered() {
        use proptest::{prelude::*, test_runner::TestRunner};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kinds = ["join", "chan_in", "chan_out", "auth", "echo", "presence", "leave", "db_created", "init", ""];
        let message = (prop::sample::select(kinds.to_vec()), ".*", ".*", ".*");
        let mut runner = TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() });
        let result = runner.run(&message, |(kind, data, channel, noise)| {
            let message = Message { kind: kind.into(), data, channel, ..Message::default() };
            runtime.block_on(hears(&serde_json::to_string(&message).unwrap()));
            runtime.block_on(hears(&noise));
            Ok(())
        });
        assert!(result.is_ok(), "{}", result.unwrap_err());
    }

    fn brief(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|message| (message.kind.as_str(), message.data.as_str())).collect()
    }

    #[tokio::test]
    async fn the_first_message_tells_the_client_its_id() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");

        stage.on(&ann).greet();

        assert_eq!(brief(&unread(&ann)), [("init", ann.sid().to_string().as_str())]);
    }

    #[tokio::test]
    async fn echo_repeats_and_never_returns_a_token() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");

        let text = r#"{"sid":"forged","type":"echo","data":"hi","channel":"c","token":"secret","auth":{"role":100}}"#;
        stage.on(&ann).receive(text).await;

        let sid = ann.sid().to_string();
        let echo =
            Message { sid, kind: "echo".into(), data: "echo: hi".into(), channel: "c".into(), token: String::new() };
        assert_eq!(unread(&ann), [echo]);
    }

    #[tokio::test]
    async fn what_is_not_a_message_or_not_known_is_an_error() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");
        let deep = "[".repeat(10_000);

        for text in ["", "{", "true", r#"{"type":1}"#, r#"{"data":{}}"#, &deep] {
            stage.on(&ann).receive(text).await;
            assert!(unread(&ann)[0].data.starts_with("this is not a message"), "{text}");
        }
        assert_eq!(brief(&stage.says(&ann, "dance", "", "").await), [("error", "dance command not found")]);
        let long = &stage.says(&ann, &"x".repeat(257), "", "").await[0].data;
        assert!(long.contains("at most 256 bytes"), "{long}");
    }

    #[tokio::test]
    async fn auth_takes_the_tokens_of_its_tenant_only() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");

        for token in ["", "forged", "b-ann"] {
            assert_eq!(brief(&stage.says(&ann, "auth", token, "").await), [("error", "invalid token")]);
        }
        assert!(ann.session().is_none());
        assert_eq!(brief(&stage.says(&ann, "auth", "a-ann", "").await), [("token", "a-ann")]);
        let other = stage.says(&ann, "auth", "a-ben", "").await;
        assert!(other[0].data.starts_with("this connection belongs to another user"));
        assert_eq!(ann.session().unwrap().identity.user, "ann");
    }

    #[tokio::test]
    async fn nothing_is_joined_or_said_before_auth() {
        let mut stage = Stage::new().await;
        let ann = stage.connect("a");

        for kind in ["join", "chan_in", "presence"] {
            let answers = stage.says(&ann, kind, "lobby", "lobby").await;
            assert!(answers.len() == 1 && answers[0].data.starts_with("authenticate first"), "{answers:?}");
        }
        assert_eq!(stage.channels.hub().presence("a", "lobby"), 0);
        assert!(stage.event().is_none());
    }

    #[tokio::test]
    async fn who_joins_gets_ok_and_everybody_joined() {
        let mut stage = Stage::new().await;
        let (ann, ben) = (stage.connect_as("a", "ann").await, stage.connect_as("a", "ben").await);
        let (of_ann, of_ben) = (ann.sid().to_string(), ben.sid().to_string());

        let answers = stage.says(&ann, "join", "lobby", "").await;
        assert_eq!(brief(&answers), [("ok", "lobby"), ("joined", of_ann.as_str())]);
        assert_eq!(answers[1].channel, "lobby");
        let answers = stage.says(&ben, "join", "lobby", "").await;
        assert_eq!(brief(&answers), [("ok", "lobby"), ("joined", of_ben.as_str())]);
        assert_eq!(brief(&unread(&ann)), [("joined", of_ben.as_str())]);
        assert_eq!(brief(&stage.says(&ann, "presence", "lobby", "").await), [("presence", "2")]);

        let (who, event) = stage.event().unwrap();
        assert_eq!(who.user, "ann");
        let expected = ("join", "lobby", "lobby", of_ann.as_str());
        assert_eq!((event.kind.as_str(), event.channel.as_str(), event.data.as_str(), event.sid.as_str()), expected);
    }

    #[tokio::test]
    async fn to_join_again_is_ok_and_nothing_else() {
        let mut stage = Stage::new().await;
        let ann = stage.connect_as("a", "ann").await;
        stage.says(&ann, "join", "lobby", "").await;
        stage.event().unwrap();

        assert_eq!(brief(&stage.says(&ann, "join", "lobby", "").await), [("ok", "lobby")]);
        assert!(stage.event().is_none());
    }

    #[tokio::test]
    async fn names_that_cannot_be_channels_are_refused() {
        let stage = Stage::new().await;
        let ann = stage.connect_as("a", "ann").await;
        let long = "x".repeat(257);

        for name in ["", "web", "chan_out", "join", "db_created", "before:create", &long] {
            let joined = stage.says(&ann, "join", name, "").await;
            let said = stage.says(&ann, "chan_in", "hello", name).await;
            assert!(joined.len() == 1 && joined[0].kind == "error", "{name}: {joined:?}");
            assert_eq!(brief(&said), brief(&joined), "{name}");
        }
    }

    #[tokio::test]
    async fn the_channels_of_a_connection_are_bounded() {
        let stage = Stage::new().await;
        let ann = stage.connect_as("a", "ann").await;

        for channel in ["1", "2", "3"] {
            assert_eq!(stage.says(&ann, "join", channel, "").await[0].kind, "ok");
        }
        let refused = stage.says(&ann, "join", "4", "").await;
        assert!(refused[0].data.contains("at most 3 channels"), "{refused:?}");
    }

    #[tokio::test]
    async fn what_is_said_reaches_all_members_and_the_functions_as_the_true_sender() {
        let mut stage = Stage::new().await;
        let (ann, ben) = (stage.connect_as("a", "ann").await, stage.connect_as("a", "ben").await);
        let stranger = stage.connect_as("b", "ben").await;
        for member in [&ann, &ben, &stranger] {
            stage.says(member, "join", "lobby", "").await;
            stage.event().unwrap();
        }
        unread(&ann);

        let forged = format!(
            r#"{{"sid":"{}","type":"chan_in","data":"hi","channel":"lobby","token":"a-ben","base":"b"}}"#,
            ben.sid()
        );
        stage.on(&ann).receive(&forged).await;

        let said = Message {
            sid: ann.sid().to_string(),
            kind: "chan_out".into(),
            data: "hi".into(),
            channel: "lobby".into(),
            token: String::new(),
        };
        assert_eq!(unread(&ben), std::slice::from_ref(&said));
        let heard = unread(&ann);
        assert!(heard.contains(&said) && brief(&heard).contains(&("ok", "")), "{heard:?}");
        assert!(unread(&stranger).is_empty());
        let (who, event) = stage.event().unwrap();
        assert_eq!((who, event), (user("a", "ann"), said));
    }

    #[tokio::test]
    async fn nobody_speaks_in_a_database_channel() {
        let mut stage = Stage::new().await;
        stage.sessions.0.lock().unwrap().insert("root".into(), Identity { role: 100, ..user("a", "root") });
        let root = stage.connect("a");
        stage.says(&root, "auth", "root", "").await;

        for channel in ["db-tasks", "DB-tasks", "db-"] {
            let answers = stage.says(&root, "chan_in", "hi", channel).await;
            assert_eq!(brief(&answers), [("error", "you cannot write to database channel")]);
        }
        assert!(stage.event().is_none());
    }

    #[tokio::test]
    async fn too_many_messages_are_refused_visibly() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");

        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.extend(stage.says(&ann, "echo", "", "").await);
        }

        assert_eq!(answers.len(), 40);
        let refused = answers.iter().filter(|answer| answer.data.starts_with("too many messages: at most 10")).count();
        assert!((1..=20).contains(&refused), "{refused} of 40 were refused");
    }

    #[tokio::test]
    async fn a_post_without_a_session_of_the_connections_user_does_nothing() {
        let mut stage = Stage::new().await;
        let ann = stage.connect_as("a", "ann").await;
        let post = |kind: &str, data: &str, token: &str| Message {
            kind: kind.into(),
            data: data.into(),
            channel: "lobby".into(),
            token: token.into(),
            ..Message::default()
        };

        for (token, bearer) in [("", None), ("a-ben", None), ("b-ann", None), ("forged", Some("a-ben"))] {
            for kind in ["join", "chan_in", "echo", "nonsense", "presence"] {
                let answers = stage.posts(&ann, post(kind, "lobby", token), bearer).await;
                assert!(answers.is_empty(), "{kind} with {token}: {answers:?}");
            }
        }
        assert!(stage.posts(&ann, post("auth", "a-ben", "a-ben"), Some("a-ben")).await.is_empty());
        assert!(stage.posts(&ann, post("auth", "forged", ""), None).await.is_empty());
        assert!(stage.event().is_none());

        assert_eq!(brief(&stage.posts(&ann, post("echo", "1", "a-ann"), None).await), [("echo", "echo: 1")]);
        assert_eq!(brief(&stage.posts(&ann, post("echo", "2", ""), Some("a-ann")).await), [("echo", "echo: 2")]);
        assert_eq!(brief(&stage.posts(&ann, post("auth", "a-ann", ""), None).await), [("token", "a-ann")]);
    }

    #[tokio::test]
    async fn before_auth_the_id_is_the_clients_secret_and_posts_are_answered() {
        let stage = Stage::new().await;
        let ann = stage.connect("a");
        let post = |kind: &str, data: &str| Message { kind: kind.into(), data: data.into(), ..Message::default() };

        let early = stage.posts(&ann, post("join", "lobby"), None).await;
        assert!(early[0].data.starts_with("authenticate first"), "{early:?}");
        assert_eq!(brief(&stage.posts(&ann, post("auth", "a-ann"), None).await), [("token", "a-ann")]);
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_session_and_without_auth_after_a_minute() {
        let stage = Stage::new().await;
        let (ann, nobody) = (stage.connect_as("a", "ann").await, stage.connect("a"));
        let minute = Duration::from_secs(60);

        assert_eq!(stage.on(&ann).check(minute).await, None);
        assert_eq!(stage.on(&nobody).check(Duration::from_secs(40)).await, None);
        assert_eq!(stage.on(&nobody).check(minute).await, Some(End::NotAuthenticated));

        stage.sessions.0.lock().unwrap().remove("a-ann");
        assert_eq!(stage.on(&ann).check(minute).await, Some(End::SessionEnded));
    }
}
