//! Limits hold: a run over one ends with a named outcome, is in the history, and the server answers the next request.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Tenant, process::resident, shared, text, thimble};

const ENDLESS: &str = "function handle() { while (true) {} }";
const GOOD: &str = "function handle() { return \"good\"; }";

#[tokio::test]
async fn a_loop_without_end_is_stopped() {
    let tenant = Tenant::new().await;
    let sources = [
        ENDLESS,
        "function handle() { for (;;) { try { for (;;) {} } catch {} finally { continue; } } }",
        "function handle() { for (;;) eval(''); }",
        "function handle() { const g = (function* () { for (;;) yield; })(); for (const _ of g); }",
        "function handle() { for (;;) log('again'); }",
        "function handle() { for (;;) Math.random(); }",
        "function handle() { for (;;) Date.now(); }",
    ];

    for code in sources {
        let name = tenant.function(code).await;
        let started = Instant::now();
        let answer = tenant.exec(&name, json!({})).await;
        let took = started.elapsed();

        let run = tenant.last_run(&name).await;
        let outcome = text(&run["outcome"]);
        assert!(matches!(&*outcome, "fuel" | "timeout"), "{code}: {run}");
        assert_eq!(answer.status, 504, "{code}");
        assert!(took < Duration::from_secs(7), "{code} took {took:?}");
        assert_eq!(run["success"], false);
        assert_eq!(answer.header("x-run-id"), run["id"]);
        let word = if outcome == "fuel" { "fuel" } else { "took longer" };
        for words in [answer.text(), text(&run["error"])] {
            assert!(words.to_lowercase().contains(word), "{words}");
        }
    }
    assert_eq!(tenant.value(GOOD).await, "good");
}

#[tokio::test]
async fn others_are_answered_at_once_while_eight_loops_run() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let (hostile, tenant) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let endless = hostile.function(ENDLESS).await;
    let good = tenant.function(GOOD).await;
    let ann = tenant.user("ann").await;

    let loops = async {
        for answer in join_all((0..8).map(|_| hostile.exec(&endless, json!({})))).await {
            assert_eq!(answer.status, 504, "{}", answer.text());
        }
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        for n in 0..30 {
            let started = Instant::now();
            assert_eq!(tenant.exec(&good, json!({})).await.ok(), "good");
            assert_eq!(ann.post("/db/tasks", json!({ "n": n })).await.status, 201);
            assert_eq!(tenant.anybody.get("/healthz").await.status, 200);
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(loops, others);

    assert!(slowest < Duration::from_secs(1), "the slowest of three answers took {slowest:?}");
    assert_eq!(hostile.runs(&endless).await.len(), 8);
    assert!(server.is_well());
}

#[tokio::test]
async fn more_runs_than_slots_wait_or_are_turned_away() {
    let server = thimble(["serve", "--dev"]).settings("[runtime]\nslots = 2\nqueue = 4\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let name =
        tenant.function("function handle() { let s = 0; for (let i = 0; i < 1e6; i++) s += i; return s; }").await;

    let answers = join_all((0..40).map(|_| tenant.exec(&name, json!({})))).await;

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.contains(&200), "{statuses:?}");
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 429 | 503), "{} {}", answer.status, answer.text());
        assert!(answer.status == 200 || !answer.header("retry-after").is_empty(), "{:?}", answer.headers);
    }
    assert_eq!(tenant.value(GOOD).await, "good");
}

#[tokio::test]
async fn a_run_ends_when_its_fuel_is_used_up() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nfuel = 50_000_000\n").serve().await;
    let tenant = Tenant::on(&server).await;

    let (answer, run) = tenant.run_and_look(ENDLESS).await;

    assert_eq!((answer.status, &run["outcome"]), (504, &json!("fuel")), "{}", answer.text());
    assert!(run["fuel"].as_u64().unwrap() >= 50_000_000, "{run}");
    assert!(answer.text().contains("50") && answer.text().contains("fuel"), "{}", answer.text());
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_up() {
    let server =
        thimble(["serve", "--dev"]).settings("[limits]\nfuel = 1_000_000_000_000_000\nwall_ms = 400\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let name = tenant.function(ENDLESS).await;

    let started = Instant::now();
    let answer = tenant.exec(&name, json!({})).await;
    let took = started.elapsed();

    let run = tenant.last_run(&name).await;
    assert_eq!((answer.status, &run["outcome"]), (504, &json!("timeout")), "{}", answer.text());
    assert!((Duration::from_millis(400)..Duration::from_millis(1_400)).contains(&took), "{took:?}");
    assert!(run["durationMs"].as_f64().unwrap() >= 390.0, "{run}");
}

#[tokio::test]
async fn memory_is_counted_over_the_whole_run() {
    let server = thimble(["serve", "--dev"]).settings("[limits]\nmemory = 33_554_432\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let holding = |mebibytes: usize| {
        format!(
            "function handle() {{ const a = []; for (let i = 0; i < {mebibytes}; i++) a.push(new Uint8Array(1 << 20).fill(1)); return a.length; }}"
        )
    };

    let (few, run) = tenant.run_and_look(&holding(10)).await;
    let (many, failed) = tenant.run_and_look(&holding(40)).await;

    assert_eq!(few.ok(), 10);
    assert!((10 << 20..=32 << 20).contains(&run["peakMemory"].as_u64().unwrap()), "{run}");
    assert_eq!((many.status, &failed["outcome"]), (500, &json!("memory")));
    assert!(failed["peakMemory"].as_u64().unwrap() <= 32 << 20, "{failed}");
}

#[tokio::test]
async fn a_log_has_at_most_a_thousand_entries() {
    let tenant = Tenant::new().await;

    let (answer, run) =
        tenant.run_and_look("function handle() { for (let i = 0; i < 5000; i++) log('n' + i); return 1; }").await;

    assert_eq!(answer.ok(), 1);
    assert_eq!(run["outcome"], "ok");
    let output = run["output"].as_array().unwrap();
    let entries =
        output.iter().filter(|line| text(line).strip_prefix('n').is_some_and(|n| n.parse::<u32>().is_ok())).count();
    assert!((900..=1_000).contains(&entries), "{entries}");
    assert_eq!((&output[1], &output[entries]), (&json!("n0"), &json!(format!("n{}", entries - 1))));
    assert_marked(&output[entries + 1..]);
    assert_eq!(output.last().unwrap(), "Function completed");
}

#[tokio::test]
async fn a_log_entry_has_at_most_eight_kibibytes() {
    let tenant = Tenant::new().await;

    let (answer, run) = tenant
        .run_and_look("function handle() { log('x'.repeat(8000)); log('ß'.repeat(20000)); log('after'); return 1; }")
        .await;

    assert_eq!(answer.ok(), 1);
    let output = run["output"].as_array().unwrap();
    assert_eq!(text(&output[1]), "x".repeat(8_000));
    let cut = text(&output[2]);
    assert!((7_000..=8_192 + 100).contains(&cut.len()), "{}", cut.len());
    assert!(!cut.ends_with('ß') && cut.starts_with('ß'), "the cut is marked: {}", &cut[cut.len() - 60..]);
    assert_eq!(output[3], "after");
}

#[tokio::test]
async fn a_log_has_at_most_64_kibibytes() {
    let tenant = Tenant::new().await;
    let name = tenant
        .function("function handle(body) { for (let i = 0; i < 100; i++) log('y'.repeat(4000)); return 1; }")
        .await;

    assert_eq!(tenant.exec(&name, json!({})).await.ok(), 1);

    let run = tenant.last_run(&name).await;
    let output = run["output"].as_array().unwrap();
    let bytes: usize = output.iter().map(|line| text(line).len()).sum();
    assert!((50_000..=65_536 + 500).contains(&bytes), "{bytes}");
    assert!(
        output.iter().any(|line| !text(line).starts_with('y') && !text(line).starts_with("Function")
            || text(line).starts_with('y') && !text(line).ends_with('y')),
        "the cut is marked"
    );
    assert_eq!(output.last().unwrap(), "Function completed");
}

#[tokio::test]
async fn the_text_of_an_error_is_cut_at_four_kibibytes() {
    let tenant = Tenant::new().await;

    let (answer, run) = tenant.run_and_look("function handle() { throw new Error('ß'.repeat(100000)); }").await;

    assert_eq!(answer.status, 500);
    assert!((1_000..=4_096).contains(&text(&run["error"]).len()), "{}", text(&run["error"]).len());
    assert!(text(run["output"].as_array().unwrap().last().unwrap()).len() <= 4_200);
    assert!(answer.body.len() <= 64 << 10, "{}", answer.body.len());
}

#[tokio::test]
async fn a_result_has_at_most_one_mebibyte() {
    let tenant = Tenant::new().await;
    let returning = |bytes: usize| format!("function handle() {{ return 'x'.repeat({bytes}); }}");

    let (large, _) = tenant.run_and_look(&returning((1 << 20) - 2)).await;
    let (too_large, run) = tenant.run_and_look(&returning((1 << 20) + 1)).await;

    assert_eq!(large.status, 200, "{:.200}", large.text());
    assert_eq!(large.body.len(), 1 << 20);
    assert_eq!((too_large.status, &run["outcome"]), (429, &json!("quota")), "{:.200}", too_large.text());
    assert!(too_large.text().contains("result") && too_large.body.len() < 10_000, "{:.200}", too_large.text());
}

#[tokio::test]
async fn a_run_may_call_the_platform_a_thousand_times() {
    let tenant = Tenant::new().await;
    let calling = |times: usize| {
        format!(
            "function handle() {{ let n = 0; for (let i = 0; i < {times}; i++) {{ try {{ getById('a', 'b'); n++; }} catch {{}} }} return n; }}"
        )
    };

    let (enough, _) = tenant.run_and_look(&calling(1_000)).await;
    let (too_many, run) = tenant.run_and_look(&calling(1_001)).await;
    let (endless, endless_run) =
        tenant.run_and_look("function handle() { for (;;) { try { list('a'); } catch {} } }").await;

    assert_eq!(enough.ok(), 1_000);
    assert_eq!((too_many.status, &run["outcome"]), (429, &json!("quota")), "{}", too_many.text());
    assert_eq!((endless.status, &endless_run["outcome"]), (429, &json!("quota")), "{}", endless.text());
}

#[tokio::test]
async fn a_run_may_send_ten_mails_and_a_hundred_messages() {
    let tenant = Tenant::new().await;
    let mailing = |times: usize| {
        format!(
            "function handle() {{ let n = 0; for (let i = 0; i < {times}; i++) if (email({{ to: 'u' + i + '@example.com', subject: 's', body: 'b' }}).ok) n++; return n; }}"
        )
    };
    let publishing = |times: usize| {
        format!(
            "function handle() {{ let n = 0; for (let i = 0; i < {times}; i++) if (publish('lobby', 't', i).ok) n++; return n; }}"
        )
    };

    for (code, expected) in [(mailing(10), 10), (publishing(100), 100)] {
        assert_eq!(tenant.value(&code).await, expected, "{code}");
    }
    for (code, most) in [(mailing(11), 10), (publishing(101), 100)] {
        let (answer, run) = tenant.run_and_look(&code).await;
        // The run ends, or the call says so; in no case is more sent.
        if answer.status == 200 {
            assert_eq!(answer.json(), most, "{code}");
        } else {
            assert_eq!((answer.status, &run["outcome"]), (429, &json!("quota")), "{code}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_document_of_a_function_has_the_same_limits() {
    let tenant = Tenant::new().await;

    let value = tenant.value(
        "function handle() {
            const nested = (levels) => { let o = 1; for (let i = 0; i < levels; i++) o = { o }; return o; };
            return [create('a', { s: 'x'.repeat(1000000) }).ok, create('a', { s: 'x'.repeat(1048577) }), create('a', nested(100)).ok, create('a', nested(101))];
        }",
    );

    let value = value.await;
    assert_eq!((&value[0], &value[2]), (&json!(true), &json!(true)), "{value:.300}");
    for refused in [&value[1], &value[3]] {
        assert_eq!(refused["ok"], false);
        assert!(refused["content"].is_string(), "{refused:.300}");
    }
    assert_eq!(tenant.root.get("/db/a?size=1").await.ok()["total"], 2);
}

#[tokio::test]
async fn a_body_beyond_the_limit_never_reaches_the_function() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body) { return body.s.length; }").await;

    let answer = tenant.exec(&name, json!({ "s": "x".repeat(11 << 20) })).await;

    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(tenant.runs(&name).await.len(), 0);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_behind() {
    let server = shared().await;
    let tenant = Tenant::new().await;
    let name = tenant.function(ENDLESS).await;

    for _ in 0..10 {
        let request = tenant.root.request(reqwest::Method::POST, &format!("/fn/sudoexec/{name}")).json(&json!({}));
        let gone = Answer::attempt(request.timeout(Duration::from_millis(50))).await;
        assert!(gone.is_err(), "the caller did not wait");
    }

    let started = Instant::now();
    assert_eq!(tenant.value(GOOD).await, "good");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(server.is_well());
}

#[tokio::test]
async fn a_refusal_says_what_was_used_and_how_to_raise_the_limit() {
    let tenant = Tenant::new().await;

    let (answer, run) = tenant.run_and_look("function handle() { return 'x'.repeat(2e6); }").await;

    for words in [answer.text(), text(&run["error"])] {
        assert!(words.contains("result_bytes"), "the setting is named: {words}");
        assert!(
            words.contains("1048576") || words.contains("1 MiB") || words.contains("1,048,576"),
            "the limit is named: {words}"
        );
    }
}

#[tokio::test]
async fn after_hostile_runs_the_memory_is_given_back() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let name =
        tenant.function("function handle() { const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1)); }").await;
    tenant.exec(&name, json!({})).await;
    let before = resident(server.pid);

    for _ in 0..5 {
        join_all((0..8).map(|_| tenant.exec(&name, json!({})))).await;
    }

    crate::harness::eventually("the memory is given back", async || {
        let now = resident(server.pid);
        (now < before + (128 << 20)).then_some(())
    })
    .await;
}

/// Something that the function has not written stands between its entries and the end.
#[track_caller]
fn assert_marked(rest: &[Value]) {
    assert!(rest.len() >= 2 && rest.len() <= 4, "{rest:?}");
    assert!(!text(&rest[0]).is_empty());
}
