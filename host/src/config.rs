//! What the operator may set.
//!
//! `config.default.toml` holds every setting with its default and is part of the binary; `thimble.toml`, the environment and
//! the flags change what they name. A setting that does not exist is refused, so that a misspelt one is never silently
//! ignored. Messages name the file and the setting, but never repeat what stands there: it may be a password.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::{
    dispatcher::EventsConfig,
    edge::client_address::TrustedProxies,
    outgoing::FetchConfig,
    quota::{FunctionQuota, TenantQuota},
    runtime::{RuntimeConfig, component::CompileConfig, limits::Limits},
    store,
    trigger::schedule::TasksConfig,
};

/// Every setting with its default and the reason for it.
const DEFAULTS: &str = include_str!("../config.default.toml");

/// The file that is read from the working directory when no other is named.
const FILE: &str = "thimble.toml";

/// The settings of one server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens and keeps its files.
    pub server: Server,
    /// Which database it uses.
    pub database: Database,
    /// Sign-up, passwords and sessions.
    pub accounts: AccountsConfig,
    /// What one run or upload may use.
    pub limits: Limits,
    /// What one function may use.
    pub function: FunctionQuota,
    /// What one tenant may use.
    pub tenant: TenantQuota,
    /// What becomes of events whose functions fail.
    pub events: EventsConfig,
    /// Sizes of the runtime.
    pub runtime: RuntimeConfig,
    /// How components are compiled.
    pub compile: CompileConfig,
    /// How tasks and jobs are done.
    pub tasks: TasksConfig,
    /// How other servers may be called.
    pub fetch: FetchConfig,
    /// Bounds of realtime connections.
    pub realtime: RealtimeConfig,
    /// How mail leaves.
    pub mail: MailConfig,
    /// How long runs are kept.
    pub runs: RunsConfig,
}

/// Where the server listens and keeps its files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// Folder for everything that is kept.
    pub data: PathBuf,
    /// Development mode: well-known keys, open sign-up, loopback only.
    pub dev: bool,
    /// Public address without a slash at its end; may be empty.
    pub url: String,
    /// Open connections of all kinds.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_per_address: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Bytes of all requests' bodies that are under way.
    pub body_bytes: usize,
}

/// Which database the server uses.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Empty for SQLite in the data folder.
    pub url: String,
    /// Connections to Postgres.
    pub connections: u32,
    /// Milliseconds that a request waits for one of them.
    pub acquire_ms: u64,
    /// Milliseconds of one statement.
    pub statement_ms: u64,
    /// Milliseconds that a statement waits for what another transaction holds.
    pub lock_ms: u64,
    /// Milliseconds that a transaction may do nothing.
    pub idle_in_transaction_ms: u64,
    /// Seconds that a start waits for the database.
    pub start_wait_s: u64,
}

/// Sign-up, passwords and sessions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountsConfig {
    /// Whether anybody may create an app.
    pub open: bool,
    /// Fewest characters of a password.
    pub password_min: usize,
    /// Most characters of a password.
    pub password_max: usize,
    /// Hours until a session token ends.
    pub session_hours: u64,
}

/// Bounds of realtime connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealtimeConfig {
    /// Messages that wait for a slow reader.
    pub queue: usize,
    /// Bytes of all messages that wait.
    pub unread_bytes: usize,
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Channels that one connection may join.
    pub channels: usize,
    /// Messages a second from one connection …
    pub messages_per_second: u32,
    /// … and how many may come at once.
    pub burst: u32,
    /// Open realtime connections of the server.
    pub connections: usize,
    /// Of these, of one app.
    pub connections_per_app: usize,
    /// Of these, from one address.
    pub connections_per_address: usize,
}

/// How mail leaves.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// URL of the SMTP server; `None` when none is set.
    #[serde(deserialize_with = "none_when_empty")]
    pub smtp: Option<String>,
    /// Sender's address of mail that names none.
    pub from: String,
    /// Sender's name of mail that names none.
    pub from_name: String,
    /// Mails an hour that one address may get from one tenant.
    pub hourly_per_address: usize,
}

/// How long runs are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunsConfig {
    /// Runs of one function.
    pub keep: u32,
    /// Days.
    pub days: u32,
}

/// Settings that came with flags or the environment; they win over files.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `server.dev`, when the flag is there.
    pub dev: bool,
    /// `server.listen`.
    pub listen: Option<SocketAddr>,
    /// `server.data`.
    pub data: Option<PathBuf>,
    /// `database.url`.
    pub database: Option<String>,
    /// `mail.smtp`.
    pub smtp: Option<String>,
    /// More places for `fetch.allow`.
    pub fetch_allow: Vec<String>,
}

impl Config {
    /// The defaults, then `file` (or `thimble.toml` in the working directory, if there is one), then `overrides`.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<Self> {
        let file = match file {
            Some(file) => Some(file),
            None => Some(Path::new(FILE)).filter(|file| file.exists()),
        };
        let given = match file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => String::new(),
        };
        let name = file.map_or_else(|| FILE.to_owned(), |file| file.display().to_string());
        let mut config = Self::from_toml(&name, &given)?;
        config.apply(overrides);
        config.validate()?;
        Ok(config)
    }

    /// The defaults with what `given`, the text of a file called `name`, changes of them.
    pub fn from_toml(name: &str, given: &str) -> anyhow::Result<Self> {
        let mut settings = parse("config.default.toml", DEFAULTS)?;
        merge(&mut settings, parse(name, given)?, "").with_context(|| name.to_owned())?;
        Self::deserialize(Value::Table(settings))
            .map_err(|error| anyhow!("{name}: a setting cannot be used: {}", error.to_string().trim_end()))
    }

    /// The database's URL, or the path of its file in the data folder.
    pub fn database_url(&self) -> String {
        match self.database.url.as_str() {
            "" => self.server.data.join("thimble.db").display().to_string(),
            url => url.to_owned(),
        }
    }

    fn apply(&mut self, overrides: Overrides) {
        let Overrides { dev, listen, data, database, smtp, fetch_allow } = overrides;
        self.server.dev |= dev;
        if let Some(listen) = listen {
            self.server.listen = listen;
        }
        if let Some(data) = data {
            self.server.data = data;
        }
        if let Some(database) = database {
            self.database.url = database;
        }
        if smtp.is_some() {
            self.mail.smtp = smtp.filter(|url| !url.is_empty());
        }
        self.fetch.allow.extend(fetch_allow);
        self.server.url.truncate(self.server.url.trim_end_matches('/').len());
    }

    /// Refuses what would only fail later, or fail open.
    fn validate(&self) -> anyhow::Result<()> {
        let Server { listen, url, .. } = &self.server;
        ensure!(
            !self.server.dev || listen.ip().is_loopback(),
            "development mode uses well-known keys and therefore listens on this machine only: \
             use 127.0.0.1 or [::1] instead of {listen}, or leave out `--dev`"
        );
        ensure!(
            url.is_empty() || url.starts_with("http://") || url.starts_with("https://"),
            "`server.url` is the public address of the server and starts with http:// or https://"
        );
        let database = &self.database.url;
        ensure!(
            database.starts_with("sqlite:") || store::is_postgres(database) || !database.contains("://"),
            "`database.url` (or --database, THIMBLE_DATABASE, DATABASE_URL) names a database that this version cannot use: \
             give postgres://user:password@host/database, or a path for SQLite, or leave it empty for SQLite in the data folder"
        );
        let accounts = &self.accounts;
        ensure!(
            accounts.password_min <= accounts.password_max,
            "`accounts.password_min` ({}) is larger than `accounts.password_max` ({})",
            accounts.password_min,
            accounts.password_max
        );
        for (setting, value, range) in self.ranges() {
            let (lowest, highest) = range;
            ensure!(
                (lowest..=highest).contains(&value),
                "`{setting}` is {value}: give a number from {lowest} to {highest}"
            );
        }
        Ok(())
    }

    /// The numbers that would stop the server from working when they are too small or too large.
    fn ranges(&self) -> Vec<(&'static str, u64, (u64, u64))> {
        const ANY: (u64, u64) = (1, i64::MAX as u64);
        const BYTES: (u64, u64) = (1, 1 << 30);
        const MILLISECONDS: (u64, u64) = (1, 24 * 3_600 * 1_000);
        const COUNT: (u64, u64) = (1, 1_000_000);
        let Self {
            server,
            database,
            accounts,
            limits,
            function,
            tenant,
            runtime,
            compile,
            tasks,
            fetch,
            realtime,
            mail,
            runs,
            ..
        } = self;
        vec![
            ("server.connections", server.connections as u64, COUNT),
            ("server.connections_per_address", server.connections_per_address as u64, COUNT),
            // A client has a quarter of it, in which the largest upload has to fit.
            ("server.body_bytes", server.body_bytes as u64, (64 << 20, 1 << 40)),
            ("database.connections", u64::from(database.connections), (2, 10_000)),
            ("database.acquire_ms", database.acquire_ms, MILLISECONDS),
            ("database.statement_ms", database.statement_ms, MILLISECONDS),
            ("database.lock_ms", database.lock_ms, MILLISECONDS),
            ("database.idle_in_transaction_ms", database.idle_in_transaction_ms, MILLISECONDS),
            ("database.start_wait_s", database.start_wait_s, (0, 24 * 3_600)),
            // Argon2 takes the whole password: a bound keeps one request from being expensive.
            ("accounts.password_min", accounts.password_min as u64, (1, 1_024)),
            ("accounts.password_max", accounts.password_max as u64, (1, 1_024)),
            ("accounts.session_hours", accounts.session_hours, (1, 24 * 366)),
            ("limits.fuel", limits.fuel, ANY),
            ("limits.wall_ms", limits.wall_ms, MILLISECONDS),
            // The engine's own image needs a few MiB, and a WebAssembly memory ends at 4 GiB.
            ("limits.memory", limits.memory as u64, (8 << 20, 4 << 30)),
            ("limits.log_bytes", limits.log_bytes as u64, BYTES),
            ("limits.log_lines", limits.log_lines as u64, COUNT),
            ("limits.log_line_bytes", limits.log_line_bytes as u64, BYTES),
            ("limits.error_bytes", limits.error_bytes as u64, BYTES),
            ("limits.result_bytes", limits.result_bytes as u64, BYTES),
            ("limits.reads", limits.reads, ANY),
            ("limits.writes", limits.writes, ANY),
            ("limits.bytes_written", limits.bytes_written, ANY),
            ("limits.messages", limits.messages, ANY),
            ("limits.mails", limits.mails, ANY),
            ("limits.jobs", limits.jobs, ANY),
            ("limits.fetches", limits.fetches, ANY),
            // Each step is kept in memory with the next.
            ("limits.chain_depth", u64::from(limits.chain_depth), (1, 1_000)),
            ("limits.chain_runs", limits.chain_runs, ANY),
            ("limits.chain_fuel", limits.chain_fuel, ANY),
            ("limits.source_bytes", limits.source_bytes as u64, BYTES),
            ("limits.upload_bytes", limits.upload_bytes as u64, BYTES),
            ("limits.delta_bytes", limits.delta_bytes as u64, BYTES),
            ("limits.load_wall_ms", limits.load_wall_ms, MILLISECONDS),
            ("function.concurrency", u64::from(function.concurrency), COUNT),
            ("function.rate", function.rate, ANY),
            ("function.fuel_per_day", function.fuel_per_day, ANY),
            ("function.versions", u64::from(function.versions), COUNT),
            ("tenant.concurrency", u64::from(tenant.concurrency), COUNT),
            ("tenant.rate", tenant.rate, ANY),
            ("tenant.fuel_per_day", tenant.fuel_per_day, ANY),
            ("tenant.functions", tenant.functions as u64, COUNT),
            ("tenant.compile_ms", tenant.compile_ms, ANY),
            // 4 GiB of address space each: more slots than this do not fit into 47 bits.
            ("runtime.slots", u64::from(runtime.slots), (1, 10_000)),
            ("runtime.queue", runtime.queue as u64, COUNT),
            ("runtime.queue_bytes", runtime.queue_bytes as u64, (1 << 20, 64 << 30)),
            ("runtime.wait_ms", runtime.wait_ms, MILLISECONDS),
            ("compile.wall_ms", compile.wall_ms, MILLISECONDS),
            ("compile.cpu_seconds", compile.cpu_seconds, (1, 3_600)),
            // Less than this does not even hold the program.
            ("compile.memory", compile.memory, (256 << 20, 64 << 30)),
            ("tenant.tasks", tenant.tasks, COUNT),
            ("tenant.jobs", tenant.jobs, COUNT),
            ("tenant.indexes", tenant.indexes, (0, 1_000)),
            ("tasks.least_every_s", tasks.least_every_s, (1, 24 * 3_600)),
            ("tasks.attempts", u64::from(tasks.attempts), (1, 100)),
            ("fetch.timeout_ms", fetch.timeout_ms, (1, 600_000)),
            ("fetch.request_bytes", fetch.request_bytes as u64, BYTES),
            ("fetch.response_bytes", fetch.response_bytes as u64, BYTES),
            ("fetch.redirects", fetch.redirects as u64, (1, 20)),
            ("fetch.concurrency", fetch.concurrency as u64, (1, 100_000)),
            ("realtime.queue", realtime.queue as u64, COUNT),
            ("realtime.unread_bytes", realtime.unread_bytes as u64, (1 << 20, 1 << 40)),
            ("realtime.message_bytes", realtime.message_bytes as u64, BYTES),
            ("realtime.channels", realtime.channels as u64, COUNT),
            ("realtime.messages_per_second", u64::from(realtime.messages_per_second), COUNT),
            ("realtime.burst", u64::from(realtime.burst), COUNT),
            ("realtime.connections", realtime.connections as u64, COUNT),
            ("realtime.connections_per_app", realtime.connections_per_app as u64, COUNT),
            ("realtime.connections_per_address", realtime.connections_per_address as u64, COUNT),
            ("mail.hourly_per_address", mail.hourly_per_address as u64, (1, 1_000)),
            ("runs.keep", u64::from(runs.keep), COUNT),
        ]
    }
}

/// Reads TOML; the error says where, but does not show the line, which may hold a password.
fn parse(name: &str, text: &str) -> anyhow::Result<Table> {
    text.parse::<Table>().map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow!("{name}, line {line}: this is not TOML: {}", error.message())
    })
}

/// Puts what `given` sets in the place of the defaults; refuses what has no default, and values of another type.
fn merge(settings: &mut Table, given: Table, section: &str) -> anyhow::Result<()> {
    let known: Vec<String> = settings.keys().map(|key| format!("`{section}{key}`")).collect();
    for (key, value) in given {
        let path = format!("{section}{key}");
        match (settings.get_mut(&key), value) {
            (None, _) => bail!("there is no setting `{path}`; there are {}", known.join(", ")),
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value, &format!("{path}."))?,
            (Some(Value::Table(_)), _) => bail!("`{path}` is a section: write [{path}] and its settings below it"),
            (Some(default), value) if default.same_type(&value) => *default = value,
            (Some(default), value) => {
                bail!("`{path}` is of type {}, but {} was given", default.type_str(), value.type_str())
            }
        }
    }
    Ok(())
}

fn none_when_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

// Both URLs may hold a password: their debug form says only whether they are set.

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &set(!self.url.is_empty())).finish_non_exhaustive()
    }
}

impl fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailConfig")
            .field("smtp", &set(self.smtp.is_some()))
            .field("from", &self.from)
            .field("from_name", &self.from_name)
            .field("hourly_per_address", &self.hourly_per_address)
            .finish()
    }
}

fn set(is_set: bool) -> &'static str {
    if is_set { "(set)" } else { "(not set)" }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn refusal(given: &str) -> String {
        match Config::from_toml("thimble.toml", given) {
            Ok(config) => format!("accepted: {config:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn the_defaults_are_complete_and_valid() {
        let config = Config::from_toml("thimble.toml", "").unwrap();

        config.validate().unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:8099".parse().unwrap());
        assert_eq!(config.limits.fuel, 5_000_000_000);
        assert_eq!(config.mail.smtp, None);
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let config = Config::from_toml("thimble.toml", "[limits]\nwall_ms = 100\n[mail]\nsmtp = 'smtp://a'").unwrap();

        assert_eq!(config.limits.wall_ms, 100);
        assert_eq!(config.limits.log_lines, 1_000);
        assert_eq!(config.mail.smtp.as_deref(), Some("smtp://a"));
    }

    #[test]
    fn overrides_win_over_the_file() {
        let mut config =
            Config::from_toml("thimble.toml", "[server]\nlisten = '127.0.0.1:1'\nurl='https://a/'").unwrap();

        config.apply(Overrides { listen: Some("127.0.0.1:2".parse().unwrap()), dev: true, ..Overrides::default() });

        assert_eq!(config.server.listen.port(), 2);
        assert!(config.server.dev);
        assert_eq!(config.server.url, "https://a");
    }

    #[test]
    fn an_unknown_setting_is_refused_with_its_name_and_the_known_ones() {
        let text = refusal("[server]\nlistn = '127.0.0.1:1'");

        assert!(text.contains("thimble.toml: there is no setting `server.listn`"), "{text}");
        assert!(text.contains("`server.listen`"), "{text}");
        assert!(refusal("[sever]\nlisten = '127.0.0.1:1'").contains("no setting `sever`"));
        assert!(refusal("server = 1").contains("`server` is a section"));
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_the_setting() {
        assert!(refusal("[limits]\nfuel = 'lots'").contains("`limits.fuel` is of type integer, but string was given"));
        let text = refusal("[server]\nlisten = 'localhost'");
        assert!(text.contains("server.listen") && text.contains("socket address"), "{text}");
        let text = refusal("[runs]\nkeep = -1");
        assert!(text.contains("runs.keep"), "{text}");
    }

    #[test]
    fn half_a_file_is_refused_with_its_line_and_without_its_text() {
        let text = refusal("[mail]\nfrom = 'a@b.c'\nsmtp = \"smtps://me:hunter2@host");

        assert!(text.contains("thimble.toml, line 3"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for given in ["[realtime]\nqueue = 0", "[limits]\nmemory = 1024", "[runtime]\nslots = 0"] {
            let config = Config::from_toml("thimble.toml", given).unwrap();
            let text = config.validate().unwrap_err().to_string();
            assert!(text.contains("give a number from"), "{text}");
        }
    }

    #[test]
    fn development_mode_stays_on_this_machine() {
        let mut config = Config::from_toml("thimble.toml", "[server]\ndev = true\nlisten = '0.0.0.0:80'").unwrap();
        assert!(config.validate().unwrap_err().to_string().contains("this machine only"));

        config.server.listen = "[::1]:80".parse().unwrap();
        config.validate().unwrap();
    }

    #[test]
    fn the_debug_form_holds_no_secret() {
        let urls = "[mail]\nsmtp = 'smtps://me:hunter2@host'\n[database]\nurl = 'postgres://me:hunter2@host/thimble'";
        let config = Config::from_toml("thimble.toml", urls).unwrap();

        config.validate().unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_database_that_cannot_be_used_is_refused_without_its_password() {
        let config = Config::from_toml("thimble.toml", "[database]\nurl = 'mysql://me:hunter2@host/thimble'").unwrap();

        let text = config.validate().unwrap_err().to_string();

        assert!(text.contains("database.url") && !text.contains("hunter2"), "{text}");
    }
}
