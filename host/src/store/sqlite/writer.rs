//! The one connection that writes, and the task that owns it.
//!
//! A commit waits for the disk, so changes that wait at the same time are committed together: each in a savepoint of its own,
//! so that one that fails leaves the others as they are, and each answered when all of them are on the disk. Because nobody
//! else holds the connection, a caller that goes away leaves no transaction behind.
//!
//! Tenants take turns by the time that their changes take, and no transaction goes on for long: who changes much and slowly
//! holds up nobody else's small change.

use std::{
    collections::VecDeque,
    fs::{self, File},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::{Result, file};
use crate::{fair::Fair, store::StoreError};

/// At most this many changes in one transaction.
const MAX_TOGETHER: usize = 256;

/// No change begins after this time in the transaction of others.
pub const MAX_TIME: Duration = Duration::from_millis(10);

/// Whose turn it is when the server itself changes something.
const SERVER: &str = "";

/// Bytes from which on the write-ahead log is emptied even if that means to wait for readers.
const LONG_LOG: u64 = 16 << 20;

/// Where changes are handed in.
pub struct Writer {
    line: Arc<Line>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The changes that wait. There are never more than callers, who wait as well.
#[derive(Default)]
struct Line {
    changes: Mutex<Changes>,
    something: Notify,
}

/// A change and the tenant whose turn it is.
type Next = (Arc<str>, Box<dyn Waiting>);

#[derive(Default)]
struct Changes {
    of_tenants: Fair<VecDeque<Next>>,
    closed: bool,
}

impl Writer {
    /// Takes over the connection, and the lock that the file is held with as long as it is open. `max_time`: see [`MAX_TIME`].
    pub fn start(connection: SqliteConnection, path: &Path, lock: File, max_time: Duration) -> Self {
        let line = Arc::new(Line::default());
        let (waiting, log) = (line.clone(), file::beside(path, "-wal"));
        let task = tokio::spawn(async move {
            let _ends = Ends(waiting.clone());
            work(connection, &waiting, log, max_time).await;
            drop(lock);
        });
        Self { line, task: Mutex::new(Some(task)) }
    }

    /// Makes a change of the server's own; when this returns it is on the disk, or nothing of it is.
    pub async fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.hand_in(SERVER, change, Manner::Together).await
    }

    /// The same for a tenant, when it is the tenant's turn.
    pub async fn write_for<T, F>(&self, tenant: &str, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.hand_in(tenant, change, Manner::Together).await
    }

    /// The same in a transaction of its own, because it may take long or end the whole transaction.
    pub async fn write_alone<T, F>(&self, tenant: &str, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.hand_in(tenant, change, Manner::Alone).await
    }

    /// Makes a change for a tenant and undoes it; what it would have done.
    pub async fn try_out<T, F>(&self, tenant: &str, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.hand_in(tenant, change, Manner::Undone).await
    }

    async fn hand_in<T, F>(&self, tenant: &str, change: F, manner: Manner) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.line.add(tenant, Box::new(Change { run: Some(change), manner, result: None, answer }))?;
        answered.await.map_err(|_| closed())?
    }

    /// Makes the changes that wait, takes no more, and closes the connection.
    pub async fn close(&self) {
        self.line.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It can only have failed by a panic, which has been reported.
            let _ = task.await;
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tenant: &str, change: Box<dyn Waiting>) -> Result<()> {
        let mut changes = self.lock();
        if changes.closed {
            return Err(closed());
        }
        changes.of_tenants.with(&tenant.into(), |waiting| waiting.push_back((tenant.into(), change)));
        drop(changes);
        self.something.notify_one();
        Ok(())
    }

    /// The change whose turn it is, with its tenant.
    fn next(&self) -> Option<Next> {
        self.lock().of_tenants.next(VecDeque::pop_front)
    }

    /// Waits for a change; `None` when there will be none any more. For the one who takes them.
    async fn wait(&self) -> Option<Next> {
        loop {
            let is_closed = {
                let mut changes = self.lock();
                if let Some(next) = changes.of_tenants.next(VecDeque::pop_front) {
                    return Some(next);
                }
                changes.closed
            };
            if is_closed {
                return None;
            }
            self.something.notified().await;
        }
    }

    fn charge(&self, tenant: &Arc<str>, took: Duration) {
        self.lock().of_tenants.charge(tenant, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn close(&self) {
        self.lock().closed = true;
        self.something.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.line.close();
    }
}

/// Held by the task: whoever still waits is told, however it ends.
struct Ends(Arc<Line>);

impl Drop for Ends {
    fn drop(&mut self) {
        let waiting = std::mem::replace(&mut *self.0.lock(), Changes { closed: true, ..Changes::default() });
        drop(waiting);
    }
}

/// How a change is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// With others in one transaction.
    Together,
    /// In a transaction of its own.
    Alone,
    /// With others, and nothing of it stays.
    Undone,
}

/// A change in the queue, whatever its result is.
#[async_trait]
trait Waiting: Send {
    /// Whether somebody still waits for the answer.
    fn is_wanted(&self) -> bool;
    /// Whether it has a transaction of its own.
    fn is_alone(&self) -> bool;
    /// Makes the change and keeps its result; an error says that it has to be undone.
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<()>;
    /// Answers with the result, or with why it could not be committed.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Change<T, F> {
    run: Option<F>,
    manner: Manner,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

#[async_trait]
impl<T, F> Waiting for Change<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn is_alone(&self) -> bool {
        self.manner == Manner::Alone
    }

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        // A mistake in one change must not end the task, and with it all writing. What the change has done is undone.
        let result = match AssertUnwindSafe(run(&mut *connection)).catch_unwind().await {
            Ok(result) => result,
            Err(_) => {
                // It may have been limited in time, which would hold for all that follows.
                connection.lock_handle().await?.remove_progress_handler();
                Err(panicked())
            }
        };
        match self.result.insert(result) {
            Ok(_) if self.manner == Manner::Undone => Err(StoreError::Conflict),
            Ok(_) => Ok(()),
            Err(error) => Err(same(error)),
        }
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let result = match (committed, self.result) {
            // What was refused by itself is told why, not what became of the others.
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => return,
        };
        // The caller may have gone away.
        let _ = self.answer.send(result);
    }
}

async fn work(mut connection: SqliteConnection, line: &Line, log: PathBuf, max_time: Duration) {
    let mut together = Vec::with_capacity(MAX_TOGETHER);
    let mut tried = Instant::now();
    let mut left = None;
    loop {
        let first = if left.is_some() { left.take() } else { line.wait().await };
        let Some(first) = first else { break };
        let committed = transaction(&mut connection, line, first, &mut together, &mut left, max_time).await;
        for change in together.drain(..) {
            change.answer(committed.as_ref().copied().map_err(same));
        }
        if let Err(error) = shorten(&mut connection, &log, &mut tried).await {
            tracing::warn!(?error, "the database's write-ahead log could not be emptied; it is tried again");
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(?error, "the database was not closed in order; nothing is lost");
    }
}

/// Makes changes in one transaction, and puts them into `together`. It is over afterwards, one way or the other. A change whose
/// turn it is and that needs a transaction of its own is `left`.
async fn transaction(
    connection: &mut SqliteConnection,
    line: &Line,
    first: Next,
    together: &mut Vec<Box<dyn Waiting>>,
    left: &mut Option<Next>,
    max_time: Duration,
) -> Result<()> {
    let began = Instant::now();
    let committed = async {
        let mut next = Some(first);
        // Several in one go: each of these is a way to the thread that has the database, and back.
        let mut between = "begin immediate; savepoint change";
        while let Some((tenant, change)) = next {
            let is_alone = change.is_alone();
            if is_alone && !together.is_empty() {
                *left = Some((tenant, change));
                break;
            }
            if change.is_wanted() {
                let started = Instant::now();
                let change = together.push_mut(change);
                execute(connection, between).await?;
                between = "release change; savepoint change";
                if let Err(error) = change.run(connection).await {
                    // SQLite gives up the whole transaction when the disk is full, or when a change took too long: then there is
                    // nothing to go back to.
                    execute(connection, "rollback to change").await.map_err(|_| ended(error))?;
                }
                line.charge(&tenant, started.elapsed());
            }
            let is_full = is_alone || together.len() >= MAX_TOGETHER || began.elapsed() >= max_time;
            next = if is_full { None } else { line.next() };
        }
        if together.is_empty() {
            return Ok(());
        }
        execute(connection, "release change; commit").await
    }
    .await;
    if committed.is_err() {
        // It says that there is no transaction when SQLite has ended it already.
        let _ = execute(connection, "rollback").await;
    }
    committed
}

/// What others are told when one change has ended the transaction of all: they only have to come again.
fn ended(error: StoreError) -> StoreError {
    if error.is_of_the_platform() {
        return error;
    }
    StoreError::Unavailable(sqlx::Error::Protocol(format!("a change of somebody else ended the transaction: {error}")))
}

/// SQLite begins the write-ahead log anew when no reader needs it, which may never be under load: then it would grow for ever.
/// Emptying it waits for the readers that are at work, and the next changes wait for it: so only a little, and not all the
/// time, until it is very long.
async fn shorten(connection: &mut SqliteConnection, log: &Path, tried: &mut Instant) -> Result<()> {
    let length = fs::metadata(log).map_or(0, |log| log.len());
    if length < LONG_LOG || tried.elapsed() < Duration::from_secs(1) {
        return Ok(());
    }
    if length < 2 * LONG_LOG {
        execute(connection, "pragma busy_timeout = 100").await?;
    }
    let emptied = execute(connection, "pragma wal_checkpoint(truncate)").await;
    execute(connection, "pragma busy_timeout = 5000").await?;
    *tried = Instant::now();
    emptied
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<()> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

/// The error once more, for the next of those it concerns.
fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::Full,
        StoreError::Unavailable(error) => StoreError::Unavailable(sqlx::Error::Protocol(error.to_string())),
        StoreError::Database(error) => StoreError::Database(sqlx::Error::Protocol(error.to_string())),
        other => StoreError::Invalid(other.to_string()),
    }
}

/// The panic itself is on standard error already.
fn panicked() -> StoreError {
    StoreError::Database(sqlx::Error::Protocol("a change of the database panicked".into()))
}

fn closed() -> StoreError {
    StoreError::Database(sqlx::Error::PoolClosed)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;

    async fn insert(writer: &Writer, number: i64, panics: bool) -> Result<()> {
        let insert = writer.write(move |db| {
            Box::pin(async move {
                sqlx::query("insert into numbers values (?)").bind(number).execute(&mut *db).await?;
                assert!(!panics, "a mistake in a change");
                Ok(())
            })
        });
        insert.await
    }

    #[tokio::test]
    async fn a_change_that_panics_is_undone_and_others_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.db");
        let mut connection =
            SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
        execute(&mut connection, "create table numbers (number integer)").await.unwrap();
        let writer = Writer::start(connection, &path, tempfile::tempfile().unwrap(), MAX_TIME);

        for _ in 0..3 {
            let together = (0..30).map(|number| insert(&writer, number, number % 3 == 0));
            for (number, result) in futures_util::future::join_all(together).await.into_iter().enumerate() {
                assert_eq!(result.is_ok(), number % 3 != 0, "{number}: {result:?}");
            }
        }

        let numbers = writer.write(|db| {
            Box::pin(async move {
                Ok(sqlx::query_scalar::<_, i64>("select number from numbers order by number").fetch_all(db).await?)
            })
        });
        let expected: Vec<i64> = (0..30).filter(|number| number % 3 != 0).flat_map(|number| [number; 3]).collect();
        assert_eq!(numbers.await.unwrap(), expected);
        writer.close().await;
    }
}
