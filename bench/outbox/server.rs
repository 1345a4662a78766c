//! The server that is measured, with an app for each kind of function.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Which function waits for the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// None.
    None,
    /// One whose events are in memory only.
    AtMostOnce,
    /// One whose events are kept until it has run.
    AtLeastOnce,
}

/// What came of a round.
pub struct Measured {
    documents: u64,
    creating: Duration,
    all: Duration,
}

/// A running server; it ends with this value.
pub struct Server {
    client: Client,
    url: String,
    operator: String,
    apps: HashMap<Kind, App>,
    _child: Child,
    _folder: TempDir,
}

struct App {
    key: String,
    root: String,
}

/// As an ordinary function does: it keeps something of what happened.
const FUNCTION: &str = "function handle(channel, type, data) { create(\"seen\", { of: data.id, n: data.n }); }";

/// Nothing is measured that a quota decides.
const SETTINGS: &str = "[function]\nrate = 100_000_000\n[tenant]\nrate = 100_000_000\n";

/// Any key that is no pattern.
const MASTER_KEY: &str = "3c1f9a60b2d84e7705e6c8d1f2a3b49586e7d0c1b2a394857f6e5d4c3b2a1908";

impl Kind {
    /// In the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::None, Self::AtMostOnce, Self::AtLeastOnce];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no function",
            Self::AtMostOnce => "a function, at-most-once",
            Self::AtLeastOnce => "a function, at-least-once",
        }
    }
}

impl Measured {
    /// Documents that were created in a second.
    pub fn created_in_a_second(&self) -> f64 {
        self.documents as f64 / self.creating.as_secs_f64()
    }

    /// The same until all functions had run for them.
    pub fn done_in_a_second(&self) -> f64 {
        self.documents as f64 / self.all.as_secs_f64()
    }
}

impl Server {
    /// Starts one on SQLite or on the database that a URL names.
    pub async fn start(program: &Path, database: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thimble.toml"), SETTINGS).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let mut arguments = vec!["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"];
        if let Some(url) = database {
            let key = folder.path().join("data/master.key");
            let mut key = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(key).unwrap();
            std::io::Write::write_all(&mut key, MASTER_KEY.as_bytes()).unwrap();
            arguments.extend(["--database", url]);
        }
        let log = folder.path().join("log");
        let output = || Stdio::from(fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(1_000).build().unwrap();
        let (url, operator) = ready(&client, &log).await;
        let mut server = Self { client, url, operator, apps: HashMap::new(), _child: child, _folder: folder };
        for kind in Kind::ALL {
            let app = server.app(kind).await;
            server.apps.insert(kind, app);
        }
        server
    }

    async fn app(&self, kind: Kind) -> App {
        let email = json!({ "email": format!("{kind:?}@example.com") });
        let created = self.client.post(format!("{}/account/create", self.url)).json(&email).send().await.unwrap();
        let keys: Value = created.json().await.unwrap();
        let text = |name: &str| keys[name].as_str().unwrap().to_owned();
        let app = App { key: text("pk"), root: text("rootToken") };
        let delivery = match kind {
            Kind::None => return app,
            Kind::AtMostOnce => "at-most-once",
            Kind::AtLeastOnce => "at-least-once",
        };
        let function = json!({ "name": "sees", "trigger": "db-orders", "code": FUNCTION, "delivery": delivery });
        let added = self.as_root(&app, self.client.post(format!("{}/fn/add", self.url))).json(&function).send().await;
        assert_eq!(added.unwrap().status(), 200);
        app
    }

    fn as_root(&self, app: &App, request: RequestBuilder) -> RequestBuilder {
        request.header("SB-PUBLIC-KEY", &app.key).bearer_auth(&app.root)
    }

    /// Creates documents for some time, and waits until the function has run for all of them.
    pub async fn create(&self, kind: Kind, in_flight: usize, time: Duration) -> Measured {
        let app = &self.apps[&kind];
        let begun = Instant::now();
        let created = join_all((0..in_flight).map(|client| async move {
            let mut created = 0;
            while begun.elapsed() < time {
                let document = json!({ "client": client, "n": created, "text": "an order of ordinary length" });
                let request = self.as_root(app, self.client.post(format!("{}/db/orders", self.url)));
                let answer = request.json(&document).send().await.unwrap();
                assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
                answer.bytes().await.unwrap();
                created += 1;
            }
            created
        }));
        let documents = created.await.into_iter().sum();
        let creating = begun.elapsed();
        while kind != Kind::None && self.waits(app).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Measured { documents, creating, all: begun.elapsed() }
    }

    /// Whether something is left to be done for an app.
    async fn waits(&self, app: &App) -> bool {
        let url = format!("{}/account/quota/{}", self.url, app.key);
        let quota = self.client.get(url).bearer_auth(&self.operator).send().await.unwrap();
        let quota: Value = quota.json().await.unwrap();
        ["running", "waiting", "storedEvents"].iter().any(|name| quota[name] != 0)
    }
}

/// Where the server listens and the operator's token, once it is ready.
async fn ready(client: &Client, log: &Path) -> (String, String) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(log).unwrap();
        if let (Some(url), Some(operator)) = (word(&text, "http://127.0.0.1:"), word(&text, "operator_")) {
            let ready = client.get(format!("{url}/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status() == 200) {
                return (url, operator);
            }
        }
        assert!(Instant::now() < deadline, "the server does not start: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The word of a text that begins so.
fn word(text: &str, beginning: &str) -> Option<String> {
    let whole = text.strip_suffix('\n').unwrap_or(text);
    let word = whole.split_whitespace().find(|word| word.starts_with(beginning))?;
    Some(word.trim_end_matches(['.', ',', '/']).to_owned())
}
