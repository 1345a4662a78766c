//! S: the sandbox and its limits.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    GOOD, assert_good,
    hostile::{Hostile, Trigger},
    server,
    witness::Witness,
};
use crate::harness::{Answer, Caller, Server, Tenant, eventually, fresh, process, text, thimble};

/// Hostile functions that run at the same time in all tests together: more would only take time from each other.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Lets all hostile functions run, started in one way, while somebody else is served.
async fn all_end_as_they_should(trigger: Trigger) {
    let server = server().await;
    let tenant = Tenant::on(server).await;
    let user = tenant.user("mallory").await;
    let witness = Witness::on(server).await;

    let runs = Hostile::all().into_iter().map(async |hostile| {
        let _turn = AT_ONCE.acquire().await.unwrap();
        hostile.run(&tenant, &user, trigger).await
    });
    let faults: Vec<String> = stream::iter(runs).buffer_unordered(4).collect::<Vec<_>>().await.concat();

    assert!(faults.is_empty(), "{faults:#?}");
    witness.seen().await.assert_undisturbed();
    assert_good(server).await;
}

#[tokio::test]
async fn every_hostile_function_ends_as_it_should_called_by_a_user() {
    all_end_as_they_should(Trigger::User).await;
}

#[tokio::test]
async fn every_hostile_function_ends_as_it_should_called_by_root() {
    all_end_as_they_should(Trigger::Root).await;
}

#[tokio::test]
async fn every_hostile_function_ends_as_it_should_started_by_a_message() {
    all_end_as_they_should(Trigger::Message).await;
}

#[tokio::test]
async fn every_hostile_function_ends_as_it_should_started_by_a_document() {
    all_end_as_they_should(Trigger::Document).await;
}

#[tokio::test]
async fn every_hostile_function_ends_as_it_should_started_by_a_topic() {
    all_end_as_they_should(Trigger::Topic).await;
}

#[tokio::test]
async fn loops_end_half_a_second_after_the_wall_at_the_latest() {
    let settings = "[limits]\nfuel = 1_000_000_000_000_000\nwall_ms = 1_000\n";
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;

    for name in [
        "cpu_inf_loop",
        "cpu_inf_loop_swallow",
        "cpu_eval_loop",
        "cpu_inf_loop_generator",
        "cpu_memory_fills",
        "cpu_regexp_nested_quantifier",
        "cpu_bigint_to_text",
        "microtask_flood",
        "flood_log",
    ] {
        let function = tenant.function(&Hostile::named(name).code).await;
        let started = Instant::now();
        let answer = tenant.exec(&function, json!({})).await;
        let took = started.elapsed();

        assert_eq!(answer.status, 504, "{name}: {}", answer.text());
        assert!(took < Duration::from_millis(1_500), "{name} took {took:?}");
        let runs = tenant.runs(&function).await;
        assert_eq!(runs.len(), 1, "{name}");
        assert_eq!((&runs[0]["outcome"], &runs[0]["success"]), (&json!("timeout"), &json!(false)), "{name}");
    }
    assert_good(&server).await;
}

#[tokio::test]
async fn sixteen_loops_of_one_tenant_are_not_noticed_by_another() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let (hostile, victim) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let endless = hostile.function(&Hostile::named("cpu_inf_loop_swallow").code).await;
    let good = victim.function(GOOD).await;

    let loops = async {
        let answers = join_all((0..16).map(|_| hostile.exec(&endless, json!({})))).await;
        for answer in answers {
            assert!(matches!(answer.status, 429 | 503 | 504), "{}: {}", answer.status, answer.text());
        }
    };
    let others = async {
        let (mut calls, mut health) = (Vec::new(), Duration::ZERO);
        for _ in 0..100 {
            let started = Instant::now();
            assert_eq!(victim.exec(&good, json!({})).await.ok(), "good");
            calls.push(started.elapsed());
            let started = Instant::now();
            assert_eq!(victim.anybody.get("/healthz").await.status, 200);
            health = health.max(started.elapsed());
        }
        calls.sort();
        (calls[98], health)
    };
    let ((), (p99, health)) = tokio::join!(loops, others);

    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert!(health < Duration::from_millis(200), "/healthz took {health:?}");
    assert!(server.is_well());
}

#[tokio::test]
async fn trying_again_for_memory_is_stopped_and_does_not_fill_the_server_s_log() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let before = server.output().len();

    let (answer, run) = tenant.run_and_look(&Hostile::named("mem_catch_and_retry").code).await;

    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(matches!(run["outcome"].as_str(), Some("fuel" | "timeout")), "{run}");
    assert!(server.output().len() - before < 64 << 10, "{}", server.output());
    assert_good(&server).await;
}

#[tokio::test]
async fn memory_is_bounded_while_it_is_eaten_and_given_back_in_five_seconds() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let names =
        ["mem_array_push", "mem_typed_arrays", "mem_map", "mem_string_double", "mem_repeat", "mem_catch_and_answer"];
    let mut functions = Vec::new();
    for name in names {
        functions.push(tenant.function(&Hostile::named(name).code).await);
        tenant.exec(&functions[functions.len() - 1], json!({})).await;
    }
    let baseline = process::resident(server.pid);

    let mut peak = 0;
    for _ in 0..3 {
        let rounds = join_all(functions.iter().map(|function| tenant.exec(function, json!({}))));
        let watch = async {
            loop {
                peak = peak.max(process::resident(server.pid));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! { _ = rounds => {}, () = watch => {} }
    }
    let ended = Instant::now();

    let most = baseline + (names.len() as u64 + 1) * (64 << 20);
    assert!(peak <= most, "{} MiB, of at most {}", peak >> 20, most >> 20);
    eventually("the memory is given back", async || {
        (process::resident(server.pid) < baseline + (64 << 20)).then_some(())
    })
    .await;
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    for function in functions {
        for run in tenant.runs(&function).await {
            assert!(run["peakMemory"].as_u64().unwrap() <= 64 << 20, "{run}");
        }
    }
}

#[tokio::test]
async fn promises_that_nobody_settles_take_no_slot() {
    let server = thimble(["serve", "--dev"]).settings("[runtime]\nslots = 4\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let never = tenant.function(&Hostile::named("promise_never").code).await;
    tenant.exec(&never, json!({})).await;

    let mut times = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        let answer = tenant.exec(&never, json!({})).await;
        times.push(started.elapsed());
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("settles"), "{}", answer.text());
    }

    times.sort();
    assert!(times[98] < Duration::from_millis(200), "{:?}", times[98]);
    assert_eq!(tenant.info(&never).await["usage"]["running"], 0);
    assert_good(&server).await;
}

#[tokio::test]
async fn nothing_outside_the_sandbox_is_reached() {
    let server = server().await;
    let tenant = Tenant::on(server).await;
    let value = async |name: &str| tenant.value(&Hostile::named(name).code).await;

    assert_eq!(value("host_reach").await, json!([]));
    assert_eq!(value("host_exit").await, "still here");
    assert_eq!(value("host_code_from_string").await[1], 42);
    assert_good(server).await;
}

#[tokio::test]
async fn secrets_of_the_server_are_in_no_answer_history_or_log() {
    let (canary, password) = (fresh("canary"), fresh("password"));
    let server = thimble(["serve"])
        .variable("ABUSE_CANARY", &canary)
        .variable("THIMBLE_SMTP", &format!("smtp://mailer:{password}@127.0.0.1:1"))
        .variable("RUST_LOG", "debug")
        .serve()
        .await;
    let operator = operator(&server).await;
    let keys = operator.post("/account/create", json!({ "email": "app@example.com" })).await.ok();
    let tenant = Tenant::with(&server, &text(&keys["pk"]), &text(&keys["rootToken"]));
    let master = std::fs::read_to_string(server.data.join("master.key")).unwrap();

    let (answer, run) = tenant.run_and_look(&Hostile::named("host_env_probe").code).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body.len() > 10_000, "the function has seen something: {}", answer.text());
    let log = server.output();
    for secret in [&*canary, &*password, master.trim(), tenant.root_token()] {
        assert!(!answer.text().contains(secret) && !run.to_string().contains(secret), "{secret}");
    }
    for secret in [&*canary, &*password, master.trim(), tenant.root_token()] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

#[tokio::test]
async fn no_run_leaves_marks_for_another() {
    let server = server().await;
    let (tenant, other) = (Tenant::on(server).await, Tenant::on(server).await);
    let (pollute, probe) = (Hostile::named("iso_pollute").code, Hostile::named("iso_probe").code);
    let polluter = tenant.function(&pollute).await;
    let probes = [tenant.function(&probe).await, other.function(&probe).await];

    for _ in 0..50 {
        assert_eq!(tenant.exec(&polluter, json!({})).await.status, 200);
        for (tenant, probe) in [(&tenant, &probes[0]), (&other, &probes[1])] {
            let marks = tenant.exec(probe, json!({})).await.ok();
            assert!(marks.as_array().unwrap().iter().all(|mark| mark == false), "{marks}");
        }
    }
}

#[tokio::test]
async fn chance_and_time_are_those_of_the_run_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::HashSet::new();
    for start in 0..2 {
        let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
        let tenant = Tenant::of_development(&server);
        for name in ["one", "two"] {
            if start == 0 {
                tenant.add(name, "web", &Hostile::named("iso_random_snapshot").code).await;
            }
            for _ in 0..3 {
                let value = tenant.exec(name, json!({})).await.ok();
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
                assert!(u128::from(value["now"].as_u64().unwrap()).abs_diff(now) < 2_000, "{value} {now}");
                for drawn in value["drawn"].as_array().unwrap() {
                    assert!(seen.insert(drawn.to_string()), "{drawn} came twice");
                }
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn log_entries_stay_what_they_are() {
    let server = server().await;
    let tenant = Tenant::on(server).await;

    let (answer, run) = tenant.run_and_look(&Hostile::named("log_forged_lines").code).await;

    assert_eq!(answer.status, 200);
    // The start and the end are the platform's.
    assert_eq!(run["output"].as_array().unwrap().len(), 5, "{run}");
    assert!(!server.output().contains('\u{1b}'), "the server's log has an escape sequence");
    assert!(!server.output().lines().any(|line| line.trim_start().starts_with("2026-01-01T00:00:00.000Z")));
}

#[tokio::test]
async fn callers_who_leave_take_no_slot_and_no_run_is_lost() {
    let server = thimble(["serve", "--dev"])
        .settings("[limits]\nfuel = 1_000_000_000_000\nwall_ms = 5_000\n[runtime]\nqueue = 10_000\nwait_ms = 60_000\n")
        .serve()
        .await;
    let tenant = Tenant::on(&server).await;
    let name = tenant
        .function(
            "function handle() { create('started', {}); const end = Date.now() + 300; while (Date.now() < end); }",
        )
        .await;

    let leaving = stream::iter(0..200).map(|_| async {
        let request = tenant.root.request(reqwest::Method::POST, &format!("/fn/sudoexec/{name}")).json(&json!({}));
        Answer::attempt(request.timeout(Duration::from_millis(100))).await.is_err()
    });
    let gone = leaving.buffer_unordered(50).filter(|gone| std::future::ready(*gone)).count().await;

    assert!(gone >= 190, "only {gone} callers left");
    eventually("all runs have ended", async || {
        let usage = tenant.info(&name).await["usage"].clone();
        (usage["running"] == 0 && usage["waiting"] == 0).then_some(())
    })
    .await;
    let started = Instant::now();
    assert_good(&server).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let runs = tenant.root.get(&format!("/fn/info/{name}?runs=1000")).await.ok()["history"].as_array().unwrap().clone();
    assert!(runs.iter().all(|run| matches!(run["outcome"].as_str(), Some("ok" | "timeout"))), "{runs:?}");
    let started = tenant.root.get("/db/started?size=1").await.ok()["total"].clone();
    assert_eq!(started, runs.len(), "each run that started is in the history");
    assert!(runs.len() >= 190, "only {} runs started", runs.len());
}

/// Whoever operates the server.
async fn operator(server: &Server) -> Caller {
    let output = eventually("the operator token is shown", async || {
        Some(server.output()).filter(|output| output.contains("operator_"))
    })
    .await;
    let token = output.split_whitespace().find(|word| word.starts_with("operator_")).unwrap();
    Caller::nobody(&server.url).with_token(token)
}
