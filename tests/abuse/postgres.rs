//! D and C on Postgres: the database goes away, has no connection left, or is shared by several servers.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor, PgConnection};

use super::assert_good;
use crate::harness::{
    Answer, Caller, Command, Connection, Server, Tenant, Transport, bring_master_key, eventually, fresh,
    postgres::Cluster, text, thimble,
};

/// What is promised, on a machine that does something else as well.
const SLACK: Duration = Duration::from_secs(4);

/// A command that serves from a database, in a folder.
fn serve(folder: &Path, url: &str) -> Command {
    bring_master_key(&folder.join("data"));
    thimble(["serve", "--dev", "--database", url]).folder(folder)
}

async fn cluster(settings: &'static [&'static str]) -> Arc<Cluster> {
    Arc::new(tokio::task::spawn_blocking(|| Cluster::start(None, settings)).await.unwrap())
}

/// Does something with the cluster that takes a while.
async fn on(cluster: &Arc<Cluster>, what: fn(&Cluster)) {
    let cluster = cluster.clone();
    tokio::task::spawn_blocking(move || what(&cluster)).await.unwrap();
}

async fn status(caller: &Caller, path: &str) -> u16 {
    Answer::of(caller.request(Method::GET, path)).await.status
}

#[tokio::test]
async fn while_the_database_is_away_requests_are_told_so_at_once_and_nothing_else_ends() {
    let cluster = cluster(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &cluster.url(&cluster.database().await)).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let mut connection = Connection::member(Transport::WebSocket, &ann, "lobby").await;
    tenant.add("hears", "lobby", "function handle(channel, type, data) { create(\"heard\", { data }); }").await;
    let kept = ann.create("kept", json!({ "n": 1 })).await;

    for how in ["stopped", "killed"] {
        let end = if how == "stopped" { Cluster::stop } else { Cluster::kill };
        let write = async |writer: u32| {
            let mut slowest = Duration::ZERO;
            let mut is_told = false;
            // Under load, until each has been told, and then until it is taken again.
            for n in 0.. {
                let asked = Instant::now();
                let answer = ann.post("/db/written", json!({ "writer": writer, "n": n })).await;
                match answer.status {
                    201 if is_told => break,
                    201 => {}
                    503 => {
                        assert!(!answer.header("retry-after").is_empty());
                        assert!(answer.text().contains("database"), "{}", answer.text());
                        slowest = slowest.max(asked.elapsed());
                        is_told = true;
                    }
                    status => panic!("{how}: {status} {}", answer.text()),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            slowest
        };
        let outage = async {
            on(&cluster, end).await;
            eventually("it is not ready", async || (status(&ann, "/readyz").await == 503).then_some(())).await;
            assert_eq!(status(&ann, "/healthz").await, 200);
            // Long enough that everybody has been told.
            tokio::time::sleep(Duration::from_secs(6)).await;
            connection.say("echo", "still there", "").await;
            assert_eq!(connection.until_type("echo").await["data"], "echo: still there");
            on(&cluster, Cluster::restart).await;
            let back = Instant::now();
            eventually("it is ready again", async || (status(&ann, "/readyz").await == 200).then_some(())).await;
            back.elapsed()
        };
        let (slowest, back) = tokio::join!(futures_util::future::join_all((0..8).map(write)), outage);

        let slowest = slowest.into_iter().max().unwrap();
        assert!(slowest < Duration::from_secs(3) + SLACK, "{how}: somebody waited {slowest:?} to be told");
        assert!(back < Duration::from_secs(5) + SLACK, "{how}: ready {back:?} after the database was");
    }

    assert_eq!(ann.get(&format!("/db/kept/{}", text(&kept["id"]))).await.ok(), kept);
    connection.say("chan_in", "after all", "lobby").await;
    assert_eq!(connection.until_type("chan_out").await["data"], "after all");
    eventually("functions run again", async || (tenant.root.get("/db/heard").await.ok()["total"] == 1).then_some(()))
        .await;
    assert_good(&server).await;
}

#[tokio::test]
async fn when_others_have_all_connections_requests_are_told_so() {
    let cluster = cluster(&["max_connections=12", "superuser_reserved_connections=0"]).await;
    let folder = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.database().await);
    let settings = "[database]\nconnections = 8\nacquire_ms = 1_000\n";
    let server = serve(folder.path(), &url).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;
    tenant.root.create("kept", json!({ "n": 1 })).await;

    // Whatever is free is taken; those that the server has are ended, and taken as well.
    let mut others = Vec::new();
    let full = eventually("there is no connection left", async || {
        while let Ok(mut other) = PgConnection::connect(&url).await {
            let others_of_it =
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'thimble'";
            drop(other.execute(others_of_it).await);
            others.push(other);
        }
        let asked = Instant::now();
        let answer = tenant.root.get("/db/kept").await;
        (answer.status == 503).then(|| (answer, asked.elapsed()))
    })
    .await;

    assert!(full.0.text().contains("database"), "{}", full.0.text());
    assert!(full.1 < Duration::from_secs(1) + SLACK, "{:?}", full.1);
    assert_eq!(status(&tenant.anybody, "/healthz").await, 200);
    assert_eq!(status(&tenant.anybody, "/readyz").await, 503);
    drop(others);
    eventually("there are connections again", async || (tenant.root.get("/db/kept").await.status == 200).then_some(()))
        .await;
    assert_good(&server).await;
}

#[tokio::test]
async fn a_migration_that_is_killed_hinders_nobody_and_a_newer_database_is_refused() {
    let cluster = Cluster::shared().await;
    let database_name = cluster.database().await;
    let (folder, url) = (tempfile::tempdir().unwrap(), cluster.url(&database_name));
    bring_master_key(&folder.path().join("data"));
    for delay in [0, 5, 10, 20, 40, 60, 80, 120, 200, 400] {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_thimble"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data", "--database", &url])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        child.kill().await.unwrap();
    }
    let server = serve(folder.path(), &url).serve().await;
    assert_good(&server).await;
    server.stop().await;

    let mut database = PgConnection::connect(&url).await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (99990101, 'from the future', true, '\\x00', 0)";
    database.execute(newer).await.unwrap();
    let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data", "--database", &url]);
    let refused = command.folder(folder.path()).run().await;

    assert!(refused.took < Duration::from_secs(10), "{:?}", refused.took);
    let words = refused.failed();
    assert!(words.contains("newer") && words.contains("99990101"), "{words}");
    cluster.remove(&database_name).await;
}

#[tokio::test]
async fn of_two_servers_one_does_each_tick_and_the_other_takes_over() {
    const TASKS: usize = 50;
    let cluster = Cluster::shared().await;
    let url = cluster.url(&cluster.database().await);
    let settings = "[tasks]\nleast_every_s = 1\n";
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = serve(folders[0].path(), &url).settings(settings).serve().await;
    let tenant = Tenant::of_development(&first);
    tenant.add("tick", "web", "function handle() { return 1; }").await;
    let second = serve(folders[1].path(), &url).settings(settings).serve().await;
    let names: Vec<String> = (0..TASKS).map(|n| format!("task-{n}")).collect();
    for name in &names {
        let task = json!({ "name": name, "type": "function", "value": "tick", "interval": "@every 2s" });
        tenant.root.post("/task", task).await.ok();
    }

    for name in &names {
        let history = ticks(&tenant, name, 3).await;
        assert_each_once(name, &history);
    }
    first.signal("KILL");
    let killed = Utc::now();
    first.ended().await;

    let survivor = Tenant::of_development(&second);
    for name in &names {
        let history = eventually("the other one goes on", async || {
            let history = history(&survivor, name).await;
            let after = history.iter().filter(|entry| time(&entry["due"]) > killed && entry["outcome"] == "ok");
            (after.count() >= 2).then_some(history)
        })
        .await;
        assert_each_once(name, &history);
    }
    eventually("nothing runs for ever", async || {
        for name in &names {
            let history = history(&survivor, name).await;
            if history.iter().any(|entry| entry["outcome"] == "running" && time(&entry["due"]) < killed) {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_good(&second).await;
}

async fn history(tenant: &Tenant, task: &str) -> Vec<Value> {
    tenant.root.get(&format!("/task/{task}/history?limit=1000")).await.ok().as_array().unwrap().clone()
}

async fn ticks(tenant: &Tenant, task: &str, number: usize) -> Vec<Value> {
    eventually("it ticks", async || Some(history(tenant, task).await).filter(|history| history.len() >= number)).await
}

fn time(value: &Value) -> DateTime<Utc> {
    text(value).parse().unwrap()
}

#[track_caller]
fn assert_each_once(task: &str, history: &[Value]) {
    let due: BTreeSet<String> = history.iter().map(|entry| text(&entry["due"])).collect();
    assert_eq!(due.len(), history.len(), "{task} was done twice for one tick: {history:?}");
}

#[tokio::test]
async fn a_run_for_an_event_that_is_killed_is_in_the_history_and_runs_again_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    interrupted(|| thimble(["serve", "--dev"]).on_sqlite().folder(folder.path())).await;
}

#[tokio::test]
async fn a_run_for_an_event_that_is_killed_is_in_the_history_and_runs_again_on_postgres() {
    let cluster = Cluster::shared().await;
    let (folder, url) = (tempfile::tempdir().unwrap(), cluster.url(&cluster.database().await));
    interrupted(|| serve(folder.path(), &url)).await;
}

async fn interrupted(serve: impl Fn() -> Command) {
    let settings = "[limits]\nfuel = 1_000_000_000_000\nwall_ms = 60_000\n";
    let server: Server = serve().settings(settings).serve().await;
    let tenant = Tenant::of_development(&server);
    let channel = fresh("channel");
    let code = "function handle() {
        create('ran', {});
        if (list('quick').content.total > 0) return;
        const end = Date.now() + 50_000;
        while (Date.now() < end);
    }";
    tenant.add("long", &channel, code).await;
    tenant.root.post("/publish", json!({ "channel": channel, "type": "said", "data": "1" })).await.ok();
    eventually("it runs", async || (tenant.info("long").await["usage"]["running"] == 1).then_some(())).await;
    // What ends at once is not written down; this has been going on for longer.
    tokio::time::sleep(Duration::from_secs(2)).await;
    tenant.root.create("quick", json!({})).await;

    server.signal("KILL");
    server.ended().await;
    let server = serve().settings(settings).serve().await;

    let tenant = Tenant::of_development(&server);
    let outcomes = eventually("it has run again", async || {
        let runs = tenant.runs("long").await;
        let outcomes: Vec<String> = runs.iter().map(|run| text(&run["outcome"])).collect();
        outcomes.contains(&"ok".into()).then_some(outcomes)
    })
    .await;
    assert_eq!(outcomes, ["interrupted", "ok"]);
    assert_eq!(tenant.root.get("/db/ran").await.ok()["total"], 1, "what the first did is not there");
}
