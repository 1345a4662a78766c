//! The server under test, in a folder of its own.

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

use crate::process;

/// A running server; it ends with this value.
pub struct Server {
    /// Where it listens.
    pub url: String,
    /// Its process id.
    pub pid: u32,
    operator: String,
    client: Client,
    folder: TempDir,
    _child: Child,
}

/// A tenant of it.
#[derive(Clone)]
pub struct Tenant {
    client: Client,
    url: String,
    key: String,
    root: String,
}

/// What a server uses.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// Bytes that are resident.
    pub memory: u64,
    threads: u64,
    files: usize,
}

/// As in `config.default.toml`.
const SLOTS: u64 = 64;
const RUN: u64 = 64 << 20;
/// What the server may use for everything else, besides what it had before: queues and bodies of requests.
const OTHER: u64 = 512 << 20;

impl Server {
    /// Starts one and waits until it is ready.
    pub async fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Only uploading hundreds of functions at once would need it.
        fs::write(folder.path().join("thimble.toml"), "[tenant]\ncompile_ms = 100_000_000\n").unwrap();
        let log = folder.path().join("log");
        let output = || Stdio::from(fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
        let child = Command::new(program)
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(200).build().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let text = fs::read_to_string(&log).unwrap();
            if let (Some(url), Some(operator)) = (word(&text, "http://127.0.0.1:"), word(&text, "operator_")) {
                let ready = client.get(format!("{url}/readyz")).send().await;
                if ready.is_ok_and(|answer| answer.status() == 200) {
                    let pid = child.id().unwrap();
                    return Self { url, pid, operator, client, folder, _child: child };
                }
            }
            assert!(Instant::now() < deadline, "the server does not start: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A new tenant.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let body = json!({ "email": format!("{name}@example.com") });
        let answer = self.client.post(format!("{}/account/create", self.url)).json(&body).send().await.unwrap();
        let keys: Value = answer.json().await.unwrap();
        let text = |name: &str| keys[name].as_str().unwrap().to_owned();
        Tenant { client: self.client.clone(), url: self.url.clone(), key: text("pk"), root: text("rootToken") }
    }

    /// How long the server takes to say that it lives.
    pub async fn health(&self) -> Duration {
        let started = Instant::now();
        let answer = self.client.get(format!("{}/healthz", self.url)).send().await;
        match answer {
            Ok(answer) if answer.status() == 200 => started.elapsed(),
            _ => Duration::MAX,
        }
    }

    /// What it uses now.
    pub fn uses(&self) -> Uses {
        let (memory, threads, files) =
            (process::resident(self.pid), process::threads(self.pid), process::open_files(self.pid));
        Uses { memory, threads, files }
    }

    /// Whether it runs and no request has made it panic.
    pub fn is_well(&self) -> bool {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        Path::new(&format!("/proc/{}", self.pid)).exists() && !log.contains("panicked")
    }

    /// Bytes that it may use at most when every slot is taken by a run with all its memory.
    pub fn most_memory(&self, before: u64) -> u64 {
        before + SLOTS * RUN + OTHER
    }

    /// Waits until nothing of what went on is left; how long that took, or what is left.
    pub async fn calm(&self, before: &Uses, memory: u64, patience: Duration) -> Result<Duration, String> {
        let started = Instant::now();
        loop {
            let (slots, queue) = (self.gauge("thimble_slots_used").await, self.gauge("thimble_queue_waiting").await);
            // Kept for the next runs, on purpose and within bounds.
            let warm = self.gauge("thimble_memory_slots_warm_bytes").await;
            let now = self.uses();
            let is_calm = (slots, queue) == (0, 0)
                && now.memory <= before.memory + memory + warm
                && now.threads <= before.threads + 8
                // Idle connections of this very client stay open.
                && now.files <= before.files + 200;
            if is_calm {
                return Ok(started.elapsed());
            }
            if started.elapsed() > patience {
                return Err(format!(
                    "{slots} slots used, {queue} runs wait, {now:?} against {before:?}, {warm} bytes warm"
                ));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn gauge(&self, name: &str) -> u64 {
        let answer = self.client.get(format!("{}/metrics", self.url)).bearer_auth(&self.operator).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap()
    }
}

/// The word of a text that begins so.
fn word(text: &str, beginning: &str) -> Option<String> {
    let whole = text.strip_suffix('\n').unwrap_or(text);
    let word = whole.split_whitespace().find(|word| word.starts_with(beginning))?;
    Some(word.trim_end_matches(['.', ',', '/']).to_owned())
}

impl Tenant {
    /// A request with its root token.
    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(u16, Vec<u8>)> {
        let request = self.client.post(format!("{}{path}", self.url)).header("SB-PUBLIC-KEY", &self.key);
        let answer = request.bearer_auth(&self.root).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.bytes().await?.into()))
    }

    /// Adds a function.
    pub async fn add(&self, name: &str, trigger: &str, code: &str) {
        let body = json!({ "name": name, "trigger": trigger, "code": code });
        let (status, text) = self.post("/fn/add", &body).await.unwrap();
        assert_eq!(status, 200, "{name}: {}", String::from_utf8_lossy(&text));
    }

    /// A function with its latest runs.
    pub async fn info(&self, name: &str, runs: u32) -> Value {
        let request = self.client.get(format!("{}/fn/info/{name}?runs={runs}", self.url));
        let request = request.header("SB-PUBLIC-KEY", &self.key).bearer_auth(&self.root);
        request.send().await.unwrap().json().await.unwrap()
    }
}
