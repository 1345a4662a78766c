//! The tables of the database: brought up to date by themselves, whoever does it, and however it is interrupted.

use std::{fs, path::Path, process::Stdio, time::Duration};

use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::harness::{Finished, Tenant, postgres::Cluster, thimble};

async fn migrate(folder: &Path, place: [&str; 2]) -> Finished {
    thimble(["db", "migrate"]).with(&place).folder(folder).run().await
}

/// Starts it and kills it after a while.
async fn migrate_until_killed(place: [&str; 2], after: Duration) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.args(["db", "migrate"]).args(place).env_remove("DATABASE_URL").env_remove("THIMBLE_DATABASE");
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(after).await;
    // It may have ended.
    let _ = process.kill();
    process.wait().unwrap();
}

async fn sqlite(folder: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(folder.join("thimble.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(statement).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn the_tables_are_made_once_and_then_are_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, path) = (Cluster::shared().await, folder.path());
    let database = cluster.database().await;

    for place in [["--data", "data"], ["--database", &cluster.url(&database)]] {
        let first = migrate(path, place).await.succeeded();
        let second = migrate(path, place).await.succeeded();
        assert!(first.contains("had no tables"), "{first}");
        assert!(second.contains("is up to date"), "{second}");
    }
    cluster.remove(&database).await;
    let server = thimble(["serve", "--dev"]).folder(path).serve().await;
    Tenant::on(&server).await;
    let in_use = migrate(path, ["--data", "data"]).await.failed();
    assert!(in_use.contains("in use by another Thimble"), "{in_use}");
}

#[tokio::test]
async fn many_processes_make_the_tables_of_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::shared().await;
    let database = cluster.database().await;
    let url = cluster.url(&database);

    let all = join_all((0..5).map(|_| migrate(folder.path(), ["--database", &url]))).await;

    for one in all {
        one.succeeded();
    }
    let after = migrate(folder.path(), ["--database", &url]).await.succeeded();
    assert!(after.contains("is up to date"), "{after}");
    cluster.remove(&database).await;
}

#[tokio::test]
async fn migrations_that_are_killed_are_completed_by_the_next_start() {
    let cluster = Cluster::shared().await;
    for round in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let database = cluster.database().await;
        let url = cluster.url(&database);
        for place in [["--data", data.as_str()], ["--database", &url]] {
            for again in 0..3 {
                migrate_until_killed(place, Duration::from_millis(10 * round + 7 * again)).await;
            }
            migrate(folder.path(), place).await.succeeded();
            let after = migrate(folder.path(), place).await.succeeded();
            assert!(after.contains("is up to date"), "{after}");
        }
        let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new")), "{left:?}");
        cluster.remove(&database).await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, path) = (Cluster::shared().await, folder.path());
    let database = cluster.database().await;
    let url = cluster.url(&database);
    let data = path.join("data").display().to_string();
    let places = [["--data", data.as_str()], ["--database", &url]];
    for place in places {
        migrate(path, place).await.succeeded();
    }
    sqlite(&path.join("data"), "insert into _sqlx_migrations values (1000000, 'later', 0, true, x'00', 0)").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let newer = "insert into _sqlx_migrations values (1000000, 'later', now(), true, '\\x00', 0)";
    connection.execute(newer).await.unwrap();
    connection.close().await.unwrap();

    for place in places {
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["db", "migrate"], &["backup", "made.backup"]] {
            let error = thimble([]).with(command).with(&place).folder(path).run().await.failed();
            assert!(error.contains("newer Thimble") && error.contains("version 1000000"), "{command:?}: {error}");
        }
    }
    assert!(!path.join("made.backup").exists() && !path.join("made.backup.part").exists());
    cluster.remove(&database).await;
}
