//! Servers: the one that ordinary tests share, and servers of one's own for tests that stop or configure them.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{eventually, store};

/// Runs a command and ends it when the standard input closes, so that no server outlives the tests, however they end.
/// `$REMOVE` is a folder to remove afterwards, `$OPEN_FILES` how many files it may have open, if any.
const ATTENDED: &str = r#"
exec 3<&0
[ -z "${OPEN_FILES:-}" ] || ulimit -n "$OPEN_FILES"
"$@" 3<&- </dev/null & command=$!
echo "pid $command"
(read -r _ <&3; kill -KILL "$command") >/dev/null 2>&1 & attendant=$!
wait "$command"; status=$?
kill "$attendant" 2>/dev/null
[ -z "${REMOVE:-}" ] || rm -rf "$REMOVE"
exit $status
"#;

static SHARED: OnceCell<Server> = OnceCell::const_new();

/// The server that ordinary tests share; each works in a tenant of its own.
pub async fn shared() -> &'static Server {
    SHARED
        .get_or_init(async || {
            // A static is never dropped: the attendant removes the folder.
            let folder = tempfile::tempdir().unwrap().keep();
            thimble(["serve", "--dev"]).folder(&folder).variable("REMOVE", &folder.to_string_lossy()).launch().await
        })
        .await
}

/// The command `thimble` with these arguments.
pub fn thimble<const N: usize>(arguments: [&str; N]) -> Command {
    Command {
        arguments: arguments.map(String::from).into(),
        folder: None,
        temporary: None,
        variables: Vec::new(),
        settings: String::new(),
        about_sqlite: false,
    }
}

/// A call of the binary that is about to be made.
pub struct Command {
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    temporary: Option<TempDir>,
    variables: Vec<(String, String)>,
    settings: String,
    about_sqlite: bool,
}

impl Command {
    /// More arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The working directory, which is also where a server keeps its data (in `data`); else a fresh one.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A variable of the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The text of `thimble.toml` in the working directory.
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = toml.into();
        self
    }

    /// Says that the test is about SQLite's file: then the server uses it also when the tests run on Postgres.
    pub fn on_sqlite(mut self) -> Self {
        self.about_sqlite = true;
        self
    }

    /// Starts a server on a free port and waits until it is ready.
    ///
    /// Compiling the engine takes seconds of all cores, so a new folder starts with what the shared server has compiled,
    /// and with the key by which a node knows its own native code.
    pub async fn serve(mut self) -> Server {
        if self.folder.is_none() {
            self.temporary = Some(tempfile::tempdir().unwrap());
            self.folder = self.temporary.as_ref().map(|folder| folder.path().into());
        }
        bring_engine(&self.folder.as_ref().unwrap().join("data")).await;
        self.launch().await
    }

    async fn launch(mut self) -> Server {
        let folder = self.folder.clone().unwrap();
        let data = folder.join("data");
        if store::is_postgres() && !self.about_sqlite && !self.arguments.iter().any(|argument| argument == "--database")
        {
            store::bring_master_key(&data);
            self.arguments.extend(["--database".into(), store::database_of(&folder).await]);
            // A server that is started again keeps the settings it had.
            let has_settings = self.settings.is_empty() && folder.join("thimble.toml").exists();
            if !has_settings && !self.settings.contains("[database]") {
                self.settings = format!("{}\n{}", self.settings, store::PATIENT);
            }
        }
        if !self.arguments.iter().any(|argument| argument == "--listen") {
            self.arguments.extend(["--listen", "127.0.0.1:0"].map(String::from));
        }
        let mut process = self.start(true);

        let url = eventually("the server prints its address", async || {
            assert!(process.exit().is_none(), "the server ended: {}", process.output());
            address(&process.output())
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        eventually("the server is ready", async || {
            assert!(process.exit().is_none(), "the server ended: {}", process.output());
            http.get(format!("{url}/readyz")).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;

        let pid = process.output().lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).unwrap();
        Server { url, pid, data, process }
    }

    /// Runs the command to its end.
    pub async fn run(self) -> Finished {
        let started = Instant::now();
        let mut process = self.start(false);
        let status = process.ended().await;
        Finished { code: status.code(), output: process.output(), took: started.elapsed() }
    }

    fn start(mut self, data: bool) -> Process {
        let temporary = self.temporary.take().unwrap_or_else(|| tempfile::tempdir().unwrap());
        let folder = self.folder.take().unwrap_or_else(|| temporary.path().into());
        if data && !self.arguments.iter().any(|argument| argument == "--data") {
            self.arguments.extend(["--data".into(), folder.join("data").to_string_lossy().into_owned()]);
        }
        if !self.settings.is_empty() {
            std::fs::write(folder.join("thimble.toml"), self.settings).unwrap();
        }

        let mut command = std::process::Command::new("sh");
        command.args(["-c", ATTENDED, "sh", env!("CARGO_BIN_EXE_thimble")]).args(self.arguments).current_dir(&folder);
        // What whoever runs the tests has set for a server of their own must not reach this one.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("THIMBLE_") && name_text != "THIMBLE_BIN" || name_text == "DATABASE_URL" {
                command.env_remove(&name);
            }
        }
        command.env("HOME", &folder).env("XDG_CONFIG_HOME", folder.join("config")).envs(self.variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let mut child = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let readers = [
            collect(child.stdout.take().unwrap(), output.clone()),
            collect(child.stderr.take().unwrap(), output.clone()),
        ];
        Process { child, output, readers: Some(readers), _temporary: temporary }
    }
}

/// Puts the engine that the shared server has compiled into a data folder that has none.
pub async fn bring_engine(data: &Path) {
    let (compiled, store) = (shared().await.data.join("store"), data.join("store"));
    if store.exists() {
        return;
    }
    std::fs::create_dir_all(store.join("native")).unwrap();
    std::fs::copy(compiled.join("node.key"), store.join("node.key")).unwrap();
    for file in std::fs::read_dir(compiled.join("native")).unwrap().map(Result::unwrap) {
        if file.file_name().to_string_lossy().starts_with("engine-") {
            std::fs::copy(file.path(), store.join("native").join(file.file_name())).unwrap();
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output and standard error.
    pub output: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// The output of a command that has to succeed.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "the command failed: {}", self.output);
        self.output
    }

    /// The output of a command that has to fail, which is never by a panic.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(matches!(self.code, Some(1..=100)), "expected a failure, got {:?}: {}", self.code, self.output);
        assert!(!self.output.contains("panicked"), "the command panicked: {}", self.output);
        self.output
    }
}

/// A running server, which ends with this value.
pub struct Server {
    /// Where it listens, without a slash at the end.
    pub url: String,
    /// Its process id.
    pub pid: u32,
    /// The folder with its data.
    pub data: PathBuf,
    process: Process,
}

impl Server {
    /// What it has written so far, to standard output and standard error.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Whether it still runs, and no request has made it panic.
    pub fn is_well(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists() && !self.output().contains("panicked")
    }

    /// Sends a signal, as `kill` names it.
    pub fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill").args([format!("-{name}"), self.pid.to_string()]).status();
        assert!(status.unwrap().success(), "cannot send SIG{name} to the server");
    }

    /// Waits for the end of a server that was told to end.
    pub async fn ended(mut self) -> Finished {
        let started = Instant::now();
        let status = self.process.ended().await;
        Finished { code: status.code(), output: self.output(), took: started.elapsed() }
    }

    /// Ends it as an operator does, and waits for that.
    pub async fn stop(self) {
        self.signal("TERM");
        self.ended().await.succeeded();
    }
}

/// A child that is killed when this is dropped, or when the tests end in any other way.
struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Option<[std::thread::JoinHandle<()>; 2]>,
    _temporary: TempDir,
}

impl Process {
    fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    async fn ended(&mut self) -> ExitStatus {
        let status = eventually("the command ends", async || self.exit()).await;
        for reader in self.readers.take().into_iter().flatten() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing its input makes the attendant kill the command; waiting makes sure that its port and folder are free.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            output.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn address(output: &str) -> Option<String> {
    let start = output.find("http://127.0.0.1:")?;
    let port: String = output[start + "http://127.0.0.1:".len()..].chars().take_while(char::is_ascii_digit).collect();
    // The line may not have come in as a whole yet; a port is followed by something.
    let is_whole = output[start..].contains(char::is_whitespace);
    (is_whole && port != "0").then(|| format!("http://127.0.0.1:{port}"))
}
