//! Channels and document events, the same over SSE and WebSocket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Connection, Tenant, Transport, User, eventually, fresh, on_every_transport, shared, text};

fn of_type<'a>(messages: &'a [Value], r#type: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == r#type).collect()
}

on_every_transport! {
    async fn the_server_greets_with_an_id_of_the_connection(transport) {
        let tenant = Tenant::new().await;

        let one = Connection::open(transport, &tenant.anybody).await;
        let two = Connection::open(transport, &tenant.anybody).await;

        assert_eq!(one.init["type"], "init");
        for field in ["sid", "type", "data", "channel", "token"] {
            assert!(one.init[field].is_string(), "{field}: {}", one.init);
        }
        assert_eq!(one.init["token"], "");
        assert!(one.init.get("auth").is_none() && one.init.get("base").is_none(), "{}", one.init);
        assert!(one.sid.len() > 10 && one.sid != two.sid);
    }

    async fn a_session_signs_a_connection_in(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::open(transport, &ann).await;
        connection.token = ann.session().into();

        connection.say("auth", ann.session(), "").await;

        assert_eq!(connection.until_type("token").await["data"], ann.session());
    }

    async fn what_is_not_a_session_does_not_sign_in(transport) {
        let (tenant, other) = (Tenant::new().await, Tenant::new().await);
        let ann = tenant.user("ann").await;
        let stranger = other.user("stranger").await;
        let mut connection = Connection::open(transport, &ann).await;

        for session in ["nonsense", "", "a.b.c", stranger.session(), tenant.root_token()] {
            connection.token = session.into();
            connection.say("auth", session, "").await;
            let answer = connection.next().await.unwrap();
            assert_eq!((&answer["type"], &answer["data"]), (&json!("error"), &json!("invalid token")), "{session}");
        }
        connection.authenticate(ann.session()).await;
    }

    async fn before_signing_in_nothing_can_be_joined_or_written(transport) {
        let tenant = Tenant::new().await;
        let ann = tenant.user("ann").await;
        let mut member = Connection::member(transport, &ann, "lobby").await;
        let mut visitor = Connection::open(transport, &ann).await;
        visitor.token = ann.session().into();

        visitor.say("join", "lobby", "").await;
        assert_eq!(visitor.until_type("error").await["type"], "error");
        visitor.say("chan_in", "hello", "lobby").await;
        assert_eq!(visitor.until_type("error").await["type"], "error");

        let seen = member.so_far().await;
        assert!(of_type(&seen, "chan_out").is_empty(), "{seen:?}");
        assert!(!seen.iter().any(|message| message["data"] == visitor.sid), "{seen:?}");
    }

    async fn an_echo_comes_back(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;

        connection.say("echo", "test ☕ \"quoted\"", "").await;

        assert_eq!(connection.until_type("echo").await["data"], "echo: test ☕ \"quoted\"");
    }

    async fn whoever_joins_is_announced_to_all_members(transport) {
        let tenant = Tenant::new().await;
        let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
        let mut first = Connection::member(transport, &ann, "lobby").await;
        let own = first.until_type("joined").await;

        let mut second = Connection::member(transport, &bob, "lobby").await;

        let joiner = second.sid.clone();
        assert_eq!((&own["data"], &own["channel"]), (&json!(first.sid), &json!("lobby")));
        for member in [&mut first, &mut second] {
            let joined = member.until_type("joined").await;
            assert_eq!((&joined["data"], &joined["channel"]), (&json!(joiner), &json!("lobby")));
            assert_eq!(joined["token"], "");
        }
    }

    async fn a_message_reaches_all_members_and_its_sender(transport) {
        let tenant = Tenant::new().await;
        let (ann, bob, cat) = (tenant.user("ann").await, tenant.user("bob").await, tenant.user("cat").await);
        let mut sender = Connection::member(transport, &ann, "lobby").await;
        let mut member = Connection::member(transport, &bob, "lobby").await;
        let mut elsewhere = Connection::member(transport, &cat, "kitchen").await;
        let data = json!({ "from": "ann", "body": "☕ </script> \n \u{2028} 'quoted'" }).to_string();

        sender.say("chan_in", &data, "lobby").await;

        for receiver in [&mut sender, &mut member] {
            let message = receiver.until_type("chan_out").await;
            assert_eq!((&message["data"], &message["channel"]), (&json!(data), &json!("lobby")));
            assert_eq!(message["token"], "");
            assert!(!message.to_string().contains(ann.session()), "{message}");
            assert!(message.get("auth").is_none() && message.get("base").is_none(), "{message}");
        }
        assert!(of_type(&elsewhere.so_far().await, "chan_out").is_empty());
    }

    async fn a_sender_hears_that_the_message_was_taken(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut sender = Connection::member(transport, &ann, "lobby").await;
        let sid = sender.sid.clone();

        sender.say("chan_in", "hello", "lobby").await;

        let first = sender.until(|message| message["type"] == "ok" || message["type"] == "chan_out").await;
        let second = sender.until(|message| message["type"] == "ok" || message["type"] == "chan_out").await;
        let (ok, out) = if first["type"] == "ok" { (first, second) } else { (second, first) };
        assert_eq!((&ok["type"], &ok["data"]), (&json!("ok"), &json!("")));
        assert_eq!((&out["type"], &out["sid"]), (&json!("chan_out"), &json!(sid)));
    }

    async fn messages_keep_their_order_and_come_once(transport) {
        let tenant = Tenant::new().await;
        let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
        let mut sender = Connection::member(transport, &ann, "lobby").await;
        let mut member = Connection::member(transport, &bob, "lobby").await;
        // Joining twice is joining once.
        member.join("lobby").await;

        for n in 0..100 {
            sender.say("chan_in", &n.to_string(), "lobby").await;
        }
        let mut seen = Vec::new();
        while seen.len() < 100 {
            seen.push(text(&member.until_type("chan_out").await["data"]));
        }

        assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(of_type(&member.so_far().await, "chan_out").is_empty());
    }

    async fn a_message_needs_a_channel_that_can_be_written(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;

        connection.say("chan_in", "hello", "").await;
        assert_eq!(connection.until_type("error").await["data"], "no channel was specified");
        for channel in ["db-tasks", "DB-tasks", "dB-"] {
            connection.say("chan_in", "hello", channel).await;
            assert_eq!(connection.until_type("error").await["data"], "you cannot write to database channel", "{channel}");
        }
    }

    async fn reserved_names_are_no_channels(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;

        for channel in ["web", "chan_out", "join", "db_created", "db_anything", "before:create", ""] {
            connection.say("join", channel, "").await;
            let answer = connection.until(|message| message["type"] == "error" || message["type"] == "ok").await;
            assert_eq!(answer["type"], "error", "join {channel}: {answer}");
            if !channel.is_empty() {
                connection.say("chan_in", "hello", channel).await;
                let answer = connection.until(|message| message["type"] == "error" || message["type"] == "ok").await;
                assert_eq!(answer["type"], "error", "chan_in {channel}: {answer}");
            }
        }
    }

    async fn an_unknown_type_is_named(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;

        for r#type in ["dance", "DB_CREATED", "leave", "💥"] {
            connection.say(r#type, "x", "lobby").await;
            assert_eq!(connection.until_type("error").await["data"], format!("{} command not found", r#type));
        }
    }

    async fn nobody_can_speak_as_the_platform(transport) {
        let tenant = Tenant::new().await;
        let (ann, mallory) = (tenant.user("ann").await, tenant.user("mallory").await);
        tenant.add("stored", "db_created", "function handle(message) {}").await;
        let mut member = Connection::member(transport, &ann, "lobby").await;
        let mut attacker = Connection::member(transport, &mallory, "lobby").await;

        for r#type in ["db_created", "db_updated", "db_deleted", "joined", "init", "token", "ok", "error", "chan_out", "fn_call", "http_response"] {
            attacker.say(r#type, "{\"forged\":true}", "lobby").await;
            assert_eq!(attacker.until_type("error").await["data"], format!("{} command not found", r#type));
        }

        attacker.say("chan_in", "done", "lobby").await;
        attacker.until_type("chan_out").await;
        let seen = member.so_far().await;
        assert!(!seen.iter().any(|message| message.to_string().contains("forged")), "{seen:?}");
        assert_eq!(tenant.runs("stored").await.len(), 0);
    }

    async fn presence_is_the_number_of_members(transport) {
        let tenant = Tenant::new().await;
        let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
        let mut first = Connection::member(transport, &ann, "lobby").await;
        let second = Connection::member(transport, &bob, "lobby").await;

        first.say("presence", "lobby", "").await;
        assert_eq!(first.until_type("presence").await["data"], "2");
        first.say("presence", "nowhere", "").await;
        assert_eq!(first.until_type("presence").await["data"], "0");

        drop(second);
        eventually("the member who left is not counted any more", async || {
            first.say("presence", "lobby", "").await;
            (first.until_type("presence").await["data"] == "1").then_some(())
        })
        .await;
    }

    async fn tenants_share_no_channels(transport) {
        let (tenant, other) = (Tenant::new().await, Tenant::new().await);
        let (ann, stranger) = (tenant.user("ann").await, other.user("stranger").await);
        let mut eavesdropper = Connection::member(transport, &stranger, "lobby").await;
        eavesdropper.join("db-tasks_776_").await;
        let mut sender = Connection::member(transport, &ann, "lobby").await;

        sender.say("chan_in", "secret", "lobby").await;
        sender.until_type("chan_out").await;
        ann.create("tasks_776_", json!({ "secret": 1 })).await;
        tenant.root.post("/publish", json!({ "channel": "lobby", "type": "t", "data": "secret" })).await.ok();

        let seen = eavesdropper.so_far().await;
        assert!(!seen.iter().any(|message| message.to_string().contains("secret")), "{seen:?}");
        eavesdropper.say("presence", "lobby", "").await;
        assert_eq!(eavesdropper.until_type("presence").await["data"], "1");
    }

    async fn events_of_documents_reach_those_who_may_read_them(transport) {
        let tenant = Tenant::new().await;
        let (ann, stranger) = (tenant.user("ann").await, tenant.user("stranger").await);
        let colleague = tenant.colleague_of(&ann).await;

        for (collection, account, everyone) in [("tasks_700_", false, false), ("tasks", true, false), ("tasks_774_", true, true)] {
            let channel = format!("db-{collection}");
            let mut owner = Connection::member(transport, &ann, &channel).await;
            let mut second = Connection::member(transport, &ann, &channel).await;
            let mut of_account = Connection::member(transport, &colleague, &channel).await;
            let mut outsider = Connection::member(transport, &stranger, &channel).await;

            let created = ann.create(collection, json!({ "n": 1 })).await;
            let path = format!("/db/{collection}/{}", text(&created["id"]));
            let updated = ann.put(&path, json!({ "n": 2 })).await.ok();
            ann.delete(&path).await.ok();

            let expected = [("db_created", created.clone()), ("db_updated", updated), ("db_deleted", created["id"].clone())];
            assert_events(&mut owner, &channel, &expected).await;
            assert_events(&mut second, &channel, &expected).await;
            assert_events(&mut of_account, &channel, if account { &expected } else { &[] }).await;
            assert_events(&mut outsider, &channel, if everyone { &expected } else { &[] }).await;
        }
    }

    async fn each_document_of_a_bulk_is_an_event(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut member = Connection::member(transport, &ann, "db-tasks").await;

        ann.post("/db/tasks?bulk=1", json!([{ "n": 1 }, { "n": 2 }, { "n": 3 }])).await;
        ann.put("/db/tasks?bulk=1", json!({ "update": { "seen": true }, "clauses": [["n", ">", 1]] })).await.ok();
        // [["n",">",2]]
        ann.delete("/db/tasks?bulk=1&x=W1sibiIsIj4iLDJdXQ%3D%3D").await.ok();

        let seen = eventually_events(&mut member, 6).await;
        assert_eq!(of_type(&seen, "db_created").len(), 3, "{seen:?}");
        assert_eq!(of_type(&seen, "db_updated").len(), 2, "{seen:?}");
        assert_eq!(of_type(&seen, "db_deleted").len(), 1, "{seen:?}");
        let last: Value = serde_json::from_str(&text(&of_type(&seen, "db_updated")[1]["data"])).unwrap();
        assert_eq!((&last["n"], &last["seen"]), (&json!(3), &json!(true)));
    }

    async fn a_connection_joins_at_most_a_hundred_channels(transport) {
        let server = shared().await;
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;
        for n in 0..100 {
            connection.join(&format!("channel-{n}")).await;
        }

        connection.say("join", "one-too-many", "").await;

        let answer = connection.until(|message| message["type"] == "ok" || message["type"] == "error").await;
        assert_eq!(answer["type"], "error", "{answer}");
        connection.join("channel-5").await;
        assert!(server.is_well());
    }

    async fn the_name_of_a_channel_is_bounded(transport) {
        let ann = Tenant::new().await.user("ann").await;
        let mut connection = Connection::of(transport, &ann).await;

        connection.say("join", &"n".repeat(10_000), "").await;

        let answer = connection.until(|message| message["type"] == "ok" || message["type"] == "error").await;
        assert_eq!(answer["type"], "error");
    }

    async fn a_flood_is_slowed_down_and_others_are_served(transport) {
        let tenant = Tenant::new().await;
        let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
        let mut attacker = Connection::member(transport, &ann, "flood").await;
        let mut good = Connection::member(transport, &bob, "lobby").await;

        for n in 0..600 {
            let message = json!({ "sid": attacker.sid, "token": attacker.token, "type": "chan_in", "data": n.to_string(), "channel": "flood" });
            attacker.try_send(message).await;
        }
        let started = std::time::Instant::now();
        good.say("chan_in", "hello", "lobby").await;
        good.until_type("chan_out").await;

        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let mut refused = false;
        while let Some(message) = attacker.next().await {
            if message["type"] == "error" {
                refused = true;
                break;
            }
        }
        // Closed, or told that it is too much.
        assert!(refused || attacker.next().await.is_none());
    }

    async fn a_user_who_is_removed_is_disconnected(transport) {
        let tenant = Tenant::new().await;
        let ann = tenant.user("ann").await;
        let colleague = tenant.colleague_of(&ann).await;
        let mut removed = Connection::member(transport, &colleague, "lobby").await;

        ann.delete(&format!("/account/users/{}", colleague.id)).await.ok();

        let me = colleague.get("/me").await;
        assert_eq!(me.status, 400, "the session has ended: {}", me.text());
        // Within 60 seconds; messages and the end both count.
        let end = async { while removed.next().await.is_some() {} };
        assert!(tokio::time::timeout(Duration::from_secs(70), end).await.is_ok(), "the stream is still open");
    }
}

/// Checks which document events a member has received, in this order.
async fn assert_events(member: &mut Connection, channel: &str, expected: &[(&str, Value)]) {
    let seen = eventually_events(member, expected.len()).await;
    let events: Vec<&Value> = seen.iter().filter(|message| text(&message["type"]).starts_with("db_")).collect();
    assert_eq!(events.len(), expected.len(), "{channel}: {events:?}");
    for (event, (r#type, data)) in events.iter().zip(expected) {
        assert_eq!((&event["type"], &event["channel"]), (&json!(r#type), &json!(channel)));
        assert_eq!(serde_json::from_str::<Value>(&text(&event["data"])).unwrap(), *data, "{event}");
    }
}

/// What a member has received, once as many document events are among it.
async fn eventually_events(member: &mut Connection, count: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        seen.extend(member.so_far().await);
        if seen.iter().filter(|message| text(&message["type"]).starts_with("db_")).count() >= count {
            return seen;
        }
        seen.push(member.next().await.expect("the connection stays open"));
    }
}

#[tokio::test]
async fn members_meet_over_both_transports() {
    let tenant = Tenant::new().await;
    let (ann, bob): (User, User) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut over_sse = Connection::member(Transport::Sse, &ann, "lobby").await;
    let mut over_websocket = Connection::member(Transport::WebSocket, &bob, "lobby").await;
    let (from_sse, from_websocket) = (fresh("sse"), fresh("websocket"));

    over_sse.say("chan_in", &from_sse, "lobby").await;
    let first = over_websocket.until_type("chan_out").await;
    over_websocket.say("chan_in", &from_websocket, "lobby").await;
    let second = over_sse.until(|message| message["data"] == json!(from_websocket)).await;

    assert_eq!((&first["data"], &first["sid"]), (&json!(from_sse), &json!(over_sse.sid)));
    assert_eq!((&second["type"], &second["sid"]), (&json!("chan_out"), &json!(over_websocket.sid)));
}
