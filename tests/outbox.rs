//! No event is lost: kept until its functions have run well, tried again, and at last a dead letter.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, eventually, fresh, text, thimble};

/// A server with short pauses between attempts.
async fn serve_in(folder: &Path) -> Server {
    let settings = "[events]\nattempts = 3\nbackoff_ms = 20\nbackoff_max_ms = 50\n";
    thimble(["serve", "--dev"]).folder(folder).settings(settings).serve().await
}

async fn publish(tenant: &Tenant, channel: &str, data: Value) {
    let message = json!({ "channel": channel, "type": "said", "data": data.to_string() });
    tenant.root.post("/publish", message).await.ok();
}

/// The documents of a collection, one field of each.
async fn stored(tenant: &Tenant, collection: &str, field: &str) -> Vec<Value> {
    let page = tenant.root.get(&format!("/db/{collection}?size=1000")).await.ok();
    let documents = page["results"].as_array().cloned().unwrap_or_default();
    documents.into_iter().map(|document| document[field].clone()).collect()
}

async fn dead(tenant: &Tenant, name: &str) -> Vec<Value> {
    tenant.root.get(&format!("/fn/dead/{name}")).await.ok().as_array().cloned().unwrap()
}

#[tokio::test]
async fn a_run_that_fails_leaves_nothing_and_is_repeated_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    // A web function changes at once: it lets the other one succeed from its second run on.
    let code = r#"function handle(channel, type, data) {
        create("steps", { n: data.n });
        send("heard", "x", "steps");
        if (list("switch").content.total === 0) throw new Error("not yet");
    }"#;
    tenant.add("steps", "lobby", code).await;

    publish(&tenant, "lobby", json!({ "n": 1 })).await;
    let failed = eventually("the first run failed", async || tenant.runs("steps").await.into_iter().next()).await;
    assert_eq!((&failed["outcome"], stored(&tenant, "steps", "n").await), (&json!("error"), vec![]));
    tenant.root.post("/db/switch", json!({})).await;

    let done = eventually("it has succeeded", async || {
        let steps = stored(&tenant, "steps", "n").await;
        (!steps.is_empty()).then_some(steps)
    })
    .await;
    assert_eq!(done, [json!(1)], "once, however many runs it took");
    let outcomes: Vec<Value> = tenant.runs("steps").await.iter().map(|run| run["outcome"].clone()).collect();
    assert!(outcomes.len() > 1 && outcomes.ends_with(&[json!("ok")]), "{outcomes:?}");
}

#[tokio::test]
async fn what_never_succeeds_is_a_dead_letter_that_can_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    let broken = "function handle(channel, type, data) { if (data.n === 1) throw new Error(\"broken\"); create(\"done\", data); }";
    tenant.add("sometimes", "lobby", broken).await;

    publish(&tenant, "lobby", json!({ "n": 1 })).await;
    publish(&tenant, "lobby", json!({ "n": 2 })).await;

    let letter = eventually("the first is a dead letter", async || dead(&tenant, "sometimes").await.pop()).await;
    assert_eq!((&letter["attempts"], &letter["channel"]), (&json!(3), &json!("lobby")));
    assert!(text(&letter["error"]).contains("broken") && text(&letter["data"]).contains("\"n\":1"), "{letter}");
    eventually("the next one passes", async || (stored(&tenant, "done", "n").await == [json!(2)]).then_some(())).await;
    let failed = tenant.runs("sometimes").await.iter().filter(|run| run["outcome"] == "error").count();
    assert_eq!(failed, 3);

    tenant.update("sometimes", "lobby", "function handle(channel, type, data) { create(\"done\", data); }").await;
    let resend = format!("/fn/dead/sometimes/{}/resend", letter["id"]);
    assert_eq!(tenant.root.post(&resend, json!({})).await.ok()["resent"], 1);
    eventually("it runs at last", async || (stored(&tenant, "done", "n").await == [json!(2), json!(1)]).then_some(()))
        .await;
    assert_eq!(dead(&tenant, "sometimes").await, Vec::<Value>::new());
    assert_eq!(tenant.root.post(&resend, json!({})).await.status, 404);
    assert_eq!(tenant.root.post("/fn/dead/sometimes/x/resend", json!({})).await.status, 400);
    assert_eq!(Tenant::on(&server).await.root.get("/fn/dead/sometimes").await.status, 404);
}

#[tokio::test]
async fn events_of_acknowledged_changes_run_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    // So slow that most events still wait when the server is killed.
    let slow = "function handle(channel, type, data) { for (let n = 0; n < 3e6; n++); create(\"seen\", { of: data.id, data: data }); }";
    tenant.add("slow", "db-tasks", slow).await;
    tenant.add("hears", "lobby", "function handle(channel, type, data) { create(\"heard\", { n: data }); }").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(tenant.root.post("/db/tasks", json!({ "n": n })).await.json()["id"].clone());
        publish(&tenant, "lobby", json!(n)).await;
    }

    server.signal("KILL");
    server.ended().await;
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::with(&server, &tenant.key, tenant.root_token());

    eventually("every event has run", async || {
        let (seen, heard) = (stored(&tenant, "seen", "of").await, stored(&tenant, "heard", "n").await);
        (seen.len() >= ids.len() && heard.len() >= 20).then_some(())
    })
    .await;
    let mut seen = stored(&tenant, "seen", "of").await;
    seen.sort_by_key(text);
    ids.sort_by_key(text);
    assert_eq!(seen, ids, "each once");
    let expected: Vec<Value> = (0..20).map(|n| json!(n)).collect();
    assert_eq!(stored(&tenant, "heard", "n").await, expected, "in the order of the channel");
    server.stop().await;
}

#[tokio::test]
async fn a_run_sees_its_own_changes_before_anybody_else_does() {
    let tenant = Tenant::new().await;
    let code = r#"function handle(channel, type, data) {
        const one = create("things", { n: 1 }).content;
        const changed = update("things", one.id, { n: 2 }).content;
        const two = create("things", { n: 10 }).content;
        const gone = del("things", two.id).content;
        const missing = getById("things", two.id).ok;
        const all = list("things").content.results.map(thing => thing.n);
        const large = query("things", [["n", ">", 1]]).content.total;
        const got = getById("things", one.id).content.n;
        create("report", { changed: changed.n, gone, missing, all, large, got });
    }"#;
    let channel = fresh("channel");
    tenant.add("sees", &channel, code).await;

    publish(&tenant, &channel, json!({})).await;

    let report = eventually("the run is committed", async || {
        tenant.root.get("/db/report").await.ok()["results"].as_array().and_then(|results| results.first().cloned())
    })
    .await;
    for (field, value) in [
        ("changed", json!(2)),
        ("gone", json!(1)),
        ("missing", json!(false)),
        ("all", json!([2])),
        ("large", json!(1)),
        ("got", json!(2)),
    ] {
        assert_eq!(report[field], value, "{field} of {report}");
    }
    assert_eq!(stored(&tenant, "things", "n").await, [json!(2)]);
}

#[tokio::test]
async fn events_that_count_lose_no_update() {
    let tenant = Tenant::new().await;
    let counter = text(&tenant.root.post("/db/counters", json!({ "n": 0 })).await.json()["id"]);
    let code = format!(
        r#"function handle() {{
            const now = getById("counters", "{counter}").content.n;
            for (let n = 0; n < 1e5; n++);
            update("counters", "{counter}", {{ n: now + 1 }});
        }}"#
    );
    tenant.add("counts", "said", &code).await;

    // Of different channels: side by side.
    for n in 0..20 {
        publish(&tenant, &format!("channel-{n}"), json!({})).await;
    }

    eventually("each has counted", async || (stored(&tenant, "counters", "n").await == [json!(20)]).then_some(()))
        .await;
}

#[tokio::test]
async fn at_most_once_is_chosen_for_a_version_and_not_repeated() {
    let tenant = Tenant::new().await;
    let (name, channel) = (fresh("once"), fresh("channel"));
    let code = "function handle() { create(\"tried\", {}); throw new Error(\"broken\"); }";
    let upload = json!({ "name": name, "trigger": channel, "code": code, "delivery": "at-most-once" });
    tenant.root.post("/fn/add", upload).await.ok();
    assert_eq!(tenant.info(&name).await["delivery"], "at-most-once");

    publish(&tenant, &channel, json!({})).await;

    eventually("it has run", async || tenant.runs(&name).await.pop()).await;
    assert_eq!(stored(&tenant, "tried", "n").await.len(), 1, "what it did has happened");
    assert_eq!(dead(&tenant, &name).await, Vec::<Value>::new());
    let refused = tenant.root.post("/fn/update", json!({ "name": name, "delivery": "twice" })).await.refused(400);
    assert!(refused.contains("at-least-once"), "{refused}");
    tenant.root.post("/fn/update", json!({ "name": name, "delivery": "at-least-once" })).await.ok();
    assert_eq!(tenant.info(&name).await["delivery"], "at-least-once");
}
