//! What Postgres' errors mean (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use std::io;

use sqlx::{Error, error::DatabaseError};

/// The disk of the database is full.
pub const FULL: &str = "53100";

/// A statement was stopped, because it took too long.
const CANCELED: &str = "57014";

/// A text holds U+0000, which Postgres cannot keep.
pub const UNSTORABLE: &str = "22021";

/// Transactions stood in each other's way; the same one may succeed when it is tried again.
const IN_THE_WAY: [&str; 2] = ["40001", "40P01"];

/// The database is there but does nothing now: it starts or stops, has no connection or no memory left, waits for a lock too
/// long, or is a copy that others write to.
const AWAY: [&str; 10] = ["57P01", "57P02", "57P03", "57P05", "53300", "53200", "25P03", "25006", "55P03", CANCELED];

/// Whether the same may work in a moment, without anybody doing anything about it here.
pub fn is_away(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => true,
        Error::Database(error) => {
            is_one_of(&**error, &AWAY) || is_one_of(&**error, &IN_THE_WAY) || is_of_connection(&**error)
        }
        _ => false,
    }
}

/// Whether a statement was stopped, because it took too long.
pub fn took_too_long(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| is_one_of(error, &[CANCELED]))
}

/// Whether a transaction is worth another attempt at once.
pub fn is_in_the_way(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| is_one_of(error, &IN_THE_WAY))
}

fn is_one_of(error: &dyn DatabaseError, codes: &[&str]) -> bool {
    error.code().is_some_and(|code| codes.contains(&&*code))
}

/// Class 08: the connection was lost or not made.
fn is_of_connection(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("08"))
}

/// What an error means for a database that is being opened, as the end of a sentence about it.
pub fn reason(error: &Error) -> String {
    match error {
        Error::Database(error) => {
            let (text, code) = (error.message(), error.code().unwrap_or_default());
            match &*code {
                "28P01" | "28000" => format!("refuses the user or the password: {text}"),
                "3D000" => format!("is not there: {text}; make it with `createdb --encoding=UTF8 NAME`"),
                "42501" => format!("does not let its user make tables: {text}; let the user own the database"),
                FULL => "cannot be written: its disk is full".into(),
                _ => format!("cannot be opened: {text}"),
            }
        }
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "cannot be reached: nobody listens there".into()
        }
        Error::Io(error) => format!("cannot be reached: {error}"),
        Error::Tls(error) => format!("cannot be reached over TLS: {error}"),
        Error::PoolTimedOut => "does not answer".into(),
        Error::Configuration(error) => error.to_string(),
        error => format!("cannot be opened: {error}"),
    }
}
