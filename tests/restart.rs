//! What survives a restart, how a server ends, and with which words it refuses to start.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Caller, Connection, Server, Tenant, Transport, eventually, text, thimble};

async fn serve_in(folder: &Path) -> Server {
    thimble(["serve", "--dev"]).folder(folder).serve().await
}

/// The same tenant on a server that has been started again.
fn again(server: &Server, tenant: &Tenant) -> Tenant {
    Tenant::with(server, &tenant.key, tenant.root_token())
}

/// The files of native code, with the time each was written.
fn native_files(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let files = fs::read_dir(folder.join("data/store/native")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::metadata(&path).unwrap().modified().unwrap())).collect()
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let document = ann.create("tasks", json!({ "title": "kept" })).await;
    tenant.add("hello", "web", "const seed = Math.random(); function handle() { return [1, seed]; }").await;
    tenant.update("hello", "web", "const seed = Math.random(); function handle() { return [2, seed]; }").await;
    let first = tenant.exec("hello", json!({})).await.ok();
    server.stop().await;

    let server = serve_in(folder.path()).await;
    let tenant = again(&server, &tenant);
    let session = tenant.anybody.with_token(ann.session());

    assert_eq!(session.get("/me").await.ok()["email"], ann.email, "the session is still one");
    assert_eq!(tenant.login(&ann.email).await.id, ann.id);
    assert_eq!(session.get(&format!("/db/tasks/{}", text(&document["id"]))).await.ok(), document);
    let second = tenant.exec("hello", json!({})).await.ok();
    assert_eq!((&first[0], &second[0]), (&json!(2), &json!(2)));
    assert_ne!(first[1], second[1], "chance does not repeat itself");
    let info = tenant.info("hello").await;
    assert_eq!(info["version"], 2);
    assert_eq!(info["history"].as_array().unwrap().len(), 2);
    tenant.root.post("/fn/rollback/hello", json!({ "version": 1 })).await.ok();
    assert_eq!(tenant.exec("hello", json!({})).await.ok()[0], 1);
}

#[tokio::test]
async fn listeners_listen_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    tenant.add("listener", "news", "function handle(channel, type, data) { create(\"heard\", { data }); }").await;
    server.stop().await;

    let server = serve_in(folder.path()).await;
    let tenant = again(&server, &tenant);
    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "1" })).await.ok();

    eventually("the listener has heard", async || {
        (tenant.root.get("/db/heard").await.ok()["total"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn functions_are_not_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    for n in 0..5 {
        tenant.add(&format!("f{n}"), "web", &format!("function handle() {{ return {n}; }}")).await;
    }
    let compiled = native_files(folder.path());
    server.stop().await;

    let server = serve_in(folder.path()).await;
    let tenant = again(&server, &tenant);
    for n in 0..5 {
        assert_eq!(tenant.exec(&format!("f{n}"), json!({})).await.ok(), n);
    }

    assert!(compiled.len() >= 6, "the engine and five functions: {compiled:?}");
    assert_eq!(native_files(folder.path()), compiled);
    for file in compiled.keys() {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "others may not write what is executed: {} {mode:o}", file.display());
    }
}

#[tokio::test]
async fn damaged_native_code_is_noticed_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    tenant.add("hello", "web", "function handle() { return \"right\"; }").await;
    server.stop().await;
    let files: Vec<PathBuf> = native_files(folder.path()).into_keys().collect();
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| *bytes.last_mut().unwrap() ^= 0x80,
        |bytes| bytes.truncate(bytes.len() / 3),
        Vec::clear,
    ];

    for damage in damages {
        for file in &files {
            let mut bytes = fs::read(file).unwrap();
            damage(&mut bytes);
            fs::write(file, bytes).unwrap();
        }

        let server = serve_in(folder.path()).await;
        assert_eq!(again(&server, &tenant).exec("hello", json!({})).await.ok(), "right");
        assert!(server.is_well(), "{}", server.output());
        server.stop().await;
    }
}

#[tokio::test]
async fn native_code_of_another_function_is_not_taken_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    let before = native_files(folder.path());
    tenant.add("one", "web", "function handle() { return 1; }").await;
    tenant.add("two", "web", "function handle() { return 2; }").await;
    server.stop().await;
    let own: Vec<PathBuf> = native_files(folder.path()).into_keys().filter(|file| !before.contains_key(file)).collect();
    let [one, two] = &own[..] else { panic!("{own:?}") };
    let (code_of_one, code_of_two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    fs::write(one, code_of_two).unwrap();
    fs::write(two, code_of_one).unwrap();

    let server = serve_in(folder.path()).await;
    let tenant = again(&server, &tenant);

    assert_eq!(tenant.exec("one", json!({})).await.ok(), 1);
    assert_eq!(tenant.exec("two", json!({})).await.ok(), 2);
}

#[tokio::test]
async fn what_is_lost_of_native_code_is_made_from_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    tenant.add("hello", "web", "function handle() { return \"right\"; }").await;
    server.stop().await;
    fs::remove_dir_all(folder.path().join("data/store/native")).unwrap();

    let server = serve_in(folder.path()).await;

    assert_eq!(again(&server, &tenant).exec("hello", json!({})).await.ok(), "right");
}

#[tokio::test]
async fn what_was_answered_as_stored_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve_in(folder.path()).await;
    let tenant = Tenant::on(&server).await;
    tenant.add("hello", "web", "function handle(body) { return create(\"made\", { n: body.n }).content.id; }").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(tenant.root.create_id("tasks", json!({ "n": n })).await);
    }
    let made = text(&tenant.exec("hello", json!({ "n": 1 })).await.ok());
    let run = tenant.last_run("hello").await;

    server.signal("KILL");
    server.ended().await;
    let server = serve_in(folder.path()).await;
    let tenant = again(&server, &tenant);

    for id in ids {
        assert_eq!(tenant.root.get(&format!("/db/tasks/{id}")).await.status, 200);
    }
    assert_eq!(tenant.root.get(&format!("/db/made/{made}")).await.status, 200);
    assert_eq!(tenant.last_run("hello").await["id"], run["id"]);
}

#[tokio::test]
async fn the_end_waits_for_runs_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"])
        .folder(folder.path())
        .settings("[limits]\nfuel = 1_000_000_000_000\nwall_ms = 20_000\n")
        .serve()
        .await;
    let tenant = Tenant::on(&server).await;
    let code = "function handle(body) { create('started', {}); const start = Date.now(); while (Date.now() - start < 1500); return body.n; }";
    let name = tenant.function(code).await;

    let calls = join_all((0..10).map(|n| {
        let (tenant, name) = (&tenant, &name);
        async move { tenant.exec(name, json!({ "n": n })).await.ok() }
    }));
    let end = async {
        eventually("all runs have started", async || {
            (tenant.root.get("/db/started").await.ok()["total"] == 10).then_some(())
        })
        .await;
        server.signal("TERM");
    };
    let (answers, ()) = tokio::join!(calls, end);
    let finished = server.ended().await;

    assert_eq!(answers, (0..10).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(finished.code, Some(0), "{}", finished.output);
    let server = serve_in(folder.path()).await;
    let runs = again(&server, &tenant).runs(&name).await;
    assert_eq!(runs.len(), 10);
    assert!(runs.iter().all(|run| run["outcome"] == "ok"), "{runs:?}");
}

#[tokio::test]
async fn open_streams_do_not_keep_a_server_from_ending() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let mut over_sse = Connection::member(Transport::Sse, &ann, "lobby").await;
    let mut over_websocket = Connection::member(Transport::WebSocket, &ann, "lobby").await;

    server.signal("TERM");
    let finished = server.ended().await;

    assert_eq!(finished.code, Some(0), "{}", finished.output);
    assert!(finished.took < Duration::from_secs(15), "{:?}", finished.took);
    while over_sse.next().await.is_some() {}
    while over_websocket.next().await.is_some() {}
}

#[tokio::test]
async fn a_server_that_ends_takes_no_new_requests() {
    let server =
        thimble(["serve", "--dev"]).settings("[limits]\nfuel = 1_000_000_000_000\nwall_ms = 20_000\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let code = "function handle() { create('started', {}); const start = Date.now(); while (Date.now() - start < 3000); return 1; }";
    let name = tenant.function(code).await;

    let call = async { tenant.exec(&name, json!({})).await.ok() };
    let others = async {
        eventually("the run has started", async || {
            (tenant.root.get("/db/started").await.ok()["total"] == 1).then_some(())
        })
        .await;
        server.signal("TERM");
        eventually("new requests are turned away", async || {
            let request = Caller::nobody(&server.url).request(Method::GET, "/readyz");
            Answer::attempt(request).await.map_or(true, |answer| answer.status == 503).then_some(())
        })
        .await;
    };
    let (answer, ()) = tokio::join!(call, others);

    assert_eq!(answer, 1);
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).on_sqlite().folder(folder.path()).serve().await;
    let data = folder.path().join("data");

    let second = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", &data.to_string_lossy()]).run().await;

    assert!(second.took < Duration::from_secs(10), "{:?}", second.took);
    let words = second.failed();
    assert!(words.contains("data"), "the folder is named: {words}");
    assert_eq!(Tenant::on(&server).await.value("function handle() { return 1; }").await, 1);
}

#[tokio::test]
async fn a_port_in_use_is_named_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();

    let refused = thimble(["serve", "--dev", "--listen", &address, "--data", "data"]).run().await;

    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.took < Duration::from_secs(10), "{:?}", refused.took);
    assert!(refused.failed().contains(&address));
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_named_and_nothing_is_started() {
    let mistakes = [
        ("[limits]\nfule = 5\n", "fule"),
        ("[limit]\nfuel = 5\n", "limit"),
        ("[limits]\nfuel = \"much\"\n", "fuel"),
        ("[limits]\nfuel = -1\n", "fuel"),
        ("[server]\nlisten = \"nonsense\"\n", "listen"),
        ("[server\nlisten", "thimble.toml"),
        ("[accounts]\npassword_min = 1000\n", "password"),
        ("[mail]\nsmtp = \"http://user:secret-word@example.com\"\n", "smtp"),
    ];

    for (settings, word) in mistakes {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = vec!["serve", "--dev", "--data", "data"];
        if !settings.contains("nonsense") {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        let refused = match arguments[..] {
            [a, b, c, d] => thimble([a, b, c, d]).folder(folder.path()).settings(settings).run().await,
            [a, b, c, d, e, f] => thimble([a, b, c, d, e, f]).folder(folder.path()).settings(settings).run().await,
            _ => unreachable!("four or six arguments"),
        };
        assert!(refused.took < Duration::from_secs(5), "{settings}: {:?}", refused.took);
        let words = refused.failed();
        assert!(words.contains(word), "{settings}: {words}");
        assert!(!words.contains("secret-word"), "{words}");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for address in ["nonsense", "127.0.0.1:99999", ":", "1.2.3.4:0"] {
        let words = thimble(["serve", "--dev", "--listen", address, "--data", "data"]).run().await.failed();
        assert!(words.contains(address), "{address}: {words}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "not a folder").unwrap();

    let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "file"]).folder(folder.path());
    let words = command.run().await.failed();

    assert!(words.contains("file"), "{words}");
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "not a folder");
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    thimble(["serve", "--dev"]).on_sqlite().folder(folder.path()).serve().await.stop().await;
    let database = folder.path().join("data/thimble.db");
    for damaged in [&b"this is no database, whatever its name says, and it is long enough to have a header of 100 bytes: it has more"[..], b"x"] {
        fs::write(&database, damaged).unwrap();
        for journal in ["thimble.db-wal", "thimble.db-shm"] {
            drop(fs::remove_file(folder.path().join("data").join(journal)));
        }

        let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"]).folder(folder.path());
        let refused = command.run().await;

        assert!(refused.took < Duration::from_secs(10), "{:?}", refused.took);
        assert!(refused.failed().contains("thimble.db"));
        assert_eq!(fs::read(&database).unwrap(), damaged);
    }
}

#[tokio::test]
async fn the_first_start_prints_the_keys_and_the_next_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let keys = |output: &str| -> Vec<String> {
        output
            .split_whitespace()
            .filter(|word| word.matches('|').count() == 2 || word.starts_with("operator_"))
            .map(String::from)
            .collect()
    };
    let server = thimble(["serve"]).on_sqlite().folder(folder.path()).serve().await;
    let first =
        eventually("the keys are printed", async || Some(keys(&server.output())).filter(|keys| keys.len() == 2)).await;
    let root = first.iter().find(|key| key.contains('|')).unwrap().clone();
    let words: Vec<String> = server.output().split_whitespace().map(String::from).collect();
    let mut works = false;
    for word in words {
        works |= Tenant::with(&server, &word, &root).root.get("/fn").await.status == 200;
    }
    server.stop().await;

    let server = thimble(["serve"]).on_sqlite().folder(folder.path()).serve().await;
    server.signal("TERM");
    let second = server.ended().await.succeeded();

    assert!(works, "the public key that is printed goes with the root token");
    assert_eq!(keys(&second), Vec::<String>::new(), "{second}");
    assert!(first.iter().all(|key| !second.contains(key.as_str())), "{second}");
    let mode = |file: &str| fs::metadata(folder.path().join("data").join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("master.key"), 0o600);
    assert_eq!(mode("thimble.db") & 0o077, 0, "the database is private");
}

#[tokio::test]
async fn a_closed_output_does_not_end_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = format!("exec \"$0\" serve --dev --listen 127.0.0.1:{port} --data data >/dev/full 2>/dev/full");
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_thimble")])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let nobody = Caller::nobody(&format!("http://127.0.0.1:{port}"));

    eventually("the server is ready", async || {
        assert!(child.try_wait().unwrap().is_none(), "the server ended");
        Answer::attempt(nobody.request(Method::GET, "/readyz")).await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    let development = nobody.with_key("dev_memory_pk").with_token("safe-to-use-in-dev-root-token");
    let code =
        json!({ "name": "loud", "trigger": "web", "code": "function handle() { log('x'); throw new Error('y'); }" });
    development.post("/fn/add", code).await.ok();

    assert_eq!(development.post("/fn/sudoexec/loud", json!({})).await.status, 500);
    assert_eq!(nobody.get("/readyz").await.status, 200);
    child.kill().await.unwrap();
}
