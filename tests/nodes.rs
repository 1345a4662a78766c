//! Several nodes with one Postgres: whatever is done on one is the same on the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use chrono::Utc;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{
    Connection, Nodes, Tenant, Transport, User, eventually, fresh, nodes::stored, on_every_transport,
    postgres::Cluster, text, thimble,
};

/// Two nodes that tests share which stop neither; each test has an app of its own.
async fn two() -> &'static Nodes {
    static SHARED: OnceCell<Nodes> = OnceCell::const_new();
    SHARED.get_or_init(|| Nodes::with(2, "[tasks]\nleast_every_s = 1\n")).await
}

/// An app on the two nodes.
async fn app() -> [Tenant; 2] {
    two().await.tenant().await.try_into().unwrap_or_else(|_| panic!("there are two nodes"))
}

/// Two users, one of them to be used on each node.
async fn ann_and_ben(one: &Tenant, two: &Tenant) -> (User, User) {
    (one.user("ann").await, two.user("ben").await)
}

async fn publish(tenant: &Tenant, channel: &str, data: &str) {
    let message = json!({ "channel": channel, "type": "told", "data": data });
    assert_eq!(tenant.root.post("/publish", message).await.ok(), true);
}

/// What members are told, until there are so many.
async fn data(member: &mut Connection, kind: &str, number: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < number {
        data.push(text(&member.until_type(kind).await["data"]));
    }
    data
}

async fn presence(member: &mut Connection, channel: &str) -> String {
    member.say("presence", channel, "").await;
    text(&member.until_type("presence").await["data"])
}

fn numbers(number: usize) -> Vec<String> {
    (0..number).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_session_and_a_root_token_are_the_same_on_every_node() {
    let [one, two] = app().await;
    let ann = one.user("ann").await;

    let there = two.whoever_has(ann.session()).await;

    assert_eq!((&there.id, &there.account), (&ann.id, &ann.account));
    assert_eq!(two.login(&ann.email).await.id, ann.id);
    let id = ann.create_id("tasks", json!({ "title": "swept" })).await;
    assert_eq!(there.get(&format!("/db/tasks/{id}")).await.ok()["title"], "swept");
    assert_eq!(two.root.get("/db/tasks").await.ok()["total"], 1);
    assert_eq!(two.root.get(&format!("/sudogettoken/{}", ann.account)).await.status, 200);
}

#[tokio::test]
async fn of_nodes_that_start_at_once_one_makes_the_first_app() {
    let cluster = Cluster::shared().await;
    let url = cluster.url(&cluster.database().await);
    let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());

    let starting = (0..3).map(|_| {
        let command = thimble(["serve"]).with(&["--database", &url]).variable("THIMBLE_MASTER_KEY", &key);
        command.serve()
    });
    let servers = join_all(starting).await;

    let shown = |what: &str| servers.iter().filter(|server| server.output().contains(what)).count();
    eventually("the keys are shown", async || (shown("Root token") + shown("Operator token") >= 2).then_some(())).await;
    assert_eq!((shown("Root token"), shown("Operator token")), (1, 1));
}

#[tokio::test]
async fn functions_are_live_on_every_node_within_a_second() {
    let [one, two] = app().await;
    let says = |n: u32| format!("function handle() {{ return {n}; }}");
    let answer = async |name: &str| two.exec(name, json!({})).await;

    one.add("hello", "web", &says(1)).await;
    assert_eq!(answer("hello").await.ok(), 1, "at once, since nothing of that name is known there");
    one.update("hello", "web", &says(2)).await;
    soon("the update is live", async || answer("hello").await.ok() == 2).await;
    one.root.post("/fn/rollback/hello", json!({})).await.ok();
    soon("the rollback is live", async || answer("hello").await.ok() == 1).await;
    one.root.delete("/fn/delete/hello").await.ok();
    soon("the deletion is live", async || answer("hello").await.status == 404).await;

    // Whoever goes on at another node does not act on what was before.
    one.add("again", "web", &says(1)).await;
    two.update("again", "web", &says(2)).await;
    assert_eq!(one.update("again", "web", &says(3)).await["version"], 3);
    assert_eq!(two.upload("again", "web", &says(4)).await.status, 409);
    two.root.delete("/fn/delete/again").await.ok();
    one.add("again", "web", &says(5)).await;
}

/// Waits for what takes milliseconds on a machine that has time, and must not be left to what is polled every five seconds.
async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let changed = Instant::now();
    eventually(what, async || holds().await.then_some(())).await;
    assert!(changed.elapsed() < Duration::from_secs(4), "{what}: after {:?}", changed.elapsed());
}

#[tokio::test]
async fn listeners_listen_on_every_node() {
    let [one, two] = app().await;
    let code = "function handle(channel, type, data) { create(\"heard\", { data: String(data) }); }";
    one.add("listener", "news", code).await;

    let heard = async |tenant: &Tenant, channel: &str, data: &str| {
        eventually("the function has run for a message to either node", async || {
            publish(tenant, channel, data).await;
            stored(&one, "heard", "data").await.contains(&data.to_owned()).then_some(())
        })
        .await;
    };
    heard(&two, "news", "1").await;
    two.update("listener", "weather", code).await;
    heard(&one, "weather", "2").await;
    publish(&one, "news", "not any more").await;
    heard(&one, "weather", "3").await;
    assert!(!stored(&one, "heard", "data").await.contains(&"not any more".to_owned()));
}

#[tokio::test]
async fn what_nobody_was_told_of_is_found_out() {
    let nodes = two().await;
    let [one, two] = app().await;
    one.add("hello", "web", "function handle() { return 1; }").await;
    one.update("hello", "web", "function handle() { return 2; }").await;
    eventually("the second version is live", async || (two.exec("hello", json!({})).await.ok() == 2).then_some(()))
        .await;

    // As if the notice had been lost.
    let tenant = &one.key;
    nodes.execute(&format!("update functions set version = 1 where tenant = '{tenant}'")).await;
    nodes.execute(&format!("update changes set version = version + 1, at = now() where tenant = '{tenant}'")).await;

    for tenant in [&one, &two] {
        eventually("it is found out", async || (tenant.exec("hello", json!({})).await.ok() == 1).then_some(())).await;
    }
}

on_every_transport! {
    async fn members_on_all_nodes_hear_each_other(transport) {
        let [one, two] = app().await;
        let (ann, ben) = ann_and_ben(&one, &two).await;
        let mut here = Connection::member(transport, &ann, "lobby").await;
        let mut there = Connection::member(transport, &ben, "lobby").await;

        let joined = here.until(|message| message["type"] == "joined" && message["data"] == there.sid).await;
        assert_eq!(joined["channel"], "lobby");
        assert_eq!((presence(&mut here, "lobby").await, presence(&mut there, "lobby").await), ("2".into(), "2".into()));

        here.say("chan_in", "hello", "lobby").await;
        let heard = there.until_type("chan_out").await;
        assert_eq!((&heard["data"], &heard["sid"], &heard["token"]), (&json!("hello"), &json!(here.sid), &json!("")));
        there.say("chan_in", "hello yourself", "lobby").await;
        here.until(|message| message["type"] == "chan_out" && message["data"] == "hello yourself").await;
        publish(&two, "lobby", "by a server").await;
        assert_eq!(here.until_type("told").await["data"], "by a server");
        assert_eq!(there.until_type("told").await["data"], "by a server");

        drop(there);
        eventually("whoever has gone is not counted", async || {
            (presence(&mut here, "lobby").await == "1").then_some(())
        })
        .await;
    }

    async fn messages_of_a_node_come_in_its_order_and_once(transport) {
        let [one, two] = app().await;
        let (ann, ben) = ann_and_ben(&one, &two).await;
        let mut there = Connection::member(transport, &ben, "lobby").await;
        let mut elsewhere = Connection::member(transport, &ann, "other").await;

        for n in numbers(100) {
            publish(&one, "lobby", &n).await;
        }
        publish(&one, "other", "last").await;

        assert_eq!(data(&mut there, "told", 100).await, numbers(100));
        assert_eq!(data(&mut elsewhere, "told", 1).await, ["last"]);
        assert!(!there.so_far().await.iter().any(|message| message["type"] == "told"));
    }

    async fn large_messages_cross_as_well(transport) {
        let [one, two] = app().await;
        let (ann, ben) = ann_and_ben(&one, &two).await;
        let mut here = Connection::member(transport, &ann, "db-large_774_").await;
        let mut there = Connection::member(transport, &ben, "lobby").await;
        let message = "ä\u{1F600}\\\"\n".repeat(6_000);
        let document = "x".repeat(400_000);

        publish(&one, "lobby", "before").await;
        publish(&one, "lobby", &message).await;
        publish(&one, "lobby", "after").await;
        ben.create("large_774_", json!({ "text": document })).await;

        assert_eq!(data(&mut there, "told", 3).await, ["before", &message, "after"]);
        let created = here.until_type("db_created").await;
        let created: Value = serde_json::from_str(&text(&created["data"])).unwrap();
        assert_eq!(created["text"], document);
    }

    async fn only_those_hear_of_a_document_who_may_read_it(transport) {
        let [one, two] = app().await;
        let (ann, ben) = ann_and_ben(&one, &two).await;
        let colleague = one.colleague_of(&ann).await;

        for (collection, hearing) in [("x_700_", [true, false, false]), ("y", [true, true, false]), ("z_774_", [true; 3])] {
            let channel = format!("db-{collection}");
            let mut members = Vec::new();
            for user in [&ann, &colleague, &ben] {
                members.push(Connection::member(transport, &two.whoever_has(user.session()).await, &channel).await);
            }

            let id = ann.create_id(collection, json!({ "n": 1 })).await;
            ann.put(&format!("/db/{collection}/{id}"), json!({ "n": 2 })).await.ok();
            ann.delete(&format!("/db/{collection}/{id}")).await.ok();
            // What comes after it on the same way.
            publish(&one, &channel, "end").await;

            for (member, hears) in members.iter_mut().zip(hearing) {
                let mut kinds = Vec::new();
                loop {
                    let message = member.next().await.unwrap();
                    match text(&message["type"]).as_str() {
                        "told" => break,
                        kind if kind.starts_with("db_") => kinds.push(kind.to_owned()),
                        _ => {}
                    }
                }
                let all = ["db_created", "db_updated", "db_deleted"];
                let expected: &[&str] = if hears { &all } else { &[] };
                assert_eq!(kinds, expected, "{collection}");
            }
        }
    }

    async fn a_channel_may_have_any_name(transport) {
        let [one, two] = app().await;
        let (ann, ben) = ann_and_ben(&one, &two).await;

        for channel in ["a\0b", "\u{1}", "'; drop table members; --", "\u{1F600}", "a b\tc"] {
            let mut there = Connection::member(transport, &ben, channel).await;
            let mut here = Connection::member(transport, &ann, channel).await;
            here.say("chan_in", channel, channel).await;

            assert_eq!(there.until_type("chan_out").await["data"], channel);
            assert_eq!(presence(&mut there, channel).await, "2");
        }
    }
}

#[tokio::test]
async fn what_functions_do_is_told_on_every_node() {
    let [one, two] = app().await;
    let (ann, ben) = ann_and_ben(&one, &two).await;
    let code = "function handle(channel, type, data) { send(\"answer\", \"to \" + data, \"answers\"); create(\"kept_774_\", {}); }";
    one.add("answers", "questions", code).await;
    let mut answers = Connection::member(Transport::WebSocket, &ben, "answers").await;
    let mut documents = Connection::member(Transport::WebSocket, &ben, "db-kept_774_").await;
    let mut asks = Connection::member(Transport::WebSocket, &ann, "questions").await;

    asks.say("chan_in", "1", "questions").await;

    assert_eq!(answers.until_type("answer").await["data"], "to 1");
    documents.until_type("db_created").await;
}

#[tokio::test]
async fn posts_reach_a_stream_on_another_node() {
    let [one, two] = app().await;
    let (ann, mallory) = (one.user("ann").await, one.user("mallory").await);
    let mut stream = Connection::open(Transport::Sse, &ann).await;
    stream.post_to(&two.anybody);
    stream.token = "nonsense".into();

    stream.say("auth", "nonsense", "").await;
    assert_eq!(stream.until_type("error").await["data"], "invalid token");
    stream.authenticate(ann.session()).await;
    stream.join("lobby").await;
    for n in numbers(20) {
        stream.say("chan_in", &n, "lobby").await;
    }
    assert_eq!(data(&mut stream, "chan_out", 20).await, numbers(20));

    // Members know each other's ids.
    for (kind, token) in [("chan_in", mallory.session()), ("chan_in", ""), ("auth", mallory.session())] {
        let forged = json!({ "sid": stream.sid, "token": token, "type": kind, "data": "forged", "channel": "lobby" });
        assert_eq!(two.anybody.post("/sse/msg", forged).await.ok(), true);
    }
    let by_nobody = json!({ "sid": "00000000-0000-4000-8000-000000000000", "type": "echo", "data": "x" });
    assert_eq!(two.anybody.post("/sse/msg", by_nobody).await.ok(), true);
    let seen = stream.so_far().await;
    assert!(!seen.iter().any(|message| message.to_string().contains("forged")), "{seen:?}");
}

#[tokio::test]
async fn a_password_that_changes_ends_sessions_on_every_node() {
    let [one, two] = app().await;
    let ann = one.user("ann").await;
    let there = two.whoever_has(ann.session()).await;
    let mut stream = Connection::member(Transport::WebSocket, &there, "lobby").await;

    let change = json!({ "email": ann.email, "oldPassword": crate::harness::PASSWORD, "newPassword": "another horse" });
    assert_eq!(ann.post("/user/changepw", change).await.status, 200);

    let changed = Instant::now();
    eventually("the session has ended there", async || (there.get("/me").await.status == 400).then_some(())).await;
    assert!(changed.elapsed() < Duration::from_secs(10), "after {:?}", changed.elapsed());
    let last = stream.until_type("error").await;
    assert!(text(&last["data"]).contains("session has ended"), "{last}");
}

#[tokio::test]
async fn quotas_count_on_all_nodes_together() {
    let [one, two] = app().await;
    let add = async |name: &str, limits: Value| {
        let code = "function handle() { return 1; }";
        one.root.post("/fn/add", json!({ "name": name, "trigger": "web", "code": code, "limits": limits })).await.ok();
    };
    let call = async |tenant: &Tenant, name: &str| tenant.exec(name, json!({})).await.status;

    add("fuel", json!({})).await;
    assert_eq!(call(&one, "fuel").await, 200);
    let fuel = one.info("fuel").await["usage"]["fuelToday"].as_u64().unwrap();
    let limit = json!({ "name": "fuel", "limits": { "fuelPerDay": fuel * 5 / 2 } });
    two.root.post("/fn/update", limit).await.ok();
    // Its own runs would be a third one.
    assert_eq!([call(&two, "fuel").await, call(&two, "fuel").await, call(&two, "fuel").await], [200, 200, 429]);

    add("rate", json!({ "rate": 10 })).await;
    let minute = || Utc::now().timestamp() / 60;
    let ran = loop {
        let (begun, mut ran) = (minute(), 0);
        for _ in 0..20 {
            ran += [call(&one, "rate").await, call(&two, "rate").await].iter().filter(|status| **status == 200).count();
        }
        if minute() == begun {
            break ran;
        }
        // It began anew in between: once more, when the next minute has begun.
        let begun = minute();
        eventually("the next minute begins", async || (minute() > begun).then_some(())).await;
    };
    assert!((10..=12).contains(&ran), "{ran} ran");
}

#[tokio::test]
async fn what_the_operator_sets_holds_on_every_node() {
    let operator = two().await.operator().await;
    let [one, two] = app().await;
    let name = two.function("function handle() { return 1; }").await;
    assert_eq!(two.exec(&name, json!({})).await.status, 200);

    operator.put(&format!("/account/quota/{}", one.key), json!({ "fuelPerDay": 1 })).await.ok();
    eventually("it holds there", async || (two.exec(&name, json!({})).await.status == 429).then_some(())).await;
    operator.put(&format!("/account/quota/{}", one.key), json!({})).await.ok();
    eventually("and no more", async || (two.exec(&name, json!({})).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_tick_is_done_once_whichever_node_has_the_task() {
    let [one, two] = app().await;
    let task = fresh("task");
    one.add("ticks", "ticks", "function handle() { create(\"ticked\", {}); }").await;
    let body = json!({ "name": task, "type": "function", "value": "ticks", "interval": "@every 1s" });
    two.root.post("/task", body).await.ok();

    let history =
        async || one.root.get(&format!("/task/{task}/history")).await.ok().as_array().cloned().unwrap_or_default();
    eventually("it has ticked five times", async || (history().await.len() >= 5).then_some(())).await;

    let mut due = BTreeMap::new();
    for entry in history().await {
        *due.entry(text(&entry["due"])).or_insert(0) += 1;
    }
    assert!(due.values().all(|number| *number == 1), "{due:?}");
    one.root.delete(&format!("/task/{task}")).await.ok();
}

#[tokio::test]
async fn a_node_that_is_alone_tells_nobody_anything() {
    let mut nodes = Nodes::start(1).await;
    let one = nodes.tenant().await.remove(0);
    let ann = one.user("ann").await;
    let mut here = Connection::member(Transport::WebSocket, &ann, "lobby").await;

    for n in numbers(20) {
        publish(&one, "lobby", &n).await;
    }

    assert_eq!(data(&mut here, "told", 20).await, numbers(20));
    assert_eq!(nodes.value("select count(*) from members").await, 0);
    assert_eq!(nodes.value("select count(*) from relayed").await, 0);

    // Whoever comes later finds the members there are.
    let there = nodes.add().await;
    let two = Tenant::with(nodes.server(there), &one.key, one.root_token());
    publish(&two, "lobby", "hello").await;
    assert_eq!(data(&mut here, "told", 1).await, ["hello"]);
    let mut there = Connection::member(Transport::WebSocket, &two.whoever_has(ann.session()).await, "lobby").await;
    assert_eq!(presence(&mut there, "lobby").await, "2");

    // And when it has gone, there is nobody again.
    nodes.stop(1).await;
    eventually("nothing is told any more", async || {
        (nodes.value("select count(*) from members").await == 0).then_some(())
    })
    .await;
    publish(&one, "lobby", "alone").await;
    here.until(|message| message["data"] == "alone").await;
}

#[tokio::test]
async fn a_node_that_dies_is_not_counted_after_its_lease() {
    let mut nodes = Nodes::start(2).await;
    let tenants = nodes.tenant().await;
    let [one, two] = &tenants[..] else { panic!("there are two nodes") };
    let (ann, ben) = ann_and_ben(one, two).await;
    let mut here = Connection::member(Transport::WebSocket, &ann, "lobby").await;
    let _there = Connection::member(Transport::WebSocket, &ben, "lobby").await;
    assert_eq!(presence(&mut here, "lobby").await, "2");

    nodes.kill(1).await;

    eventually("only who is there is counted", async || (presence(&mut here, "lobby").await == "1").then_some(()))
        .await;
}

#[tokio::test]
async fn what_a_node_misses_while_it_does_not_listen_it_hears_afterwards() {
    let nodes = Nodes::start(2).await;
    let tenants = nodes.tenant().await;
    let [one, two] = &tenants[..] else { panic!("there are two nodes") };
    let ben = two.user("ben").await;
    let mut there = Connection::member(Transport::WebSocket, &ben, "lobby").await;

    // The connections that listen are lost, again and again.
    let cut = async || {
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and query ilike 'listen%'";
        nodes.execute(cut).await;
    };
    for n in 0..100 {
        if n % 20 == 0 {
            cut().await;
        }
        publish(one, "lobby", &n.to_string()).await;
    }

    assert_eq!(data(&mut there, "told", 100).await, numbers(100));
    assert!(nodes.are_well());
}

#[tokio::test]
async fn nodes_go_on_after_the_database_was_killed() {
    let cluster = Cluster::start(None, &[]);
    let nodes = Nodes::on(&cluster, 2, "", &[]).await;
    let tenants = nodes.tenant().await;
    let [one, two] = &tenants[..] else { panic!("there are two nodes") };
    let (ann, ben) = ann_and_ben(one, two).await;
    let mut here = Connection::member(Transport::WebSocket, &ann, "lobby").await;
    let mut there = Connection::member(Transport::WebSocket, &ben, "lobby").await;

    cluster.kill();
    eventually("it is noticed", async || (one.anybody.get("/readyz").await.status != 200).then_some(())).await;
    // Those on the same node hear each other meanwhile, the others afterwards.
    here.say("chan_in", "while it is away", "lobby").await;
    here.until(|message| message["type"] == "chan_out" && message["data"] == "while it is away").await;
    eventually("the database is back", async || {
        // Not at once: what is left of the old one has to end.
        cluster.restart();
        (one.anybody.get("/readyz").await.status == 200).then_some(())
    })
    .await;

    there.until(|message| message["type"] == "chan_out" && message["data"] == "while it is away").await;
    there.say("chan_in", "back again", "lobby").await;
    here.until(|message| message["type"] == "chan_out" && message["data"] == "back again").await;
    eventually("members are counted again", async || (presence(&mut here, "lobby").await == "2").then_some(())).await;
    one.add("hello", "web", "function handle() { return 1; }").await;
    assert_eq!(two.exec("hello", json!({})).await.ok(), 1);
    assert!(nodes.are_well());
}

#[tokio::test]
async fn a_node_that_dies_loses_nothing() {
    let mut nodes = Nodes::start(3).await;
    let tenants = nodes.tenant().await;
    let code = "function handle(channel, type, document) {
        const end = Date.now() + 20;
        while (Date.now() < end);
        create(\"echoes\", { of: document.n });
        send(\"echo\", document.n, \"echoes\");
    }";
    tenants[0].add("echo", "db-orders", code).await;
    let ben = tenants[0].user("ben").await;
    let mut listener = Connection::member(Transport::WebSocket, &ben, "echoes").await;
    for tenant in &tenants {
        eventually("the function is known", async || {
            (tenant.root.get("/fn/info/echo").await.status == 200).then_some(())
        })
        .await;
    }

    // Each node takes orders, and the last one dies in the middle of them.
    let order = async |tenant: &Tenant, n: String| {
        let request = tenant.root.request(reqwest::Method::POST, "/db/orders").json(&json!({ "n": n })).send().await;
        request.is_ok_and(|answer| answer.status() == 201).then_some(n)
    };
    let orders = |number: usize| {
        let (tenants, order) = (&tenants, &order);
        async move {
            let mut taken = Vec::new();
            for n in 0..40 {
                taken.extend(order(&tenants[number], format!("{number}-{n}")).await);
            }
            taken
        }
    };
    let dying = async {
        eventually("the last one has taken some", async || {
            let taken = stored(&tenants[0], "orders", "n").await;
            (taken.iter().filter(|n| n.starts_with("2-")).count() >= 15).then_some(())
        })
        .await;
        nodes.kill(2).await;
    };
    let (first, second, third, ()) = tokio::join!(orders(0), orders(1), orders(2), dying);

    assert_eq!((first.len(), second.len()), (40, 40), "the others do not notice");
    assert!((10..40).contains(&third.len()), "it died in the middle: {}", third.len());
    let taken = [first, second, third].concat();
    let kept = stored(&tenants[0], "orders", "n").await;
    assert!(taken.iter().all(|n| kept.contains(n)));
    // Its claims are taken over after its lease, which is 20 seconds.
    let mut echoes = eventually("the function has run for each", async || {
        let echoes = stored(&tenants[1], "echoes", "of").await;
        (echoes.len() >= kept.len()).then_some(echoes)
    })
    .await;
    echoes.sort_unstable();
    let mut expected = kept;
    expected.sort_unstable();
    assert_eq!(echoes, expected, "once for each, whoever ran it");
    // What the dead node was about to tell may be missing, and nothing of the others.
    let mut told = BTreeSet::new();
    while told.iter().filter(|n: &&String| !n.starts_with("2-")).count() < 80 {
        told.insert(text(&listener.until_type("echo").await["data"]));
    }
}

#[tokio::test]
async fn a_job_goes_on_where_its_node_has_died() {
    let mut nodes = Nodes::with(2, "[limits]\nfuel = 1_000_000_000_000\nwall_ms = 60_000\n").await;
    let tenants = nodes.tenant().await;
    let code = "function handle() {
        create(\"states\", { state: \"begun\" });
        const end = Date.now() + 2000;
        while (Date.now() < end);
        create(\"states\", { state: \"ended\" });
    }";
    tenants[0].add("slow", "web", code).await;
    let scheduled = tenants[1].root.post("/schedule", json!({ "function": "slow" })).await;
    assert_eq!(scheduled.status, 201, "{}", scheduled.text());
    let states = async || stored(&tenants[0], "states", "state").await;
    eventually("it has begun", async || states().await.contains(&"begun".to_owned()).then_some(())).await;

    nodes.kill(1).await;

    // Its lease is 30 seconds.
    eventually("it has ended", async || states().await.contains(&"ended".to_owned()).then_some(())).await;
    eventually("the job is done", async || {
        (tenants[0].root.get("/schedule").await.ok()[0]["state"] == "done").then_some(())
    })
    .await;
}

#[tokio::test]
async fn mails_are_sent_by_one_node_each() {
    let sink = crate::mail::Sink::open().await;
    let smtp = format!("smtp://{}", sink.address);
    let nodes = Nodes::on(Cluster::shared().await, 2, "", &[("THIMBLE_SMTP", &smtp)]).await;
    let tenants = nodes.tenant().await;
    let code = "function handle(body) { return email({ to: body.to, subject: \"s\", textBody: body.to }); }";
    tenants[0].add("mails", "web", code).await;

    let to: Vec<String> = (0..20).map(|n| format!("{n}@example.com")).collect();
    join_all(to.iter().enumerate().map(|(n, to)| {
        let tenant = &tenants[n % 2];
        async move { assert_eq!(tenant.exec("mails", json!({ "to": to })).await.ok()["ok"], true) }
    }))
    .await;

    eventually("all are sent", async || {
        let query = "select count(*) from mails where sent is not null";
        (nodes.value(query).await == to.len() as i64).then_some(())
    })
    .await;
    assert_eq!(sink.received(to.len()).await.len(), to.len());
}
