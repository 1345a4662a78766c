//! What the rows of tables mean: columns have the same names in every store.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type, postgres::PgRow, sqlite::SqliteRow};

use super::columns::from_micros;
use crate::{
    document::Document,
    function::{COMPONENT, Code, Delivery, Function, Version},
    mail::{Mail, QueuedMail},
    run::{Outcome, Run},
    statistics::{Failure, RunFigures},
    task::{CatchUp, Job, JobState, Task, TaskKind, TaskOutcome, TaskRun},
    usage::{KeptUsage, Used},
    user::{Tenant, User},
};

/// Reads a type from the rows of every store.
macro_rules! from_rows {
    ($($type:ty: $row:ident => $read:expr;)+) => {$(
        impl FromRow<'_, SqliteRow> for $type {
            fn from_row($row: &SqliteRow) -> sqlx::Result<Self> {
                $read
            }
        }

        impl FromRow<'_, PgRow> for $type {
            fn from_row($row: &PgRow) -> sqlx::Result<Self> {
                $read
            }
        }
    )+};
}

/// A document and where it is in the table.
pub struct Kept {
    /// The order of creation.
    pub seq: i64,
    /// The document.
    pub document: Document,
}

from_rows! {
    Kept: row => Ok(Self {
        seq: row.try_get("seq")?,
        document: Document {
            id: row.try_get("id")?,
            account: row.try_get("account")?,
            owner: row.try_get("owner")?,
            created: time(row, "created")?,
            version: row.try_get("version")?,
            text: row.try_get::<&str, _>("body")?.into(),
        },
    });

    Tenant: row => Ok(Self {
        id: row.try_get("id")?,
        email: row.try_get("email")?,
        session_key: row.try_get("session_key")?,
        quota: json(row, "quota")?,
        created: time(row, "created")?,
    });

    User: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        account: row.try_get("account")?,
        email: row.try_get("email")?,
        password_hash: row.try_get("password_hash")?,
        session_epoch: row.try_get("session_epoch")?,
        root_token_hash: row.try_get("root_token_hash")?,
        role: row.try_get("role")?,
        created: time(row, "created")?,
    });

    Function: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        name: row.try_get("name")?,
        trigger: row.try_get("trigger")?,
        version: Version::from_row(row)?,
        created: time(row, "created")?,
        last_run: optional_time(row, "last_run")?,
    });

    Version: row => Ok(Self {
        number: row.try_get("number")?,
        code: match row.try_get("kind")? {
            COMPONENT => Code::Component,
            _ => Code::JavaScript { source: row.try_get("source")?, parameters: number(row, "parameters")? },
        },
        bytes: number(row, "bytes")?,
        hash: row.try_get("hash")?,
        limits: json(row, "limits")?,
        delivery: word(row, "delivery", Delivery::parse)?,
        created: time(row, "uploaded")?,
    });

    Run: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        function: row.try_get("function")?,
        version: row.try_get("version")?,
        trigger: row.try_get("trigger")?,
        outcome: word(row, "outcome", Outcome::parse)?,
        error: row.try_get("error")?,
        started: time(row, "started")?,
        completed: time(row, "completed")?,
        duration_us: row.try_get("duration_us")?,
        fuel: row.try_get("fuel")?,
        peak_memory: row.try_get("peak_memory")?,
        guest_us: row.try_get("guest_us")?,
        host_us: row.try_get("host_us")?,
        queued_us: row.try_get("queued_us")?,
        used: json(row, "used")?,
        trace_id: row.try_get("trace_id")?,
        depth: number(row, "depth")?,
        chain: row.try_get("chain")?,
        log: json(row, "log")?,
    });

    RunFigures: row => Ok(Self {
        outcome: word(row, "outcome", Outcome::parse)?,
        trigger: row.try_get("trigger")?,
        started: time(row, "started")?,
        duration_us: row.try_get("duration_us")?,
        guest_us: row.try_get("guest_us")?,
        host_us: row.try_get("host_us")?,
        queued_us: row.try_get("queued_us")?,
        fuel: row.try_get("fuel")?,
        peak_memory: row.try_get("peak_memory")?,
    });

    Failure: row => Ok(Self {
        run: row.try_get("id")?,
        outcome: word(row, "outcome", Outcome::parse)?,
        error: row.try_get("error")?,
        started: time(row, "started")?,
    });

    KeptUsage: row => Ok(Self {
        tenant: row.try_get("tenant")?,
        function: row.try_get("function")?,
        used: Used {
            minute: row.try_get("minute")?,
            runs: number(row, "runs")?,
            refused: 0,
            day: row.try_get("day")?,
            fuel: number(row, "fuel")?,
        },
    });

    QueuedMail: row => Ok(Self {
        mail: Mail {
            id: row.try_get("id")?,
            tenant: row.try_get("tenant")?,
            run: row.try_get("run")?,
            message: json(row, "message")?,
            created: time(row, "created")?,
        },
        attempts: number(row, "attempts")?,
        sent: optional_time(row, "sent")?,
        next_attempt: optional_time(row, "next_attempt")?,
        error: row.try_get("error")?,
    });

    Task: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        name: row.try_get("name")?,
        kind: word(row, "kind", TaskKind::parse)?,
        value: row.try_get("value")?,
        meta: row.try_get("meta")?,
        interval: row.try_get("interval")?,
        time_zone: row.try_get("time_zone")?,
        catch_up: word(row, "catch_up", CatchUp::parse)?,
        overlap: row.try_get("overlap")?,
        paused: row.try_get("paused")?,
        next: optional_time(row, "next_at")?,
        last: optional_time(row, "last_at")?,
        created: time(row, "created")?,
        last_outcome: row.try_get::<Option<&str>, _>("last_outcome")?.and_then(TaskOutcome::parse),
    });

    TaskRun: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        task: row.try_get("task")?,
        due: time(row, "due")?,
        manual: row.try_get("manual")?,
        started: time(row, "started")?,
        completed: optional_time(row, "completed")?,
        outcome: word(row, "outcome", TaskOutcome::parse)?,
        detail: row.try_get("detail")?,
        run: row.try_get("run")?,
        trace_id: row.try_get("trace_id")?,
        node: row.try_get("node")?,
        lease: time(row, "lease")?,
    });

    Job: row => Ok(Self {
        id: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        function: row.try_get("function")?,
        payload: row.try_get("payload")?,
        user: row.try_get("user")?,
        due: time(row, "due")?,
        state: word(row, "state", JobState::parse)?,
        attempts: number(row, "attempts")?,
        error: row.try_get("error")?,
        run: row.try_get("run")?,
        created: time(row, "created")?,
        ended: optional_time(row, "ended")?,
        cause: row.try_get("cause")?,
    });
}

/// What a word in a column stands for.
pub fn word<'r, R, T>(row: &'r R, column: &'r str, parse: fn(&str) -> Option<T>) -> sqlx::Result<T>
where
    R: Row,
    &'r str: ColumnIndex<R> + Decode<'r, R::Database> + Type<R::Database>,
{
    let word: &'r str = row.try_get(column)?;
    parse(word).ok_or_else(|| sqlx::Error::Decode(format!("`{word}` in the column {column} is not known").into()))
}

/// The time in a column.
pub fn time<'r, R>(row: &'r R, column: &'r str) -> sqlx::Result<DateTime<Utc>>
where
    R: Row,
    &'r str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).map(from_micros)
}

/// The time in a column that may be empty.
pub fn optional_time<'r, R>(row: &'r R, column: &'r str) -> sqlx::Result<Option<DateTime<Utc>>>
where
    R: Row,
    &'r str: ColumnIndex<R>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_micros))
}

/// A number that is never negative; databases only have those with a sign.
pub fn number<'r, R, N>(row: &'r R, column: &'r str) -> sqlx::Result<N>
where
    R: Row,
    &'r str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    N: TryFrom<i64>,
{
    let number: i64 = row.try_get(column)?;
    N::try_from(number).map_err(|_| sqlx::Error::Decode(format!("{number} cannot be in the column `{column}`").into()))
}

/// What the JSON in a column says.
pub fn json<'r, R, T>(row: &'r R, column: &'r str) -> sqlx::Result<T>
where
    R: Row,
    &'r str: ColumnIndex<R> + Decode<'r, R::Database> + Type<R::Database>,
    T: DeserializeOwned,
{
    let text: &'r str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}
