//! Limits that owners set, quotas that the operator sets, and fairness between those who share a server.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Tenant, eventually, fresh, operated, text, thimble};

const ENDLESS: &str = "function handle() { while (true) {} }";
const GOOD: &str = "function handle() { return \"good\"; }";

async fn limited(tenant: &Tenant, code: &str, limits: Value) -> String {
    let name = fresh("limited");
    tenant.root.post("/fn/add", json!({ "name": name, "trigger": "web", "code": code, "limits": limits })).await.ok();
    name
}

#[tokio::test]
async fn an_owner_sets_narrower_limits_and_is_told_when_they_end_a_run() {
    let tenant = Tenant::new().await;
    let name = limited(&tenant, ENDLESS, json!({ "fuel": 20_000_000 })).await;

    let answer = tenant.exec(&name, json!({})).await;

    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("20000000") && answer.text().contains("--fuel"), "{}", answer.text());
    let info = tenant.info(&name).await;
    assert_eq!(info["limits"]["fuel"], 20_000_000);
    assert_eq!(info["limits"]["own"], json!({ "fuel": 20_000_000 }));
    assert_eq!(info["usage"]["runsThisMinute"], 1);
    assert!(info["usage"]["fuelToday"].as_u64().unwrap() >= 20_000_000, "{info}");
}

#[tokio::test]
async fn limits_belong_to_the_version() {
    let tenant = Tenant::new().await;
    let name = limited(&tenant, GOOD, json!({ "timeout": 1_000, "rate": 50 })).await;
    let update = async |body: Value| tenant.root.post("/fn/update", body).await.ok();

    update(json!({ "name": name, "code": GOOD })).await;
    assert_eq!(tenant.info(&name).await["limits"]["own"], json!({ "timeout": 1_000, "rate": 50 }));
    update(json!({ "name": name, "limits": { "rate": null, "memory": 16_777_216 } })).await;
    assert_eq!(tenant.info(&name).await["limits"]["own"], json!({ "timeout": 1_000, "memory": 16_777_216 }));

    tenant.root.post(&format!("/fn/rollback/{name}"), json!({ "version": 1 })).await.ok();
    assert_eq!(tenant.info(&name).await["limits"]["own"], json!({ "timeout": 1_000, "rate": 50 }));
}

#[tokio::test]
async fn nobody_exceeds_what_the_operator_set() {
    let tenant = Tenant::new().await;
    for (limits, words) in [
        (json!({ "fuel": 9_000_000_000_000_000_u64 }), "limits.fuel"),
        (json!({ "memory": 1_u64 << 40 }), "limits.memory"),
        (json!({ "timeout": 0 }), "timeout"),
        (json!({ "speed": 1 }), "there is no limit `speed`"),
    ] {
        let body = json!({ "name": "greedy", "trigger": "web", "code": GOOD, "limits": limits });
        let refused = tenant.root.post("/fn/add", body).await.refused(400);
        assert!(refused.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_rate_is_kept_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    let name = limited(&tenant, GOOD, json!({ "fuelPerDay": 1 })).await;

    assert_eq!(tenant.exec(&name, json!({})).await.status, 200);
    let refused = tenant.exec(&name, json!({})).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(
        refused.text().contains("fuel of this day") && refused.text().contains("--fuel-per-day"),
        "{}",
        refused.text()
    );
    assert_eq!(tenant.last_run(&name).await["outcome"], "quota");
    server.stop().await;

    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    assert_eq!(tenant.exec(&name, json!({})).await.status, 429);
}

#[tokio::test]
async fn calls_over_the_rate_are_refused_with_the_time_to_come_again() {
    let tenant = Tenant::new().await;
    let name = limited(&tenant, GOOD, json!({ "rate": 3 })).await;

    // Two minutes have room for six.
    let answers = join_all((0..10).map(|_| tenant.exec(&name, json!({})))).await;

    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 4, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    let seconds: u64 = refused[0].header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(refused[0].text().contains("3 times in a minute"), "{}", refused[0].text());
}

#[tokio::test]
async fn who_waits_in_vain_for_a_function_s_own_limit_is_told_and_so_is_its_owner() {
    let server = thimble(["serve", "--dev"]).settings("[runtime]\nwait_ms = 100\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let name = limited(&tenant, ENDLESS, json!({ "concurrency": 1 })).await;

    let answers = join_all((0..3).map(|_| tenant.exec(&name, json!({})))).await;

    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(refused.len(), 2, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for answer in refused {
        assert!(
            answer.text().contains("1 times at once") && answer.text().contains("--concurrency"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("retry-after"), "1");
    }
    let runs = tenant.runs(&name).await;
    let told: Vec<_> = runs.iter().filter(|run| text(&run["error"]).contains("--concurrency")).collect();
    // Once a minute, however many are refused.
    assert!((1..=2).contains(&told.len()) && told[0]["outcome"] == "quota", "{runs:?}");
}

#[tokio::test]
async fn a_function_that_triggers_itself_ends_and_shows_the_chain() {
    let tenant = Tenant::new().await;
    let (one, two) = (fresh("one"), fresh("two"));
    tenant.add(&one, "ring_a", "function handle(m) { send('again', 'x', 'ring_b'); }").await;
    tenant.add(&two, "ring_b", "function handle(m) { send('again', 'x', 'ring_a'); }").await;

    tenant.root.post("/sudo/publish", json!({ "channel": "ring_a", "type": "again", "data": "x" })).await;
    tenant.root.post("/publish", json!({ "channel": "ring_a", "type": "again", "data": "x" })).await;

    let stopped = eventually("the chain ends", async || {
        let runs = [tenant.runs(&one).await, tenant.runs(&two).await].concat();
        runs.into_iter().find(|run| run["outcome"] == "chain")
    })
    .await;
    let path = text(&stopped["chain"]);
    assert!(path.starts_with(&format!("{one} → {two} → {one}")), "{path}");
    assert!(text(&stopped["error"]).contains("limits.chain_depth"), "{stopped}");
    assert_eq!(stopped["depth"], 9);
}

#[tokio::test]
async fn a_chain_that_spreads_ends_by_its_budget() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nchain_runs = 20\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let name = fresh("spreads");
    tenant.add(&name, "spread", "function handle(m) { for (let i = 0; i < 5; i++) send('s', 'x', 'spread'); }").await;

    tenant.root.post("/publish", json!({ "channel": "spread", "type": "s", "data": "x" })).await.ok();

    let stopped = eventually("the budget is used up", async || {
        tenant.runs(&name).await.into_iter().find(|run| run["outcome"] == "chain")
    })
    .await;
    assert!(text(&stopped["error"]).contains("limits.chain_runs"), "{stopped}");
    let ran = tenant.runs(&name).await.into_iter().filter(|run| run["outcome"] == "ok").count();
    assert!(ran <= 21, "{ran}");
}

#[tokio::test]
async fn one_tenant_s_flood_does_not_hold_up_another_s_calls() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let (hostile, victim) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let busy = hostile.function(ENDLESS).await;
    let good = victim.function(GOOD).await;

    let flood = join_all((0..40).map(|_| hostile.exec(&busy, json!({}))));
    let calls = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let started = Instant::now();
            assert_eq!(victim.exec(&good, json!({})).await.ok(), "good");
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(flood, calls);

    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(answers.iter().all(|answer| matches!(answer.status, 429 | 503 | 504)));
    assert!(server.is_well());
}

#[tokio::test]
async fn a_run_tells_what_it_used() {
    let tenant = Tenant::new().await;
    let code = "function handle() { create('used_774_', { a: 1 }); list('used_774_'); send('t', 'd', 'c'); }";

    let (_, run) = tenant.run_and_look(code).await;

    assert_eq!(
        (&run["used"]["writes"], &run["used"]["reads"], &run["used"]["messages"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(run["used"]["bytesWritten"].as_u64().unwrap() > 0 && run["guestMs"].as_f64().unwrap() > 0.0, "{run}");
}

#[tokio::test]
async fn a_function_that_runs_often_does_not_fill_the_history() {
    let server = thimble(["serve", "--dev"]).settings("[runs]\nkeep = 10\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let name = tenant.function(GOOD).await;
    let kept = async || {
        let info = tenant.root.get(&format!("/fn/info/{name}?runs=1000")).await.ok();
        info["history"].as_array().unwrap().len()
    };

    for _ in 0..10 {
        join_all((0..25).map(|_| tenant.exec(&name, json!({})))).await;
    }

    eventually("what is too much is forgotten", async || (kept().await <= 10).then_some(())).await;
}

#[tokio::test]
async fn writes_of_a_run_are_limited_by_number_and_bytes() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nwrites = 5\nbytes_written = 1_000\n").serve().await;
    let tenant = Tenant::on(&server).await;

    for (code, setting) in [
        ("function handle() { for (let i = 0; i < 10; i++) create('a', { i }); }", "limits.writes"),
        ("function handle() { create('a', { x: 'x'.repeat(2000) }); }", "limits.bytes_written"),
        (
            "function handle() { const { id } = create('a', { x: 'x'.repeat(500) }).content; for (;;) update('a', id, {}); }",
            "limits.bytes_written",
        ),
    ] {
        let (answer, run) = tenant.run_and_look(code).await;
        assert_eq!((answer.status, &run["outcome"]), (429, &json!("quota")), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.text().contains(setting), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_app_keeps_no_more_documents_than_it_may() {
    let (_server, operator, tenant) = operated().await;
    let path = format!("/account/quota/{}", tenant.key);
    assert_eq!(operator.put(&path, json!({ "documents": 2 })).await.ok()["documents"], 2);
    let create = async || tenant.root.post("/db/tasks", json!({ "title": "a" })).await;

    let first = create().await.json();
    assert_eq!(create().await.status, 201);
    let refused = create().await;
    assert_eq!(refused.status, 507);
    assert!(refused.text().contains("at most 2 documents") && refused.text().contains("tenant.documents"));
    let told = tenant.value("function handle() { return create(\"tasks\", {}); }").await;
    assert!(told["ok"] == false && text(&told["content"]).contains("at most 2 documents"), "{told}");
    assert_eq!(tenant.root.post("/db/tasks?bulk=1", json!([{}, {}])).await.status, 507);
    assert_eq!(operator.get(&path).await.ok()["storedDocuments"], 2);

    tenant.root.delete(&format!("/db/tasks/{}", text(&first["id"]))).await.ok();
    assert_eq!(create().await.status, 201);
    operator.put(&path, json!({ "documentBytes": 100 })).await.ok();
    assert_eq!(create().await.status, 507);
}

#[tokio::test]
async fn the_operator_sees_metrics_and_sets_an_app_s_quota() {
    let (_server, operator, tenant) = operated().await;
    assert_eq!(tenant.value(GOOD).await, "good");

    assert_eq!(tenant.root.get("/metrics").await.status, 400);
    let metrics = operator.get("/metrics").await;
    assert!(metrics.text().contains("thimble_runs_total{outcome=\"ok\"} 1"), "{}", metrics.text());
    assert!(metrics.text().contains("thimble_slots 64") && metrics.text().contains("thimble_slots_used 0"));

    let path = format!("/account/quota/{}", tenant.key);
    assert_eq!(tenant.root.put(&path, json!({ "rate": 1_000 })).await.status, 400);
    assert_eq!(operator.put(&path, json!({ "fuelPerDay": 1 })).await.ok()["fuelPerDay"], 1);
    let refused = tenant.run(GOOD).await;
    assert_eq!(refused.status, 429);
    assert!(
        refused.text().contains("this app") && refused.text().contains("tenant.fuel_per_day"),
        "{}",
        refused.text()
    );
    assert_eq!(operator.put(&path, json!({})).await.ok()["own"], json!({}));
    assert_eq!(tenant.value(GOOD).await, "good");
}
