//! K: the end of the server, expected or not, and the end of what it stands on.

use std::{
    collections::HashSet,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, process::Command};

use super::assert_good;
use crate::harness::{Answer, Caller, Server, Tenant, eventually, text, thimble};

#[tokio::test]
async fn fifty_runs_in_flight_are_answered_before_the_end_and_each_is_in_the_history() {
    const RUNS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let settings = "[limits]\nfuel = 1_000_000_000_000\nwall_ms = 30_000\n";
    let server = thimble(["serve", "--dev"]).folder(folder.path()).settings(settings).serve().await;
    let tenant = Tenant::of_development(&server);
    let code = "function handle(body) { create('started', {}); const end = Date.now() + 2000; while (Date.now() < end); return body.n; }";
    tenant.add("slow", "web", code).await;

    let calls = join_all((0..RUNS).map(|n| {
        let tenant = &tenant;
        async move { tenant.exec("slow", json!({ "n": n })).await }
    }));
    let end = async {
        eventually("all runs have started", async || {
            (tenant.root.get("/db/started?size=1").await.ok()["total"] == RUNS).then_some(())
        })
        .await;
        server.signal("TERM");
        let told = Instant::now();
        eventually("the server takes nothing new", async || {
            let ready = Answer::attempt(Caller::nobody(&server.url).request(Method::GET, "/readyz")).await;
            ready.map_or(true, |answer| answer.status == 503).then_some(())
        })
        .await;
        (told, told.elapsed())
    };
    let (answers, (told, until_not_ready)) = tokio::join!(calls, end);
    let finished = server.ended().await;

    assert!(until_not_ready < Duration::from_secs(1), "ready for {until_not_ready:?} after the signal");
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.ok(), n);
    }
    assert_eq!(finished.code, Some(0), "{}", finished.output);
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let history = Tenant::of_development(&server).root.get("/fn/info/slow?runs=1000").await.ok()["history"].clone();
    let runs = history.as_array().unwrap();
    let ids: HashSet<String> = runs.iter().map(|run| text(&run["id"])).collect();
    assert_eq!((runs.len(), ids.len()), (RUNS, RUNS));
    assert!(runs.iter().all(|run| run["outcome"] == "ok"), "{runs:?}");
}

/// Whether the tool is there; says so when a test has to do without it.
fn has(tool: &str) -> bool {
    let found = std::process::Command::new("which").arg(tool).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Starts the real binary by a command line of `sh`, where `$0` is the binary and the working directory a fresh folder.
struct ByHand {
    child: tokio::process::Child,
    caller: Caller,
    folder: tempfile::TempDir,
}

impl ByHand {
    async fn start(command: &str, listen: &str, folder: tempfile::TempDir) -> Self {
        let child = Command::new("sh")
            .args(["-c", command, env!("CARGO_BIN_EXE_thimble")])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let caller = Caller::nobody(&format!("http://{listen}"));
        let mut started = Self { child, caller, folder };
        eventually("the server is ready", async || {
            assert!(started.child.try_wait().unwrap().is_none(), "the server ended: {}", started.log());
            let ready = Answer::attempt(started.caller.request(Method::GET, "/readyz")).await;
            ready.ok().filter(|answer| answer.status == 200).map(drop)
        })
        .await;
        started
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn root(&self) -> Caller {
        self.caller.with_key("dev_memory_pk").with_token("safe-to-use-in-dev-root-token")
    }
}

/// An address nobody listens on.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn what_is_answered_as_stored_has_been_synced() {
    const WRITES: usize = 100;
    assert!(has("strace"), "this test looks at system calls: install strace");
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_address());
    let command = format!(
        "exec strace -f -qq -e trace=fsync,fdatasync -o trace \"$0\" serve --dev --listen {listen} --data data"
    );
    let mut server = ByHand::start(&command, &listen, folder).await;
    let root = server.root();
    let syncs = |folder: &Path| {
        let trace = std::fs::read_to_string(folder.join("trace")).unwrap();
        // A call that another thread interrupted stands on two lines, of which the second says `resumed`.
        trace.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count()
    };

    let before = syncs(server.folder.path());
    for n in 0..WRITES {
        root.create("synced", json!({ "n": n })).await;
    }
    let one_by_one = eventually("the syncs are in the trace", async || {
        Some(syncs(server.folder.path()) - before).filter(|syncs| *syncs >= WRITES)
    })
    .await;

    assert!(one_by_one >= WRITES, "{one_by_one} syncs for {WRITES} answers, one after the other");
    server.child.kill().await.unwrap();
}

/// A folder on a file system of 64 MiB, or `None` where it cannot be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        return without_room_in_a_file().await;
    };
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    tenant.add("hello", "web", "function handle(body) { return create('made', { a: 'x'.repeat(1000) }).ok; }").await;
    let first = tenant.root.create("kept", json!({ "n": 1 })).await;
    // Something else takes nearly all the room.
    let ballast = data.join("ballast");
    fill(&ballast, 1 << 20);

    let refused = fill_with_documents(&tenant.root).await;

    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("room") || refused.text().contains("full"), "{}", refused.text());
    for _ in 0..5 {
        assert_eq!(tenant.root.get(&format!("/db/kept/{}", text(&first["id"]))).await.ok(), first);
        assert_eq!(tenant.anybody.get("/healthz").await.status, 200);
        let listed = tenant.root.get("/db/kept?size=1").await;
        assert_eq!(listed.status, 200, "{}", listed.text());
        // A run writes its record, for which there is no room; it is answered all the same.
        let answer = tenant.exec("hello", json!({})).await;
        assert!(matches!(answer.status, 200 | 507), "{}: {}", answer.status, answer.text());
        let upload = tenant.upload("large", "web", &format!("function handle() {{}} // {}", "x".repeat(900_000))).await;
        assert!(matches!(upload.status, 200 | 507), "{}: {}", upload.status, upload.text());
    }
    assert!(server.is_well(), "{}", server.output());

    std::fs::remove_file(&ballast).unwrap();
    eventually("there is room again", async || {
        let answer = tenant.root.post("/db/kept", json!({ "n": 2 })).await;
        (answer.status == 201).then_some(())
    })
    .await;
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), true);
    assert!(server.is_well(), "{}", server.output());
    server.stop().await;
    // What was stored is sound, and a start finds it.
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let again = Tenant::of_development(&server);
    assert_eq!(again.root.get(&format!("/db/kept/{}", text(&first["id"]))).await.ok(), first);
    drop(server);
    drop(disk);
}

/// The same where nothing can be mounted: no file may grow beyond what it has at the start.
async fn without_room_in_a_file() {
    eprintln!("no file system can be mounted here: the size of files is limited instead");
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_address());
    // In blocks of 512 bytes; the signal that comes with the limit is ignored, as it is for every service.
    let command = format!("trap '' XFSZ; ulimit -f 40960; exec \"$0\" serve --dev --listen {listen} --data data");
    let server = ByHand::start(&command, &listen, folder).await;
    let root = server.root();
    let first = root.create("kept", json!({ "n": 1 })).await;

    let refused = fill_with_documents(&root).await;

    assert!(matches!(refused.status, 503 | 507), "{}: {}", refused.status, refused.text());
    assert_eq!(root.get(&format!("/db/kept/{}", text(&first["id"]))).await.ok(), first);
    assert_eq!(root.get("/healthz").await.status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Writes documents until one is refused.
async fn fill_with_documents(root: &Caller) -> Answer {
    for _ in 0..2_000 {
        let answer = root.post("/db/filling", json!({ "text": "x".repeat(500_000) })).await;
        if answer.status != 201 {
            return answer;
        }
    }
    panic!("a gigabyte was stored on a disk that has no room for it")
}

/// Writes a file until the disk has only so much room left.
fn fill(file: &Path, left: u64) {
    use std::io::Write;
    let mut ballast = std::fs::File::create(file).unwrap();
    let block = vec![0; 1 << 16];
    while ballast.write_all(&block).is_ok() {}
    let size = ballast.metadata().unwrap().len();
    ballast.set_len(size.saturating_sub(left)).unwrap();
}

#[tokio::test]
async fn a_database_that_is_cut_or_overwritten_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    for n in 0..50 {
        tenant.root.create("tasks", json!({ "n": n, "text": "x".repeat(2_000) })).await;
    }
    server.stop().await;
    let database = folder.path().join("data/thimble.db");
    let sound = std::fs::read(&database).unwrap();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("empty", Vec::clear),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("another magic", |bytes| bytes[..16].copy_from_slice(b"SQLite format 4\0")),
        ("overwritten in the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 8_192].fill(0xa5);
        }),
        ("overwritten at the beginning", |bytes| bytes[100..8_192].fill(0)),
    ];

    for (what, damage) in damages {
        let mut bytes = sound.clone();
        damage(&mut bytes);
        std::fs::write(&database, &bytes).unwrap();
        for journal in ["thimble.db-wal", "thimble.db-shm"] {
            drop(std::fs::remove_file(folder.path().join("data").join(journal)));
        }
        let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"]).folder(folder.path());
        let refused = command.run().await;
        assert!(refused.took < Duration::from_secs(5), "{what}: {:?}", refused.took);
        assert!(refused.failed().contains("thimble.db"), "{what}");
        assert_eq!(std::fs::read(&database).unwrap(), bytes, "{what}: the file was touched");
    }
    std::fs::write(&database, &sound).unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    assert_eq!(Tenant::of_development(&server).root.get("/db/tasks?size=1").await.ok()["total"], 50);
}

#[tokio::test]
async fn a_start_that_cannot_be_ends_at_once_and_says_which_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases = [
        ("127.0.0.1:0", "[limits\nfuel = 1", "thimble.toml"),
        ("127.0.0.1:0", "[limits]\nfuel =", "thimble.toml"),
        ("127.0.0.1:0", "[limits]\nfull = 1\n", "limits.full"),
        ("127.0.0.1:0", "[mail]\nsmtp = \"smtp://user:secret-word@", "thimble.toml"),
        ("127.0.0.1:0", "[mail]\nsmtp = \"gopher://user:secret-word@example.com\"\n", "smtp"),
        ("127.0.0.1:0", "[runtime]\nslots = 0\n", "runtime.slots"),
        ("127.0.0.1:99999", "", "99999"),
        (&*taken, "", &*taken),
    ];

    for (listen, settings, word) in cases {
        let command = thimble(["serve", "--dev", "--listen", listen, "--data", "data"]).settings(settings);
        let refused = command.run().await;
        // Two seconds on a machine of its own; the tests share theirs.
        assert!(refused.took < Duration::from_secs(4), "{settings}: {:?}", refused.took);
        let words = refused.failed();
        assert!(words.contains(word), "{settings}: {words}");
        assert!(!words.contains("secret-word"), "{words}");
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..5_u64 {
        let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
        let tenant = Tenant::of_development(&server);
        if round == 0 {
            tenant.add("writer", "web", "function handle(body) { return create('kept', body).content.id; }").await;
        }
        let known: HashSet<String> = all_ids(&tenant.root).await;
        let lost: Vec<_> = acknowledged.iter().filter(|id| !known.contains(*id)).collect();
        assert!(lost.is_empty(), "{lost:?} were answered as stored before round {round}");

        let write = async |writer: u64| {
            let mut ids = Vec::new();
            for n in 0.. {
                let request = match writer % 2 {
                    0 => tenant.root.request(Method::POST, "/db/kept"),
                    _ => tenant.root.request(Method::POST, "/fn/sudoexec/writer"),
                };
                match Answer::attempt(request.json(&json!({ "round": round, "writer": writer, "n": n }))).await {
                    Ok(answer) if writer.is_multiple_of(2) && answer.status == 201 => {
                        ids.push(text(&answer.json()["id"]))
                    }
                    Ok(answer) if answer.status == 200 => ids.push(text(&answer.json())),
                    _ => break,
                }
            }
            ids
        };
        let kill = async {
            tokio::time::sleep(Duration::from_millis(150 + 170 * round)).await;
            server.signal("KILL");
        };
        let (written, ()) = tokio::join!(join_all((0..8).map(write)), kill);
        let written = written.concat();
        assert!(!written.is_empty(), "nothing was written in round {round}");
        acknowledged.extend(written);
        server.ended().await;
    }
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let known = all_ids(&Tenant::of_development(&server).root).await;
    assert!(acknowledged.iter().all(|id| known.contains(id)));
    assert_good(&server).await;
}

async fn all_ids(root: &Caller) -> HashSet<String> {
    let mut ids = HashSet::new();
    for page in 1.. {
        let listed: Value = root.get(&format!("/db/kept?page={page}&size=1000")).await.ok();
        let Some(documents) = listed["results"].as_array() else { return ids };
        ids.extend(documents.iter().map(|document| text(&document["id"])));
    }
    ids
}

#[tokio::test]
async fn a_signal_during_the_start_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for delay in [0, 10, 30, 100, 300] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_thimble"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let killed = Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().await;
        assert!(killed.unwrap().success());
        let ended =
            tokio::time::timeout(Duration::from_secs(20), child.wait()).await.expect("the server ends").unwrap();
        let mut words = String::new();
        child.stderr.take().unwrap().read_to_string(&mut words).await.unwrap();
        assert!(!words.contains("panicked"), "{words}");
        // By the signal itself while there is nothing to put away, or in order.
        assert!(ended.signal() == Some(15) || ended.success(), "{ended:?}: {words}");
    }
    let server: Server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    assert_good(&server).await;
}
