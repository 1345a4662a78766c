//! That everything comes back, from and into every kind of database, or nothing does.

use std::{collections::BTreeSet, io::Read};

use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::{
    format::Kind,
    tables::{NOT_COPIED, is_kept},
    *,
};
use crate::store::tests::cluster::Cluster;

/// A place for a database, and what backups of it are made of.
struct Place {
    folder: TempDir,
    /// The name of a database on the cluster of all tests; none for SQLite.
    database: Option<String>,
}

impl Place {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    async fn postgres() -> Self {
        let database = Cluster::shared().await.database().await;
        Self { folder: tempfile::tempdir().unwrap(), database: Some(database) }
    }

    async fn config(&self) -> Config {
        let url = match &self.database {
            Some(database) => Cluster::shared().await.url(database),
            None => String::new(),
        };
        let data = self.folder.path().display();
        Config::from_toml("thimble.toml", &format!("[server]\ndata = \"{data}\"\n[database]\nurl = \"{url}\"")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn backup(&self) -> (Content, PathBuf) {
        let file = self.file("made.backup");
        (backup(&self.config().await, &file).await.unwrap(), file)
    }

    async fn restore(&self, file: &Path) -> anyhow::Result<Content> {
        restore(&self.config().await, file).await
    }

    async fn refused(&self, file: &Path) -> String {
        format!("{:#}", self.restore(file).await.unwrap_err())
    }

    async fn remove(self) {
        if let Some(database) = &self.database {
            Cluster::shared().await.remove(database).await;
        }
    }
}

/// Columns that may be empty.
const EMPTY: [(&str, &str); 22] = [
    ("users", "root_token_hash"),
    ("functions", "last_run"),
    ("versions", "component"),
    ("runs", "error"),
    ("mails", "run"),
    ("mails", "next_attempt"),
    ("mails", "sent"),
    ("mails", "error"),
    ("tasks", "next_at"),
    ("tasks", "last_at"),
    ("task_runs", "completed"),
    ("task_runs", "run"),
    ("jobs", "error"),
    ("jobs", "run"),
    ("jobs", "ended"),
    ("jobs", "node"),
    ("jobs", "lease"),
    ("jobs", "cause"),
    ("deliveries", "error"),
    ("deliveries", "run"),
    ("deliveries", "owner"),
    ("deliveries", "running"),
];

/// A value as no table has it by chance; where a row names another one, that one is there.
fn made_up(table: &str, column: &str, kind: Kind, n: i64) -> Value {
    if !is_kept(table, column) || n == 2 && EMPTY.contains(&(table, column)) {
        return Value::Null;
    }
    let name = |of: &str| Value::Text(format!("{of}{n}"));
    match (table, column, kind) {
        ("tenants", "id", _) | (_, "tenant", _) => name("tenant"),
        ("functions", "id", _) | (_, "function", _) => name("function"),
        ("tasks", "id", _) | (_, "task", _) => name("task"),
        (_, "seq", _) | ("deliveries", "event", _) => Value::Integer(7 * n + 1),
        ("users", "role", _) | ("deliveries", "attempts", _) => Value::Integer(n),
        ("indexes", "collection", _) => name("tasks"),
        ("indexes", "field", _) => Value::Text("a \"' b.é".into()),
        (_, _, Kind::Integer) => Value::Integer(if n == 1 { i64::MIN } else { i64::MAX - n }),
        (_, _, Kind::Boolean) => Value::Boolean(n % 2 == 0),
        (_, _, Kind::Text) => Value::Text(format!("{table} {column} {n} é💥\n\"\\ \u{1}\u{7f}'")),
        (_, _, Kind::Json) => {
            let body = r#"{"id":"ID","b":1e300,"a":[1.0,-0,9007199254740993,"\u001fé💥 \\\"'"], "accountId" : "a"}"#;
            Value::Text(body.replace("ID", &n.to_string()))
        }
        (_, _, Kind::Bytes) => Value::Bytes(vec![0, 255, b'\n', n as u8]),
    }
}

/// A backup of made-up rows in every table.
fn made_up_backup(file: &Path, rows: i64, secret: Option<Vec<u8>>) {
    write_made_up(file, version(), &|_, _| true, rows, secret);
}

/// The same of a version of the tables, which had only some columns.
fn write_made_up(file: &Path, version: i64, had: &dyn Fn(&str, &str) -> bool, rows: i64, secret: Option<Vec<u8>>) {
    let out = zstd::Encoder::new(File::create(file).unwrap(), 1).unwrap();
    let mut writer = Writer::begin(out, &Beginning::now(version, Utc::now())).unwrap();
    for table in &TABLES {
        let mut head = table.head();
        head.columns.retain(|(column, _)| had(table.name, column));
        if head.columns.is_empty() {
            continue;
        }
        head.sequence = head.is_numbered().then_some(1_000);
        writer.table(&head).unwrap();
        for n in 0..rows {
            let row = head.columns.iter().map(|(column, kind)| match (column.as_str(), &secret) {
                ("session_key", Some(secret)) => Value::Bytes(secret.clone()),
                (column, _) => made_up(table.name, column, *kind, n),
            });
            writer.row(&row.collect()).unwrap();
        }
    }
    writer.end().unwrap().0.finish().unwrap();
}

fn lines(file: &Path) -> Vec<String> {
    let mut text = String::new();
    zstd::Decoder::new(File::open(file).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Everything but the first line, which has the time, and the last, which has its digest.
fn rows(file: &Path) -> Vec<String> {
    let lines = lines(file);
    lines[1..lines.len() - 1].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_from_and_into_every_kind_of_database() {
    let (first, second, third) = (Place::sqlite(), Place::postgres().await, Place::sqlite());
    let file = first.file("made-up.backup");
    made_up_backup(&file, 3, None);
    let made_up = rows(&file);

    let restored = first.restore(&file).await.unwrap();
    let (of_sqlite, file) = first.backup().await;
    assert_eq!((&of_sqlite, rows(&file)), (&restored, made_up.clone()));
    second.restore(&file).await.unwrap();
    let (of_postgres, file) = second.backup().await;
    assert_eq!((&of_postgres, rows(&file)), (&restored, made_up.clone()));
    third.restore(&file).await.unwrap();
    let (of_third, file) = third.backup().await;
    assert_eq!((&of_third, rows(&file)), (&restored, made_up));
    assert_eq!(restored.rows["documents"], 3);
    assert_eq!(restored.rows.len(), TABLES.len());

    for place in [&first, &second] {
        let config = place.config().await;
        let store = store::open(&config.database_url(), &config.database).await.unwrap();
        // Sums are made anew, indexes are made, and new rows get new numbers.
        let kept = store.stored("tenant1").await.unwrap();
        assert_eq!(kept.documents, 1);
        assert!(kept.bytes > 80, "{kept:?}");
        assert!(store.indexes("tenant1").await.unwrap().iter().all(|index| index.is_ready));
        store.close().await;
    }
    second.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_earlier_version_is_brought_up_to_date() {
    // The last version before there were backups.
    let old = tempfile::tempdir().unwrap();
    let mut database = sqlite::file::New::begin(&old.path().join("old.db")).await.unwrap();
    database.migrate(8).await.unwrap();
    let columns: Vec<(String, String)> =
        sqlx::query_as(COLUMNS_OF_SQLITE).fetch_all(&mut database.connection).await.unwrap();
    let had = |table: &str, column: &str| columns.iter().any(|(of, name)| of == table && name == column);
    assert!(had("deliveries", "dead") && !had("indexes", "field"));

    for place in [Place::sqlite(), Place::postgres().await] {
        let file = place.file("old.backup");
        write_made_up(&file, 8, &had, 2, None);

        place.restore(&file).await.unwrap();

        let (content, _) = place.backup().await;
        assert_eq!((content.rows["documents"], content.rows["indexes"]), (2, 0));
        place.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_empty_database_is_filled() {
    for place in [Place::sqlite(), Place::postgres().await] {
        let file = place.file("made-up.backup");
        made_up_backup(&file, 1, None);
        place.restore(&file).await.unwrap();
        let before = rows(&place.backup().await.1);

        let error = place.refused(&file).await;

        assert!(error.contains("empty"), "{error}");
        std::fs::remove_file(place.file("made.backup")).unwrap();
        assert_eq!(rows(&place.backup().await.1), before);
        let error = format!("{:#}", backup(&place.config().await, &file).await.unwrap_err());
        assert!(error.contains("is there already"), "{error}");
        place.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_empty_tables_is_filled() {
    let place = Place::postgres().await;
    let config = place.config().await;
    store::migrate(&config.database_url(), &config.database).await.unwrap();
    let file = place.file("made-up.backup");
    made_up_backup(&file, 1, None);

    place.restore(&file).await.unwrap();

    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_or_changed_is_refused_before_anything_is_written() {
    let place = Place::sqlite();
    let (file, broken) = (place.file("made-up.backup"), place.file("broken.backup"));
    made_up_backup(&file, 20, None);
    let whole = std::fs::read(&file).unwrap();
    let plain = lines(&file);
    let compressed = |lines: &[String]| zstd::encode_all((lines.join("\n") + "\n").as_bytes(), 1).unwrap();

    let mut cases = vec![("nothing", Vec::new()), ("text", b"backup".to_vec()), ("zeros", vec![0; 1_000])];
    cases.extend([1, 2, 3, 5, 7].map(|part| ("cut", whole[..whole.len() * part / 8].to_vec())));
    cases.extend([1, whole.len() / 8, whole.len() / 2].map(|end| ("cut", whole[..whole.len() - end].to_vec())));
    cases.push(("no end", compressed(&plain[..plain.len() - 1])));
    cases.push(("no beginning", compressed(&plain[1..])));
    cases.push(("a line less", compressed(&[&plain[..4], &plain[5..]].concat())));
    cases.push(("a line more", compressed(&[&plain[..], &plain[4..5]].concat())));
    cases.push(("half a line", compressed(&[&plain[..4], &[plain[4][..3].to_owned()]].concat())));
    let mut changed = plain.clone();
    let row = changed.iter_mut().find(|line| line.starts_with('[') && line.contains("tenant1")).unwrap();
    *row = row.replacen("tenant1", "tenanT1", 1);
    cases.push(("a letter", compressed(&changed)));
    let mut newer = plain.clone();
    newer[0] = newer[0].replace(&format!("\"tables\":{}", version()), "\"tables\":1000000");
    cases.push(("newer", compressed(&newer)));
    let mut sql = plain.clone();
    sql[1] = sql[1].replace("settings", "settings; drop table users");
    cases.push(("a name", compressed(&sql)));

    for (what, bytes) in cases {
        std::fs::write(&broken, bytes).unwrap();
        let restored = place.restore(&broken).await;
        assert!(restored.is_err(), "{what}");
        let error = format!("{:#}", restored.unwrap_err());
        assert!(error.contains("broken.backup cannot be restored: "), "{what}: {error}");
        assert_eq!(error.contains("newer Thimble"), what == "newer", "{what}: {error}");
        assert!(!place.file("thimble.db").exists() && !place.file("thimble.db.new").exists(), "{what}");
    }
    place.restore(&file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_leaves_nothing() {
    for place in [Place::sqlite(), Place::postgres().await] {
        let (file, broken) = (place.file("made-up.backup"), place.file("broken.backup"));
        made_up_backup(&file, 2, None);
        // A user of a tenant that is not there, which only the database notices.
        let out = zstd::Encoder::new(File::create(&broken).unwrap(), 1).unwrap();
        let mut writer = Writer::begin(out, &Beginning::now(version(), Utc::now())).unwrap();
        for table in TABLES.iter().filter(|table| matches!(table.name, "settings" | "users")) {
            let head = table.head();
            writer.table(&head).unwrap();
            let row = head.columns.iter().map(|(column, kind)| made_up(table.name, column, *kind, 1));
            writer.row(&row.collect()).unwrap();
        }
        writer.end().unwrap().0.finish().unwrap();

        let error = place.refused(&broken).await;

        assert!(error.contains("users"), "{error}");
        place.restore(&file).await.unwrap();
        place.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_is_noticed() {
    let place = Place::sqlite();
    let other = tempfile::tempdir().unwrap();
    let key = MasterKey::open(other.path(), false).unwrap();
    let file = place.file("made-up.backup");
    made_up_backup(&file, 1, Some(key.encrypt("tenant0", b"key").unwrap()));
    MasterKey::open(place.folder.path(), false).unwrap();

    let error = place.refused(&file).await;
    assert!(error.contains("another master key"), "{error}");
    assert!(!place.file("thimble.db").exists());

    std::fs::copy(other.path().join("master.key"), place.file("master.key")).unwrap();
    place.restore(&file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_version_are_not_copied() {
    let place = Place::sqlite();
    let file = place.file("made-up.backup");
    made_up_backup(&file, 1, None);
    place.restore(&file).await.unwrap();
    let options = SqliteConnectOptions::new().filename(place.file("thimble.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();

    let error = format!("{:#}", backup(&place.config().await, &place.file("x")).await.unwrap_err());

    assert!(error.contains("thimble db migrate"), "{error}");
    let left: BTreeSet<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('x')), "{left:?}");
}

const COLUMNS_OF_SQLITE: &str = "
    select tables.name, columns.name from sqlite_schema as tables, pragma_table_xinfo(tables.name) as columns
    where tables.type = 'table' and tables.name not like 'sqlite\\_%' escape '\\'";

/// The columns of all tables of a database: what a new migration adds has to be copied, or has to be named as what is not.
fn assert_covered(found: &[(String, String)]) {
    let mut copied: BTreeSet<(String, String)> = BTreeSet::new();
    for table in &TABLES {
        copied.extend(table.columns.iter().map(|column| (table.name.to_owned(), column.name.to_owned())));
    }
    let is_left_out = |table: &str, column: &str| {
        NOT_COPIED.iter().any(|(of, name)| *of == table && (name.is_empty() || *name == column))
    };
    let found: BTreeSet<(String, String)> =
        found.iter().filter(|(table, column)| !is_left_out(table, column)).cloned().collect();
    assert!(found.len() > 100, "{found:?}");
    let forgotten: Vec<_> = found.difference(&copied).collect();
    assert!(forgotten.is_empty(), "backup/tables.rs does not copy {forgotten:?}, nor does it say why not");
    let gone: Vec<_> = copied.difference(&found).collect();
    assert!(gone.is_empty(), "backup/tables.rs copies {gone:?}, which is not there");
}

#[tokio::test]
async fn every_column_of_sqlite_is_copied() {
    let place = Place::sqlite();
    let config = place.config().await;
    store::migrate(&config.database_url(), &config.database).await.unwrap();
    let options = SqliteConnectOptions::new().filename(place.file("thimble.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();

    assert_covered(&sqlx::query_as(COLUMNS_OF_SQLITE).fetch_all(&mut connection).await.unwrap());
}

#[tokio::test]
async fn every_column_of_postgres_is_copied() {
    let place = Place::postgres().await;
    let config = place.config().await;
    store::migrate(&config.database_url(), &config.database).await.unwrap();
    let mut connection = PgConnection::connect(&config.database_url()).await.unwrap();

    let columns = "
        select table_name::text, column_name::text from information_schema.columns
        where table_schema = current_schema()";
    assert_covered(&sqlx::query_as(columns).fetch_all(&mut connection).await.unwrap());
    connection.close().await.unwrap();
    place.remove().await;
}
