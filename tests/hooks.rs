//! Functions that run before documents are changed: what they change, what they refuse, and that nothing gets past them.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    cli::Workplace,
    harness::{
        Answer, Caller, Connection, PATIENCE, Tenant, Transport,
        component::{ECHO, guest, returning},
        eventually, fresh, repository, text, thimble,
    },
};

const CREATED: &str = "before:db_created:things";
const UPDATED: &str = "before:db_updated:things";
const DELETED: &str = "before:db_deleted:things";

const ENDLESS: &str = "function handle() { while (true) {} }";

/// Everything in a collection, as root sees it.
async fn all(tenant: &Tenant, collection: &str) -> Vec<Value> {
    let page = tenant.root.get(&format!("/db/{collection}?size=1000")).await.ok();
    page["results"].as_array().cloned().unwrap_or_default()
}

fn fields(documents: &[Value], field: &str) -> Vec<Value> {
    documents.iter().map(|document| document[field].clone()).collect()
}

async fn total(tenant: &Tenant, collection: &str) -> u64 {
    tenant.root.get(&format!("/db/{collection}?size=1")).await.ok()["total"].as_u64().unwrap()
}

/// Clauses as the query parameter of a bulk delete.
fn encoded(clauses: &Value) -> String {
    STANDARD.encode(clauses.to_string()).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[tokio::test]
async fn what_a_function_returns_is_stored_and_told_of() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let stamps = "function handle(document, before, change) {
        return { ...document, id: \"mine\", accountId: \"mine\", ownerId: \"mine\",
                 was: before && before.n, given: change.changes, type: change.type, of: change.collection };
    }";
    tenant.add("stamp", CREATED, stamps).await;
    tenant.add("again", UPDATED, stamps).await;
    tenant.add("keeps", "db-things", "function handle(channel, type, data) { create(\"kept\", { data }); }").await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "db-things").await;

    let created = ann.create("things", json!({ "n": 1 })).await;
    let path = format!("/db/things/{}", text(&created["id"]));
    let updated = ann.put(&path, json!({ "n": 2 })).await.ok();
    let incremented = ann.put(&path.replace("/db", "/inc"), json!({ "field": "n", "range": 5 })).await;

    let expected = |n: i64, was: Value, kind: &str| {
        json!({
            "id": created["id"], "accountId": ann.account, "n": n, "ownerId": "mine", "was": was, "given": { "n": n },
            "type": kind, "of": "things",
        })
    };
    assert_eq!(created, expected(1, Value::Null, "db_created"));
    assert_eq!(updated, expected(2, json!(1), "db_updated"));
    assert_eq!(incremented.ok(), true);
    assert_eq!(ann.get(&path).await.ok(), expected(7, json!(2), "db_updated"));
    let told = member.until_type("db_created").await;
    assert_eq!(serde_json::from_str::<Value>(&text(&told["data"])).unwrap(), created);
    let kept = eventually("functions hear of it", async || {
        let kept = fields(&all(&tenant, "kept").await, "data");
        (kept.len() == 3).then_some(kept)
    })
    .await;
    assert_eq!(kept, [created.clone(), updated, expected(7, json!(2), "db_updated")]);
    let run = tenant.last_run("stamp").await;
    assert_eq!((&run["trigger"], &run["outcome"]), (&json!(CREATED), &json!("ok")), "{run}");
    assert_eq!(tenant.info("stamp").await["trigger"], CREATED);
}

#[tokio::test]
async fn one_parameter_is_the_document_and_nothing_returned_changes_nothing() {
    let tenant = Tenant::new().await;
    tenant
        .add("looks", CREATED, "function handle(document) { log(arguments.length, document.n); document.n = 5; }")
        .await;
    tenant.add("agrees", UPDATED, "function handle() { return true; }").await;
    tenant
        .add(
            "mourns",
            DELETED,
            "function handle(document, before, change) { create(\"gone\", { document, before, change }); }",
        )
        .await;

    let created = tenant.root.create("things", json!({ "n": 12345678901234567_i64 })).await;
    let path = format!("/db/things/{}", text(&created["id"]));
    let updated = tenant.root.put(&path, json!({ "a": 1.0 })).await;
    assert_eq!(tenant.root.delete(&path).await.ok(), 1);

    assert_eq!(created["n"], 12345678901234567_i64);
    assert!(updated.text().contains(r#""n":12345678901234567,"a":1.0"#), "{}", updated.text());
    assert!(tenant.last_run("looks").await["output"].to_string().contains("1 12345678901234"), "it has one argument");
    let gone = all(&tenant, "gone").await.remove(0);
    assert_eq!((&gone["document"], &gone["before"]["id"]), (&gone["before"], &created["id"]));
    assert_eq!(gone["change"], json!({ "type": "db_deleted", "collection": "things", "changes": null }));
}

#[tokio::test]
async fn a_refusal_has_the_status_and_the_words_of_the_function() {
    let tenant = Tenant::new().await;
    tenant.add("refuses", CREATED, "function handle() {}").await;
    for (code, status, words) in [
        ("throw new Error(\"a thing needs a name\");", 400, "a thing needs a name"),
        ("throw \"plain text\";", 400, "plain text"),
        ("undefinedFunction();", 400, "ReferenceError"),
        ("return { status: 409, body: \"taken\" };", 409, "taken"),
        ("return { status: 422, headers: {}, body: { field: \"name\" } };", 422, "{\"field\":\"name\"}"),
        ("return { status: 500, body: \"odd\" };", 400, "odd"),
        ("return { status: 403 };", 403, "`refuses` refused it"),
        ("return { status: 429, body: \"slowly\" };", 429, "slowly"),
        ("return false;", 400, "`refuses` refused it"),
        ("return 5;", 400, "neither a document nor an answer"),
        ("return { a: \"\\u0000\" };", 400, "cannot be stored"),
        ("return { a: \"x\".repeat(1100000) };", 429, "limits.result_bytes"),
    ] {
        tenant.update("refuses", CREATED, &format!("function handle() {{ {code} }}")).await;

        let refused = tenant.root.post("/db/things", json!({ "n": 1 })).await;

        assert_eq!(refused.header("retry-after").is_empty(), status != 429, "{code}");
        let said = refused.refused(status);
        assert!(said.contains(words), "{code}: {said}");
    }
    assert_eq!(total(&tenant, "things").await, 0);
}

#[tokio::test]
async fn a_function_that_writes_is_told_of_a_refusal() {
    let tenant = Tenant::new().await;
    tenant.add("refuses", CREATED, "function handle() { return { status: 409, body: \"taken\" }; }").await;

    let answer =
        tenant.value("function handle() { return [create(\"things\", {}), create(\"others\", {}).ok]; }").await;

    assert_eq!(answer, json!([{ "ok": false, "content": "taken" }, true]));
    assert_eq!(total(&tenant, "things").await, 0);
}

/// How somebody changes documents.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Rest,
    Bulk,
    Sudo,
    SudoBulk,
    Increment,
    WebFunction,
    EventFunction,
    Task,
    Job,
    CommandLine,
}

const WAYS: [Way; 10] = [
    Way::Rest,
    Way::Bulk,
    Way::Sudo,
    Way::SudoBulk,
    Way::Increment,
    Way::WebFunction,
    Way::EventFunction,
    Way::Task,
    Way::Job,
    Way::CommandLine,
];

/// Does what its argument says, whichever that is.
const WRITER: &str = "function handle(a, b, c) {
    const { act, id, content } = [a, b, c].find((argument) => argument && argument.act);
    const done = act === \"create\" ? create(\"things\", content)
        : act === \"update\" ? update(\"things\", id, content) : del(\"things\", id);
    create(\"attempts\", { ok: done.ok });
}";

impl Way {
    /// Does one thing, whatever comes of it.
    async fn act(self, work: &Workplace, act: &str, id: &str, content: &Value) {
        let (root, order) = (&work.tenant.root, json!({ "act": act, "id": id, "content": content }));
        let clauses = json!([["id", "=", id]]);
        let prefix = if matches!(self, Self::Sudo | Self::SudoBulk) { "/sudo" } else { "/db" };
        let one = format!("{prefix}/things/{id}");
        match (self, act) {
            (Self::Rest | Self::Sudo, "create") => drop(root.post(&format!("{prefix}/things"), content.clone()).await),
            (Self::Rest | Self::Sudo, "update") => drop(root.put(&one, content.clone()).await),
            (Self::Rest | Self::Sudo, _) => drop(root.delete(&one).await),
            (Self::Bulk | Self::SudoBulk, "create") => {
                let three = json!([content, content, content]);
                drop(root.post(&format!("{prefix}/things?bulk=1"), three).await);
            }
            (Self::Bulk | Self::SudoBulk, "update") => {
                let body = json!({ "update": content, "clauses": clauses });
                drop(root.put(&format!("{prefix}/things?bulk=1"), body).await);
            }
            (Self::Bulk | Self::SudoBulk, _) => {
                drop(root.delete(&format!("{prefix}/things?bulk=1&x={}", encoded(&clauses))).await);
            }
            (Self::Increment, "update") => {
                drop(root.put(&format!("/inc/things/{id}"), json!({ "field": "n", "range": 1 })).await);
            }
            (Self::Increment, _) => unreachable!("it only updates"),
            (Self::WebFunction, _) => drop(root.exec("web-writer", order).await),
            (Self::EventFunction, _) => {
                let message = json!({ "channel": "orders", "type": "order", "data": order.to_string() });
                root.post("/publish", message).await.ok();
            }
            (Self::Task, _) => {
                let name = fresh("task");
                let task = json!({
                    "name": name, "type": "function", "value": "web-writer", "interval": "@every 1h",
                    "meta": { "data": order.to_string() },
                });
                root.post("/task", task).await.ok();
                root.post(&format!("/task/{name}/run"), json!({})).await.ok();
            }
            (Self::Job, _) => {
                let job = json!({ "function": "web-writer", "payload": order, "delay": 0 });
                assert_eq!(root.post("/schedule", job).await.status, 201);
            }
            (Self::CommandLine, "create") => {
                drop(work.run(["db", "create", "things", &content.to_string()]).await);
            }
            (Self::CommandLine, "update") => {
                drop(work.run(["db", "update", "things", id, &content.to_string()]).await);
            }
            (Self::CommandLine, _) => drop(work.run(["db", "delete", "things", id]).await),
        }
    }

    /// Whether it has happened when the call is over.
    fn is_later(self) -> bool {
        matches!(self, Self::EventFunction | Self::Task | Self::Job)
    }

    /// The same, and waits for the end of it.
    async fn acts(self, work: &Workplace, act: &str, id: &str, content: Value) {
        let tenant = &work.tenant;
        let before = total(tenant, "attempts").await;
        self.act(work, act, id, &content).await;
        if self.is_later() {
            eventually(&format!("{self:?} has tried to {act}"), async || {
                (total(tenant, "attempts").await > before).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn nothing_is_written_past_them_in_any_way() {
    let work = Workplace::new().await;
    let tenant = &work.tenant;
    tenant.add("web-writer", "web", WRITER).await;
    tenant.add("event-writer", "orders", WRITER).await;

    for way in WAYS {
        let id = tenant.root.create_id("things", json!({ "n": 1, "way": "start" })).await;
        tenant.add("creates", CREATED, "function handle(document) { return { ...document, by: \"hook\" }; }").await;
        tenant.add("updates", UPDATED, "function handle(document) { return { ...document, by: \"hook\" }; }").await;
        tenant.add("deletes", DELETED, "function handle(document) { create(\"graves\", { of: document.id }); }").await;

        if way != Way::Increment {
            way.acts(&work, "create", "", json!({ "way": "made" })).await;
            let made =
                all(tenant, "things").await.into_iter().filter(|thing| thing["way"] == "made").collect::<Vec<_>>();
            assert!(!made.is_empty() && made.iter().all(|thing| thing["by"] == "hook"), "{way:?}: {made:?}");
            assert_eq!(tenant.runs("creates").await.len(), made.len(), "{way:?}");
        }
        way.acts(&work, "update", &id, json!({ "n": 2 })).await;
        let updated = tenant.root.get(&format!("/db/things/{id}")).await.ok();
        assert_eq!((&updated["n"], &updated["by"]), (&json!(2), &json!("hook")), "{way:?}");
        if way != Way::Increment {
            let doomed = tenant.root.create_id("things", json!({})).await;
            way.acts(&work, "delete", &doomed, json!({})).await;
            assert_eq!(tenant.root.get(&format!("/db/things/{doomed}")).await.status, 404, "{way:?}");
            assert_eq!(fields(&all(tenant, "graves").await, "of"), [json!(doomed)], "{way:?}");
        }

        // And now none of it.
        for (name, trigger) in [("creates", CREATED), ("updates", UPDATED), ("deletes", DELETED)] {
            tenant.update(name, trigger, "function handle() { throw new Error(\"closed\"); }").await;
        }
        let before = all(tenant, "things").await;
        if way != Way::Increment {
            way.acts(&work, "create", "", json!({ "way": "refused" })).await;
            way.acts(&work, "delete", &id, json!({})).await;
        }
        way.acts(&work, "update", &id, json!({ "n": 3 })).await;
        assert_eq!(all(tenant, "things").await, before, "{way:?}");

        for name in ["creates", "updates", "deletes"] {
            tenant.root.delete(&format!("/fn/delete/{name}")).await;
        }
        for collection in ["things", "graves", "attempts"] {
            let everything = encoded(&json!([["id", "!=", ""]]));
            tenant.root.delete(&format!("/db/{collection}?bulk=1&x={everything}")).await.ok();
        }
    }
}

#[tokio::test]
async fn several_run_in_the_order_of_their_names_each_on_what_the_one_before_made() {
    let tenant = Tenant::new().await;
    for name in ["c", "a", "b"] {
        let code = format!(
            "function handle(document, before, change) {{
                return {{ ...document, way: (document.way || \"\") + \"{name}\", given: change.changes }};
            }}"
        );
        tenant.add(name, CREATED, &code).await;
    }

    let created = tenant.root.create("things", json!({ "way": "-" })).await;
    tenant
        .update(
            "b",
            CREATED,
            "function handle(document) { if (document.way === \"-a\") return { status: 418, body: \"no\" }; }",
        )
        .await;
    tenant.root.post("/db/things", json!({ "way": "-" })).await.refused(418);

    assert_eq!((&created["way"], &created["given"]), (&json!("-abc"), &json!({ "way": "-" })));
    let ran = join_all(["a", "b", "c"].map(async |name| tenant.runs(name).await.len())).await;
    assert_eq!(ran, [2, 2, 1], "after a refusal nobody is asked");
}

#[tokio::test]
async fn one_that_does_not_end_refuses_and_gives_its_slot_back() {
    let server = thimble(["serve", "--dev"]).settings("[runtime]\nslots = 2\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let limits = json!({ "fuel": 20_000_000, "memory": 16 << 20 });
    let hungry = "function handle() { const all = []; while (true) all.push(new Uint8Array(1 << 20)); }";
    let deep = "function handle() { return handle() + 1; }";
    let upload = async |path: &str, code: &str| {
        let body = json!({ "name": "stuck", "trigger": CREATED, "code": code, "limits": limits });
        tenant.root.post(path, body).await.ok();
    };
    upload("/fn/add", ENDLESS).await;

    for (code, status, words) in [(ENDLESS, 504, "fuel"), (hungry, 500, "out of memory"), (deep, 500, "stack")] {
        upload("/fn/update", code).await;
        // More than there are slots for them.
        for _ in 0..3 {
            let refused = tenant.root.post("/db/things", json!({})).await.refused(status);
            assert!(refused.contains("`stuck`") && refused.contains(words), "{refused}");
        }
    }
    let caller = "function handle() { return create(\"things\", {}); }";
    let told = tenant.value(caller).await;
    assert!(told["ok"] == false && text(&told["content"]).contains("stack"), "{told}");
    upload("/fn/update", "function handle() {}").await;

    tenant.root.create("things", json!({})).await;
    assert_eq!(tenant.value(caller).await["ok"], true);
    assert_eq!(total(&tenant, "things").await, 2);
    let failed = tenant.runs("stuck").await.into_iter().filter(|run| run["outcome"] != "ok").count();
    assert_eq!(failed, 10, "each is in the history");
}

#[tokio::test]
async fn the_time_of_a_run_bounds_one_that_waits() {
    let tenant = Tenant::new().await;
    let waits = "function handle() { const end = Date.now() + 60000; while (Date.now() < end); }";
    let body = json!({ "name": "waits", "trigger": CREATED, "code": waits, "limits": { "timeout": 300 } });
    tenant.root.post("/fn/add", body).await.ok();

    let started = Instant::now();
    let refused = tenant.root.post("/db/things", json!({})).await.refused(504);

    assert!(refused.contains("300 ms") && started.elapsed() < PATIENCE, "{refused}");
    assert_eq!(tenant.last_run("waits").await["outcome"], "timeout");
}

#[tokio::test]
async fn many_functions_that_write_at_once_and_few_slots_all_get_on() {
    let settings = "[runtime]\nslots = 2\nwait_ms = 120_000\n[limits]\nwall_ms = 120_000\n";
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;
    // Each holds a slot and waits for one that needs one, which writes something before which another one runs.
    tenant
        .add(
            "outer",
            CREATED,
            "function handle(document) { create(\"inner\", {}); return { ...document, seen: true }; }",
        )
        .await;
    tenant
        .add("inner", "before:db_created:inner", "function handle(document) { return { ...document, seen: true }; }")
        .await;
    tenant.add("writes", "web", "function handle(body) { return create(\"things\", body).ok; }").await;

    let called = join_all((0..200).map(async |n| match n % 4 {
        0 => tenant.root.post("/db/things", json!({ "n": n })).await.status == 201,
        _ => tenant.exec("writes", json!({ "n": n })).await.ok() == true,
    }))
    .await;

    assert_eq!(called.iter().filter(|written| **written).count(), 200);
    for collection in ["things", "inner"] {
        let stored = all(&tenant, collection).await;
        assert!(stored.len() == 200 && stored.iter().all(|document| document["seen"] == true), "{collection}");
    }
}

/// Tries until it is not told that somebody else was faster.
async fn until_done(mut attempt: impl AsyncFnMut() -> Answer) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = attempt().await;
        if answer.status != 409 || !answer.text().contains("changed meanwhile") {
            return answer;
        }
        assert!(Instant::now() < deadline, "{}", answer.text());
    }
}

#[tokio::test]
async fn changes_at_the_same_time_are_each_seen_by_the_function() {
    let tenant = Tenant::new().await;
    let counts = "function handle(document, before, change) {
        return { ...document, count: before.count + 1, sum: before.sum + change.changes.add, add: undefined };
    }";
    tenant.add("counts", UPDATED, counts).await;
    let id = tenant.root.create_id("things", json!({ "count": 0, "sum": 0 })).await;
    let path = format!("/db/things/{id}");

    join_all((1..=24).map(async |n| {
        until_done(async || tenant.root.put(&path, json!({ "add": n })).await).await.ok();
    }))
    .await;

    let counted = tenant.root.get(&path).await.ok();
    assert_eq!((&counted["count"], &counted["sum"]), (&json!(24), &json!((1..=24).sum::<i32>())), "{counted}");
}

#[tokio::test]
async fn what_it_reads_and_writes_is_as_one_with_the_change() {
    let tenant = Tenant::new().await;
    let stock = tenant.root.create_id("stock", json!({ "left": 5 })).await;
    let takes = "function handle(order) {
        const stock = getById(\"stock\", order.of).content;
        update(\"stock\", order.of, { left: stock.left - 1 });
        create(\"ledger\", { order: order.id });
        if (stock.left === 0) return { status: 410, body: \"sold out\" };
    }";
    tenant.add("takes", "before:db_created:orders", takes).await;

    let answers = join_all((0..16).map(async |n| {
        let order = json!({ "of": stock, "n": n });
        until_done(async || tenant.root.post("/db/orders", order.clone()).await).await.status
    }))
    .await;

    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(201), count(410)), (5, 11), "{answers:?}");
    assert_eq!(tenant.root.get(&format!("/db/stock/{stock}")).await.ok()["left"], 0, "a refusal takes nothing");
    let (orders, ledger) = (all(&tenant, "orders").await, all(&tenant, "ledger").await);
    assert_eq!(orders.len(), 5);
    let (mut orders, mut ledger) = (fields(&orders, "id"), fields(&ledger, "order"));
    orders.sort_by_key(text);
    ledger.sort_by_key(text);
    assert_eq!(ledger, orders);
}

#[tokio::test]
async fn what_it_does_is_told_with_its_own_chain() {
    let tenant = Tenant::new().await;
    tenant.add("notes", CREATED, "function handle(document) { create(\"notes\", { of: document.id }); publish(\"news\", \"noted\", document.id); }").await;
    tenant
        .add("hears", "db-notes", "function handle(channel, type, data) { create(\"heard\", { of: data.of }); }")
        .await;
    tenant.add("listens", "news", "function handle(channel, type, data) { create(\"heard\", { of: data }); }").await;

    let id = tenant.root.create_id("things", json!({})).await;

    let heard = eventually("both have run", async || {
        let heard = fields(&all(&tenant, "heard").await, "of");
        (heard.len() == 2).then_some(heard)
    })
    .await;
    assert_eq!(heard, [json!(id), json!(id)]);
    for name in ["hears", "listens"] {
        let run = tenant.last_run(name).await;
        assert_eq!((&run["chain"], &run["depth"]), (&json!(format!("notes → {name}")), &json!(1)), "{run}");
        assert_eq!(run["traceId"], tenant.last_run("notes").await["traceId"]);
    }
}

#[tokio::test]
async fn many_are_all_stored_or_none() {
    let tenant = Tenant::new().await;
    tenant.add("odd", CREATED, "function handle(document) { if (document.n === 41) return { status: 406, body: \"not 41\" }; return { ...document, seen: true }; }").await;
    tenant.add("even", UPDATED, "function handle(document) { if (document.n === 7) throw new Error(\"not 7\"); return { ...document, half: document.n / 2 }; }").await;
    tenant
        .add("last", DELETED, "function handle(document) { if (document.n === 7) throw new Error(\"7 stays\"); }")
        .await;
    let numbers = |to: i32| Value::Array((0..to).map(|n| json!({ "n": n })).collect());

    let refused = tenant.root.post("/db/things?bulk=1", numbers(50)).await.refused(406);
    assert!(refused.contains("not 41") && total(&tenant, "things").await == 0, "{refused}");
    assert_eq!(tenant.runs("odd").await.len(), 42);

    assert_eq!(tenant.root.post("/db/things?bulk=1", numbers(40)).await.status, 201);
    let stored = all(&tenant, "things").await;
    assert!(stored.len() == 40 && stored.iter().all(|document| document["seen"] == true));

    let update = |clauses: Value| json!({ "update": { "touched": 1 }, "clauses": clauses });
    let refused = tenant.root.put("/db/things?bulk=1", update(json!([["n", "<", 10]]))).await.refused(400);
    assert!(refused.contains("not 7"), "{refused}");
    assert_eq!(all(&tenant, "things").await, stored);
    assert_eq!(tenant.root.put("/db/things?bulk=1", update(json!([["n", ">=", 30]]))).await.ok(), 10);
    let halves = tenant.root.query("things", json!([["touched", "=", 1]])).await;
    assert!(halves["total"] == 10 && halves["results"][0]["half"] == 15, "{halves}");

    let delete = async |clauses: Value| tenant.root.delete(&format!("/db/things?bulk=1&x={}", encoded(&clauses))).await;
    assert!(delete(json!([["n", "<", 10]])).await.refused(400).contains("7 stays"));
    assert_eq!(delete(json!([["n", ">=", 10]])).await.ok(), 30);
    assert_eq!(total(&tenant, "things").await, 10);
}

#[tokio::test]
async fn one_that_looks_for_others_sees_those_of_the_same_request() {
    let tenant = Tenant::new().await;
    let unique = "function handle(document) {
        if (query(\"things\", [[\"name\", \"==\", document.name]]).content.total > 0) throw new Error(`${document.name} is taken`);
    }";
    tenant.add("unique", CREATED, unique).await;

    let twice = json!([{ "name": "a" }, { "name": "b" }, { "name": "a" }]);
    let refused = tenant.root.post("/db/things?bulk=1", twice).await.refused(400);
    let at_once =
        join_all((0..8).map(async |_| {
            until_done(async || tenant.root.post("/db/things", json!({ "name": "c" })).await).await.status
        }))
        .await;

    assert!(refused.contains("a is taken"), "{refused}");
    assert_eq!(at_once.iter().filter(|status| **status == 201).count(), 1, "{at_once:?}");
    assert_eq!(fields(&all(&tenant, "things").await, "name"), ["c"]);
}

#[tokio::test]
async fn those_before_one_request_have_the_time_of_a_run_together() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nwall_ms = 1_000\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let slow = "function handle() { const end = Date.now() + 100; while (Date.now() < end); }";
    tenant.add("slow", CREATED, slow).await;

    let many = Value::Array((0..1_000).map(|n| json!({ "n": n })).collect());
    let refused = tenant.root.post("/db/things?bulk=1", many).await.refused(504);

    assert!(refused.contains("1000 ms together") && refused.contains("limits.wall_ms"), "{refused}");
    assert_eq!(total(&tenant, "things").await, 0);
    assert!(tenant.runs("slow").await.len() <= 11);
    tenant.root.create("things", json!({})).await;
}

#[tokio::test]
async fn whoever_may_not_write_is_refused_before_it_runs() {
    let tenant = Tenant::new().await;
    let (ann, ben) = (tenant.user("ann").await, tenant.user("ben").await);
    for (name, trigger) in [("creates", CREATED), ("updates", UPDATED), ("deletes", DELETED)] {
        tenant.add(name, trigger, "function handle() { throw new Error(\"asked\"); }").await;
    }
    for (name, kind) in [("reads", "db_updated"), ("reads-too", "db_deleted")] {
        let trigger = format!("before:{kind}:news_764_");
        tenant.add(name, &trigger, "function handle() { throw new Error(\"asked\"); }").await;
    }
    // Made before anybody asks.
    tenant.root.delete("/fn/delete/creates").await.ok();
    let of_ann = ann.create_id("things", json!({})).await;
    let news = ann.create_id("news_764_", json!({})).await;
    tenant.add("creates", CREATED, "function handle() { throw new Error(\"asked\"); }").await;

    let anybody = tenant.anybody.post("/db/things", json!({})).await;
    let unseen = ben.put(&format!("/db/things/{of_ann}"), json!({})).await;
    let unseen_number = ben.put(&format!("/inc/things/{of_ann}"), json!({ "field": "n", "range": 1 })).await;
    let readable = ben.put(&format!("/db/news_764_/{news}"), json!({})).await;
    let everything = json!([["id", "!=", ""]]);
    let bulk = ben.put("/db/things?bulk=1", json!({ "update": {}, "clauses": everything })).await;
    let deleted = ben.delete(&format!("/db/things/{of_ann}")).await;
    let deleted_news = ben.delete(&format!("/db/news_764_/{news}")).await;
    let all_deleted = ben.delete(&format!("/db/things?bulk=1&x={}", encoded(&everything))).await;

    assert_eq!([anybody.status, unseen.status, unseen_number.status, readable.status], [401, 404, 404, 403]);
    assert_eq!(
        [bulk.ok(), deleted.ok(), deleted_news.ok(), all_deleted.ok()],
        [json!(0), json!(0), json!(0), json!(0)]
    );
    for name in ["creates", "updates", "deletes", "reads", "reads-too"] {
        assert!(tenant.runs(name).await.is_empty(), "{name} has run");
    }
    assert!(ann.delete(&format!("/db/things/{of_ann}")).await.refused(400).contains("asked"));
}

#[tokio::test]
async fn it_sees_what_whoever_writes_may_see() {
    let tenant = Tenant::new().await;
    let (ann, ben) = (tenant.user("ann").await, tenant.user("ben").await);
    // Everybody throws something in or out of the box of another account, and sees nothing.
    let box_of_ann = ann.create_id("box_662_", json!({ "secret": "of ann" })).await;
    let tells = "function handle(document, before) { throw new Error(JSON.stringify([document, before])); }";
    tenant.add("tells", "before:db_deleted:box_662_", tells).await;
    tenant
        .add(
            "lists",
            CREATED,
            "function handle(document) { return { ...document, sees: list(\"box_662_\").content.total }; }",
        )
        .await;

    let of_ben = ben.delete(&format!("/db/box_662_/{box_of_ann}")).await.refused(400);
    let of_ann = ann.delete(&format!("/db/box_662_/{box_of_ann}")).await.refused(400);
    let seen = [ann.create("things", json!({})).await, ben.create("things", json!({})).await];
    tenant.root.delete("/fn/delete/tells").await.ok();
    let deleted = ben.delete(&format!("/db/box_662_/{box_of_ann}")).await.ok();

    assert_eq!(serde_json::from_str::<Value>(&of_ben).unwrap(), json!([{ "id": box_of_ann }, { "id": box_of_ann }]));
    assert!(of_ann.contains("of ann"), "{of_ann}");
    assert_eq!(fields(&seen, "sees"), [json!(1), json!(0)]);
    assert_eq!(deleted, 1);
}

#[tokio::test]
async fn one_that_writes_what_it_runs_for_comes_to_an_end() {
    let tenant = Tenant::new().await;
    let again = "function handle(document) {
        const more = create(\"things\", { n: document.n + 1 });
        return { ...document, said: more.ok ? \"\" : more.content };
    }";
    tenant.add("again", CREATED, again).await;

    tenant.root.create("things", json!({ "n": 0 })).await;

    let mut stored = all(&tenant, "things").await;
    stored.sort_by_key(|document| document["n"].as_i64());
    assert_eq!(fields(&stored, "n"), [0, 1, 2, 3]);
    assert_eq!(fields(&stored[..3], "said"), ["", "", ""]);
    let said = text(&stored[3]["said"]);
    assert!(said.contains("again → again → again → again → again is at its end"), "{said}");

    // One that insists has written nothing at all.
    let insists =
        "function handle() { const more = create(\"things\", {}); if (!more.ok) throw new Error(more.content); }";
    tenant.update("again", CREATED, insists).await;
    let refused = tenant.root.post("/db/things", json!({ "n": 9 })).await.refused(400);
    assert!(refused.contains("is at its end"), "{refused}");
    assert_eq!(total(&tenant, "things").await, 4);
}

#[tokio::test]
async fn a_run_for_an_event_and_what_runs_before_its_writes_are_one() {
    let settings = "[events]\nattempts = 5\nbackoff_ms = 20\nbackoff_max_ms = 50\n";
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;
    let audits = "function handle(document, before, change) {
        create(\"audit\", { n: document.n, was: before && before.n, sees: list(\"things\").content.total });
        if (document.n === 13) throw new Error(\"not 13\");
        return { ...document, audited: true };
    }";
    tenant.add("audits", CREATED, audits).await;
    tenant.add("audits-too", UPDATED, audits).await;
    let writes = "function handle(channel, type, data) {
        const made = create(\"things\", { n: 1 }).content;
        const bad = create(\"things\", { n: 13 });
        const changed = update(\"things\", made.id, { n: 2 }).content;
        create(\"results\", { bad, changed });
        if (list(\"switch\").content.total === 0) throw new Error(\"not yet\");
    }";
    tenant.add("writes", "lobby", writes).await;

    let message = json!({ "channel": "lobby", "type": "go", "data": "1" });
    tenant.root.post("/publish", message).await.ok();
    eventually("it has failed once", async || tenant.runs("writes").await.into_iter().next()).await;
    for collection in ["things", "audit", "results"] {
        assert_eq!(total(&tenant, collection).await, 0, "{collection}");
    }
    tenant.root.create("switch", json!({})).await;

    let result = eventually("it has succeeded", async || all(&tenant, "results").await.pop()).await;
    assert_eq!(result["bad"], json!({ "ok": false, "content": "not 13" }));
    let things = all(&tenant, "things").await;
    assert_eq!((things.len(), &things[0]), (1, &result["changed"]));
    assert_eq!((&things[0]["n"], &things[0]["audited"]), (&json!(2), &json!(true)));
    let audit = all(&tenant, "audit").await;
    assert_eq!((fields(&audit, "n"), fields(&audit, "was")), (vec![json!(1), json!(2)], vec![Value::Null, json!(1)]));
    assert_eq!(fields(&audit, "sees"), [0, 1], "it sees what the run has made, and nothing of what was refused");
}

#[tokio::test]
async fn in_a_transaction_they_are_asked_at_once_and_what_they_do_belongs_to_it() {
    let tenant = Tenant::new().await;
    let notes = "function handle(document) {
        create(\"notes\", { of: document.n });
        if (document.n === 2) return { status: 409, body: \"not 2\" };
        if (document.n === 3) transaction(() => { create(\"notes\", { of: \"inner\" }); });
        return { ...document, noted: list(\"notes\").content.total };
    }";
    tenant.add("notes", CREATED, notes).await;
    let writes = "function handle() {
        try {
            transaction(() => { create(\"things\", { n: 0 }); throw new Error(\"given up\"); });
        } catch {}
        let refused;
        transaction(() => {
            create(\"things\", { n: 1 });
            refused = create(\"things\", { n: 2 }).content;
            create(\"things\", { n: 3 });
        });
        return refused;
    }";

    assert_eq!(tenant.value(writes).await, "not 2");

    let (things, notes) = (all(&tenant, "things").await, all(&tenant, "notes").await);
    assert_eq!((fields(&things, "n"), fields(&things, "noted")), (vec![json!(1), json!(3)], vec![json!(1), json!(3)]));
    assert_eq!(fields(&notes, "of"), [json!(1), json!(3), json!("inner")]);
}

#[tokio::test]
async fn one_that_is_deleted_or_replaced_meanwhile_refuses_nothing() {
    let tenant = Tenant::new().await;
    let stamp = "function handle(document) { return { ...document, stamped: true }; }";
    let writing = async || {
        for n in 0..40 {
            let created = tenant.root.create("things", json!({ "n": n })).await;
            assert!(created["stamped"].is_null() || created["stamped"] == true, "{created}");
        }
    };
    let changing = async || {
        for _ in 0..10 {
            tenant.add("stamp", CREATED, stamp).await;
            tenant.update("stamp", UPDATED, stamp).await;
            tenant.root.delete("/fn/delete/stamp").await.ok();
        }
    };

    tokio::join!(writing(), changing());

    assert_eq!(total(&tenant, "things").await, 40);
    assert!(tenant.root.create("things", json!({})).await["stamped"].is_null());
    tenant.add("stamp", CREATED, stamp).await;
    assert_eq!(tenant.root.create("things", json!({})).await["stamped"], true, "from the moment it is there");
}

#[tokio::test]
async fn it_cannot_change_the_document_itself_behind_the_write() {
    let tenant = Tenant::new().await;
    let id = tenant.root.create_id("things", json!({ "n": 1 })).await;
    let path = format!("/db/things/{id}");
    tenant.add("meddles", UPDATED, "function handle(document) { del(\"things\", document.id); }").await;

    let refused = tenant.root.put(&path, json!({ "n": 2 })).await.refused(400);

    assert!(refused.contains("`meddles`") && refused.contains("returns what is to be stored"), "{refused}");
    assert_eq!(tenant.root.get(&path).await.ok()["n"], 1);
}

#[tokio::test]
async fn a_component_is_asked_like_any_function() {
    let tenant = Tenant::new().await;
    let (refuses, text_of) = returning(r#"{"status":409,"body":"taken"}"#);
    tenant.upload_component("a", CREATED, guest(ECHO, "")).await.ok();
    let created = tenant.root.create("things", json!({ "n": 1 })).await;
    tenant.upload_component("b", CREATED, guest(&refuses, &text_of)).await.ok();

    let refused = tenant.root.post("/db/things", json!({})).await.refused(409);

    assert_eq!((&created["n"], refused.trim()), (&json!(1), "taken"));
    assert_eq!(tenant.last_run("a").await["outcome"], "ok");
}

#[tokio::test]
async fn over_its_rate_it_keeps_writes_from_being_made_for_a_while() {
    let tenant = Tenant::new().await;
    let body =
        json!({ "name": "slow", "trigger": CREATED, "code": "function handle() {}", "limits": { "fuelPerDay": 1 } });
    tenant.root.post("/fn/add", body).await.ok();

    tenant.root.create("things", json!({})).await;
    let refused = tenant.root.post("/db/things", json!({})).await;

    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let refused = refused.refused(429);
    assert!(refused.contains("`slow`") && refused.contains("--fuel-per-day"), "{refused}");
    let told = tenant.value("function handle() { return create(\"things\", {}); }").await;
    assert!(told["ok"] == false && text(&told["content"]).contains("`slow`"), "{told}");
    assert_eq!(tenant.last_run("slow").await["outcome"], "quota");
}

#[tokio::test]
async fn triggers_that_are_none_are_refused_and_no_message_starts_one() {
    let tenant = Tenant::new().await;
    let refuses = "function handle() { throw new Error(\"asked\"); }";

    for trigger in ["before:", "before:create", "before:db_created", "before:db_saved:things"] {
        let refused = tenant.upload("hook", trigger, refuses).await.refused(400);
        assert!(refused.contains("`before:db_created:<collection>`"), "{trigger}: {refused}");
    }
    for trigger in ["before:db_created:", "before:db_created:a b", "before:db_deleted:sb_users"] {
        let refused = tenant.upload("hook", trigger, refuses).await.refused(400);
        assert!(refused.contains("collection"), "{trigger}: {refused}");
    }
    tenant.add("hook", CREATED, refuses).await;
    assert!(
        tenant.root.post("/fn/update", json!({ "name": "hook", "trigger": "before:x", "code": refuses })).await.status
            == 400
    );
    let published = json!({ "channel": "news", "type": CREATED, "data": "1" });
    tenant.root.post("/publish", published.clone()).await.ok();
    tenant.user("ann").await.post("/publish", published).await.refused(403);
    tenant.add("hears", "news", "function handle() { create(\"heard\", {}); }").await;
    tenant.root.post("/publish", json!({ "channel": "news", "type": "x", "data": "1" })).await.ok();

    eventually("messages have been dealt with", async || (total(&tenant, "heard").await > 0).then_some(())).await;
    assert!(tenant.runs("hook").await.is_empty());
}

#[tokio::test]
async fn other_tenants_and_collections_are_not_concerned() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    tenant.add("refuses", CREATED, "function handle() { throw new Error(\"closed\"); }").await;

    other.root.create("things", json!({})).await;
    let id = tenant.root.create_id("things2", json!({})).await;
    tenant.root.put(&format!("/db/things2/{id}"), json!({ "n": 1 })).await.ok();

    tenant.root.post("/db/things", json!({})).await.refused(400);
    assert_eq!(tenant.runs("refuses").await.len(), 1);
}

#[tokio::test]
async fn the_example_keeps_tasks_in_order() {
    let work = Workplace::new().await;
    let tenant = &work.tenant;
    let source = repository("functions-examples/validate/fn.js");
    let manifest = std::fs::read_to_string(repository("functions-examples/validate/function.toml")).unwrap();
    let trigger = "before:db_created:tasks";
    assert!(manifest.contains(trigger));
    let source = source.to_str().unwrap();
    let added = work.run(["function", "add", "--name", "validate", "--trigger", trigger, "--source", source]).await;
    assert!(added.succeeded().contains("before"));

    let created = tenant.root.create("tasks", json!({ "title": "  sweep ", "done": 1 })).await;
    let same = work.run(["db", "create", "tasks", r#"{"title":"sweep"}"#]).await.failed();
    let none = tenant.root.post("/db/tasks", json!({ "title": " " })).await.refused(400);

    assert_eq!((&created["title"], &created["done"]), (&json!("sweep"), &json!(false)));
    assert!(same.contains("there is a task \"sweep\" already"), "{same}");
    assert!(none.contains("a task needs a title"), "{none}");
    let info = work.run(["function", "info", "validate"]).await.succeeded();
    assert!(info.contains(trigger), "{info}");
}

#[tokio::test]
async fn it_holds_nobody_up_who_writes_something_else() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nfuel = 1_000_000_000_000\n").serve().await;
    let (tenant, other) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let id = tenant.root.create_id("things", json!({ "n": 1 })).await;
    tenant.add("endless", CREATED, ENDLESS).await;
    let hooked = tenant.root.post("/db/things", json!({}));
    let others = async |caller: &Caller| {
        eventually("it runs", async || {
            let stats = tenant.info("endless").await;
            (stats["usage"]["running"] == 1 || stats["usage"]["runsThisMinute"] == 1).then_some(())
        })
        .await;
        let started = Instant::now();
        for _ in 0..5 {
            caller.create("others", json!({})).await;
        }
        started.elapsed()
    };
    let same = async {
        others(&tenant.root).await;
        tenant.root.put(&format!("/db/things/{id}"), json!({ "n": 2 })).await.ok();
    };

    let (refused, of_other, ()) = tokio::join!(hooked, others(&other.root), same);

    refused.refused(504);
    assert!(of_other < Duration::from_secs(4), "they waited {of_other:?} for what takes five seconds");
    assert_eq!(tenant.root.get(&format!("/db/things/{id}")).await.ok()["n"], 2);
}
