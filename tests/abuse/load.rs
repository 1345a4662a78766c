//! L: more of everything than there is room for.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::join_all, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{GOOD, assert_good};
use crate::harness::{Answer, Caller, Connection, Tenant, Transport, eventually, process, thimble};

/// Takes a twentieth of a second, whatever else goes on.
const SLOW: &str = "function handle() { const end = Date.now() + 50; while (Date.now() < end); return 1; }";

#[tokio::test]
async fn ten_times_what_can_be_done_is_answered_or_turned_away() {
    const RATE: u32 = 400;
    const SECONDS: u64 = 10;
    let settings = "[limits]\nfuel = 1_000_000_000_000\n[runtime]\nslots = 2\nqueue = 400\n";
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;
    let name = tenant.function(SLOW).await;

    // An open loop: a call is made when it is due, however many are not answered yet.
    let started = Instant::now();
    let calls = stream::iter(0..RATE * u32::try_from(SECONDS).unwrap()).map(async |n| {
        tokio::time::sleep_until((started + n * (Duration::from_secs(1) / RATE)).into()).await;
        let answer = tenant.exec(&name, json!({})).await;
        (answer.status, !answer.header("retry-after").is_empty())
    });
    let answers: Vec<(u16, bool)> = calls.buffer_unordered(100_000).collect().await;

    assert!(answers.iter().all(|(status, retry)| *status == 200 || (matches!(status, 429 | 503) && *retry)));
    let accepted = answers.iter().filter(|(status, _)| *status == 200).count();
    assert!(0 < accepted && accepted < answers.len() / 2, "{accepted} of {}", answers.len());
    let p99 = p99_of_runs(&tenant, &name, 1_000).await;
    assert!(p99 < Duration::from_secs(2), "an accepted call took {p99:?}");
    let ended = Instant::now();
    eventually("everything is as usual", async || {
        let started = Instant::now();
        let answer = tenant.exec(&name, json!({})).await;
        (answer.status == 200 && started.elapsed() < Duration::from_millis(500)).then_some(())
    })
    .await;
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    assert_good(&server).await;
}

#[tokio::test]
async fn only_who_is_over_the_quota_is_refused() {
    let server = thimble(["serve", "--dev"]).settings("[tenant]\nrate = 300\n").serve().await;
    let (greedy, modest) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let (of_greedy, of_modest) = (greedy.function(GOOD).await, modest.function(GOOD).await);
    // At 20 in a second: both times together are less than half of what a minute has.
    let measure = async || {
        for _ in 0..60 {
            assert_eq!(modest.exec(&of_modest, json!({})).await.ok(), "good");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        p99_of_runs(&modest, &of_modest, 60).await
    };

    let quiet = measure().await;
    let calls = stream::iter(0..3_000).map(|_| greedy.exec(&of_greedy, json!({})));
    let calls = calls.buffer_unordered(20).map(|answer| (answer.status, answer.header("retry-after").to_owned()));
    let (answers, busy) = tokio::join!(calls.collect::<Vec<_>>(), measure());

    let ran = answers.iter().filter(|(status, _)| *status == 200).count();
    // Two minutes have room for twice as many.
    assert!((1..=600).contains(&ran), "{ran}");
    assert!(
        answers.iter().all(|(status, retry)| *status == 200 || (*status == 429 && !retry.is_empty())),
        "{answers:?}"
    );
    // Twice as long, and a little for sharing the machine with three thousand requests.
    assert!(busy < 2 * quiet + Duration::from_millis(20), "{busy:?}, in peace {quiet:?}");
}

#[tokio::test]
async fn hundreds_of_functions_of_many_tenants_take_bounded_memory() {
    const TENANTS: usize = 60;
    const EACH: usize = 5;
    let server = thimble(["serve", "--dev"]).serve().await;
    let before = process::resident(server.pid);
    let mut tenants = Vec::new();
    for _ in 0..TENANTS {
        tenants.push(Tenant::on(&server).await);
    }
    let uploads = stream::iter(0..TENANTS * EACH).map(async |n| {
        let code = format!("function handle() {{ return {n}; }}");
        tenants[n / EACH].add(&format!("f{n}"), "web", &code).await
    });
    uploads.buffer_unordered(4).collect::<Vec<_>>().await;

    let mut slowest = Duration::ZERO;
    for n in 0..TENANTS * EACH {
        let started = Instant::now();
        assert_eq!(tenants[n / EACH].exec(&format!("f{n}"), json!({})).await.ok(), n);
        slowest = slowest.max(started.elapsed());
    }

    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let grown = process::resident(server.pid).saturating_sub(before);
    // What is kept ready is bounded by 512 MiB in all.
    assert!(grown < 512 << 20, "{} MiB for {} functions", grown >> 20, TENANTS * EACH);
}

#[tokio::test]
async fn first_calls_at_once_compile_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let functions: String = (0..300).map(|n| format!("function f{n}(a) {{ return a * {n} + {n}; }}\n")).collect();
    let code = format!("{functions}function handle(body) {{ return f7(body.n); }}");
    Tenant::of_development(&server).add("first", "web", &code).await;
    server.stop().await;
    let native = folder.path().join("data/store/native");
    for file in std::fs::read_dir(&native).unwrap().map(|file| file.unwrap().path()) {
        if !file.file_name().unwrap().to_string_lossy().starts_with("engine-") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    let code_files = || std::fs::read_dir(&native).unwrap().count();
    let before = (code_files(), process::processor_time(server.pid));

    let first = tenant.exec("first", json!({ "n": 1 })).await;
    let one = process::processor_time(server.pid) - before.1;
    assert_eq!(first.ok(), 14);
    server.stop().await;
    std::fs::remove_dir_all(folder.path().join("data/store/native")).unwrap();
    // The engine is compiled at the start, and the function by whoever calls first.
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    let start = process::processor_time(server.pid);
    let answers = join_all((0..50).map(async |n| (n, tenant.exec("first", json!({ "n": n })).await))).await;
    let fifty = process::processor_time(server.pid) - start;

    for (n, answer) in answers {
        assert_eq!(answer.ok(), n * 7 + 7);
    }
    assert_eq!(code_files(), before.0 + 1, "one function more");
    // Fifty compilations would take fifty times as long; fifty runs take some time of their own.
    assert!(fifty < 10 * one + 100, "{fifty} against {one} hundredths of a second");
}

#[tokio::test]
async fn five_thousand_idle_sockets_cost_little_and_hold_up_nobody() {
    const SOCKETS: usize = 5_000;
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let good = tenant.function(GOOD).await;
    let url = format!("{}/ws?sbpk={}", server.url.replacen("http", "ws", 1), tenant.key);
    assert_eq!(tenant.exec(&good, json!({})).await.ok(), "good");
    let before = (process::resident(server.pid), process::open_files(server.pid), process::threads(server.pid));

    let auth = json!({ "type": "auth", "data": ann.session() }).to_string();
    let open = stream::iter(0..SOCKETS).map(async |_| {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        socket.send(Message::text(auth.as_str())).await.unwrap();
        // `init` and `token`: it is signed in.
        for _ in 0..2 {
            assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))));
        }
        socket
    });
    let sockets: Vec<_> = open.buffer_unordered(50).collect().await;

    let each = process::resident(server.pid).saturating_sub(before.0) / SOCKETS as u64;
    assert!(each < 64 << 10, "{each} bytes for each socket");
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(tenant.exec(&good, json!({})).await.ok(), "good");
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let mut talker = Connection::of(Transport::Sse, &ann).await;
    talker.say("echo", "hello", "").await;
    talker.until_type("echo").await;
    drop(talker);

    drop(sockets);
    eventually("the sockets are gone", async || (process::open_files(server.pid) < before.1 + 50).then_some(())).await;
    assert!(process::threads(server.pid) <= before.2 + 8);
    assert_good(&server).await;
}

#[tokio::test]
async fn hostile_callers_of_every_kind_at_once_leave_an_idle_server() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let operator = operator(&server).await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let names =
        ["cpu_inf_loop", "mem_typed_arrays", "stack_recursion", "promise_never", "flood_publish", "host_bad_arguments"];
    let mut functions = Vec::new();
    for name in names {
        functions.push(tenant.function(&super::hostile::Hostile::named(name).code).await);
    }
    assert_eq!(tenant.value(GOOD).await, "good");
    let before = (process::resident(server.pid), process::open_files(server.pid), process::threads(server.pid));

    let attack = stream::iter(0..120).map(async |n| {
        let caller: &Caller = if n % 2 == 0 { &tenant.root } else { &ann };
        let request =
            caller.request(Method::POST, &format!("/fn/exec/{}", functions[n % functions.len()])).json(&json!({}));
        // A third of the callers do not wait for the answer.
        let patience = Duration::from_secs(if n % 3 == 0 { 1 } else { 60 });
        drop(Answer::attempt(request.timeout(patience)).await);
    });
    attack.buffer_unordered(24).collect::<Vec<()>>().await;

    eventually("nothing runs or waits", async || {
        let (used, waiting) =
            (gauge(&operator, "thimble_slots_used").await, gauge(&operator, "thimble_queue_waiting").await);
        (used == 0 && waiting == 0).then_some(())
    })
    .await;
    eventually("memory, files and threads are given back", async || {
        let is_calm = process::resident(server.pid) < before.0 + (128 << 20)
            // Connections that this client keeps open.
            && process::open_files(server.pid) < before.1 + 60
            && process::threads(server.pid) <= before.2 + 8;
        is_calm.then_some(())
    })
    .await;
    let start = process::processor_time(server.pid);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = process::processor_time(server.pid) - start;
    assert!(used < 20, "an idle server used {used} hundredths of a second in two seconds");
    assert_good(&server).await;
}

/// How long all but one in a hundred of the latest runs took, waiting for a slot included, as the server says: this process is
/// busy itself.
async fn p99_of_runs(tenant: &Tenant, name: &str, runs: usize) -> Duration {
    let info = tenant.root.get(&format!("/fn/info/{name}?runs={runs}")).await.ok();
    let took = |run: &Value| run["queuedMs"].as_f64().unwrap() + run["durationMs"].as_f64().unwrap();
    let mut times: Vec<f64> = info["history"].as_array().unwrap().iter().map(took).collect();
    times.sort_by(f64::total_cmp);
    Duration::from_secs_f64(times[(times.len() * 99).div_ceil(100) - 1] / 1_000.0)
}

/// Whoever operates the server.
async fn operator(server: &crate::harness::Server) -> Caller {
    let output = eventually("the operator token is shown", async || {
        Some(server.output()).filter(|output| output.contains("operator_"))
    })
    .await;
    let token = output.split_whitespace().find(|word| word.starts_with("operator_")).unwrap();
    Caller::nobody(&server.url).with_token(token)
}

/// The value of a gauge.
async fn gauge(operator: &Caller, name: &str) -> u64 {
    let text = operator.get("/metrics").await.text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}
