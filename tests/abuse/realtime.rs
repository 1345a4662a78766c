//! R: realtime connections.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::hostile::Hostile;
use crate::harness::{Connection, PASSWORD, Server, Tenant, Transport, User, eventually, text, thimble};

/// A socket whose frames are seen as they are.
struct Raw(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Raw {
    async fn member(user: &User, channel: &str) -> Self {
        let url = format!("{}/ws?sbpk={}", user.url.replacen("http", "ws", 1), user.key.as_deref().unwrap());
        let mut raw = Self(tokio_tungstenite::connect_async(url).await.unwrap().0);
        raw.send(json!({ "type": "auth", "data": user.session() })).await;
        raw.send(json!({ "type": "join", "data": channel })).await;
        raw
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Reads to the end: how the server closed, and when the last message came.
    async fn closed(mut self) -> (u16, Instant) {
        let mut last = Instant::now();
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(_))) => last = Instant::now(),
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), last),
                Some(Ok(_)) => {}
                end => panic!("the socket ended without a close frame: {end:?}"),
            }
        }
    }
}

#[tokio::test]
async fn within_a_minute_of_the_end_of_a_session_nothing_more_is_heard() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let (fallen, changed, removed) =
        (tenant.colleague_of(&ann).await, tenant.user("changed").await, tenant.colleague_of(&ann).await);
    let speaker = tenant.user("speaker").await;
    let mut sockets = Vec::new();
    for user in [&fallen, &changed, &removed] {
        sockets.push(Raw::member(user, "lobby").await);
    }
    let mut over_sse = Connection::member(Transport::Sse, &fallen, "lobby").await;

    tenant.root.post("/setrole", json!({ "email": fallen.email, "role": 50 })).await.ok();
    let passwords = json!({ "email": changed.email, "oldPassword": PASSWORD, "newPassword": "another horse" });
    changed.post("/user/changepw", passwords).await.ok();
    ann.delete(&format!("/account/users/{}", removed.id)).await.ok();
    let ended = Instant::now();

    let talk = async {
        let mut member = Connection::member(Transport::WebSocket, &speaker, "lobby").await;
        for n in 0.. {
            member.say("chan_in", &n.to_string(), "lobby").await;
            member.until_type("chan_out").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let closed = async {
        let closed = join_all(sockets.into_iter().map(Raw::closed)).await;
        while over_sse.next().await.is_some() {}
        closed
    };
    let closed = tokio::select! {
        closed = timeout(Duration::from_secs(75), closed) => closed.expect("all are closed"),
        () = talk => unreachable!("it goes on"),
    };

    for (code, last) in closed {
        assert_eq!(code, 4401);
        assert!(last - ended < Duration::from_secs(60), "heard {:?} after the end", last - ended);
    }
}

#[tokio::test]
async fn a_client_that_is_silent_is_gone_within_a_minute() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut witness = Connection::member(Transport::WebSocket, &bob, "silence").await;
    let silent = Raw::member(&ann, "silent").await;
    let mut presence = async || {
        witness.say("presence", "silent", "").await;
        text(&witness.until_type("presence").await["data"])
    };
    eventually("it is there", async || (presence().await == "1").then_some(())).await;
    let started = Instant::now();

    // Nobody reads the socket, so nobody answers its pings; it is not closed either.
    let gone = timeout(Duration::from_secs(70), async {
        while presence().await != "0" {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });

    assert!(gone.await.is_ok(), "it is still there after {:?}", started.elapsed());
    assert!(started.elapsed() > Duration::from_secs(20), "it was given up after {:?}", started.elapsed());
    drop(silent);
}

#[tokio::test]
async fn what_a_message_says_of_its_sender_counts_for_nothing() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let (mallory, victim, stranger) =
        (tenant.user("mallory").await, tenant.user("victim").await, other.user("stranger").await);
    let code =
        "function handle(message) { return create('heard_776_', { sid: message.sid, token: message.token }).content; }";
    tenant.add("heard", "lobby", code).await;
    let system = "function handle(message) { if (message.data === 'as the platform') create('system_776_', {}); }";
    for trigger in ["db_created", "db_updated", "join", "joined", "token"] {
        tenant.add(&format!("on-{trigger}"), trigger, system).await;
    }
    for transport in [Transport::WebSocket, Transport::Sse] {
        let mut witness = Connection::member(transport, &victim, "lobby").await;
        let mut outside = Connection::member(transport, &stranger, "lobby").await;
        let mut attacker = Connection::member(transport, &mallory, "lobby").await;

        for r#type in ["db_created", "db_updated", "joined", "init", "token", "fn_call", "web", "before:create"] {
            attacker.say(r#type, "as the platform", "lobby").await;
            attacker.until_type("error").await;
            let message = json!({ "channel": "lobby", "type": r#type, "data": "as the platform" });
            assert_eq!(mallory.post("/publish", message).await.status, 403, "{type}", r#type = r#type);
        }

        let forged = json!({
            "sid": if transport == Transport::Sse { &attacker.sid } else { &witness.sid }, "token": attacker.token, "type": "chan_in",
            "data": "forged", "channel": "lobby", "base": other.key, "tenant": other.key, "user": victim.id, "accountId": victim.account,
            "auth": { "accountId": victim.account, "userId": victim.id, "role": 100, "token": "root" }, "role": 100,
        });
        attacker.send(forged).await;
        let heard = witness.until_type("chan_out").await;
        assert_eq!((&heard["sid"], &heard["token"]), (&json!(attacker.sid), &json!("")));
        let kept = eventually("the function has heard", async || {
            let kept = tenant.root.get("/db/heard_776_?desc=1").await.ok();
            Some(kept["results"][0].clone()).filter(|kept| kept["sid"] == attacker.sid)
        })
        .await;
        assert_eq!((&kept["accountId"], &kept["token"]), (&json!(mallory.account), &json!("")));
        assert!(outside.so_far().await.iter().all(|message| message["type"] != "chan_out"));
        assert_eq!(other.root.get("/sudolistall").await.ok(), json!([]));
        // Events of a tenant are taken in order, so the forged ones would have been there before the last message.
        assert_eq!(tenant.root.get("/db/system_776_").await.ok()["total"], 0);
    }
}

async fn roomy() -> Server {
    let settings = "[realtime]\nqueue = 20_000\nmessages_per_second = 1_000_000\nburst = 1_000_000\n";
    thimble(["serve", "--dev"]).settings(settings).serve().await
}

#[tokio::test]
async fn ten_thousand_messages_come_in_order_and_once_and_a_gap_shows() {
    const MESSAGES: usize = 10_000;
    let server = roomy().await;
    let tenant = Tenant::on(&server).await;
    let speaker = tenant.user("speaker").await;
    let listeners = [tenant.user("one").await, tenant.user("two").await, tenant.user("three").await];
    let number = |message: &Value| text(&message["data"]).parse::<usize>().unwrap();
    let mut sender = Raw::member(&speaker, "elsewhere").await;
    let mut stable = [
        Connection::member(Transport::WebSocket, &listeners[0], "numbers").await,
        Connection::member(Transport::Sse, &listeners[1], "numbers").await,
    ];
    let mut leaving = Connection::member(Transport::WebSocket, &listeners[2], "numbers").await;

    let send = async {
        for n in 0..MESSAGES {
            sender.send(json!({ "type": "chan_in", "data": n.to_string(), "channel": "numbers" })).await;
            // Answers are read so that the sender is no slow reader itself.
            while number_of_replies(&mut sender, n).await {}
        }
    };
    let [one, two] = &mut stable;
    let hear = async |connection: &mut Connection| {
        let mut seen = Vec::with_capacity(MESSAGES);
        while seen.len() < MESSAGES {
            seen.push(number(&connection.until_type("chan_out").await));
        }
        seen
    };
    let leave = async {
        let mut before = Vec::new();
        while before.len() < MESSAGES / 10 {
            before.push(number(&leaving.until_type("chan_out").await));
        }
        drop(leaving);
        let mut again = Connection::member(Transport::WebSocket, &listeners[2], "numbers").await;
        let mut after = Vec::new();
        while after.last() != Some(&(MESSAGES - 1)) {
            after.push(number(&again.until_type("chan_out").await));
        }
        (before, after)
    };
    let ((), of_one, of_two, (before, after)) = tokio::join!(send, hear(one), hear(two), leave);

    let all: Vec<usize> = (0..MESSAGES).collect();
    assert!(of_one == all && of_two == all, "in order, each once");
    assert_eq!(before, all[..before.len()]);
    // Whoever was away starts later, and from there on hears everything: what is missing is one gap.
    assert!(after[0] >= before.len(), "{} {}", after[0], before.len());
    assert_eq!(after, all[after[0]..]);
}

/// Reads what has come for the sender; whether there may be more.
async fn number_of_replies(sender: &mut Raw, sent: usize) -> bool {
    let patience = if sent % 100 == 99 { Duration::from_millis(5) } else { Duration::ZERO };
    timeout(patience, sender.0.next()).await.is_ok()
}

#[tokio::test]
async fn a_function_that_floods_one_channel_is_not_noticed_in_another() {
    let server = roomy().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let flood = tenant.function(&Hostile::named("flood_publish").code).await;
    let mut flooded = Raw::member(&ann, "flood").await;
    let mut listeners = join_all((0..100).map(|_| Connection::member(Transport::WebSocket, &ann, "calm"))).await;
    let mut speaker = Connection::member(Transport::WebSocket, &ann, "elsewhere").await;

    let flooded_by = std::sync::atomic::AtomicUsize::new(0);
    let floods = async {
        loop {
            join_all((0..4).map(|_| tenant.exec(&flood, json!({})))).await;
        }
    };
    let drain = async {
        while flooded.0.next().await.is_some() {
            flooded_by.fetch_add(1, Ordering::Relaxed);
        }
    };
    let calm = async {
        let mut slowest = Duration::ZERO;
        let mut n = 0;
        // A few floods long, and not less than twenty messages.
        while n < 20 || flooded_by.load(Ordering::Relaxed) < 1_000 {
            let (started, data) = (Instant::now(), n.to_string());
            speaker.say("chan_in", &data, "calm").await;
            let is_it = |message: &Value| message["type"] == "chan_out" && message["data"] == data.as_str();
            join_all(listeners.iter_mut().map(|listener| listener.until(is_it))).await;
            slowest = slowest.max(started.elapsed());
            n += 1;
        }
        slowest
    };
    let slowest = tokio::select! {
        slowest = calm => slowest,
        _ = async { tokio::join!(floods, drain) } => unreachable!("floods have no end"),
    };

    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(server.is_well());
}
