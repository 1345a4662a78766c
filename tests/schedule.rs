//! `schedule` in functions: as whoever the run acts as, with the rules of `/schedule`, and not round for ever. The clock is turned,
//! never waited for.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Caller, ClockedServer, Connection, Tenant, Transport, component::guest_importing, eventually, fresh, text,
};

struct Clocked {
    server: ClockedServer,
    tenant: Tenant,
    _folder: TempDir,
}

impl Clocked {
    async fn with(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ClockedServer::start(folder.path(), settings).await;
        let tenant = server.tenant();
        tenant
            .add("keeps", "web", "function handle(body) { create('kept_774_', { body, as: event.user.email }) }")
            .await;
        tenant.add("listens", "news", "function handle() {}").await;
        Self { server, tenant, _folder: folder }
    }

    async fn new() -> Self {
        Self::with("").await
    }
}

/// The jobs that somebody sees, the first one first.
async fn jobs(who: &Caller) -> Vec<Value> {
    let mut jobs = who.get("/schedule").await.ok().as_array().cloned().unwrap();
    jobs.reverse();
    jobs
}

async fn kept(tenant: &Tenant) -> Vec<Value> {
    let page = tenant.root.get("/db/kept_774_?size=100").await.ok();
    page["results"].as_array().cloned().unwrap_or_default()
}

async fn ended(tenant: &Tenant, job: &Value) -> Value {
    let path = format!("/schedule/{}", text(&job["id"]));
    eventually("the job has ended", async || {
        Some(tenant.root.get(&path).await.ok()).filter(|job| job["ended"] != Value::Null)
    })
    .await
}

#[tokio::test]
async fn a_request_schedules_as_whoever_makes_it() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    let ann = tenant.user("ann").await;
    let name = tenant.function("function handle(body) { return schedule('keeps', body, { delay: '90s' }) }").await;

    let answer = ann.exec(&name, json!({ "n": 1 })).await.ok();

    let job = &answer["content"];
    assert_eq!(
        (&answer["ok"], &job["state"], &job["userId"]),
        (&json!(true), &json!("waiting"), &json!(ann.id)),
        "{job}"
    );
    assert_eq!(jobs(&ann).await, std::slice::from_ref(job), "as the API shows it");
    assert!(kept(tenant).await.is_empty());
    clocked.server.turn(TimeDelta::seconds(91));
    assert_eq!(ended(tenant, job).await["state"], "done");
    let kept = kept(tenant).await;
    assert_eq!((kept.len(), &kept[0]["body"], &kept[0]["as"]), (1, &json!({ "n": 1 }), &json!(ann.email)));
    assert_eq!(kept[0]["accountId"], ann.account);
    assert_eq!(tenant.last_run(&name).await["used"]["jobs"], 1);
}

#[tokio::test]
async fn a_message_schedules_as_whoever_sent_it_and_a_task_as_root() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    let ann = tenant.user("ann").await;
    let code = "function handle(channel, type, data) {
        create('tried_774_', { keeps: schedule('keeps', type).ok, listens: schedule('listens', type).ok, type });
    }";
    tenant.add("plans", "chan_out", code).await;
    tenant.add("root_plans", "never", code).await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "lobby").await;
    member.say("chan_in", "hello", "lobby").await;
    let by_ann = eventually("ann's job is there", async || jobs(&ann).await.pop()).await;

    tenant
        .root
        .post("/task", json!({ "name": "plan", "type": "function", "value": "root_plans", "interval": "@daily" }))
        .await
        .ok();
    tenant.root.post("/task/plan/run", json!({})).await.ok();
    let all =
        eventually("root's jobs are there", async || Some(jobs(&tenant.root).await).filter(|jobs| jobs.len() == 3))
            .await;

    assert_eq!((&by_ann["userId"], &by_ann["function"]), (&json!(ann.id), &json!("keeps")));
    for job in &all {
        assert_eq!(ended(tenant, job).await["state"], "done", "{job}");
    }
    let tried = tenant.root.get("/db/tried_774_").await.ok();
    let listens: Vec<&Value> = tried["results"].as_array().unwrap().iter().map(|tried| &tried["listens"]).collect();
    assert_eq!(listens, [false, true], "only root reaches what is no web function: {tried}");
    let kept = kept(tenant).await;
    assert_eq!((kept.len(), kept.iter().filter(|kept| kept["as"] == ann.email).count()), (2, 1), "{kept:?}");
}

#[tokio::test]
async fn it_is_refused_in_the_words_of_the_api() {
    let clocked = Clocked::with("[tenant]\njobs = 2\n[limits]\njobs = 20\n").await;
    let tenant = &clocked.tenant;
    let ann = tenant.user("ann").await;
    let name = tenant
        .function(
            "function handle(body) { const { ok, content } = schedule(body.function, body.payload, body.when); return { ok, content } }",
        )
        .await;
    let now = clocked.server.now().to_rfc3339();

    for (function, payload, when) in [
        ("gone", json!(1), json!({})),
        ("listens", json!(1), json!({})),
        ("keeps", json!(1), json!({ "delay": 1, "at": now })),
        ("keeps", json!(1), json!({ "delay": "soon" })),
        ("keeps", json!(1), json!({ "delay": "400d" })),
        ("keeps", json!("x".repeat(70_000)), json!({})),
    ] {
        let body = json!({ "function": function, "payload": payload, "when": when });
        let answer = ann.exec(&name, body).await.ok();
        let mut body = json!({ "function": function, "payload": payload });
        when.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let words = ann.post("/schedule", body).await.text();
        assert_eq!((&answer["ok"], text(&answer["content"]) + "\n"), (&json!(false), words));
    }
    let wrong = ann.exec(&name, json!({ "function": "keeps", "when": { "at": "noon" } })).await.ok();
    assert!(text(&wrong["content"]).starts_with("when cannot be used"), "{wrong}");
    assert_eq!(jobs(&tenant.root).await, Vec::<Value>::new());

    let many = tenant
        .function("function handle(n) { let ok = 0; for (let i = 0; i < n; i++) ok += schedule('keeps', i, { delay: '1h' }).ok; return ok }")
        .await;
    assert_eq!(ann.exec(&many, json!(3)).await.ok(), 2, "an app has so many places");
    let stopped = ann.exec(&many, json!(21)).await.refused(429);
    assert!(stopped.contains("schedule jobs 20 times") && stopped.contains("limits.jobs"), "{stopped}");
}

#[tokio::test]
async fn what_is_taken_back_schedules_nothing() {
    let clocked =
        Clocked::with("[events]\nattempts = 2\nbackoff_ms = 10\nbackoff_max_ms = 10\n[tenant]\njobs = 3\n").await;
    let tenant = &clocked.tenant;
    let name = tenant
        .function(
            r#"function handle() {
                const later = { delay: "1h" };
                try {
                    transaction(() => { schedule("keeps", "taken back", later); throw 1 });
                } catch {}
                transaction(() => schedule("keeps", "committed", later).ok);
                try {
                    transaction(() => { for (let n = 0; n < 3; n++) schedule("keeps", "too many", later) });
                } catch (error) { return error.code + ": " + error.message }
            }"#,
        )
        .await;

    let refused = tenant.exec(&name, json!({})).await.ok();

    assert!(text(&refused).starts_with("quota: 3 jobs of this app wait already"), "{refused}");
    let payloads =
        async || -> Vec<Value> { jobs(&tenant.root).await.iter().map(|job| job["payload"].clone()).collect() };
    assert_eq!(payloads().await, [json!("committed")]);

    let code = r#"function handle(channel, type, data) {
        schedule("keeps", data, { delay: "1h" });
        if (data === "fails") throw new Error("no");
    }"#;
    tenant.add("plans", "plans", code).await;
    for data in ["fails", "works"] {
        let message = json!({ "channel": "plans", "type": "said", "data": json!(data).to_string() });
        tenant.root.post("/publish", message).await.ok();
    }
    // The clock stands still, so what is tried again later waits for it.
    eventually("the first has failed", async || {
        clocked.server.turn(TimeDelta::seconds(1));
        (tenant.runs("plans").await.last()?["outcome"] == "ok").then_some(())
    })
    .await;
    let outcomes: Vec<Value> = tenant.runs("plans").await.iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(outcomes, ["error", "error", "ok"]);
    assert_eq!(payloads().await, ["committed", "works"]);
}

#[tokio::test]
async fn a_function_that_schedules_itself_at_once_comes_to_an_end() {
    let clocked = Clocked::with("[limits]\nchain_runs = 50\n").await;
    let tenant = &clocked.tenant;
    tenant.add("again", "web", "function handle(n) { schedule('again', n + 1) }").await;
    tenant.add("soon", "web", "function handle(n) { schedule('soon', n + 1, { delay: 59 }) }").await;
    let forks = "function handle(n) { for (let i = 0; i < 4; i++) schedule('forks', n + 1) }";
    tenant.add("forks", "web", forks).await;
    let stopped = async |name: &str| {
        eventually("the chain is at its end", async || {
            clocked.server.turn(TimeDelta::seconds(60));
            tenant.runs(name).await.into_iter().find(|run| run["outcome"] == "chain")
        })
        .await
    };

    for name in ["again", "soon"] {
        tenant.exec(name, json!(0)).await.ok();

        let run = stopped(name).await;

        assert_eq!(run["depth"], 9, "{run}");
        let error = text(&run["error"]);
        assert!(error.contains("limits.chain_depth") && error.contains(&format!("{name} → {name}")), "{error}");
        let last = jobs(&tenant.root).await.pop().unwrap();
        let last = ended(tenant, &last).await;
        assert_eq!((&last["state"], &last["attempts"], &last["runId"]), (&json!("failed"), &json!(1), &run["id"]));
        assert_eq!(text(&last["error"]), error);
    }
    tenant.exec("forks", json!(0)).await.ok();
    let run = stopped("forks").await;
    assert!(text(&run["error"]).contains("limits.chain_runs"), "{run}");
    // The first and the 50 that it may cause, each with four jobs.
    let runs = eventually("all of them have ended", async || {
        let info = tenant.root.get("/fn/info/forks?runs=1000").await.ok();
        info["history"].as_array().filter(|runs| runs.len() == 1 + 51 * 4).cloned()
    })
    .await;
    let ran = runs.iter().filter(|run| run["outcome"] == "ok").count();
    assert_eq!(ran, 51, "the others are not started");
}

#[tokio::test]
async fn a_function_that_schedules_itself_every_minute_goes_on() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    let code = "function handle(n) { create('ticks', { n }); schedule('ticks', n + 1, { delay: 60 }) }";
    tenant.add("ticks", "web", code).await;
    tenant.exec("ticks", json!(0)).await.ok();

    for n in 1..=12 {
        clocked.server.turn(TimeDelta::seconds(61));
        eventually("the next tick", async || (tenant.runs("ticks").await.len() > n).then_some(())).await;
    }

    let runs = tenant.runs("ticks").await;
    assert!(runs.iter().all(|run| run["outcome"] == "ok" && run["depth"] == 0), "{runs:?}");
    let traces: std::collections::HashSet<String> = runs.iter().map(|run| text(&run["traceId"])).collect();
    assert_eq!(traces.len(), runs.len(), "each is a chain of its own");
}

#[tokio::test]
async fn components_schedule_too() {
    // This program is no server that could be called once more to compile.
    let clocked = Clocked::with(&format!("[compile]\nprogram = {:?}", env!("CARGO_BIN_EXE_thimble"))).await;
    let tenant = &clocked.tenant;
    let import = r#"(import "thimble:functions/schedule@0.1.0" "schedule"
        (func $schedule (param i32 i32 i32 i32 i32 i32 i32)))"#;
    // The first argument is the payload; the answer is the job, or what was wrong.
    let handle = r#"
        (call $schedule
            (i32.const 1024) (i32.const 5)
            (i32.load (local.get $args)) (i32.load offset=4 (local.get $args))
            (i32.const 1032) (i32.const 12)
            (i32.const 64))
        (if (result i32) (i32.load8_u (i32.const 64))
            (then unreachable)
            (else (call $string (i32.load (i32.const 68)) (i32.load (i32.const 72)))))"#;
    let component = guest_importing(import, handle, r#"(data (i32.const 1024) "keeps   {\"delay\":90}")"#);
    let name = fresh("component");
    tenant.upload_component(&name, "web", component).await.ok();

    let job = tenant.exec(&name, json!({ "n": 2 })).await.ok();

    assert_eq!((&job["function"], &job["payload"]), (&json!("keeps"), &json!({ "n": 2 })));
    clocked.server.turn(TimeDelta::seconds(91));
    assert_eq!(ended(tenant, &job).await["state"], "done");
    assert_eq!(kept(tenant).await[0]["body"], json!({ "n": 2 }));
}
