//! One or several servers, and what they stand on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{self, Caller, Server, Tenant, postgres::Cluster, text, thimble};

/// What is tried again is tried soon, and tasks come often.
const SETTINGS: &str = "[events]\nattempts = 3\nbackoff_ms = 20\nbackoff_max_ms = 100\n\
    [tasks]\nleast_every_s = 1\n[runtime]\nslots = 16\n[limits]\nwall_ms = 20_000\n";

/// Functions, each with its trigger.
const FUNCTIONS: [(&str, &str, &str); 6] = [
    // Two documents for each order, or none; those that are marked fail whenever they run.
    (
        "orders",
        "db-orders",
        r#"function handle(channel, type, data) {
            create("seen", { of: data.id });
            if (data.fails) throw new Error("marked");
            create("seen_too", { of: data.id });
        }"#,
    ),
    (
        "counters",
        "db-counters",
        r#"function handle(channel, type, data) { if (type === "db_updated") create("counted", { n: data.n }); }"#,
    ),
    ("news", "news", r#"function handle(channel, type, data) { create("heard", data); }"#),
    ("lobby", "lobby", r#"function handle(channel, type, data) { if (type === "chan_out") create("said", data); }"#),
    ("later", "web", r#"function handle(body) { if (!create("done", body).ok) throw new Error("not stored"); }"#),
    ("tick", "tick", r#"function handle() { create("ticks", {}); }"#),
];

/// Where the running servers listen.
pub type Urls = Arc<Mutex<Vec<Option<String>>>>;

/// See the module.
pub struct Site {
    nodes: Vec<Node>,
    database: Option<(Arc<Cluster>, String)>,
    urls: Urls,
    /// The document that everybody counts in.
    pub counter: String,
    /// Sessions of those who chat.
    pub sessions: Vec<String>,
}

struct Node {
    folder: TempDir,
    server: Option<Server>,
}

impl Site {
    pub async fn on_sqlite() -> Self {
        Self::new(1, None)
    }

    pub async fn on_postgres(nodes: usize) -> Self {
        let cluster = tokio::task::spawn_blocking(|| Cluster::start(None, &[])).await.unwrap();
        let url = cluster.url(&cluster.database().await);
        Self::new(nodes, Some((Arc::new(cluster), url)))
    }

    fn new(nodes: usize, database: Option<(Arc<Cluster>, String)>) -> Self {
        let node = || Node { folder: tempfile::tempdir().unwrap(), server: None };
        let urls = Arc::new(Mutex::new(vec![None; nodes]));
        Self {
            nodes: (0..nodes).map(|_| node()).collect(),
            database,
            urls,
            counter: String::new(),
            sessions: Vec::new(),
        }
    }

    /// Adds what is used, and starts all nodes.
    pub async fn prepare(&mut self) {
        self.start(0).await;
        let tenant = self.tenant();
        for (name, trigger, code) in FUNCTIONS {
            tenant.add(name, trigger, code).await;
        }
        let task = json!({ "name": "tick", "type": "function", "value": "tick", "interval": "@every 1s" });
        tenant.root.post("/task", task).await.ok();
        self.counter = tenant.root.create_id("counters", json!({ "n": 0 })).await;
        for name in ["ann", "ben", "cleo"] {
            self.sessions.push(tenant.user(name).await.session().to_owned());
        }
        for node in 1..self.nodes.len() {
            self.start(node).await;
        }
    }

    async fn start(&mut self, node: usize) {
        let folder = self.nodes[node].folder.path();
        let command = thimble(["serve", "--dev"]).folder(folder).settings(SETTINGS);
        let command = match &self.database {
            None => command.on_sqlite(),
            Some((_, url)) => {
                harness::bring_master_key(&folder.join("data"));
                command.with(&["--database", url])
            }
        };
        let server = command.serve().await;
        self.urls.lock().unwrap()[node] = Some(server.url.clone());
        self.nodes[node].server = Some(server);
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn has_database(&self) -> bool {
        self.database.is_some()
    }

    pub fn urls(&self) -> Urls {
        self.urls.clone()
    }

    /// Ends a node at once and starts it again after a while.
    pub async fn kill_node(&mut self, node: usize, away: Duration) {
        self.urls.lock().unwrap()[node] = None;
        let server = self.nodes[node].server.take().unwrap();
        server.signal("KILL");
        let finished = server.ended().await;
        assert!(!finished.output.contains("panicked"), "{}", finished.output);
        tokio::time::sleep(away).await;
        self.start(node).await;
    }

    /// Ends the database, as a crash or as an operator does, and starts it again after a while.
    pub async fn kill_database(&mut self, crash: bool, away: Duration) {
        let (cluster, _) = self.database.as_ref().unwrap();
        let ends = cluster.clone();
        tokio::task::spawn_blocking(move || if crash { ends.kill() } else { ends.stop() }).await.unwrap();
        tokio::time::sleep(away).await;
        let starts = cluster.clone();
        tokio::task::spawn_blocking(move || starts.restart()).await.unwrap();
    }

    /// The app, at the first node.
    pub fn tenant(&self) -> Tenant {
        Tenant::of_development(self.nodes[0].server.as_ref().unwrap())
    }

    /// What no node may have written.
    pub fn assert_well(&self) {
        for server in self.nodes.iter().filter_map(|node| node.server.as_ref()) {
            assert!(server.is_well(), "{}", server.output());
        }
    }
}

/// Somebody with the root token at one of the servers that run: at the one they prefer, if it does.
pub fn root_at(urls: &Urls, preferred: usize) -> Option<Caller> {
    let urls = urls.lock().unwrap();
    let preferred = preferred % urls.len();
    let url = urls[preferred].as_ref().or_else(|| urls.iter().flatten().next())?;
    Some(Tenant::at(url, "dev_memory_pk", "safe-to-use-in-dev-root-token").root)
}

/// The id of a document in an answer.
pub fn id_of(answer: &serde_json::Value) -> String {
    text(&answer["id"])
}
