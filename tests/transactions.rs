//! Transactions in functions: all of it or nothing, as if one ran after the other, and nobody waits for anybody.

use serde_json::{Value, json};

use crate::harness::{
    Connection, Server, Tenant, Transport, component::guest_importing, eventually, fresh, text, thimble,
};

/// A server on which a run may wait for something.
async fn patient() -> Server {
    let settings = "[limits]\nwall_ms = 60_000\nreads = 1_000_000\nfuel = 500_000_000_000\n";
    thimble(["serve", "--dev"]).settings(settings).serve().await
}

/// One field of all documents.
async fn field(tenant: &Tenant, collection: &str, field: &str) -> Vec<Value> {
    let page = tenant.root.get(&format!("/db/{collection}?size=1000")).await.ok();
    let documents = page["results"].as_array().cloned().unwrap_or_default();
    documents.into_iter().map(|document| document[field].clone()).collect()
}

#[tokio::test]
async fn what_is_moved_is_neither_lost_nor_doubled() {
    let tenant = Tenant::new().await;
    let from = tenant.root.create_id("purses", json!({ "gold": 100 })).await;
    let to = tenant.root.create_id("purses", json!({ "gold": 0 })).await;
    let moves = tenant
        .function(&format!(
            r#"function handle(body) {{
                return transaction(() => {{
                    const [from, to] = ["{from}", "{to}"].map(id => getById("purses", id).content);
                    if (from.gold < body.gold) throw new Error("there is only " + from.gold);
                    update("purses", from.id, {{ gold: from.gold - body.gold }});
                    if (body.fails) throw new Error("something went wrong between");
                    update("purses", to.id, {{ gold: to.gold + body.gold }});
                    return from.gold - body.gold;
                }});
            }}"#
        ))
        .await;

    assert_eq!(tenant.exec(&moves, json!({ "gold": 10 })).await.ok(), 90);
    let failed = tenant.exec(&moves, json!({ "gold": 10, "fails": true })).await.refused(500);
    assert!(failed.contains("something went wrong between"), "{failed}");
    assert!(tenant.exec(&moves, json!({ "gold": 91 })).await.refused(500).contains("only 90"));
    assert_eq!(field(&tenant, "purses", "gold").await, [json!(90), json!(10)]);

    let many = (0..20).map(|_| tenant.exec(&moves, json!({ "gold": 1 })));
    let answers: Vec<u16> = futures_util::future::join_all(many).await.iter().map(|answer| answer.status).collect();

    let moved = answers.iter().filter(|status| **status == 200).count();
    assert!(moved > 0 && answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    assert_eq!(field(&tenant, "purses", "gold").await, [json!(90 - moved), json!(10 + moved)]);
}

#[tokio::test]
async fn after_five_runs_in_vain_it_is_a_conflict() {
    let server = patient().await;
    let tenant = Tenant::on(&server).await;
    let id = tenant.root.create_id("counters", json!({ "n": 0 })).await;
    // Each run of the closure waits until somebody else has changed what it has read.
    let closure = format!(
        r#"() => {{
            log("tried");
            create("tries", {{}});
            const before = getById("counters", "{id}").content.n;
            while (getById("counters", "{id}").content.n === before);
        }}"#
    );
    let throws = tenant.function(&format!("function handle() {{ transaction({closure}) }}")).await;
    let throws_later =
        tenant.function(&format!("async function handle() {{ await transaction(async {closure}) }}")).await;
    let catches = tenant
        .function(&format!(
            "function handle() {{
                try {{ transaction({closure}) }} catch (error) {{ if (error.code !== 'conflict') throw error }}
                create('after', {{}});
                throw new Error('another one');
            }}"
        ))
        .await;
    let writes = async {
        loop {
            tenant.root.put(&format!("/db/counters/{id}"), json!({ "n": fresh("n") })).await.ok();
        }
    };

    let calls = async {
        let [one, two, three] = [&throws, &throws_later, &catches].map(|name| tenant.exec(name, json!({})));
        tokio::join!(one, two, three)
    };
    let (thrown, thrown_later, caught) = tokio::select! {
        calls = calls => calls,
        () = writes => unreachable!("it has no end"),
    };

    for (answer, name) in [(thrown, &throws), (thrown_later, &throws_later)] {
        let words = answer.refused(409);
        assert!(words.contains("what was read has changed meanwhile"), "{words}");
        let run = tenant.last_run(name).await;
        let tried = run["output"].as_array().unwrap().iter().filter(|line| text(line).ends_with("tried")).count();
        assert_eq!((&run["outcome"], tried), (&json!("conflict"), 5), "{run}");
        assert_eq!(run["used"]["writes"], 5, "each of them counts: {run}");
    }
    assert!(caught.refused(500).contains("another one"));
    assert_eq!(field(&tenant, "tries", "id").await, Vec::<Value>::new());
    assert_eq!(field(&tenant, "after", "id").await.len(), 1, "the run goes on after what it caught");
}

#[tokio::test]
async fn one_that_is_slow_keeps_nobody_waiting() {
    let server = patient().await;
    let tenant = Tenant::on(&server).await;
    let id = tenant.root.create_id("tasks", json!({ "n": 1 })).await;
    let slow = tenant
        .function(&format!(
            r#"function handle() {{
                let runs = 0;
                return transaction(() => {{
                    runs++;
                    create("tasks", {{ n: 100 }});
                    const {{ n }} = incrementValue("tasks", "{id}", "n", 1).content;
                    while (count("signals").content === 0);
                    return {{ n, runs, sum: list("tasks").content.results.reduce((sum, task) => sum + task.n, 0) }};
                }});
            }}"#
        ))
        .await;
    let call = {
        let (root, slow) = (tenant.root.clone(), slow.clone());
        tokio::spawn(async move { root.post(&format!("/fn/sudoexec/{slow}"), json!({})).await })
    };
    eventually("it runs", async || (tenant.info(&slow).await["usage"]["running"] == 1).then_some(())).await;

    tenant.root.put(&format!("/db/tasks/{id}"), json!({ "n": 10 })).await.ok();
    tenant.root.create("tasks", json!({ "n": 1000 })).await;
    assert!(!call.is_finished());
    tenant.root.create("signals", json!({})).await;

    let answer = call.await.unwrap().ok();
    assert_eq!(answer["n"], 11, "{answer}");
    assert_eq!(answer["sum"], 1111, "{answer}");
}

#[tokio::test]
async fn mails_and_messages_of_what_was_given_up_are_not_sent() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "news").await;
    tenant
        .add("hears", "db-notes_774_", "function handle(channel, type, data) { create('heard', { of: data.text }) }")
        .await;
    let tells = tenant
        .function(
            r#"function handle() {
                const tell = text => {
                    create("notes_774_", { text });
                    publish("news", "said", text);
                    email({ to: text + "@example.com", subject: text, body: text });
                };
                try {
                    transaction(() => { tell("first"); throw new Error("no") });
                } catch (error) {
                    if (error.message !== "no") throw error;
                }
                return transaction(() => { tell("second"); return count("notes_774_").content });
            }"#,
        )
        .await;

    assert_eq!(tenant.exec(&tells, json!({})).await.ok(), 1);

    assert_eq!(member.until_type("said").await["data"], "\"second\"");
    eventually("the mail is shown", async || server.output().contains("second@example.com").then_some(())).await;
    assert!(!server.output().contains("first@example.com"));
    eventually("the change is heard of", async || {
        (field(&tenant, "heard", "of").await == [json!("second")]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_run_sees_what_its_transaction_has_done() {
    let tenant = Tenant::new().await;
    let seen = tenant
        .value(
            r#"function handle() {
                const [a, b] = [4, 2].map(n => create("tasks", { n, kind: "old" }).content);
                const seen = transaction(() => {
                    create("tasks", { n: 3, kind: "new" });
                    update("tasks", a.id, { n: 1 });
                    del("tasks", b.id);
                    const values = page => page.content.results.map(task => task.n);
                    return {
                        sorted: values(list("tasks", { sortBy: "n" })),
                        down: values(list("tasks", { sortBy: "n", sortDescending: true, size: 1 })),
                        fresh: values(query("tasks", [["kind", "==", "new"]])),
                        count: count("tasks").content,
                        large: count("tasks", [["n", ">", 1]]).content,
                        gone: getById("tasks", b.id).ok,
                    };
                });
                return { ...seen, after: count("tasks").content, wrong: count("tasks", "x").ok };
            }"#,
        )
        .await;

    let expected = json!({
        "sorted": [1, 3], "down": [3], "fresh": [3], "count": 2, "large": 1, "gone": false, "after": 2, "wrong": false,
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn one_is_open_at_a_time_and_ends_with_its_run() {
    let tenant = Tenant::new().await;

    let nested = "function handle() { return transaction(() => { create('outer', {}); transaction(() => 1) }) }";
    let refused = tenant.run(nested).await.refused(500);
    let never_ends =
        "function handle() { transaction(() => { create('open', {}); return new Promise(() => {}) }); return 1 }";
    assert_eq!(tenant.value(never_ends).await, 1);
    let without_rights = tenant.user("ann").await;
    let name = tenant.function("function handle() { return transaction(() => create('theirs_700_', {}).ok) }").await;

    assert!(refused.contains("a transaction is open"), "{refused}");
    assert_eq!(without_rights.exec(&name, json!({})).await.ok(), true);
    for collection in ["outer", "open"] {
        assert_eq!(field(&tenant, collection, "id").await, Vec::<Value>::new(), "{collection}");
    }
}

#[tokio::test]
async fn what_an_app_may_keep_holds_in_transactions() {
    let server = thimble(["serve", "--dev"]).settings("[tenant]\ndocuments = 2\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let code = |n: u32| {
        format!(
            "function handle() {{
                try {{ transaction(() => {{ for (let n = 0; n < {n}; n++) create('tasks', {{}}) }}) }}
                catch (error) {{ return error.code }}
            }}"
        )
    };

    assert_eq!(tenant.value(&code(3)).await, "quota");
    assert_eq!(field(&tenant, "tasks", "id").await.len(), 0);
    assert_eq!(tenant.value(&code(2)).await, true);
    assert_eq!(field(&tenant, "tasks", "id").await.len(), 2);
}

#[tokio::test]
async fn in_a_run_for_a_kept_event_it_is_a_part_of_the_whole() {
    let tenant = Tenant::new().await;
    let channel = fresh("channel");
    let code = r#"function handle(channel, type, data) {
        create("done", { what: "before" });
        let thrown;
        try {
            transaction(() => {
                create("done", { what: "taken back" });
                publish("news", "said", "taken back");
                thrown = count("done").content;
                throw new Error("no");
            });
        } catch (error) {
            create("done", { what: error.message, thrown });
        }
        transaction(() => create("done", { what: "part" }));
        const seen = list("done").content.results.map(done => done.what);
        create("done", { what: "after", seen });
        publish("news", "said", "after");
        if (data === "fails") throw new Error("all of it");
    }"#;
    tenant.add("parts", &channel, code).await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "news").await;
    let publish = async |data: &str| {
        let message = json!({ "channel": channel, "type": "said", "data": json!(data).to_string() });
        tenant.root.post("/publish", message).await.ok();
    };

    publish("works").await;

    assert_eq!(member.until_type("said").await["data"], "\"after\"");
    let done = field(&tenant, "done", "what").await;
    assert_eq!(done, ["before", "no", "part", "after"]);
    assert_eq!(field(&tenant, "done", "thrown").await[1], 2);
    assert_eq!(field(&tenant, "done", "seen").await[3], json!(["before", "no", "part"]));
    publish("fails").await;
    eventually("it has failed", async || {
        tenant.runs("parts").await.iter().any(|run| run["outcome"] == "error").then_some(())
    })
    .await;
    assert_eq!(field(&tenant, "done", "what").await.len(), 4, "the whole of it was taken back");
}

/// Creates a document in a transaction; `1` commits, `2` gives it up, `3` leaves it open, and `4` begins another one inside. The
/// answer is whether the last call was refused.
fn component() -> Vec<u8> {
    let imports = r#"
        (import "thimble:functions/transactions@0.1.0" "[static]transaction.begin" (func $begin (param i32)))
        (import "thimble:functions/transactions@0.1.0" "[static]transaction.commit" (func $commit (param i32 i32)))
        (import "thimble:functions/transactions@0.1.0" "[resource-drop]transaction" (func $give_up (param i32)))
        (import "thimble:functions/documents@0.1.0" "create" (func $create (param i32 i32 i32 i32 i32)))
        (import "thimble:functions/documents@0.1.0" "count" (func $count (param i32 i32 i32 i32 i32)))"#;
    let handle = r#"
        (local $what i32)
        (local.set $what (i32.load8_u (i32.load (local.get $args))))
        (call $begin (i32.const 64))
        (call $create (i32.const 1024) (i32.const 6) (i32.const 1040) (i32.const 2) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then unreachable))
        (call $count (i32.const 1024) (i32.const 6) (i32.const 1042) (i32.const 2) (i32.const 192))
        (if (i64.eqz (i64.load (i32.const 200))) (then unreachable))
        (if (i32.eq (local.get $what) (i32.const 49)) (then (call $commit (i32.load (i32.const 68)) (i32.const 256))))
        (if (i32.eq (local.get $what) (i32.const 50)) (then (call $give_up (i32.load (i32.const 68)))))
        (if (i32.eq (local.get $what) (i32.const 52)) (then (call $begin (i32.const 256))))
        (i32.store8 (i32.const 1100) (i32.add (i32.const 48) (i32.load8_u (i32.const 256))))
        (call $string (i32.const 1100) (i32.const 1))"#;
    guest_importing(imports, handle, r#"(data (i32.const 1024) "things          {}[]")"#)
}

#[tokio::test]
async fn components_have_transactions_too() {
    let tenant = Tenant::new().await;
    let name = tenant.component(component()).await;

    for (what, refused, kept) in [(2, 0, 0), (3, 0, 0), (4, 1, 0), (1, 0, 1), (1, 0, 2)] {
        assert_eq!(tenant.exec(&name, json!(what)).await.ok(), refused, "{what}");
        assert_eq!(field(&tenant, "things", "id").await.len(), kept, "{what}");
    }
    let channel = fresh("channel");
    tenant.upload_component("parts", &channel, component()).await.ok();
    let message = json!({ "channel": channel, "type": "said", "data": "1" });
    tenant.root.post("/publish", message).await.ok();
    let run = eventually("it has run", async || tenant.runs("parts").await.pop()).await;
    assert_eq!((text(&run["outcome"]).as_str(), field(&tenant, "things", "id").await.len()), ("ok", 2), "{run}");
}
