//! Compiling: taken in turns, bounded for each tenant in time, and what is kept of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::{
    harness::{
        Answer, Caller, Server, Tenant,
        component::{ECHO, guest, returning},
        eventually, thimble,
    },
    hostile_components::bomb,
};

/// A script that differs from others in nothing but what it returns.
fn script(number: usize) -> String {
    format!("function handle() {{ return {number}; }}")
}

/// A server with these settings, its operator, and one app.
async fn operated(settings: &str) -> (Server, Caller, Tenant) {
    let server = thimble(["serve"]).settings(settings).serve().await;
    let token = eventually("the operator token is shown", async || {
        let output = server.output();
        // As a whole line: it may not have come in completely.
        let token = output.split_whitespace().find(|word| word.starts_with("operator_"))?.to_owned();
        output.contains(&format!("{token}\n")).then_some(token)
    })
    .await;
    let operator = Caller::nobody(&server.url).with_token(&token);
    let tenant = app(&server, &operator).await;
    (server, operator, tenant)
}

/// A new app that the operator makes.
async fn app(server: &Server, operator: &Caller) -> Tenant {
    let email = format!("{}@example.com", crate::harness::fresh("app"));
    let keys = operator.post("/account/create", json!({ "email": email })).await.ok();
    Tenant::with(server, keys["pk"].as_str().unwrap(), keys["rootToken"].as_str().unwrap())
}

fn seconds(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After: {:?}", answer.headers))
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = ["source", "component", "native"]
        .iter()
        .flat_map(|kind| std::fs::read_dir(folder.join(kind)).unwrap())
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("engine-"))
        .collect();
    names.sort();
    names
}

/// U-06: three bombs of one tenant, and another one uploads and runs as if they were not there.
#[tokio::test]
async fn bombs_of_one_tenant_do_not_hold_up_another() {
    let server = thimble(["serve", "--dev"]).settings("[compile]\nwall_ms = 10_000\n").serve().await;
    let (hostile, tenant) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let good = tenant.component(guest(ECHO, "")).await;
    let bomb = bomb();

    let bombs = join_all(["one", "two", "three"].map(|name| hostile.upload_component(name, "web", bomb.clone())));
    let others = async {
        eventually("a bomb is being compiled", async || {
            let children = crate::hostile_components::children(&server);
            (!children.is_empty()).then_some(())
        })
        .await;
        let started = Instant::now();
        let (handle, items) = returning("1");
        let uploaded = tenant.component(guest(&handle, &items)).await;
        let uploading = started.elapsed();
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(tenant.exec(&good, json!([1])).await.ok(), json!([1]));
            slowest = slowest.max(started.elapsed());
        }
        assert_eq!(tenant.exec(&uploaded, json!({})).await.ok(), 1);
        (uploading, slowest)
    };
    let (bombs, (uploading, slowest)) = tokio::join!(bombs, others);

    for answer in &bombs {
        assert!(matches!(answer.status, 400 | 429 | 503), "{} {}", answer.status, answer.text());
    }
    assert!(bombs.iter().any(|answer| answer.status == 400), "one of them has had its turn");
    assert!(uploading < Duration::from_secs(15), "a good upload took {uploading:?}");
    assert!(slowest < Duration::from_secs(1), "a run took {slowest:?}");
    assert!(server.is_well());
}

#[tokio::test]
async fn one_component_of_a_tenant_waits_and_more_are_turned_away() {
    let settings = "[compile]\nplaces = 1\nwall_ms = 6_000\ncpu_seconds = 60\n";
    let (_server, operator, tenant) = operated(settings).await;
    let bomb = bomb();

    let names: Vec<String> = (0..5).map(|number| format!("bomb-{number}")).collect();
    let answers = join_all(names.iter().map(|name| tenant.upload_component(name, "web", bomb.clone()))).await;

    let of = |status: u16| answers.iter().filter(move |answer| answer.status == status);
    assert_eq!(
        (of(400).count(), of(503).count()),
        (2, 3),
        "{:?}",
        answers.iter().map(Answer::text).collect::<Vec<_>>()
    );
    for answer in of(503) {
        assert!(answer.text().contains("another upload of this app"), "{}", answer.text());
        assert!((1..10).contains(&seconds(answer)), "{:?}", answer.headers);
    }
    let metrics = operator.get("/metrics").await.text();
    for line in [
        r#"thimble_compiles_total{kind="component",outcome="stopped"} 2"#,
        r#"thimble_compiles_total{kind="component",outcome="busy"} 3"#,
        "thimble_compiling 0",
        "thimble_compile_waiting 0",
        "thimble_compile_seconds_count 2",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_tenant_compiles_for_so_long_in_a_minute() {
    let (server, operator, tenant) = operated("[tenant]\ncompile_ms = 1\n").await;
    // At the end of a minute the next one begins.
    eventually("a minute has begun", async || {
        let second = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() % 60;
        (second < 50).then_some(())
    })
    .await;
    tenant.add("first", "web", &script(1)).await;

    let script_refused = tenant.upload("second", "web", &script(2)).await;
    let component_refused = tenant.upload_component("second", "web", guest(ECHO, "")).await;

    for answer in [&script_refused, &component_refused] {
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(answer.text().contains("may compile for 1 ms in a minute"), "{}", answer.text());
        assert!((1..=60).contains(&seconds(answer)), "{:?}", answer.headers);
    }
    // What is there runs, and others are not concerned.
    assert_eq!(tenant.exec("first", json!({})).await.ok(), 1);
    app(&server, &operator).await.add("first", "web", &script(1)).await;
    let path = format!("/account/quota/{}", tenant.key);
    assert!(operator.get(&path).await.ok()["compiledMsThisMinute"].as_u64() > Some(0));
    let quota = operator.put(&path, json!({ "compileMs": 60_000 })).await.ok();
    assert_eq!((&quota["compileMs"], &quota["storedFunctions"]), (&json!(60_000), &json!(1)));
    tenant.add("second", "web", &script(2)).await;
}

/// U-19: an app has so many functions, and the operator may give it more.
#[tokio::test]
async fn the_number_of_functions_is_limited() {
    let (_server, operator, tenant) = operated("[tenant]\nfunctions = 3\n").await;
    for number in 0..3 {
        tenant.add(&format!("f{number}"), "web", &script(number)).await;
    }

    let refused = tenant.upload("f3", "web", &script(3)).await.refused(409);
    assert!(refused.contains("has 3 functions") && refused.contains("tenant.functions"), "{refused}");
    tenant.update("f0", "web", &script(9)).await;
    tenant.root.delete("/fn/del/f1").await.ok();
    tenant.add("f3", "web", &script(3)).await;
    assert_eq!(tenant.upload("f4", "web", &script(4)).await.status, 409);
    operator.put(&format!("/account/quota/{}", tenant.key), json!({ "functions": 4 })).await.ok();
    tenant.add("f4", "web", &script(4)).await;
}

/// U-19: the newest versions are kept, and nothing of the others stays on the disk.
#[tokio::test]
async fn old_versions_are_forgotten_with_their_files() {
    let server = thimble(["serve", "--dev"]).settings("[function]\nversions = 3\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let store = server.data.join("store");
    tenant.add("many", "web", &script(1)).await;
    // Somebody else has the same, and keeps it.
    Tenant::on(&server).await.add("many", "web", &script(1)).await;
    let shared = files(&store);
    for number in 2..=9 {
        tenant.update("many", "web", &script(number)).await;
    }
    let component = guest(ECHO, "");
    tenant.root.post_raw("/fn/update?name=many", "application/wasm", component).await.ok();

    let info = tenant.info("many").await;
    let versions: Vec<&Value> =
        info["versions"].as_array().unwrap().iter().map(|version| &version["version"]).collect();
    assert_eq!(versions, [10, 9, 8]);
    // Three files of a script, one of a component.
    let kept = files(&store);
    assert_eq!(kept.len(), 3 + 2 * 3 + 1, "{kept:?}");
    assert!(shared.iter().all(|file| kept.contains(file)), "{kept:?}");
    assert_eq!(tenant.exec("many", json!("echo")).await.ok(), "echo");

    let refused = tenant.root.post("/fn/rollback/many", json!({ "version": 7 })).await.refused(404);
    assert!(refused.contains("has no version 7: it has versions 8 to 10"), "{refused}");
    tenant.root.post("/fn/rollback/many", json!({})).await.ok();
    assert_eq!(tenant.exec("many", json!({})).await.ok(), 9);
    tenant.root.post("/fn/rollback/many", json!({ "version": 8 })).await.ok();
    assert_eq!(tenant.exec("many", json!({})).await.ok(), 8);

    tenant.root.delete("/fn/del/many").await.ok();
    assert_eq!(files(&store), shared);
}

/// What a crash left in the data folder is removed at the next start.
#[tokio::test]
async fn files_that_belong_to_nothing_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    Tenant::of_development(&server).add("kept", "web", &script(7)).await;
    let store = server.data.join("store");
    let kept = files(&store);
    server.stop().await;
    for name in ["source/{}.js", "native/{}-1-2.cwasm"] {
        std::fs::write(store.join(name.replace("{}", &"f".repeat(64))), b"left behind").unwrap();
    }

    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;

    eventually("they are gone", async || (!files(&store).iter().any(|name| name.starts_with("ffff"))).then_some(()))
        .await;
    assert_eq!(files(&store), kept);
    assert_eq!(Tenant::of_development(&server).exec("kept", json!({})).await.ok(), 7);
}

#[tokio::test]
async fn an_app_sends_only_so_many_uploads_at_once() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let (tenant, other) = (Tenant::on(&server).await, Tenant::on(&server).await);
    let unfinished: Vec<_> = (0..18)
        .map(|_| {
            let begin = stream::iter([Ok::<_, std::io::Error>(b"\0asm".to_vec())]);
            let body = begin.chain(stream::pending());
            let request = tenant.root.request(reqwest::Method::POST, "/fn/add?name=slow&trigger=web");
            let request = request.header("Content-Type", "application/wasm").body(reqwest::Body::wrap_stream(body));
            tokio::spawn(request.send())
        })
        .collect();

    eventually("two of them are turned away", async || {
        (unfinished.iter().filter(|upload| upload.is_finished()).count() == 2).then_some(())
    })
    .await;
    let refused = tenant.upload("more", "web", &script(1)).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("16 uploads of this app"), "{}", refused.text());
    assert!((1..10).contains(&seconds(&refused)), "{:?}", refused.headers);
    other.add("f", "web", &script(2)).await;

    unfinished.iter().for_each(|upload| upload.abort());
    eventually("there is room again", async || {
        let answer = tenant.upload(&crate::harness::fresh("more"), "web", &script(1)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
