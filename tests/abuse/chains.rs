//! C: functions that start functions.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{GOOD, assert_good, witness::Witness};
use crate::harness::{Connection, Tenant, Transport, eventually, fresh, text, thimble};

/// Functions that start themselves or each other, by everything that a function can do, and what starts the first of them.
const LOOPS: [(&str, &[(&str, &str)]); 6] = [
    ("its own channel", &[("loop", "function handle(channel, type, data) { publish('loop', 'again', data); }")]),
    ("its own type", &[("again", "function handle(message) { send('again', 'x', 'loop'); }")]),
    ("its own collection", &[("db-loop", "function handle(message) { create('loop', { n: 1 }); }")]),
    (
        "its own document",
        &[(
            "db_updated",
            "function handle(channel, type, data) { update(channel.slice(3), data.id, { n: (data.n || 0) + 1 }); }",
        )],
    ),
    (
        "a ring of a channel and a document",
        &[
            ("loop", "function handle(message) { create('ring', { n: 1 }); }"),
            ("db-ring", "function handle(message) { send('again', 'x', 'loop'); }"),
        ],
    ),
    (
        "swallowing what may stop it",
        &[(
            "loop",
            "function handle(message) { for (let i = 0; i < 3; i++) { try { publish('loop', 'again', i); } catch {} } }",
        )],
    ),
];

#[tokio::test]
async fn a_loop_of_functions_ends_whatever_it_goes_through() {
    let server =
        thimble(["serve", "--dev"]).settings("[limits]\nchain_runs = 100\n[events]\nattempts = 1\n").serve().await;
    let witness = Witness::on(&server).await;

    for (what, functions) in LOOPS {
        let tenant = Tenant::on(&server).await;
        let ann = tenant.user("ann").await;
        let mut names = Vec::new();
        for (trigger, code) in functions {
            let name = fresh("loop");
            tenant.add(&name, trigger, code).await;
            names.push(name);
        }
        let document = ann.create_id("loop", json!({ "n": 0 })).await;
        ann.put(&format!("/db/loop/{document}"), json!({ "n": 1 })).await.ok();
        ann.post("/publish", json!({ "channel": "loop", "type": "again", "data": "1" })).await.ok();

        let stopped = eventually(&format!("{what} ends"), async || {
            let runs = runs_of(&tenant, &names).await;
            runs.into_iter().find(|run| run["outcome"] == "chain")
        })
        .await;
        assert!(text(&stopped["chain"]).contains(" → "), "{what}: {stopped}");
        assert!(text(&stopped["error"]).contains("limits.chain_"), "{what}: {stopped}");
        quiet(&tenant, &names).await;
        // Three causes outside, each with a budget of a hundred runs.
        let ran = runs_of(&tenant, &names).await.iter().filter(|run| run["outcome"] == "ok").count();
        assert!(ran <= 3 * 101, "{what}: {ran} runs");
    }

    witness.seen().await.assert_undisturbed();
    assert_good(&server).await;
}

#[tokio::test]
async fn a_loop_that_a_member_starts_ends_as_well() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    tenant.add("echo", "lobby", "function handle(message) { send('chan_out', message.data, 'lobby'); }").await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "lobby").await;

    member.say("chan_in", "hello", "lobby").await;

    let stopped = eventually("the loop ends", async || {
        tenant.runs("echo").await.into_iter().find(|run| run["outcome"] == "chain")
    })
    .await;
    assert_eq!(stopped["depth"], 9);
    quiet(&tenant, &["echo".into()]).await;
    // The member has heard the message and each answer to it, and nothing after the end.
    let heard = member.so_far().await;
    assert!(heard.iter().filter(|message| message["type"] == "chan_out").count() <= 10, "{heard:?}");
}

#[tokio::test]
async fn a_loop_that_is_killed_goes_no_deeper_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    let code = "function handle(channel, type, data) { const end = Date.now() + 100; while (Date.now() < end); \
                create('steps', { n: data }); publish('loop', 'again', data + 1); }";
    tenant.add("loop", "loop", code).await;
    tenant.root.post("/publish", json!({ "channel": "loop", "type": "again", "data": "0" })).await.ok();
    eventually("it goes round", async || {
        let steps = tenant.root.get("/db/steps?size=1").await.ok()["total"].as_u64();
        (steps >= Some(3)).then_some(())
    })
    .await;
    server.signal("KILL");
    server.ended().await;

    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);

    let stopped = eventually("the loop ends", async || {
        tenant.runs("loop").await.into_iter().find(|run| run["outcome"] == "chain")
    })
    .await;
    assert_eq!(stopped["depth"], 9, "{stopped}");
    quiet(&tenant, &["loop".into()]).await;
    let steps = tenant.root.get("/db/steps?size=100").await.ok();
    // What a run writes for an event is stored once, however often it was begun.
    assert_eq!(steps["total"], 9, "{steps}");
    assert_good(&server).await;
}

#[tokio::test]
async fn one_change_starts_five_hundred_functions_and_nobody_waits_for_them() {
    const FUNCTIONS: usize = 500;
    let server = thimble(["serve", "--dev"]).settings("[tenant]\ncompile_ms = 1_000_000\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let code =
        "function handle(message) { let sum = 0; for (let i = 0; i < 1e5; i++) sum += i; create('done', { sum }); }";
    let uploads = stream::iter(0..FUNCTIONS).map(async |n| tenant.add(&format!("f{n}"), "db-many", code).await);
    uploads.buffer_unordered(4).collect::<Vec<_>>().await;
    let good = tenant.function(GOOD).await;

    let witness = Witness::on(&server).await;
    tenant.root.create("many", json!({})).await;
    let mut times = Vec::new();
    eventually("all have run", async || {
        // Also of the same tenant.
        let started = Instant::now();
        assert_eq!(tenant.exec(&good, json!({})).await.ok(), "good");
        times.push(started.elapsed());
        let done = tenant.root.get("/db/done?size=1").await.ok()["total"].clone();
        (done == FUNCTIONS).then_some(())
    })
    .await;

    witness.seen().await.assert_undisturbed();
    times.sort();
    let runs = runs_of(&tenant, &[good]).await;
    let (p95, slowest) = (
        times[(times.len() * 95).div_ceil(100) - 1],
        runs.iter().map(|run| run["queuedMs"].as_f64().unwrap()).fold(0.0, f64::max),
    );
    assert!(p95 < Duration::from_secs(1), "{times:?}, of it {slowest} ms for a slot at most");
    for n in [0, 1, FUNCTIONS / 2, FUNCTIONS - 1] {
        assert_eq!(tenant.runs(&format!("f{n}")).await.len(), 1);
    }
}

async fn runs_of(tenant: &Tenant, names: &[String]) -> Vec<Value> {
    let mut runs = Vec::new();
    for name in names {
        let info = tenant.root.get(&format!("/fn/info/{name}?runs=1000")).await.ok();
        runs.extend(info["history"].as_array().cloned().unwrap_or_default());
    }
    runs
}

/// Waits until none of the functions runs or is about to.
async fn quiet(tenant: &Tenant, names: &[String]) {
    let mut last = None;
    eventually("the functions are quiet", async || {
        let mut busy = false;
        for name in names {
            let usage = tenant.info(name).await["usage"].clone();
            busy |= usage["running"] != 0 || usage["waiting"] != 0;
        }
        let runs = runs_of(tenant, names).await.len();
        let is_same = last.replace(runs) == Some(runs);
        (!busy && is_same).then_some(())
    })
    .await;
}
