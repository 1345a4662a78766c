//! A Postgres of the tests' own: found on this machine, started in a temporary folder, gone with the process that started it.
//!
//! Nothing listens on a port unless a test asks for it: connections go through a socket in the folder.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{Connection, Executor, PgConnection};

/// Makes a cluster, does what lines of the standard input ask for, and removes everything when there are no more of them: also
/// when whoever writes them was killed. Texts are sorted by the rules of English unless a query says otherwise, so that one
/// that does not say otherwise is found.
const ATTENDED: &str = r#"
cd "$FOLDER" || exit 1
make() { "$BIN/initdb" -D data -U thimble --auth=trust --encoding=UTF8 --locale=C --no-sync "$@" >>log 2>&1; }
start() { "$BIN/pg_ctl" -D data -l log -w -t 60 -o "$OPTIONS" start >>log 2>&1 </dev/null; }
make --locale-provider=icu --icu-locale=en-US || { rm -rf data; make; } || { cat log; exit 1; }
start || { cat log; exit 1; }
echo ready
while read -r command; do
    case "$command" in
    # Processes of one that was killed hold its memory for a moment.
    start) start || { sleep 1; start; } || { sleep 3; start; } ;;
    stop) "$BIN/pg_ctl" -D data -w -m fast stop >>log 2>&1 ;;
    kill) kill -KILL "$(head -n 1 data/postmaster.pid)" ;;
    esac
    echo ready
done
"$BIN/pg_ctl" -D data -w -m immediate stop >>log 2>&1
cd / && rm -rf "$FOLDER"
"#;

/// A database server.
pub struct Cluster {
    folder: PathBuf,
    port: Option<u16>,
    attendant: Mutex<(Child, BufReader<ChildStdout>)>,
    databases: AtomicU32,
}

impl Cluster {
    /// The one that all tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Cluster::start(None, &[]))).await.unwrap()
    }

    /// Starts one. With a port it listens there, on this machine only, instead of at a socket. Settings are `name=value`.
    pub fn start(port: Option<u16>, settings: &[&str]) -> Self {
        let tools = tools();
        let folder = tempfile::tempdir().unwrap().keep();
        let mut options = format!("-k '{}' -c listen_addresses=''", folder.display());
        if let Some(port) = port {
            options = format!("-k '' -c listen_addresses=127.0.0.1 -p {port}");
        }
        // What the tests do not look at would only make them slower.
        for setting in ["fsync=off", "full_page_writes=off", "max_connections=300"].iter().chain(settings) {
            options += &format!(" -c {setting}");
        }
        let mut command = Command::new("sh");
        command.args(["-c", ATTENDED]).env("BIN", tools).env("FOLDER", &folder).env("OPTIONS", options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C ends the tests, and only then the attendant: by the end of its input.
        command.process_group(0);
        if let Some((user, group)) = another_user() {
            chown(&folder, Some(user), Some(group)).unwrap();
            command.uid(user).gid(group);
        }
        let mut attendant = command.spawn().unwrap();
        let output = BufReader::new(attendant.stdout.take().unwrap());
        let cluster = Self { folder, port, attendant: Mutex::new((attendant, output)), databases: AtomicU32::new(0) };
        cluster.wait();
        cluster
    }

    /// The URL of a database, whether it is there or not.
    pub fn url(&self, database: &str) -> String {
        match self.port {
            Some(port) => format!("postgres://thimble@127.0.0.1:{port}/{database}"),
            None => format!("postgres://thimble@localhost/{database}?host={}", self.folder.display()),
        }
    }

    /// A new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("create database {name}")).await;
        name
    }

    /// Removes a database, whoever is connected to it.
    pub async fn remove(&self, database: &str) {
        self.execute(&format!("drop database {database} with (force)")).await;
    }

    /// Ends it as an operator does.
    pub fn stop(&self) {
        self.ask("stop");
    }

    /// Starts it again.
    pub fn restart(&self) {
        self.ask("start");
    }

    /// Ends it as a crash does.
    pub fn kill(&self) {
        self.ask("kill");
    }

    async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    fn ask(&self, command: &str) {
        let line = format!("{command}\n");
        self.attendant.lock().unwrap().0.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        self.wait();
    }

    /// Waits until the attendant has done what it was asked for.
    fn wait(&self) {
        let mut output = String::new();
        let attendant = &mut self.attendant.lock().unwrap().1;
        while !output.ends_with("ready\n") {
            assert!(attendant.read_line(&mut output).unwrap() > 0, "PostgreSQL does not start: {output}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut attendant = self.attendant.lock().unwrap();
        drop(attendant.0.stdin.take());
        drop(attendant.0.wait());
    }
}

/// The folder with PostgreSQL's programs, the newest of them where there are several.
fn tools() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Where Debian, Red Hat and Homebrew (on its two kinds of machines) put them: not on the PATH.
    for (parent, name, bin) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
    ] {
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_prefix(name)?.parse().ok()?;
                Some((version, entry.path().join(bin)))
            })
            .collect();
        found.sort();
        folders.extend(found.into_iter().rev().map(|(_, folder)| folder));
    }
    let has = |folder: &Path| ["initdb", "pg_ctl", "postgres"].iter().all(|tool| folder.join(tool).is_file());
    folders.into_iter().find(|folder| has(folder)).expect(
        "these tests need PostgreSQL 14 or newer: install it with `apt-get install postgresql` (Debian, Ubuntu), \
         `dnf install postgresql-server` (Fedora) or `brew install postgresql@17` (macOS)",
    )
}

/// Postgres refuses to run as root: then it runs as its own user, or as one that may do nothing.
fn another_user() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user called postgres or nobody"))
}
