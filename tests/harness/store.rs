//! Where the servers of a test run keep what they keep: in SQLite, or each in a database of a Postgres of the tests' own.
//!
//! `PLATFORM_STORE=postgres` chooses the second for every server whose test does not say that it is about SQLite's file.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tokio::sync::Mutex;

use super::postgres::Cluster;

/// What every server on Postgres is given: statements wait for a machine that is busy with other tests.
pub const PATIENT: &str = "[database]\nconnections = 8\nacquire_ms = 20_000\nstatement_ms = 20_000\nlock_ms = 20_000\n";

/// Any key that is no pattern: nodes on Postgres do not make one.
const MASTER_KEY: &str = "9f2c4e1b7a80d3566e1f0c9b8a7d6e5f4c3b2a190817263544536271809fae3d";

/// The databases of servers, by the folder of each: one that is started again finds what it had.
static DATABASES: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::const_new(None);

/// Whether this run of the tests is about Postgres.
pub fn is_postgres() -> bool {
    match std::env::var("PLATFORM_STORE").as_deref() {
        Err(_) | Ok("sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("PLATFORM_STORE is `{other}`: write sqlite or postgres"),
    }
}

/// The URL of the database of whoever works in this folder.
pub async fn database_of(folder: &Path) -> String {
    let mut databases = DATABASES.lock().await;
    let databases = databases.get_or_insert_default();
    if let Some(url) = databases.get(folder) {
        return url.clone();
    }
    let cluster = Cluster::shared().await;
    let url = cluster.url(&cluster.database().await);
    databases.insert(folder.into(), url.clone());
    url
}

/// Puts the master key into a data folder that has none.
pub fn bring_master_key(data: &Path) {
    fs::create_dir_all(data).unwrap();
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join("master.key"));
    if let Ok(mut file) = file {
        file.write_all(MASTER_KEY.as_bytes()).unwrap();
    }
}
