//! Tasks at their ticks and jobs at their times; the clock is turned, never waited for.

use std::path::Path;

use axum::{Router, extract::Request, routing::any};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ClockedServer, Connection, Tenant, Transport, eventually, fresh, text, thimble};

/// Keeps its arguments.
const KEEPS: &str = "function handle(a, b, c) { create(\"kept\", { a, b, c }); return a; }";

/// A server with a clock, and the tenant on it.
struct Clocked {
    server: ClockedServer,
    tenant: Tenant,
    folder: TempDir,
    settings: String,
}

impl Clocked {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ClockedServer::start(folder.path(), settings).await;
        Self { tenant: server.tenant(), server, folder, settings: settings.into() }
    }

    async fn start_again_after(self, away: TimeDelta) -> Self {
        let server = self.server.start_again_after(self.folder.path(), &self.settings, away).await;
        Self { tenant: server.tenant(), server, ..self }
    }

    /// Turns the clock to the next tick of a task and waits until there is one more entry in its history.
    async fn tick(&self, task: &str) -> Value {
        let before = history(&self.tenant, task).await.len();
        self.server.turn_to(time(&show(&self.tenant, task).await["next"]));
        self.entry(task, before).await
    }

    /// The entry of this number, once it has ended.
    async fn entry(&self, task: &str, number: usize) -> Value {
        entry(&self.tenant, task, number).await
    }
}

async fn entry(tenant: &Tenant, task: &str, number: usize) -> Value {
    eventually("the task has ended", async || {
        let entry = history(tenant, task).await.get(number).cloned()?;
        (entry["outcome"] != "running").then_some(entry)
    })
    .await
}

async fn add(tenant: &Tenant, task: Value) -> Value {
    tenant.root.post("/task", task).await.ok()
}

async fn show(tenant: &Tenant, task: &str) -> Value {
    tenant.root.get(&format!("/task/{task}")).await.ok()
}

async fn history(tenant: &Tenant, task: &str) -> Vec<Value> {
    tenant.root.get(&format!("/task/{task}/history?limit=1000")).await.ok().as_array().unwrap().clone()
}

fn outcomes(history: &[Value]) -> Vec<&str> {
    history.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect()
}

async fn kept(tenant: &Tenant) -> Vec<Value> {
    tenant.root.get("/db/kept?size=100").await.ok()["results"].as_array().cloned().unwrap_or_default()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

const NEVER: &str = "0001-01-01T00:00:00Z";

fn function_task(name: &str, function: &str, interval: &str) -> Value {
    json!({ "name": name, "type": "function", "value": function, "interval": interval })
}

#[tokio::test]
async fn a_task_is_kept_shown_changed_and_deleted() {
    let tenant = Tenant::new().await;
    let meta = r#"{"data":"{\"a\":1}"}"#;

    let added = add(
        &tenant,
        json!({ "id": "", "name": "nightly", "type": "function", "value": "clean", "meta": meta, "interval": "0 3 * * *",
            "last": NEVER, "base": "x" }),
    )
    .await;

    let id = text(&added["id"]);
    for (field, value) in [
        ("name", "nightly"),
        ("type", "function"),
        ("value", "clean"),
        ("meta", meta),
        ("interval", "0 3 * * *"),
        ("last", NEVER),
        ("base", &tenant.key),
        ("timeZone", ""),
        ("catchUp", "skip"),
    ] {
        assert_eq!(added[field], value, "{field}");
    }
    let next = time(&added["next"]);
    assert!(next > Utc::now() && next <= Utc::now() + TimeDelta::days(1), "{next}");
    assert_eq!(next.format("%H:%M:%S").to_string(), "03:00:00");
    assert_eq!(show(&tenant, &id).await, added);
    assert_eq!(show(&tenant, "nightly").await, added, "a name does as well");
    assert_eq!(tenant.root.get("/task").await.ok(), json!([added]));
    assert_eq!(tenant.root.get("/task/").await.ok(), json!([added]));

    let body = json!({ "name": "daily", "timeZone": "Asia/Tokyo", "catchUp": "once", "overlap": true });
    let changed = tenant.root.post(&format!("/task/{id}"), body).await.ok();
    assert_eq!(
        (&changed["name"], &changed["value"], &changed["catchUp"]),
        (&json!("daily"), &json!("clean"), &json!("once"))
    );
    assert_eq!(time(&changed["next"]).format("%H:%M").to_string(), "18:00", "03:00 in Tokyo");
    assert_eq!(show(&tenant, &id).await, changed);

    assert_eq!(tenant.root.delete("/task/daily").await.ok(), true);
    assert_eq!(tenant.root.get(&format!("/task/{id}")).await.refused(404), format!("task `{id}` not found"));
    assert_eq!(tenant.root.get("/task").await.ok(), json!([]));
}

#[tokio::test]
async fn a_task_that_cannot_work_is_refused_with_a_sentence() {
    let tenant = Tenant::new().await;
    let good = json!({ "name": "t", "type": "function", "value": "f", "interval": "* * * * *" });
    let long = "* ".repeat(5_000);
    for (field, value, words) in [
        ("interval", json!("* * * * * *"), "6 fields"),
        ("interval", json!("61 * * * *"), "\"61\" is not a number from 0 to 59"),
        ("interval", json!("*/0 * * * *"), "the step \"0\""),
        ("interval", json!("0 0 30 2 *"), "never comes"),
        ("interval", json!("@every 1ns"), "tasks.least_every_s"),
        ("interval", json!(long), "at most 256 bytes"),
        ("interval", json!(""), "there is no interval"),
        ("interval", Value::Null, "there is no interval"),
        ("timeZone", json!("Mars/Olympus"), "time zone"),
        ("type", json!("shell"), "`function`, `message` or `http`"),
        ("type", Value::Null, "`function`, `message` or `http`"),
        ("name", json!(""), "no name"),
        ("name", json!("a/b"), "without `/`"),
        ("value", json!(""), "name of a function"),
        ("catchUp", json!("all"), "`skip` or `once`"),
        ("meta", json!("{"), "not JSON"),
        ("meta", json!("[]"), "not a JSON object"),
        ("meta", json!("x".repeat(70_000)), "at most 65536 bytes"),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let refused = tenant.root.post("/task", body).await.refused(400);
        assert!(refused.contains(words), "{field}: {refused}");
    }
    let message = json!({ "name": "t", "type": "message", "value": "tick", "interval": "@daily" });
    assert!(tenant.root.post("/task", message).await.refused(400).contains("channel"));
    let huge =
        json!({ "name": "t", "type": "message", "value": "tick", "interval": "@daily", "meta": "x".repeat(1 << 20) });
    tenant.root.post("/task", huge).await.refused(413);

    add(&tenant, good.clone()).await;
    assert!(tenant.root.post("/task", good).await.refused(409).contains("a task named `t` exists already"));
}

#[tokio::test]
async fn tasks_belong_to_root_and_to_their_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let user = tenant.user("ann").await;
    let id = text(&add(&tenant, function_task("t", "f", "@daily")).await["id"]);

    assert_eq!(user.get("/task").await.status, 400);
    assert_eq!(user.post("/task", function_task("x", "f", "@daily")).await.status, 400);
    assert_eq!(tenant.anybody.get("/task").await.status, 401);
    assert_eq!(other.root.get("/task").await.ok(), json!([]));
    for path in [format!("/task/{id}"), format!("/task/{id}/history"), "/task/t".into()] {
        assert_eq!(other.root.get(&path).await.status, 404, "{path}");
    }
    for path in [format!("/task/{id}"), format!("/task/{id}/run"), format!("/task/{id}/pause")] {
        assert_eq!(other.root.post(&path, json!({})).await.status, 404, "{path}");
    }
    assert_eq!(other.root.delete(&format!("/task/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_function_runs_at_each_tick_as_root() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "somewhere", KEEPS).await;
    let mut task = function_task("each", "keeps", "*/5 * * * *");
    task["meta"] = json!(r#"{"data":"{\"n\":1}"}"#);
    let due = time(&add(tenant, task).await["next"]);
    assert_eq!(due, due.duration_trunc(TimeDelta::minutes(5)).unwrap());

    let entry = clocked.tick("each").await;

    assert_eq!(
        (&entry["outcome"], &entry["success"], &entry["manual"]),
        (&json!("ok"), &json!(true), &json!(false)),
        "{entry}"
    );
    assert_eq!(time(&entry["due"]), due);
    let run = tenant.last_run("keeps").await;
    assert_eq!((&run["id"], &run["traceId"], &run["trigger"]), (&entry["runId"], &entry["traceId"], &json!("each")));
    let own = tenant.root.create("other", json!({})).await;
    let kept = kept(tenant).await.remove(0);
    assert_eq!((&kept["a"], &kept["b"], &kept["c"]), (&json!("each"), &json!("fn_call"), &json!({ "n": 1 })));
    assert_eq!(kept["accountId"], own["accountId"]);
    let shown = show(tenant, "each").await;
    assert_eq!((time(&shown["last"]), time(&shown["next"])), (due, due + TimeDelta::minutes(5)));
    assert_eq!(shown["lastOutcome"], "ok");
    clocked.tick("each").await;
    assert_eq!(time(&clocked.entry("each", 1).await["due"]), due + TimeDelta::minutes(5));
}

#[tokio::test]
async fn a_function_that_fails_or_is_gone_is_in_the_history() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("broken", "web", "function handle() { throw new Error(\"oops\"); }").await;
    add(tenant, function_task("t", "broken", "@every 90s")).await;

    let failed = clocked.tick("t").await;
    tenant.root.get("/fn/del/broken").await.ok();
    let gone = clocked.tick("t").await;

    assert_eq!(failed["outcome"], "error");
    assert!(text(&failed["detail"]).contains("oops"), "{failed}");
    assert_eq!((&gone["outcome"], &gone["detail"]), (&json!("error"), &json!("function `broken` not found")));
    assert_eq!(time(&gone["due"]) - time(&failed["due"]), TimeDelta::seconds(90));
}

#[tokio::test]
async fn a_message_task_reaches_members_and_functions() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("hears", "news", KEEPS).await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "news").await;
    let meta = json!({ "channel": "news", "data": "{\"n\":1}" });
    let added =
        add(tenant, json!({ "name": "t", "type": "message", "value": "tick", "interval": "@hourly", "meta": meta }))
            .await;

    let entry = clocked.tick("t").await;

    assert_eq!((&entry["outcome"], &entry["detail"]), (&json!("ok"), &json!("sent to `news`")));
    let heard = member.until_type("tick").await;
    assert_eq!((&heard["data"], &heard["sid"], &heard["token"]), (&json!("{\"n\":1}"), &added["id"], &json!("")));
    let kept = eventually("the function has heard it", async || kept(tenant).await.pop()).await;
    assert_eq!((&kept["a"], &kept["b"], &kept["c"]["n"]), (&json!("news"), &json!("tick"), &json!(1)));
}

/// A server that answers with what it was asked; `/missing` with 404.
async fn echo() -> String {
    let handle = async |request: Request| {
        let head = format!("{} {} {:?}", request.method(), request.uri().path(), request.headers().get("x-own"));
        let missing = request.uri().path() == "/missing";
        let media_type = request.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(request.into_body(), 10_000).await.unwrap();
        let status = if missing { 404 } else { 200 };
        let echo = json!({ "head": head, "type": media_type, "body": String::from_utf8_lossy(&body) });
        (axum::http::StatusCode::from_u16(status).unwrap(), echo.to_string())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handle))).await });
    place
}

#[tokio::test]
async fn an_http_task_calls_a_url_and_functions_see_the_answer() {
    let place = echo().await;
    let clocked = Clocked::with(&format!("[fetch]\nallow = [\"{place}\"]")).await;
    let tenant = &clocked.tenant;
    tenant.add("sees", "form-http-response", KEEPS).await;
    tenant.add("sees_too", "json-http-response", KEEPS).await;
    let url = format!("http://{place}/path");
    let json_meta =
        json!({ "method": "put", "ct": "application/json", "HTTPHeaders": "{\"X-Own\":\"1\"}", "data": "[1]" });
    let form_meta = r#"{"data":"{\"a\":\"1 2\",\"b\":[3]}"}"#;
    for (name, url, meta) in [
        ("form", url.as_str(), json!(form_meta)),
        ("json", url.as_str(), json_meta),
        ("missing", &format!("http://{place}/missing"), json!({})),
    ] {
        add(tenant, json!({ "name": name, "type": "http", "value": url, "interval": "@daily", "meta": meta })).await;
        tenant.root.post(&format!("/task/{name}/run"), json!({})).await.ok();
    }

    let form = clocked.entry("form", 0).await;
    assert_eq!(form["outcome"], "ok", "{form}");
    assert!(text(&form["detail"]).contains("answered 200"), "{form}");
    assert_eq!(clocked.entry("json", 0).await["outcome"], "ok");
    let missing = clocked.entry("missing", 0).await;
    assert_eq!(missing["outcome"], "error");
    assert!(text(&missing["detail"]).contains("answered 404"), "{missing}");
    let seen =
        eventually("both answers are seen", async || Some(kept(tenant).await).filter(|seen| seen.len() == 2)).await;
    let of = |channel: &str| seen.iter().find(|seen| seen["a"] == channel).unwrap();
    let form = of("form-http-response");
    assert_eq!((&form["b"], &form["c"]["head"]), (&json!("http_response"), &json!("POST /path None")));
    assert_eq!(form["c"]["type"], "application/x-www-form-urlencoded");
    assert_eq!(form["c"]["body"], "a=1+2&b=%5B3%5D");
    let json = &of("json-http-response")["c"];
    assert_eq!(
        (&json["head"], &json["type"], &json["body"]),
        (&json!("PUT /path Some(\"1\")"), &json!("application/json"), &json!("[1]"))
    );
}

#[tokio::test]
async fn an_http_task_does_not_reach_the_servers_own_network() {
    let place = echo().await;
    let port = place.split_once(':').unwrap().1;
    let tenant = Tenant::new().await;
    for url in [
        format!("http://{place}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://10.0.0.1/".into(),
        "https://[fd00:ec2::254]/".into(),
    ] {
        let body = json!({ "name": fresh("t"), "type": "http", "value": url, "interval": "@daily" });
        let refused = tenant.root.post("/task", body).await.refused(400);
        assert!(refused.contains("is not a public address") && refused.contains("fetch.allow"), "{url}: {refused}");
    }
    for url in ["file:///etc/passwd", "gopher://example.com/", "no-url", "http://a:b@example.com/"] {
        let body = json!({ "name": fresh("t"), "type": "http", "value": url, "interval": "@daily" });
        tenant.root.post("/task", body).await.refused(400);
    }
}

#[tokio::test]
async fn a_task_is_paused_resumed_and_run_when_asked() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "web", KEEPS).await;
    add(tenant, function_task("t", "keeps", "* * * * *")).await;

    let paused = tenant.root.post("/task/t/pause", json!({})).await.ok();
    clocked.server.turn(TimeDelta::minutes(10));
    let asked = tenant.root.post("/task/t/run", json!({})).await.ok();
    let entry = clocked.entry("t", 0).await;
    let resumed = tenant.root.post("/task/t/resume", json!({})).await.ok();

    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &json!(NEVER)));
    assert_eq!((&asked["outcome"], &asked["manual"], &asked["id"]), (&json!("running"), &json!(true), &entry["id"]));
    assert_eq!((&entry["outcome"], &entry["manual"]), (&json!("ok"), &json!(true)));
    assert_eq!(resumed["paused"], false);
    assert!(time(&resumed["next"]) > clocked.server.now() - TimeDelta::seconds(1));
    clocked.tick("t").await;
    assert_eq!(history(tenant, "t").await.len(), 2, "what passed while it was paused is not made up for");
}

#[tokio::test]
async fn a_task_that_takes_long_does_not_overlap_itself() {
    let clocked = Clocked::with("[limits]\nwall_ms = 60_000\nfuel = 1_000_000_000_000_000").await;
    let tenant = &clocked.tenant;
    tenant.add("long", "web", "function handle() { while (!list(\"stop\").content.total); }").await;
    add(tenant, function_task("t", "long", "* * * * *")).await;
    clocked.server.turn_to(time(&show(tenant, "t").await["next"]));
    let running = async |number: usize| {
        eventually("it runs", async || Some(history(tenant, "t").await).filter(|history| history.len() == number)).await
    };
    running(1).await;

    let skipped = [clocked.tick_past("t", 1).await, clocked.tick_past("t", 2).await];
    let asked = tenant.root.post("/task/t/run", json!({})).await.refused(409);
    tenant.root.post("/task/t", json!({ "overlap": true })).await.ok();
    clocked.server.turn_to(time(&show(tenant, "t").await["next"]));
    running(4).await;
    tenant.root.create("stop", json!({})).await;

    for entry in &skipped {
        assert_eq!(entry["outcome"], "skipped");
        assert!(text(&entry["detail"]).contains("`overlap`"), "{entry}");
    }
    assert!(asked.contains("the task `t` is running"), "{asked}");
    clocked.entry("t", 0).await;
    clocked.entry("t", 3).await;
    assert_eq!(outcomes(&history(tenant, "t").await), ["ok", "skipped", "skipped", "ok"]);
}

impl Clocked {
    /// Turns the clock to the next tick and waits for the entry of this number, whatever else runs.
    async fn tick_past(&self, task: &str, number: usize) -> Value {
        self.server.turn_to(time(&show(&self.tenant, task).await["next"]));
        self.entry(task, number).await
    }
}

#[tokio::test]
async fn what_was_missed_is_noted_and_made_up_for_once_when_asked() {
    let clocked = Clocked::new().await;
    clocked.tenant.add("keeps", "web", KEEPS).await;
    for (name, catch_up) in [("skips", "skip"), ("makes_up", "once")] {
        let mut task = function_task(name, "keeps", "0 * * * *");
        task["catchUp"] = json!(catch_up);
        add(&clocked.tenant, task).await;
    }
    let first = time(&show(&clocked.tenant, "skips").await["next"]);

    // So that the last tick before the return is long past.
    let away = first + TimeDelta::minutes(5 * 60 + 30) - clocked.server.now();
    let clocked = clocked.start_again_after(away).await;

    let missed = clocked.entry("skips", 0).await;
    assert_eq!((&missed["outcome"], time(&missed["due"])), (&json!("missed"), first));
    let detail = text(&missed["detail"]);
    assert!(
        detail.contains("6 ticks from") && detail.contains(&first.format("%Y-%m-%d %H:%M").to_string()),
        "{detail}"
    );
    let made_up = clocked.entry("makes_up", 0).await;
    assert_eq!((&made_up["outcome"], time(&made_up["due"])), (&json!("ok"), first + TimeDelta::hours(5)));
    for task in ["skips", "makes_up"] {
        assert_eq!(time(&show(&clocked.tenant, task).await["next"]), first + TimeDelta::hours(6), "{task}");
    }
    clocked.tick("skips").await;
    clocked.entry("makes_up", 1).await;
    for task in ["skips", "makes_up"] {
        assert_eq!(history(&clocked.tenant, task).await.len(), 2, "{task}");
    }
}

#[tokio::test]
async fn a_restart_at_the_tick_neither_loses_nor_repeats_it() {
    let mut clocked = Clocked::new().await;
    clocked.tenant.add("keeps", "web", KEEPS).await;
    add(&clocked.tenant, function_task("t", "keeps", "* * * * *")).await;
    let first = time(&show(&clocked.tenant, "t").await["next"]);

    for number in 0..10 {
        let next = first + TimeDelta::minutes(number);
        // A second before, at, or after it.
        let away = (next - clocked.server.now()).num_seconds() + number % 3;
        clocked = clocked.start_again_after(TimeDelta::seconds(away.max(0))).await;
        if clocked.server.now() < next {
            clocked.server.turn_to(next);
        }
        clocked.entry("t", number as usize).await;
    }

    let history = history(&clocked.tenant, "t").await;
    let due: Vec<_> = history.iter().map(|entry| time(&entry["due"])).collect();
    let expected: Vec<_> = (0..10).map(|number| first + TimeDelta::minutes(number)).collect();
    assert_eq!(due, expected);
    assert_eq!(outcomes(&history), ["ok"; 10]);
}

#[tokio::test]
async fn a_clock_that_is_set_makes_neither_a_storm_nor_a_stop() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "web", KEEPS).await;
    add(tenant, function_task("often", "keeps", "* * * * *")).await;
    add(tenant, function_task("paced", "keeps", "@every 60s")).await;
    add(tenant, function_task("rare", "keeps", "0 0 1 1 *")).await;
    for task in ["often", "paced"] {
        clocked.tick(task).await;
    }

    clocked.server.turn(TimeDelta::hours(1));
    for task in ["often", "paced"] {
        let missed = eventually("the gap is noted", async || {
            history(tenant, task).await.into_iter().find(|entry| entry["outcome"] == "missed")
        })
        .await;
        assert!(text(&missed["detail"]).contains("ticks from"), "{missed}");
        assert!(history(tenant, task).await.len() <= 4, "no storm");
    }
    let rare = time(&show(tenant, "rare").await["next"]);
    let before = history(tenant, "often").await.len();

    clocked.server.turn(-TimeDelta::hours(1));
    for task in ["often", "paced"] {
        let next = eventually("the next tick is near again", async || {
            let next = time(&show(tenant, task).await["next"]);
            (next - clocked.server.now() <= TimeDelta::minutes(1)).then_some(next)
        })
        .await;
        assert!(next > clocked.server.now() - TimeDelta::seconds(30), "{next}");
    }
    assert_eq!(time(&show(tenant, "rare").await["next"]), rare);
    clocked.tick("often").await;
    assert!(history(tenant, "often").await.len() <= before + 2, "no storm");
}

async fn serve_in(folder: &Path) -> (crate::harness::Server, Tenant) {
    let settings = "[limits]\nwall_ms = 600_000\nfuel = 1_000_000_000_000_000\n";
    let server = thimble(["serve", "--dev"]).folder(folder).settings(settings).serve().await;
    let tenant = Tenant::of_development(&server);
    (server, tenant)
}

#[tokio::test]
async fn what_a_crash_interrupts_is_marked_and_jobs_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, tenant) = serve_in(folder.path()).await;
    // Waits for the second life.
    let code =
        "function handle() { create(\"begun\", {}); while (!list(\"again\").content.total); create(\"ended\", {}); }";
    tenant.add("long", "web", code).await;
    add(&tenant, function_task("t", "long", "@daily")).await;
    tenant.root.post("/task/t/run", json!({})).await.ok();
    let job = tenant.root.post("/schedule", json!({ "function": "long" })).await.json();
    let total = async |tenant: &Tenant, collection: &str| {
        tenant.root.get(&format!("/db/{collection}")).await.ok()["total"].clone()
    };
    eventually("both run", async || (total(&tenant, "begun").await == 2).then_some(())).await;

    server.signal("KILL");
    drop(server);
    let (_server, tenant) = serve_in(folder.path()).await;
    tenant.root.create("again", json!({})).await;

    let entry = entry(&tenant, "t", 0).await;
    assert_eq!(entry["outcome"], "interrupted", "{entry}");
    assert_ne!(entry["completed"], NEVER);
    let path = format!("/schedule/{}", text(&job["id"]));
    let done = eventually("the job is done", async || {
        Some(tenant.root.get(&path).await.ok()).filter(|job| job["state"] == "done")
    })
    .await;
    assert_eq!(done["attempts"], 2);
    assert_eq!((total(&tenant, "begun").await, total(&tenant, "ended").await), (json!(3), json!(1)));
    tenant.root.post("/task/t/run", json!({})).await.ok();
}

#[tokio::test]
async fn a_tenant_has_so_many_tasks_and_jobs() {
    let clocked = Clocked::with("[tenant]\ntasks = 2\njobs = 2").await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "web", KEEPS).await;
    for name in ["a", "b"] {
        add(tenant, function_task(name, "keeps", "@daily")).await;
        assert_eq!(tenant.root.post("/schedule", json!({ "function": "keeps", "delay": "1h" })).await.status, 201);
    }

    let task = tenant.root.post("/task", function_task("c", "keeps", "@daily")).await.refused(409);
    let job = tenant.root.post("/schedule", json!({ "function": "keeps", "delay": 1 })).await;

    assert!(task.contains("has 2 tasks") && task.contains("tenant.tasks"), "{task}");
    assert_eq!(job.header("retry-after"), "60");
    let job = job.refused(429);
    assert!(job.contains("2 jobs") && job.contains("tenant.jobs"), "{job}");
    tenant.root.delete("/task/a").await.ok();
    add(tenant, function_task("c", "keeps", "@daily")).await;
}

#[tokio::test]
async fn a_job_runs_once_at_its_time_as_whoever_scheduled_it() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "web", KEEPS).await;
    let (ann, ben) = (tenant.user("ann").await, tenant.user("ben").await);
    let scheduled = ann.post("/schedule", json!({ "function": "keeps", "payload": { "n": 1 }, "delay": "90s" })).await;
    assert_eq!(scheduled.status, 201, "{}", scheduled.text());
    let scheduled = scheduled.json();
    let path = format!("/schedule/{}", text(&scheduled["id"]));

    assert_eq!((&scheduled["state"], &scheduled["userId"]), (&json!("waiting"), &json!(ann.id)));
    assert_eq!(ann.get(&path).await.ok(), scheduled);
    assert_eq!(ann.get("/schedule").await.ok(), json!([scheduled]));
    assert_eq!(tenant.root.get("/schedule").await.ok(), json!([scheduled]));
    assert_eq!(ben.get("/schedule").await.ok(), json!([]));
    assert_eq!(ben.get(&path).await.status, 404);
    assert_eq!(ben.delete(&path).await.status, 404);
    assert!(kept(tenant).await.is_empty());

    clocked.server.turn(TimeDelta::seconds(91));
    let done =
        eventually("it is done", async || Some(ann.get(&path).await.ok()).filter(|job| job["state"] == "done")).await;

    assert_eq!((&done["attempts"], &done["error"]), (&json!(1), &Value::Null));
    let kept = kept(tenant).await;
    assert_eq!((kept.len(), &kept[0]["a"], &kept[0]["b"]), (1, &json!({ "n": 1 }), &json!({})));
    assert_eq!(kept[0]["accountId"], ann.account, "as ann, not as root");
    let run = tenant.last_run("keeps").await;
    assert_eq!((&run["id"], &run["trigger"]), (&done["runId"], &json!("schedule")));
    ann.delete(&path).await.refused(409);
}

#[tokio::test]
async fn a_job_can_be_cancelled_and_nobody_gains_by_it() {
    let clocked = Clocked::new().await;
    let tenant = &clocked.tenant;
    tenant.add("keeps", "web", KEEPS).await;
    tenant.add("listens", "news", KEEPS).await;
    let (ann, ben) = (tenant.user("ann").await, tenant.user("ben").await);
    let at = (clocked.server.now() + TimeDelta::hours(1)).to_rfc3339();
    let schedule = async |who: &crate::harness::Caller, function: &str| {
        let job = who.post("/schedule", json!({ "function": function, "at": at })).await;
        (job.status, job.json())
    };

    let (_, job) = schedule(&ann, "keeps").await;
    let path = format!("/schedule/{}", text(&job["id"]));
    assert_eq!(ann.delete(&path).await.ok(), true);
    assert_eq!(ann.get(&path).await.ok()["state"], "cancelled");
    let refused = ann.post("/schedule", json!({ "function": "listens" })).await.refused(404);
    assert!(refused.contains("`listens` not found"), "users reach web functions only: {refused}");
    let (status, of_root) = schedule(&tenant.root, "listens").await;
    assert_eq!(status, 201);
    let (_, of_ben) = schedule(&ben, "keeps").await;
    tenant.root.post("/task", function_task("unrelated", "keeps", "@daily")).await.ok();
    assert_eq!(tenant.anybody.post("/schedule", json!({ "function": "keeps" })).await.status, 401);
    for (body, words) in [
        (json!({ "function": "keeps", "delay": 1, "at": at }), "not both"),
        (json!({ "function": "keeps", "delay": "soon" }), "number of seconds"),
        (json!({ "function": "keeps", "delay": "400d" }), "a year"),
        (json!({ "payload": 1 }), "function"),
    ] {
        let refused = ann.post("/schedule", body).await.refused(400);
        assert!(refused.contains(words), "{refused}");
    }
    let large = ann.post("/schedule", json!({ "function": "keeps", "payload": "x".repeat(70_000) })).await.refused(413);
    assert!(large.contains("at most 65536 bytes"), "{large}");

    // Ben leaves before his job's time.
    let owner = tenant.login(&ben.email).await;
    owner.post("/account/users", json!({ "email": "other@example.com", "password": "correct horse" })).await.ok();
    assert_eq!(owner.delete(&format!("/account/users/{}", ben.id)).await.ok(), true);
    clocked.server.turn(TimeDelta::hours(2));
    let ended = async |job: &Value| {
        let path = format!("/schedule/{}", text(&job["id"]));
        eventually("it has ended", async || {
            Some(tenant.root.get(&path).await.ok()).filter(|job| job["ended"] != Value::Null)
        })
        .await
    };
    assert_eq!(ended(&of_root).await["state"], "done");
    let of_ben = ended(&of_ben).await;
    assert_eq!((&of_ben["state"], &of_ben["error"]), (&json!("failed"), &json!("the user who scheduled it is gone")));
    assert_eq!(kept(tenant).await.len(), 1);
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_and_given_up() {
    let clocked = Clocked::with("[tasks]\nattempts = 3").await;
    let tenant = &clocked.tenant;
    let code = "function handle(n) { if (list(\"tries\").content.total < n) { create(\"tries\", {}); throw new Error(\"not yet\"); } }";
    tenant.add("tries", "web", code).await;
    let schedule = async |payload: u32| {
        let job = tenant.root.post("/schedule", json!({ "function": "tries", "payload": payload })).await.json();
        format!("/schedule/{}", text(&job["id"]))
    };
    let attempts = async |path: &str, number: u32| {
        eventually("it was tried", async || {
            Some(tenant.root.get(path).await.ok()).filter(|job| job["attempts"] == number && job["state"] != "running")
        })
        .await
    };

    let path = schedule(2).await;
    let first = attempts(&path, 1).await;
    assert_eq!(first["state"], "waiting");
    assert!(text(&first["error"]).contains("not yet"), "{first}");
    for number in [2, 3] {
        clocked.server.turn_to(time(&tenant.root.get(&path).await.ok()["at"]));
        attempts(&path, number).await;
    }
    let done = tenant.root.get(&path).await.ok();
    assert_eq!((&done["state"], &done["error"]), (&json!("done"), &Value::Null));

    let path = schedule(100).await;
    for number in [1, 2, 3] {
        attempts(&path, number).await;
        clocked.server.turn(TimeDelta::hours(1));
    }
    let failed = tenant.root.get(&path).await.ok();
    assert_eq!((&failed["state"], &failed["attempts"]), (&json!("failed"), &json!(3)));
    assert!(text(&failed["error"]).contains("not yet"), "{failed}");
}
