//! What a function's runs say together, over HTTP and from the command line.

use serde_json::{Value, json};

use crate::harness::{Tenant, eventually, fresh, text, thimble};

/// Fails when it is told to.
const MOODY: &str = "function handle(body) { if (body.fail) throw new Error('it rained'); return 'good'; }";

async fn stats(tenant: &Tenant, name: &str, query: &str) -> Value {
    tenant.root.get(&format!("/fn/stats/{name}{query}")).await.ok()
}

#[tokio::test]
async fn runs_are_counted_and_measured() {
    let tenant = Tenant::new().await;
    let name = tenant.function(MOODY).await;
    for body in [json!({}), json!({}), json!({ "fail": true }), json!({})] {
        tenant.exec(&name, body).await;
    }

    let stats = stats(&tenant, &name, "").await;

    let runs = tenant.runs(&name).await;
    let failed = runs.iter().find(|run| run["outcome"] == "error").unwrap();
    assert_eq!((&stats["runs"], &stats["errorRate"]), (&json!(4), &json!(0.25)));
    assert_eq!(stats["outcomes"], json!({ "ok": 3, "error": 1 }));
    assert_eq!(stats["byTrigger"], json!([{ "trigger": "web", "runs": 4, "failed": 1 }]));
    assert_eq!(stats["lastError"]["run"], failed["id"]);
    assert!(text(&stats["lastError"]["error"]).contains("it rained"), "{stats}");
    assert_eq!(stats["from"], runs[0]["started"]);
    assert!(stats["runsPerMinute"].as_f64().unwrap() > 0.5, "{stats}");
    for (figure, of_run) in [
        ("durationMs", "durationMs"),
        ("guestMs", "guestMs"),
        ("hostMs", "hostMs"),
        ("queuedMs", "queuedMs"),
        ("fuel", "fuel"),
        ("peakMemory", "peakMemory"),
    ] {
        let mut of_runs: Vec<f64> = runs.iter().map(|run| run[of_run].as_f64().unwrap()).collect();
        of_runs.sort_by(f64::total_cmp);
        let percentile = |name: &str| stats[figure][name].as_f64().unwrap();
        assert_eq!(
            (percentile("p50"), percentile("p99"), percentile("max")),
            (of_runs[1], of_runs[3], of_runs[3]),
            "{stats}"
        );
    }
}

#[tokio::test]
async fn limits_stand_beside_what_is_used_of_them() {
    let tenant = Tenant::new().await;
    let name = fresh("moody");
    let upload = json!({ "name": name, "trigger": "web", "code": MOODY, "limits": { "rate": 2, "fuel": 100_000_000 } });
    tenant.root.post("/fn/add", upload).await.ok();
    // More than fit into two minutes.
    for _ in 0..5 {
        tenant.exec(&name, json!({})).await;
    }

    let stats = stats(&tenant, &name, "").await;

    assert_eq!((&stats["limits"]["rate"], &stats["limits"]["fuel"]), (&json!(2), &json!(100_000_000)));
    assert!(
        stats["outcomes"]["quota"].as_u64().unwrap() >= 1 && text(&stats["lastError"]["error"]).contains("--rate"),
        "{stats}"
    );
    assert!(stats["durationMs"]["p50"].as_f64().unwrap() > 0.0, "a run that was refused took no time: {stats}");
    assert!(stats["app"]["fuelToday"].as_u64().unwrap() >= stats["usage"]["fuelToday"].as_u64().unwrap(), "{stats}");
    assert!(stats["app"]["rate"].as_u64().unwrap() > 2, "{stats}");
    assert_eq!((&stats["usage"]["running"], &stats["app"]["running"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn runs_are_told_apart_by_what_they_were_called_for() {
    let tenant = Tenant::new().await;
    let name = fresh("listener");
    tenant.add(&name, "news", "function handle() { return 1; }").await;

    tenant.root.post("/publish", json!({ "channel": "news", "type": "x", "data": "y" })).await.ok();
    tenant.exec(&name, json!({})).await.ok();

    let stats = eventually("both have run", async || {
        let stats = stats(&tenant, &name, "").await;
        (stats["runs"] == 2).then_some(stats)
    })
    .await;
    let mut triggers: Vec<_> = stats["byTrigger"].as_array().unwrap().iter().map(|one| text(&one["trigger"])).collect();
    triggers.sort();
    assert_eq!(triggers.len(), 2, "{stats}");
    assert!(triggers[0].contains("news") && triggers[1] == "web", "{stats}");
}

#[tokio::test]
async fn since_leaves_out_what_was_before() {
    let tenant = Tenant::new().await;
    let name = tenant.function(MOODY).await;
    tenant.exec(&name, json!({ "fail": true })).await;
    tenant.exec(&name, json!({})).await.ok();
    let second = text(&tenant.last_run(&name).await["started"]);

    assert_eq!(stats(&tenant, &name, "?since=1h").await["runs"], 2);
    let late = stats(&tenant, &name, &format!("?since={second}")).await;
    assert_eq!((&late["runs"], &late["lastError"]), (&json!(1), &Value::Null));
    let nothing = stats(&tenant, &name, "?since=0s").await;
    assert_eq!((&nothing["runs"], &nothing["from"], &nothing["errorRate"]), (&json!(0), &Value::Null, &json!(0.0)));
    assert!(tenant.root.get(&format!("/fn/stats/{name}?since=soon")).await.refused(400).contains("12h"));
}

#[tokio::test]
async fn only_the_owner_sees_them() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let name = tenant.function(MOODY).await;
    let path = format!("/fn/stats/{name}");

    assert_eq!(other.root.get(&path).await.status, 404);
    assert!(tenant.anybody.get(&path).await.status >= 400);
    assert!(tenant.user("ann").await.get(&path).await.status >= 400);
}

/// `thimble function stats` with the keys of a tenant.
async fn command<const N: usize>(tenant: &Tenant, arguments: [&str; N]) -> String {
    let command = thimble(arguments).variable("THIMBLE_URL", &tenant.root.url);
    let keyed = command.variable("THIMBLE_PUBLIC_KEY", &tenant.key).variable("THIMBLE_ROOT_TOKEN", tenant.root_token());
    keyed.run().await.succeeded()
}

#[tokio::test]
async fn the_command_line_shows_them_on_a_small_screen() {
    let tenant = Tenant::new().await;
    tenant.add("moody", "web", MOODY).await;
    let unused = command(&tenant, ["function", "stats", "moody"]).await;
    for fail in [false, true, true] {
        tenant.exec("moody", json!({ "fail": fail })).await;
    }

    let shown = command(&tenant, ["function", "stats", "moody", "--since", "1h"]).await;
    let json = command(&tenant, ["function", "stats", "moody", "--json"]).await;

    assert!(unused.contains("Runs       none") && unused.contains("of the app: fuel today"), "{unused}");
    let failed = text(&tenant.last_run("moody").await["id"]);
    for words in [
        "3 since",
        "2 error, 1 ok",
        "66.7 %",
        &failed,
        "it rained",
        "P99",
        "in the queue",
        "memory of a run",
        "64.0 MiB",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let json = &json[json.find('{').unwrap()..];
    assert_eq!(serde_json::from_str::<Value>(json).unwrap()["outcomes"], json!({ "ok": 1, "error": 2 }));
}
