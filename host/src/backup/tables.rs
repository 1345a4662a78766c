//! What a backup holds: the tables with their columns, in the order in which they can be filled.
//!
//! A test compares this with the tables of both kinds of databases, so that none is forgotten.

use super::format::{Head, Kind};

/// A table that is copied.
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [Column],
}

/// A column that is copied.
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether its values mean anything in another database; else all are empty.
    pub is_kept: bool,
}

impl Table {
    /// The line before its rows.
    pub fn head(&self) -> Head {
        let columns = self.columns.iter().map(|column| (column.name.to_owned(), column.kind)).collect();
        Head { name: self.name.to_owned(), columns, sequence: None }
    }
}

/// Whether the values of a column mean anything in another database.
pub fn is_kept(table: &str, column: &str) -> bool {
    let columns = TABLES.iter().filter(|of| of.name == table).flat_map(|of| of.columns);
    columns.into_iter().all(|of| of.name != column || of.is_kept)
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: Kind::Integer, is_kept: true }
}

const fn boolean(name: &'static str) -> Column {
    Column { name, kind: Kind::Boolean, is_kept: true }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, is_kept: true }
}

const fn json(name: &'static str) -> Column {
    Column { name, kind: Kind::Json, is_kept: true }
}

const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes, is_kept: true }
}

/// The process that has something in hand: in another database nobody has.
const fn process(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, is_kept: false }
}

/// Tables and columns that are not copied, because they follow from others or are of processes that run. Without a column, the
/// whole table.
#[cfg(test)]
pub const NOT_COPIED: [(&str, &str); 8] = [
    // Which migrations were made; the backup has their version.
    ("_sqlx_migrations", ""),
    // Sums of the documents and of what waits.
    ("stored", ""),
    // Processes that live, and what they tell each other.
    ("nodes", ""),
    ("members", ""),
    ("relayed", ""),
    ("changes", ""),
    // The process that is sending it.
    ("mails", "owner"),
    // The length of the text.
    ("documents", "bytes"),
];

/// What is copied.
pub static TABLES: [Table; 15] = [
    Table { name: "settings", columns: &[text("key"), text("value")] },
    Table {
        name: "tenants",
        columns: &[integer("seq"), text("id"), text("email"), bytes("session_key"), text("quota"), integer("created")],
    },
    Table {
        name: "users",
        columns: &[
            integer("seq"),
            text("tenant"),
            text("id"),
            text("account"),
            text("email"),
            text("password_hash"),
            text("session_epoch"),
            text("root_token_hash"),
            integer("role"),
            integer("created"),
        ],
    },
    Table {
        name: "documents",
        columns: &[
            integer("seq"),
            text("tenant"),
            text("collection"),
            text("id"),
            text("account"),
            text("owner"),
            integer("created"),
            integer("version"),
            json("body"),
        ],
    },
    Table {
        name: "functions",
        columns: &[
            text("id"),
            text("tenant"),
            text("name"),
            text("trigger"),
            integer("version"),
            integer("created"),
            integer("last_run"),
        ],
    },
    Table {
        name: "versions",
        columns: &[
            integer("seq"),
            text("function"),
            integer("number"),
            text("source"),
            text("hash"),
            integer("parameters"),
            text("limits"),
            integer("created"),
            text("kind"),
            integer("bytes"),
            bytes("component"),
            text("delivery"),
        ],
    },
    Table {
        name: "runs",
        columns: &[
            integer("seq"),
            text("id"),
            text("tenant"),
            text("function"),
            integer("version"),
            text("trigger"),
            text("outcome"),
            text("error"),
            integer("started"),
            integer("completed"),
            integer("duration_us"),
            integer("guest_us"),
            integer("host_us"),
            integer("queued_us"),
            integer("fuel"),
            integer("peak_memory"),
            text("used"),
            text("trace_id"),
            integer("depth"),
            text("chain"),
            text("log"),
        ],
    },
    Table {
        name: "usage",
        columns: &[
            text("tenant"),
            text("function"),
            integer("minute"),
            integer("runs"),
            integer("day"),
            integer("fuel"),
        ],
    },
    Table {
        name: "mails",
        columns: &[
            integer("seq"),
            text("id"),
            text("tenant"),
            text("run"),
            text("message"),
            integer("created"),
            integer("attempts"),
            integer("next_attempt"),
            integer("sent"),
            text("error"),
        ],
    },
    Table {
        name: "tasks",
        columns: &[
            integer("seq"),
            text("id"),
            text("tenant"),
            text("name"),
            text("kind"),
            text("value"),
            text("meta"),
            text("interval"),
            text("time_zone"),
            text("catch_up"),
            boolean("overlap"),
            boolean("paused"),
            integer("next_at"),
            integer("last_at"),
            integer("created"),
        ],
    },
    Table {
        name: "task_runs",
        columns: &[
            integer("seq"),
            text("id"),
            text("tenant"),
            text("task"),
            integer("due"),
            boolean("manual"),
            integer("started"),
            integer("completed"),
            text("outcome"),
            text("detail"),
            text("run"),
            text("trace_id"),
            text("node"),
            integer("lease"),
        ],
    },
    Table {
        name: "jobs",
        columns: &[
            integer("seq"),
            text("id"),
            text("tenant"),
            text("function"),
            text("payload"),
            text("user"),
            integer("due"),
            text("state"),
            integer("attempts"),
            text("error"),
            text("run"),
            integer("created"),
            integer("ended"),
            text("node"),
            integer("lease"),
            text("cause"),
        ],
    },
    Table { name: "events", columns: &[integer("seq"), text("tenant"), text("event"), integer("created")] },
    Table {
        name: "deliveries",
        columns: &[
            integer("seq"),
            integer("event"),
            text("tenant"),
            text("function"),
            text("key"),
            text("matched"),
            integer("attempts"),
            integer("next_attempt"),
            process("owner"),
            boolean("dead"),
            text("error"),
            text("run"),
            process("running"),
        ],
    },
    Table {
        name: "indexes",
        columns: &[integer("seq"), text("tenant"), text("collection"), text("field"), integer("created")],
    },
];
