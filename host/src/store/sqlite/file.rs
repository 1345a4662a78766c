//! The database file: taken for this process, looked at before anything is changed, made when there is none, brought up to
//! date.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt::Display,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Result;
use crate::store::{Migrated, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read, for each kind of reading.
const READERS: u32 = 4;

/// Bytes that every SQLite file begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Files up to this many bytes are read as a whole at start, to find damage; larger ones would take too long.
const CHECKED: u64 = 64 << 20;

/// Bytes that the write-ahead log is cut to when it has been emptied.
const JOURNAL_SIZE_LIMIT: &str = "67108864";

/// The file that a URL or a path names.
pub fn path(url: &str) -> Result<PathBuf> {
    let path = match url.strip_prefix("sqlite:") {
        Some(path) => path.strip_prefix("//").unwrap_or(path),
        // The rest of a URL may hold a password.
        None => match url.split_once("://") {
            Some((scheme, _)) => {
                let error = format!("databases of the kind `{scheme}` are not supported: use sqlite:path/of/a/file");
                return Err(StoreError::Unusable(error));
            }
            None => url,
        },
    };
    if path.is_empty() {
        return Err(StoreError::Unusable("the database has no path: use sqlite:path/of/a/file".into()));
    }
    let path = PathBuf::from(path);
    // The same file under another name gets the same lock.
    Ok(path.canonicalize().unwrap_or(path))
}

/// Bytes of the file, without the write-ahead log.
pub async fn size(db: &mut SqliteConnection) -> Result<u64> {
    let size = "select page_count * page_size from pragma_page_count(), pragma_page_size()";
    let size: i64 = sqlx::query_scalar(size).fetch_one(db).await?;
    Ok(u64::try_from(size).unwrap_or_default())
}

/// A file whose name is longer at the end.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Takes the database for this process. It is given back when the file that is returned is dropped, also by a crash.
pub fn lock(path: &Path) -> Result<File> {
    let failed = |error: &dyn Display| unusable(path, format_args!("cannot be locked: {error}"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| unusable(path, format_args!("cannot be opened: its folder cannot be made: {error}")))?;
    }
    let lock = private(OpenOptions::new().write(true).create(true).truncate(false))
        .open(beside(path, ".lock"))
        .map_err(|error| failed(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(unusable(path, "is in use by another Thimble: stop that one first, or choose another data folder"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Opens the database with the connection that writes.
pub async fn open(path: &Path) -> Result<SqliteConnection> {
    if path.exists() {
        check(path).await?;
    } else {
        create(path).await?;
    }
    let mut writer = options(path).connect().await.map_err(|error| unusable(path, reason(&error)))?;
    migrate(path, &mut writer, known()).await?;
    Ok(writer)
}

/// Brings the tables of a database that nobody uses up to date.
pub async fn bring_up_to_date(url: &str) -> Result<Migrated> {
    let path = path(url)?;
    let _lock = lock(&path)?;
    let from = if path.exists() { check(&path).await? } else { 0 };
    let connection = open(&path).await?;
    connection.close().await.map_err(|error| unusable(&path, reason(&error)))?;
    Ok(Migrated { from, to: known() })
}

/// The version of the tables that this Thimble makes.
pub fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Copies a database, which others may use meanwhile, as it is at one moment, to a file that is there and empty.
///
/// The copy is what takes time afterwards, not the database: while somebody reads it, its write-ahead log only grows.
pub async fn copy(path: &Path, to: &Path) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(60));
    let mut connection = options.connect().await.map_err(|error| unusable(path, reason(&error)))?;
    let copied = sqlx::query("vacuum into ?").bind(to.display().to_string()).execute(&mut connection).await;
    copied.map_err(|error| unusable(path, format_args!("cannot be copied to `{}`: {error}", to.display())))?;
    connection.close().await.map_err(|error| unusable(path, reason(&error)))
}

/// Opens a connection that reads a copy.
pub async fn open_copy(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).immutable(true).read_only(true);
    options.connect().await.map_err(|error| unusable(path, reason(&error)))
}

/// Opens a few connections that only read, on a database that is open.
pub async fn readers(path: &Path) -> Result<SqlitePool> {
    let readers = SqlitePoolOptions::new().max_connections(READERS).min_connections(READERS);
    let readers = readers.connect_with(options(path).read_only(true)).await;
    readers.map_err(|error| unusable(path, reason(&error)))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
}

/// Refuses a file that is not a sound database of this or an earlier version, without changing it. Returns the version of its
/// tables.
pub async fn check(path: &Path) -> Result<i64> {
    let size = check_beginning(path)?;
    let failed = |error: sqlx::Error| unusable(path, reason(&error));
    let only_look = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = only_look.connect().await.map_err(failed)?;
    if size <= CHECKED {
        let found: String =
            sqlx::query_scalar("pragma quick_check(1)").fetch_one(&mut connection).await.map_err(failed)?;
        if found != "ok" {
            return Err(unusable(path, damaged(found)));
        }
    }
    let is_ours = "select exists (select 1 from sqlite_schema where name = '_sqlx_migrations')";
    let is_ours: bool = sqlx::query_scalar(is_ours).fetch_one(&mut connection).await.map_err(failed)?;
    if !is_ours {
        return Err(unusable(path, "was not made by Thimble: choose another file"));
    }
    let newest = "select coalesce(max(version), 0) from _sqlx_migrations";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut connection).await.map_err(failed)?;
    let known = known();
    if newest > known {
        let newer = format_args!(
            "was made by a newer Thimble (its tables are version {newest}, this Thimble knows {known}): \
             use that one, or a backup from before it"
        );
        return Err(unusable(path, newer));
    }
    connection.close().await.map_err(failed)?;
    Ok(newest)
}

/// What SQLite would take for a new database, or report without saying which file.
fn check_beginning(path: &Path) -> Result<u64> {
    let failed = |error: io::Error| unusable(path, format_args!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(unusable(path, "is a folder: name a file in it"));
    }
    if about.len() == 0 {
        return Err(unusable(path, damaged("it is empty")));
    }
    let mut beginning = Vec::with_capacity(MAGIC.len());
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut beginning).map_err(failed)?;
    if beginning != MAGIC {
        return Err(unusable(
            path,
            "is not a SQLite database, or its beginning is damaged: restore a backup, or choose another file",
        ));
    }
    Ok(about.len())
}

async fn create(path: &Path) -> Result<()> {
    let mut new = New::begin(path).await?;
    new.migrate(known()).await?;
    new.finish().await
}

/// A database that is made under another name first, so that there never is half of one: an empty file is always damage.
pub struct New {
    path: PathBuf,
    /// For whoever fills it.
    pub connection: SqliteConnection,
}

impl New {
    /// A file without tables beside `path`, where there is none.
    pub async fn begin(path: &Path) -> Result<Self> {
        let failed = |error: &dyn Display| unusable(path, format_args!("cannot be made: {error}"));
        let log = beside(path, "-wal");
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            // SQLite would take it for the log of the new file.
            let lost =
                format_args!("is gone, but its log `{}` is there: bring it back, or move the log away", log.display());
            return Err(unusable(path, lost));
        }
        Self::remove(path).map_err(|error| failed(&error))?;
        let new = beside(path, NEW);
        private(OpenOptions::new().write(true).create_new(true)).open(&new).map_err(|error| failed(&error))?;
        let connection = options(&new).connect().await.map_err(|error| unusable(path, reason(&error)))?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// Removes what somebody has begun to make at `path` who is gone.
    pub fn remove(path: &Path) -> io::Result<()> {
        let new = beside(path, NEW);
        for left_over in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(beside(&new, left_over)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Brings the tables to a version, or to the one before it that there is.
    pub async fn migrate(&mut self, version: i64) -> Result<()> {
        migrate(&self.path, &mut self.connection, version).await
    }

    /// Gives it its name.
    pub async fn finish(self) -> Result<()> {
        let Self { path, connection } = self;
        let failed = |error: io::Error| unusable(&path, format_args!("cannot be made: {error}"));
        connection.close().await.map_err(|error| unusable(&path, reason(&error)))?;
        let new = beside(&path, NEW);
        File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        sync_folder(&path).map_err(failed)
    }
}

/// End of the name of a database that is being made.
const NEW: &str = ".new";

async fn migrate(path: &Path, connection: &mut SqliteConnection, version: i64) -> Result<()> {
    let migrations = MIGRATIONS.iter().filter(|migration| migration.version <= version).cloned().collect();
    let migrations = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
    migrations.run_direct(connection).await.map_err(|error| {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<sqlx::Error>());
        match cause {
            Some(cause) => unusable(path, reason(cause)),
            None => unusable(path, format_args!("cannot be brought up to date: {error}")),
        }
    })
}

/// So that the new name is still there after a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Only the server's user may read what is in the database.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// What SQLite's error means for a file that is being opened (<https://www.sqlite.org/rescode.html>).
fn reason(error: &sqlx::Error) -> String {
    let extended = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    let text = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    match extended.map(|code| code & 0xff) {
        Some(3 | 8 | 14) => format!("cannot be written: {text}; check who owns the file and its folder"),
        Some(5 | 6) => format!("is in use by another program: {text}"),
        Some(10) => format!("cannot be read or written: {text}"),
        Some(11 | 26) => damaged(text),
        Some(13) => "cannot be written: the disk is full".into(),
        _ => format!("cannot be opened: {text}"),
    }
}

fn damaged(how: impl Display) -> String {
    format!("is damaged ({how}): restore a backup, or choose another file; it has been left as it is")
}

fn unusable(path: &Path, why: impl Display) -> StoreError {
    StoreError::Unusable(format!("the database `{}` {why}", path.display()))
}
