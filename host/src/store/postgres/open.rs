//! Opening the database: waiting until it is there, bringing it up to date, and the pool of connections.

use std::{
    borrow::Cow,
    fmt::Display,
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time;

use super::{Result, errors};
use crate::{
    config::Database,
    store::{Migrated, StoreError},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The oldest version of Postgres that works, as the server tells it.
const OLDEST: i32 = 14_00_00;

/// A connection that nobody has used for this long is asked whether it is still there.
const TESTED_AFTER: Duration = Duration::from_secs(1);

/// Where a URL points, for messages: never with what stands before the `@`.
pub struct Place(String);

impl Place {
    fn of(options: &PgConnectOptions) -> Self {
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        Self(match options.get_socket() {
            Some(socket) => format!("{database} at {}", socket.display()),
            None => format!("{database} at {}:{}", options.get_host(), options.get_port()),
        })
    }

    /// Why it cannot be used, as the end of a sentence about it.
    pub fn unusable(&self, why: impl Display) -> StoreError {
        StoreError::Unusable(format!("the database {} {why}", self.0))
    }
}

/// Brings the database up to date and returns connections to it.
pub async fn open(url: &str, settings: &Database) -> Result<PgPool> {
    bring_up_to_date(url, settings).await?;
    let options = options(url)?;
    let milliseconds = |time: u64| format!("{time}ms");
    let options = options.options([
        ("statement_timeout", milliseconds(settings.statement_ms)),
        ("lock_timeout", milliseconds(settings.lock_ms)),
        ("idle_in_transaction_session_timeout", milliseconds(settings.idle_in_transaction_ms)),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(Duration::from_millis(settings.acquire_ms))
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TESTED_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
    Ok(pool.connect_lazy_with(options))
}

/// Brings the tables of the database up to date. It may still be starting, and is waited for.
pub async fn bring_up_to_date(url: &str, settings: &Database) -> Result<Migrated> {
    let Alone { place, version, mut connection } = Alone::open(url, settings).await?;
    migrate(&mut connection, &place, known()).await?;
    connection.close().await.map_err(|error| place.unusable(errors::reason(&error)))?;
    Ok(Migrated { from: version, to: known() })
}

/// A connection by itself, without limits of time.
pub struct Alone {
    /// Where it leads.
    pub place: Place,
    /// The version of the tables that were found; 0 when there are none.
    pub version: i64,
    /// For whatever is to be done.
    pub connection: PgConnection,
}

impl Alone {
    /// Connects to a database that can be used, and changes nothing.
    pub async fn open(url: &str, settings: &Database) -> Result<Self> {
        let options = options(url)?.options([
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
        ]);
        let place = Place::of(&options);
        let mut connection = connect(&options, &place, Duration::from_secs(settings.start_wait_s)).await?;
        let version = check(&mut connection, &place).await?;
        Ok(Self { place, version, connection })
    }

    /// Brings the tables to a version, or to the one before it that there is.
    pub async fn migrate(&mut self, version: i64) -> Result<()> {
        migrate(&mut self.connection, &self.place, version).await
    }
}

fn options(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        // Its text never repeats the URL, which may hold a password.
        StoreError::Unusable(format!(
            "the URL of the database cannot be read ({}): write postgres://user:password@host:5432/database",
            errors::reason(&error)
        ))
    })?;
    Ok(options
        .application_name("thimble")
        // An acknowledged change has to survive a power cut, whatever the database's own setting is. The expressions of filters
        // are small, and compiling them takes longer than running them.
        .options([("synchronous_commit", "on"), ("jit", "off"), ("default_transaction_isolation", "read\\ committed")])
        .disable_statement_logging())
}

/// Connects; tries again for some time while the database is starting or cannot be reached.
async fn connect(options: &PgConnectOptions, place: &Place, wait: Duration) -> Result<PgConnection> {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(50));
    loop {
        let attempt = time::timeout(Duration::from_secs(5), options.connect());
        let error = match attempt.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if !errors::is_away(&error) || begun.elapsed() >= wait {
            return Err(place.unusable(errors::reason(&error)));
        }
        if pause < Duration::from_millis(100) {
            tracing::warn!(cause = errors::reason(&error), "waiting for the database {}", place.0);
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Refuses a database that cannot keep what is to be kept, or that a newer Thimble has changed. Returns the version of its tables.
async fn check(connection: &mut PgConnection, place: &Place) -> Result<i64> {
    let about = "select current_setting('server_version_num')::integer, current_setting('server_encoding')";
    let about = sqlx::query_as(about).fetch_one(&mut *connection).await;
    let (version, encoding): (i32, String) = about.map_err(|error| place.unusable(errors::reason(&error)))?;
    if version < OLDEST {
        let (version, oldest) = (version / 10_000, OLDEST / 10_000);
        return Err(place.unusable(format_args!("runs on PostgreSQL {version}: {oldest} or a newer one is needed")));
    }
    if encoding != "UTF8" {
        return Err(place.unusable(format_args!(
            "has the encoding {encoding}: make one with `createdb --encoding=UTF8 --template=template0 NAME`"
        )));
    }
    let newest = newest(connection).await.map_err(|error| place.unusable(errors::reason(&error)))?;
    if newest > known() { Err(newer(place, newest)) } else { Ok(newest) }
}

/// The version of the tables; 0 when there are none.
async fn newest(connection: &mut PgConnection) -> sqlx::Result<i64> {
    let is_there = "select to_regclass('_sqlx_migrations') is not null";
    if !sqlx::query_scalar::<_, bool>(is_there).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations").fetch_one(connection).await
}

/// The version of the tables that this Thimble makes.
pub fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Takes an advisory lock first: of several nodes that start at once, one migrates and the others wait for it. Each migration
/// is a transaction, so one that is interrupted has changed nothing.
async fn migrate(connection: &mut PgConnection, place: &Place, version: i64) -> Result<()> {
    let migrations = MIGRATIONS.iter().filter(|migration| migration.version <= version).cloned().collect();
    let migrations = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
    migrations.run_direct(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => newer(place, version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            place.unusable(errors::reason(&error))
        }
        error => place.unusable(format_args!("cannot be brought up to date: {error}")),
    })
}

fn newer(place: &Place, version: i64) -> StoreError {
    place.unusable(format_args!(
        "was made by a newer Thimble (its tables are version {version}, this Thimble knows {}): \
         use that one, or a backup from before it",
        known()
    ))
}
