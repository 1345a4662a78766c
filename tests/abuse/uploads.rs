//! U: what is uploaded. Components have tests of their own.

use std::{
    collections::HashSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use super::assert_good;
use crate::harness::{Connection, Tenant, Transport, eventually, fresh, thimble};

#[tokio::test]
async fn a_top_level_changes_nothing_whatever_it_calls() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::WebSocket, &ann, "early").await;
    let mark = fresh("mark");
    let calls = [
        "create('early', { n: 1 })".to_owned(),
        "update('early', 'x', {})".into(),
        "del('early', 'x')".into(),
        "list('early')".into(),
        "query('early', [])".into(),
        "getById('early', 'x')".into(),
        "publish('early', 't', 1)".into(),
        "send('t', 'd', 'early')".into(),
        format!("email({{ to: '{mark}@example.com', subject: '{mark}', body: '{mark}' }})"),
        format!("sendMail({{ to: '{mark}@example.com', subject: '{mark}', body: '{mark}' }})"),
    ];

    for call in &calls {
        for (form, is_accepted) in [
            (format!("{call};"), false),
            (format!("const seen = [{call}];"), false),
            (format!("class A {{ static x = {call}; }}"), false),
            (format!("try {{ {call}; }} catch {{}}"), true),
            (format!("Promise.resolve().then(() => {call}).catch(() => {{}});"), true),
            (format!("queueMicrotask(() => {{ try {{ {call}; }} catch {{}} }});"), true),
            (format!("const saved = Math.random() < 2 && (() => {{ try {{ return {call}; }} catch {{}} }})();"), true),
        ] {
            let upload =
                tenant.upload(&fresh("early"), "web", &format!("{form}\nfunction handle() {{ return 1; }}")).await;
            let expected = if is_accepted { 200 } else { 400 };
            assert_eq!(upload.status, expected, "{form}: {}", upload.text());
            assert!(is_accepted || upload.text().contains("not available while loading"), "{form}: {}", upload.text());
        }
    }

    assert_eq!(tenant.root.get("/sudolistall").await.ok(), json!([]));
    assert!(member.so_far().await.iter().all(|message| message["type"] != "t"), "somebody has heard of an upload");
    assert!(!server.output().contains(&mark), "a mail was sent by an upload");
}

#[tokio::test]
async fn what_an_upload_leaves_on_disk_is_bounded() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let store = server.data.join("store");
    let sizes = [1 << 10, 1 << 20, 8 << 20, 20 << 20, 60 << 20];

    for bytes in sizes {
        let before = size_of(&store);
        // Not zeros, of which a memory needs none kept.
        let code =
            format!("const table = new Uint8Array({bytes}).fill(7); function handle() {{ return table.length; }}");
        let upload = tenant.upload(&fresh("table"), "web", &code).await;
        let grown = size_of(&store) - before;
        assert!(matches!(upload.status, 200 | 400 | 413), "{bytes}: {} {}", upload.status, upload.text());
        assert_eq!(upload.status == 200, bytes < 16 << 20, "{bytes}: {}", upload.text());
        // Component and native code, of at most 16 MiB each.
        assert!(grown <= 34 << 20, "{bytes} bytes in memory left {grown} on disk");
        assert!(upload.status == 200 || grown < 1 << 20, "a refused upload left {grown} bytes");
    }
    assert_good(&server).await;
}

fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { size_of(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

#[tokio::test]
async fn fifty_callers_during_fifty_updates_get_whole_versions() {
    let tenant = Tenant::new().await;
    let code = |version: usize| {
        format!(
            "const a = {version}; const pad = \"{}\"; function handle() {{ return [a, pad.length, {version}]; }}",
            "x".repeat(version)
        )
    };
    tenant.add("busy", "web", &code(1)).await;
    let done = AtomicBool::new(false);

    let callers = join_all((0..50).map(async |_| {
        let mut seen = HashSet::new();
        while !done.load(Ordering::Relaxed) {
            let answer = tenant.exec("busy", json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            assert!(answer[0] == answer[1] && answer[1] == answer[2], "{answer}");
            seen.insert(answer[0].as_u64().unwrap());
        }
        seen.len()
    }));
    let updates = async {
        for version in 2..=51 {
            tenant.update("busy", "web", &code(version)).await;
            if version % 10 == 0 {
                tenant.root.post("/fn/rollback/busy", json!({ "version": version / 2 })).await.ok();
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let (seen, ()) = tokio::join!(callers, updates);

    assert!(seen.iter().any(|versions| *versions > 1), "no caller was there during the updates");
}

#[tokio::test]
async fn a_deleted_function_ends_its_runs_and_starts_none_of_those_that_wait() {
    let settings = "[limits]\nfuel = 1_000_000_000_000\n[runtime]\nslots = 1\nwait_ms = 20_000\n";
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::on(&server).await;
    let code = "function handle() { create('started', {}); const end = Date.now() + 1500; while (Date.now() < end); return 'ended'; }";
    tenant.add("doomed", "web", code).await;
    tenant.add("waiting", "doomed-channel", "function handle() { create('heard', {}); }").await;

    let calls = join_all((0..5).map(async |_| tenant.exec("doomed", json!({})).await));
    let delete = async {
        eventually("one runs and the others wait", async || {
            let usage = tenant.info("doomed").await["usage"].clone();
            let started = tenant.root.get("/db/started?size=1").await.ok()["total"].clone();
            (usage["running"] == 1 && usage["waiting"] == 4 && started == 1).then_some(())
        })
        .await;
        let message = json!({ "channel": "doomed-channel", "type": "t", "data": "1" });
        tenant.root.post("/publish", message).await.ok();
        tenant.root.get("/fn/del/waiting").await.ok();
        tenant.root.get("/fn/del/doomed").await.ok();
        Instant::now()
    };
    let (answers, deleted) = tokio::join!(calls, delete);

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 4, "{statuses:?}");
    assert!(
        deleted.elapsed() < Duration::from_secs(10),
        "those that waited were told at once: {:?}",
        deleted.elapsed()
    );
    assert_eq!(tenant.root.get("/db/started?size=1").await.ok()["total"], 1);
    assert_eq!(tenant.root.get("/db/heard?size=1").await.ok()["total"], 0);
    tenant.root.get("/fn/info/doomed").await.refused(404);
    assert_good(&server).await;
}
