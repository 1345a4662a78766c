//! What a function's runs say together, over HTTP and from the command line.

use serde_json::{Value, json};

use crate::harness::{Tenant, eventually, fresh, operated, repository, text, thimble};

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

/// The value of a metric without labels.
fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[tokio::test]
async fn the_operator_s_metrics_show_the_state_of_the_server() {
    let (server, operator, tenant) = operated().await;
    let sleeper = tenant.function("function handle() { while (true) {} }").await;
    tenant.value("function handle() { return 1; }").await;
    let metrics = async || String::from_utf8(operator.get("/metrics").await.body).unwrap();

    let quiet = metrics().await;
    let busy = async {
        eventually("a slot is taken", async || {
            let metrics = metrics().await;
            // A run has its slot before it has its memory.
            let used = ["thimble_slots_used", "thimble_memory_slots_used"].map(|name| metric(&metrics, name));
            (used == [1.0, 1.0]).then_some(metrics)
        })
        .await
    };
    let (_, busy) = tokio::join!(tenant.exec(&sleeper, json!({})), busy);
    let after = metrics().await;

    assert_eq!(metric(&quiet, "thimble_memory_slots_used"), 0.0);
    assert!(metric(&quiet, "thimble_memory_slots") >= metric(&quiet, "thimble_slots"));
    assert!(metric(&busy, "thimble_connections") >= 2.0, "the caller's and the operator's: {busy}");
    for (name, least) in [
        ("thimble_database_bytes", 4_096.0),
        ("process_resident_memory_bytes", 1_048_576.0),
        ("process_open_fds", 3.0),
        ("process_threads", 2.0),
        ("process_max_fds", 3.0),
    ] {
        assert!(metric(&after, name) >= least, "{name}: {after}");
    }
    for line in [
        "thimble_queue_seconds_count 2",
        "thimble_run_seconds_count{outcome=\"ok\"} 1",
        "thimble_events_waiting 0",
        "thimble_build_info{version=\"",
    ] {
        assert!(after.contains(line), "{line}: {after}");
    }
    assert!(!after.contains(&tenant.key), "a label for each app is one too many");
    assert!(server.is_well());
}

#[tokio::test]
async fn every_metric_is_described() {
    let (_server, operator, _) = operated().await;
    let metrics = operator.get("/metrics").await;
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();

    let types: Vec<_> =
        metrics.text().lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.to_owned())).collect();

    assert!(types.len() > 20, "{types:?}");
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        let end = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(readme.contains(&format!("`{name}{end}`")), "README.md does not describe {name}{end}");
    }
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
