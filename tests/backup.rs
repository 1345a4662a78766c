//! Backups of a server that runs and writes, brought into fresh databases of both kinds, where everything works on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use serde_json::{Value, json};

use crate::harness::{Caller, PASSWORD, Server, Tenant, eventually, postgres::Cluster, text, thimble};

/// A server's folder, and the database that it uses if it is not in there.
struct Place {
    folder: tempfile::TempDir,
    database: Option<String>,
}

impl Place {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    async fn postgres() -> Self {
        let cluster = Cluster::shared().await;
        let database = cluster.url(&cluster.database().await);
        Self { folder: tempfile::tempdir().unwrap(), database: Some(database) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn key(&self) -> PathBuf {
        self.path().join("data").join("master.key")
    }

    /// Runs a command on the database.
    async fn run(&self, command: &str, file: &Path) -> crate::harness::Finished {
        let data = self.path().join("data");
        let mut run = thimble([command]).with(&[file.to_str().unwrap(), "--data", data.to_str().unwrap()]);
        if let Some(database) = &self.database {
            run = run.with(&["--database", database]);
        }
        run.folder(self.path()).run().await
    }

    async fn serve(&self) -> Server {
        let mut serve = thimble(["serve", "--dev"]).folder(self.path());
        if let Some(database) = &self.database {
            serve = serve.with(&["--database", database]);
        }
        serve.settings("[events]\nattempts = 1\n").serve().await
    }

    /// Brings a backup here, and the key that belongs to it.
    async fn restore(&self, file: &Path, key: &Path) -> String {
        fs::create_dir_all(self.path().join("data")).unwrap();
        let output = self.run("restore", file).await.succeeded();
        assert!(output.contains("needs the master key"), "{output}");
        fs::copy(key, self.key()).unwrap();
        output
    }
}

/// Creates documents one after the other, with numbers, until it is told to stop.
struct Writing {
    acknowledged: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writing {
    fn start(root: Caller, from: i64) -> Self {
        let (acknowledged, stop) = (Arc::new(AtomicI64::new(from)), Arc::new(AtomicBool::new(false)));
        let (count, told) = (acknowledged.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                root.create("written", json!({ "n": n, "text": "x".repeat(500) })).await;
                count.store(n + 1, Ordering::Relaxed);
            }
        });
        Self { acknowledged, stop, task }
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// The numbers of the documents that [`Writing`] has created, in their order.
async fn written(tenant: &Tenant) -> Vec<i64> {
    let mut numbers = Vec::new();
    for page in 1.. {
        let found = tenant.root.get(&format!("/db/written?size=1000&page={page}")).await.ok();
        let Some(results) = found["results"].as_array() else { break };
        numbers.extend(results.iter().map(|document| document["n"].as_i64().unwrap()));
    }
    numbers
}

/// The digest that a command printed.
fn digest(output: &str) -> String {
    text(&json!(output.lines().find_map(|line| line.strip_prefix("SHA-256 of all documents: ")).unwrap()))
}

/// What a tenant has, but for what goes on.
async fn kept(tenant: &Tenant, user: &Caller) -> Value {
    let versions = tenant.info("greet").await["versions"].clone();
    json!({
        "me": user.get("/me").await.ok(),
        "notes": user.get("/db/notes").await.ok(),
        "functions": tenant.root.get("/fn").await.ok().as_array().unwrap().len(),
        "versions": versions,
        "runs": tenant.runs("greet").await.len(),
        "tasks": tenant.root.get("/task").await.ok(),
        "jobs": tenant.root.get("/schedule").await.ok(),
        "indexes": tenant.root.get("/sudo/index").await.ok(),
        "dead": tenant.root.get("/fn/dead/broken").await.ok(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_on_after_being_brought_from_one_database_into_another() {
    let places = [Place::sqlite(), Place::postgres().await, Place::sqlite()];
    let server = places[0].serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    ann.create("notes", json!({ "title": "é💥", "n": 9007199254740993_i64, "f": 1.0 })).await;
    tenant.add("greet", "web", "function handle(body) { return \"hello \" + body.name; }").await;
    tenant.update("greet", "web", "function handle(body) { log(\"hi\"); return \"good morning \" + body.name; }").await;
    tenant.exec("greet", json!({ "name": "Ann" })).await.ok();
    tenant.add("heard", "news", "function handle(channel, type, data) { create(\"heard\", data); }").await;
    tenant.add("broken", "alarm", "function handle() { throw new Error(\"broken\"); }").await;
    let alarm = json!({ "channel": "alarm", "type": "t", "data": "{\"n\":1}" });
    tenant.root.post("/publish", alarm).await.ok();
    let task = json!({ "name": "yearly", "type": "function", "value": "greet", "interval": "0 0 1 1 *" });
    tenant.root.post("/task", task).await.ok();
    ann.post("/schedule", json!({ "function": "greet", "payload": {}, "delay": "300d" })).await;
    tenant.root.post("/sudo/index?col=notes&field=n", Value::Null).await.ok();
    eventually("there is a dead letter", async || {
        (!tenant.root.get("/fn/dead/broken").await.ok().as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let expected = kept(&tenant, &ann).await;

    let mut user = tenant.anybody.with_token(ann.session());
    let (mut server, mut tenant) = (server, tenant);
    for (from, to) in [(0, 1), (1, 2)] {
        let file = places[from].path().join("made.backup");
        let writing = Writing::start(tenant.root.clone(), written(&tenant).await.len() as i64);
        let begun = writing.acknowledged();
        eventually("some are written", async || (writing.acknowledged() > begun + 20).then_some(())).await;

        let before = writing.acknowledged();
        let made = places[from].run("backup", &file).await.succeeded();
        assert!(writing.acknowledged() > before, "others write meanwhile");
        writing.end().await;
        server.stop().await;

        assert!(made.contains("master.key") && made.contains("keep a copy"), "{made}");
        let restored = places[to].restore(&file, &places[from].key()).await;
        assert_eq!(digest(&restored), digest(&made));
        server = places[to].serve().await;
        tenant = Tenant::with(&server, &tenant.key, tenant.root_token());
        user = tenant.anybody.with_token(ann.session());
        let numbers = written(&tenant).await;
        assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "all up to one moment: {numbers:?}");
        assert!(numbers.len() as i64 >= before, "{} of {before}", numbers.len());
        assert_eq!(kept(&tenant, &user).await, expected, "sessions are good, and everything is there");
    }

    let login = json!({ "email": ann.email, "password": PASSWORD });
    assert!(text(&tenant.anybody.post("/login", login).await.ok()).contains('.'));
    assert_eq!(tenant.exec("greet", json!({ "name": "Bob" })).await.ok(), "good morning Bob");
    tenant.root.post("/fn/rollback/greet", json!({ "version": 1 })).await.ok();
    assert_eq!(tenant.exec("greet", json!({ "name": "Bob" })).await.ok(), "hello Bob");
    tenant.root.post("/task/yearly/run", Value::Null).await.ok();
    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "{\"n\":1}" })).await.ok();
    eventually("functions hear", async || (tenant.root.get("/db/heard").await.ok()["total"] == 1).then_some(())).await;
    tenant.update("broken", "alarm", "function handle(channel, type, data) { create(\"mended\", data); }").await;
    tenant.root.post("/fn/dead/broken/all/resend", json!({})).await.ok();
    eventually("dead letters are sent again", async || {
        (tenant.root.get("/db/mended").await.ok()["total"] == 1).then_some(())
    })
    .await;
    // Numbers go on, so that what is new comes last.
    user.create("notes", json!({ "title": "new" })).await;
    assert_eq!(user.get("/db/notes").await.ok()["results"][1]["title"], "new");
    assert!(server.is_well(), "{}", server.output());
}

#[tokio::test]
async fn mistakes_are_answered_with_what_to_do() {
    let place = Place::sqlite();
    let file = place.path().join("made.backup");

    let nothing = place.run("backup", &file).await.failed();
    assert!(nothing.contains("no database") && nothing.contains("--data"), "{nothing}");
    assert!(!file.exists());
    let missing = place.run("restore", &file).await.failed();
    assert!(missing.contains("cannot read") && missing.contains("made.backup"), "{missing}");
    fs::write(&file, "something else").unwrap();
    let other = place.run("restore", &file).await.failed();
    assert!(other.contains("no backup of Thimble"), "{other}");
    let taken = place.run("backup", &file).await.failed();
    assert!(taken.contains("is there already"), "{taken}");
    fs::remove_file(&file).unwrap();
    thimble(["db", "migrate"]).folder(place.path()).with(&["--data", "data"]).run().await.succeeded();
    place.run("backup", &file).await.succeeded();
    let full = place.run("restore", &file).await.failed();
    assert!(full.contains("empty place only"), "{full}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds everything");
    }
}
