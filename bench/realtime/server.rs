//! The servers under test, each in a folder of its own, with one app on the database they share.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A running server; it ends with this value.
pub struct Server {
    /// Where it listens.
    pub url: String,
    _folder: TempDir,
    _child: Child,
}

/// An app, and users who are signed in to it.
pub struct App {
    /// Its public key.
    pub key: String,
    /// Sessions of its users.
    pub sessions: Vec<String>,
}

/// Bounds that keep one address and one app from having all of a server are in the way here.
const SETTINGS: &str = "
[server]
connections = 60_000
connections_per_address = 60_000
[realtime]
connections = 50_000
connections_per_app = 50_000
connections_per_address = 50_000
";

/// For tests only: each start has its own database.
const MASTER_KEY: &str = "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// How long a server may take to start; the first start compiles the engine.
const PATIENCE: Duration = Duration::from_secs(180);

impl Server {
    /// Starts so many on one database.
    pub async fn start(program: &Path, database: &str, number: usize) -> Vec<Self> {
        let mut servers = Vec::new();
        for _ in 0..number {
            servers.push(Self::start_one(program, database).await);
        }
        servers
    }

    async fn start_one(program: &Path, database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thimble.toml"), SETTINGS).unwrap();
        let log = folder.path().join("log");
        let output = || Stdio::from(fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
        let child = Command::new(program)
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data", "--database", database])
            .env("THIMBLE_MASTER_KEY", MASTER_KEY)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::builder().no_proxy().build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(url) = text.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")) {
                let url = url.trim_end_matches(['.', ',', '/']).to_owned();
                let ready = client.get(format!("{url}/readyz")).send().await;
                if ready.is_ok_and(|answer| answer.status() == 200) {
                    return Self { url, _folder: folder, _child: child };
                }
            }
            assert!(Instant::now() < deadline, "the server does not start: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes an app with so many users.
    pub async fn app(&self, users: usize) -> App {
        let client = Client::builder().no_proxy().build().unwrap();
        let post = async |path: &str, key: &str, body: Value| -> Value {
            let request = client.post(format!("{}{path}", self.url)).header("SB-PUBLIC-KEY", key).json(&body);
            request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
        };
        let created = post("/account/create", "", json!({ "email": "owner@example.com" })).await;
        let key = created["pk"].as_str().unwrap().to_owned();
        let mut sessions = Vec::new();
        for n in 0..users {
            let user = json!({ "email": format!("user{n}@example.com"), "password": "correct horse" });
            sessions.push(post("/register", &key, user).await.as_str().unwrap().to_owned());
        }
        App { key, sessions }
    }
}
