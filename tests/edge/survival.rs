//! What the system withholds: files to open, and somebody who reads what is printed.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use super::{raw::Raw, sockets};
use crate::harness::{Answer, Caller, Server, Tenant, eventually, thimble};

/// Seconds of processor time that a server has used.
fn processor(server: &Server) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid)).unwrap();
    // After the name, which may hold anything: user and system time are the fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// The share of a processor that a server uses for a while.
async fn load(server: &Server) -> f64 {
    let (began, used) = (Instant::now(), processor(server));
    tokio::time::sleep(Duration::from_secs(4)).await;
    (processor(server) - used) / began.elapsed().as_secs_f64()
}

/// K-09: with few files, fewer connections are served, and functions still run.
#[tokio::test]
async fn few_open_files_are_enough_for_some_connections() {
    let server = thimble(["serve", "--dev"]).variable("OPEN_FILES", "256").serve().await;
    let tenant = Tenant::of_development(&server);
    let name = tenant.function("function handle() { return create(\"visits\", {}).ok; }").await;
    assert!(server.output().contains("`server.connections` is 12000"), "{}", server.output());

    let mut clients = Vec::new();
    for _ in 0..400 {
        clients.push(Raw::to(&server.url).await);
        // On the connection that the tenant has had from the start.
        if clients.len() % 20 == 0 {
            assert_eq!(tenant.exec(&name, json!({})).await.ok(), true);
        }
    }
    eventually("a client is told that there is no place", async || {
        Raw::to(&server.url).await.knock().await.starts_with("HTTP/1.1 503").then_some(())
    })
    .await;
    let load = load(&server).await;
    assert!(load < 0.2, "{load}");

    drop(clients);
    eventually("there is a place again", async || {
        Raw::to(&server.url).await.knock().await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    assert!(server.is_well());
}

/// K-09: when nothing can be accepted any more, the server waits for better times and does not spin.
#[tokio::test]
async fn a_server_without_files_waits_and_recovers() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap().count() as u64;
    let pid = Pid::from_raw(server.pid.try_into().unwrap());
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(files + 20), maximum: Some(20_000) }).unwrap();

    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Raw::to(&server.url).await);
    }
    eventually("the server says that it cannot accept", async || {
        server.output().contains("connections cannot be accepted").then_some(())
    })
    .await;
    assert!(sockets(&server) < 60);
    let load = load(&server).await;
    assert!(load < 0.2, "{load}");
    assert!(server.output().matches("connections cannot be accepted").count() < 10, "{}", server.output());

    drop(clients);
    eventually("there is a place again", async || {
        Raw::to(&server.url).await.knock().await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert_eq!(Tenant::of_development(&server).value("function handle() { return 1; }").await, 1);
    assert!(server.is_well());
}

/// K-08: nobody reads what the server prints, or it has nowhere to print.
#[tokio::test]
async fn a_server_whose_output_is_gone_serves_on() {
    for closed in ["", ">&- 2>&-"] {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let command = format!("exec \"$0\" serve --dev --listen 127.0.0.1:{port} --data data {closed}");
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", &command, env!("CARGO_BIN_EXE_thimble")])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Whoever would read goes away: writing fails from now on.
        drop((child.stdout.take(), child.stderr.take()));
        let nobody = Caller::nobody(&format!("http://127.0.0.1:{port}"));
        eventually("the server is ready", async || {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
            Answer::attempt(nobody.request(reqwest::Method::GET, "/readyz")).await.ok().filter(|it| it.status == 200)
        })
        .await;

        let development = nobody.with_key("dev_memory_pk").with_token("safe-to-use-in-dev-root-token");
        let code = "function handle() { log('x'); throw new Error('y'); }";
        development.post("/fn/add", json!({ "name": "loud", "trigger": "web", "code": code })).await.ok();
        for _ in 0..20 {
            assert_eq!(development.post("/fn/sudoexec/loud", json!({})).await.status, 500);
        }

        assert_eq!(nobody.get("/readyz").await.status, 200);
        child.kill().await.unwrap();
    }
}
