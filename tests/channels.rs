//! Messages of functions, and functions that messages start: channels, types, arguments and identities.

use serde_json::{Value, json};

use crate::harness::{Connection, Tenant, Transport, eventually, fresh, text};

/// The first run of a function, once there is one.
async fn run_of(tenant: &Tenant, name: &str) -> Value {
    eventually(&format!("{name} runs"), async || tenant.runs(name).await.into_iter().next()).await
}

/// The arguments that a function logged as JSON.
async fn arguments(tenant: &Tenant, name: &str) -> Value {
    let run = run_of(tenant, name).await;
    serde_json::from_str(&text(&run["output"][1])).unwrap_or_else(|_| panic!("{run}"))
}

const NOTE: &str = "function handle(channel, type, data) { log(JSON.stringify([...arguments])); }";
const NOTE_ONE: &str = "function handle(message) { log(JSON.stringify([...arguments])); }";
const NOTE_ANY: &str = "function handle() { log(JSON.stringify([...arguments])); }";

#[tokio::test]
async fn a_function_publishes_to_the_members_of_a_channel() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "news").await;
    let name = tenant
        .function(
            r#"function handle() {
                return [publish("news", "headline", { title: "☕", n: 1 }), send("older", { title: "sent" }, "news")];
            }"#,
        )
        .await;

    let answer = tenant.exec(&name, json!({})).await.ok();

    assert_eq!((&answer[0]["ok"], &answer[1]["ok"]), (&json!(true), &json!(true)), "{answer}");
    let published = member.until_type("headline").await;
    assert_eq!(published["channel"], "news");
    assert_eq!(json_of(&published["data"]), json!({ "title": "☕", "n": 1 }));
    assert_eq!(published["sid"], tenant.info(&name).await["id"]);
    assert_eq!(published["token"], "");
    assert_eq!(json_of(&member.until_type("older").await["data"]), json!({ "title": "sent" }));
}

#[tokio::test]
async fn chan_in_that_is_published_arrives_as_chan_out() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "lobby").await;

    tenant.root.post("/publish", json!({ "channel": "lobby", "type": "chan_in", "data": "hello" })).await.ok();
    tenant.value(r#"function handle() { return publish("lobby", "chan_in", { from: "function" }).ok; }"#).await;

    let first = member.until_type("chan_out").await;
    let second = member.until_type("chan_out").await;
    assert_eq!((&first["data"], &first["sid"]), (&json!("hello"), &json!("user-msg")));
    assert_eq!(json_of(&second["data"]), json!({ "from": "function" }));
}

#[tokio::test]
async fn the_platform_speaks_for_itself_only() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "lobby").await;
    tenant.add("stored", "db_created", NOTE_ONE).await;
    let code = r#"function handle() {
        const types = ["db_created", "db_updated", "db_deleted", "joined", "init", "token", "ok", "error", "fn_call", "http_response"];
        const channels = ["db-tasks", "DB-tasks", "web", "chan_out", "join", "db_created", "before:create"];
        return [...types.map(type => publish("lobby", type, {}).ok), ...channels.map(channel => publish(channel, "t", {}).ok)];
    }"#;
    let name = tenant.function(code).await;

    let answer = ann.exec(&name, json!({})).await.ok();

    assert!(answer.as_array().unwrap().iter().all(|ok| ok == false), "{answer}");
    for (channel, r#type) in
        [("lobby", "db_created"), ("lobby", "token"), ("lobby", "joined"), ("db-tasks", "t"), ("web", "t")]
    {
        let message = json!({ "channel": channel, "type": r#type, "data": "1" });
        let refusal = ann.post("/publish", message).await;
        assert!(matches!(refusal.status, 400 | 403), "{channel} {}: {} {}", r#type, refusal.status, refusal.text());
    }
    let system = ["db_created", "token", "init", "error", "fn_call"];
    let seen = member.so_far().await;
    assert!(!seen.iter().any(|message| system.iter().any(|name| message["type"] == *name)), "{seen:?}");
    assert_eq!(tenant.runs("stored").await.len(), 0);
}

#[tokio::test]
async fn both_addresses_publish_for_root_and_for_users() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "news").await;

    for path in ["/publish", "/publish-message"] {
        for (caller, who) in [(&tenant.root, "root"), (&*ann, "ann")] {
            let data = json!({ "by": who, "path": path }).to_string();
            let published = caller.post(path, json!({ "channel": "news", "type": "headline", "data": data })).await;
            assert_eq!(published.ok(), true, "{path} {who}");
            let message = member.until_type("headline").await;
            assert_eq!(
                (&message["data"], &message["channel"], &message["sid"]),
                (&json!(data), &json!("news"), &json!("user-msg"))
            );
            assert!(
                !message.to_string().contains(tenant.root_token()) && !message.to_string().contains(ann.session()),
                "{message}"
            );
        }
        assert_eq!(tenant.anybody.post(path, json!({ "channel": "news", "type": "t", "data": "1" })).await.status, 401);
    }
}

#[tokio::test]
async fn what_is_published_has_a_channel_a_type_and_text() {
    let tenant = Tenant::new().await;
    let bodies = [
        json!({ "channel": "news", "type": "t", "data": { "a": 1 } }),
        json!({ "channel": "news", "type": "t", "data": 1 }),
        json!({ "channel": "news", "type": "t", "data": null }),
        json!({ "channel": 1, "type": "t", "data": "1" }),
        json!({ "channel": "news", "type": [], "data": "1" }),
        json!({ "channel": "", "type": "t", "data": "1" }),
        json!([]),
        json!("text"),
    ];

    for body in bodies {
        let answer = tenant.root.post("/publish", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    assert_eq!(tenant.root.post_raw("/publish", "application/json", "{").await.status, 400);
}

#[tokio::test]
async fn a_function_listens_to_a_channel_or_to_a_type() {
    let tenant = Tenant::new().await;
    tenant.add("by-channel", "news", NOTE).await;
    tenant.add("by-type", "headline", NOTE).await;
    tenant.add("by-neither", "weather", NOTE).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "headline", "data": "{\"n\":1}" })).await.ok();

    for name in ["by-channel", "by-type"] {
        assert_eq!(arguments(&tenant, name).await, json!(["news", "headline", { "n": 1 }]), "{name}");
        assert_eq!(tenant.runs(name).await.len(), 1, "{name}");
    }
    assert_eq!(tenant.runs("by-neither").await.len(), 0);
}

#[tokio::test]
async fn a_function_with_one_parameter_gets_the_message() {
    let tenant = Tenant::new().await;
    tenant.add("by-channel", "news", NOTE_ONE).await;
    tenant.add("by-type", "headline", NOTE_ONE).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "headline", "data": "{\"n\":1}" })).await.ok();

    for name in ["by-channel", "by-type"] {
        let arguments = arguments(&tenant, name).await;
        assert_eq!(arguments.as_array().unwrap().len(), 1, "{arguments}");
        let message = &arguments[0];
        assert_eq!((&message["channel"], &message["type"]), (&json!("news"), &json!("headline")), "{name}");
        assert_eq!(message["data"], "{\"n\":1}", "the text as it was sent");
    }
}

#[tokio::test]
async fn a_function_without_parameters_gets_what_its_trigger_means() {
    let tenant = Tenant::new().await;
    tenant.add("by-channel", "news", NOTE_ANY).await;
    tenant.add("by-type", "headline", NOTE_ANY).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "headline", "data": "{\"n\":1}" })).await.ok();

    assert_eq!(arguments(&tenant, "by-channel").await, json!(["news", "headline", { "n": 1 }]));
    let by_type = arguments(&tenant, "by-type").await;
    assert_eq!((&by_type[0]["type"], &by_type[0]["data"]), (&json!("headline"), &json!("{\"n\":1}")));
}

#[tokio::test]
async fn data_that_is_not_json_arrives_as_text() {
    let tenant = Tenant::new().await;
    tenant.add("listener", "news", NOTE).await;

    for data in ["plain text", "{broken", "", "☕"] {
        tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": data })).await.ok();
    }

    let runs = eventually("all four have run", async || {
        let runs = tenant.runs("listener").await;
        (runs.len() == 4).then_some(runs)
    })
    .await;
    let seen: Vec<Value> =
        runs.iter().map(|run| serde_json::from_str::<Value>(&text(&run["output"][1])).unwrap()[2].clone()).collect();
    assert_eq!(seen, ["plain text", "{broken", "", "☕"]);
    assert!(runs.iter().all(|run| run["outcome"] == "ok"));
}

#[tokio::test]
async fn several_functions_on_one_trigger_each_run_once() {
    let tenant = Tenant::new().await;
    for name in ["one", "two", "three"] {
        tenant.add(name, "news", NOTE).await;
    }

    for n in 0..10 {
        tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": n.to_string() })).await.ok();
    }

    for name in ["one", "two", "three"] {
        let runs = eventually(&format!("{name} has run ten times"), async || {
            let runs = tenant.runs(name).await;
            (runs.len() >= 10).then_some(runs)
        })
        .await;
        let seen: Vec<Value> = runs
            .iter()
            .map(|run| serde_json::from_str::<Value>(&text(&run["output"][1])).unwrap()[2].clone())
            .collect();
        assert_eq!(seen, (0..10).map(|n| json!(n)).collect::<Vec<_>>(), "{name}: in order, each once");
    }
}

#[tokio::test]
async fn a_message_runs_functions_of_its_tenant_only() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    tenant.add("listener", "news", NOTE).await;
    other.add("listener", "news", NOTE).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "1" })).await.ok();

    run_of(&tenant, "listener").await;
    assert_eq!(other.runs("listener").await.len(), 0);
}

#[tokio::test]
async fn a_function_runs_as_whoever_caused_the_message() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let code = "function handle(channel, type, data) { create(\"made\", { by: data }); }";
    tenant.add("maker", "news", code).await;

    ann.post("/publish", json!({ "channel": "news", "type": "t", "data": "\"ann\"" })).await.ok();
    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "\"root\"" })).await.ok();

    let made = eventually("both documents are made", async || {
        let page = tenant.root.get("/db/made").await.ok();
        (page["total"] == 2).then(|| page["results"].clone())
    })
    .await;
    assert_eq!((&made[0]["by"], &made[0]["accountId"]), (&json!("ann"), &json!(ann.account)));
    assert_eq!(made[1]["by"], "root");
    assert_ne!(made[1]["accountId"], json!(ann.account));
}

#[tokio::test]
async fn a_function_that_is_started_by_a_function_runs_as_the_first_caller() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let first = tenant.function("function handle() { return publish(\"second\", \"t\", 1).ok; }").await;
    tenant.add("second", "second", "function handle(channel, type, data) { create(\"made\", { data }); }").await;

    assert_eq!(ann.exec(&first, json!({})).await.ok(), true);

    let made = eventually("the second has run", async || {
        let page = ann.get("/db/made").await.ok();
        (page["total"] == 1).then(|| page["results"][0].clone())
    })
    .await;
    assert_eq!(made["accountId"], json!(ann.account));
    let (one, two) = (tenant.last_run(&first).await, run_of(&tenant, "second").await);
    assert_eq!(one["traceId"], two["traceId"]);
}

#[tokio::test]
async fn a_message_can_change_a_document() {
    // As the reference's own tests have it.
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let document = ann.create("tasks", json!({ "title": "a", "done": false })).await;
    let code = r#"function handle(channel, type, data) {
        if (type !== "do-something-custom") { log("ERROR " + type); return; }
        const res = update("tasks", data.id, { done: true });
        if (!res.ok) log("ERROR " + res.content);
    }"#;
    tenant.add("custom", "custom-channel", code).await;

    let message = json!({ "channel": "custom-channel", "type": "do-something-custom", "data": document.to_string() });
    ann.post("/publish-message", message).await.ok();

    let run = run_of(&tenant, "custom").await;
    assert!(!run["output"].to_string().contains("ERROR"), "{run}");
    assert_eq!(ann.get(&format!("/db/tasks/{}", text(&document["id"]))).await.ok()["done"], true);
}

#[tokio::test]
async fn a_change_of_a_document_starts_the_functions_of_its_collection() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let code = r#"function handle(channel, type, data) {
        log(JSON.stringify([channel, type, data]));
        if (type === "db_created") {
            const res = update("coltrigger", data.id, { touched: true });
            if (!res.ok) log("ERROR " + res.content);
        }
    }"#;
    tenant.add("watcher", "db-coltrigger", code).await;
    tenant.add("other-collection", "db-elsewhere", NOTE).await;

    let created = ann.create("coltrigger", json!({ "title": "a" })).await;
    let path = format!("/db/coltrigger/{}", text(&created["id"]));
    let touched = eventually("the function changes the document", async || {
        let document = ann.get(&path).await.ok();
        (document["touched"] == true).then_some(document)
    })
    .await;
    ann.delete(&path).await.ok();

    let runs = eventually("created, updated and deleted", async || {
        let runs = tenant.runs("watcher").await;
        (runs.len() == 3).then_some(runs)
    })
    .await;
    let events: Vec<Value> = runs.iter().map(|run| serde_json::from_str(&text(&run["output"][1])).unwrap()).collect();
    assert_eq!(events[0], json!(["db-coltrigger", "db_created", created]));
    assert_eq!(events[1], json!(["db-coltrigger", "db_updated", touched]));
    assert_eq!(events[2], json!(["db-coltrigger", "db_deleted", created["id"]]));
    assert!(runs.iter().all(|run| run["outcome"] == "ok" && !run["output"].to_string().contains("ERROR")), "{runs:?}");
    assert_eq!(tenant.runs("other-collection").await.len(), 0);
}

#[tokio::test]
async fn every_way_to_change_a_document_is_an_event() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    for event in ["db_created", "db_updated", "db_deleted"] {
        tenant.add(event, event, "function handle(message) { log(message.channel); }").await;
    }

    let id = ann.create_id("tasks", json!({ "n": 1 })).await;
    ann.post("/db/tasks?bulk=1", json!([{ "n": 2 }, { "n": 3 }])).await;
    tenant.root.post("/sudo/tasks", json!({ "n": 4 })).await;
    tenant.value("function handle() { return create('tasks', { n: 5 }).ok; }").await;
    ann.put(&format!("/db/tasks/{id}"), json!({ "n": 6 })).await.ok();
    ann.put(&format!("/inc/tasks/{id}"), json!({ "field": "n", "range": 1 })).await.ok();
    ann.put("/db/tasks?bulk=1", json!({ "update": { "seen": 1 }, "clauses": [["n", "in", [2, 3]]] })).await.ok();
    ann.delete(&format!("/db/tasks/{id}")).await.ok();
    // [["seen","=",1]]
    ann.delete("/db/tasks?bulk=1&x=W1sic2VlbiIsIj0iLDFdXQ%3D%3D").await.ok();

    for (event, count) in [("db_created", 5), ("db_updated", 4), ("db_deleted", 3)] {
        let runs = eventually(&format!("{count} runs for {event}"), async || {
            let runs = tenant.runs(event).await;
            (runs.len() >= count).then_some(runs)
        })
        .await;
        assert_eq!(runs.len(), count, "{event}");
        assert!(runs.iter().all(|run| run["output"][1] == "db-tasks"), "{runs:?}");
    }
}

#[tokio::test]
async fn a_function_that_fails_does_not_keep_others_from_running() {
    let tenant = Tenant::new().await;
    tenant.add("failing", "news", "function handle(channel, type, data) { throw new Error(\"no\"); }").await;
    tenant.add("endless", "news", "function handle(channel, type, data) { for (;;); }").await;
    tenant.add("good", "news", NOTE).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "1" })).await.ok();

    assert_eq!(run_of(&tenant, "good").await["outcome"], "ok");
    assert_eq!(run_of(&tenant, "failing").await["outcome"], "error");
    assert!(matches!(run_of(&tenant, "endless").await["outcome"].as_str(), Some("fuel" | "timeout")));
}

#[tokio::test]
async fn the_history_says_what_started_a_run() {
    let tenant = Tenant::new().await;
    let name = fresh("listener");
    tenant.add(&name, "news", NOTE).await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "1" })).await.ok();

    let run = run_of(&tenant, &name).await;
    assert!(!text(&run["trigger"]).is_empty() && run["trigger"] != "web", "{run}");
}

#[tokio::test]
async fn messages_in_many_channels_run_side_by_side() {
    let tenant = Tenant::new().await;
    tenant
        .add("counter", "tick", "function handle(message) { create(\"ticks\", { channel: message.channel }); }")
        .await;

    let publishes = (0..60).map(|n| {
        tenant.root.post("/publish", json!({ "channel": format!("channel-{n}"), "type": "tick", "data": "1" }))
    });
    for answer in futures_util::future::join_all(publishes.collect::<Vec<_>>()).await {
        answer.ok();
    }

    let page = eventually("all have run", async || {
        let page = tenant.root.get("/db/ticks?size=100").await.ok();
        (page["total"] == 60).then_some(page)
    })
    .await;
    let channels: std::collections::HashSet<String> =
        page["results"].as_array().unwrap().iter().map(|tick| text(&tick["channel"])).collect();
    assert_eq!(channels.len(), 60);
}

/// The JSON that a message carries as text.
fn json_of(data: &Value) -> Value {
    serde_json::from_str(&text(data)).unwrap_or_else(|_| panic!("not JSON text: {data}"))
}
