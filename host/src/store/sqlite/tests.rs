//! What only a database in a file has to do: opening, damage, one process at a time, a full disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;

async fn open(url: &str) -> Result<Arc<Sqlite>> {
    Sqlite::open(url).await.map(Arc::new)
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data").join("thimble.db");
    (folder, path)
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// A database with a setting in it, closed again.
async fn made() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let store = open(&url(&path)).await.unwrap();
    store.set_setting("key", "value").await.unwrap();
    store.close().await;
    (folder, path)
}

async fn refused(path: &Path) -> String {
    match open(&url(path)).await {
        Err(StoreError::Unusable(error)) => {
            assert!(error.contains(&path.canonicalize().unwrap_or(path.into()).display().to_string()), "{error}");
            error
        }
        Err(error) => unreachable!("{error:?}"),
        Ok(_) => unreachable!("it was opened"),
    }
}

async fn raw(path: &Path, statement: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn pragma(connection: &mut SqliteConnection, name: &'static str) -> String {
    let pragma = format!("select cast({name} as text) from pragma_{name}");
    sqlx::query_scalar(&pragma).fetch_one(connection).await.unwrap()
}

/// Everything under a file's name and its companions'.
fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let (_folder, path) = made().await;
    assert_eq!(files(&path), ["thimble.db", "thimble.db.lock"]);

    // A path is as good as a URL.
    let store = open(path.to_str().unwrap()).await.unwrap();

    assert_eq!(store.setting("key").await.unwrap(), Some("value".into()));
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_crash() {
    let (folder, path) = place();
    let store = open(&url(&path)).await.unwrap();
    store.set_setting("key", "value").await.unwrap();

    // As a crash would leave them: the files while they are in use.
    let copy = folder.path().join("copy").join("thimble.db");
    fs::create_dir(copy.parent().unwrap()).unwrap();
    for end in ["", "-wal", "-shm"] {
        fs::copy(file::beside(&path, end), file::beside(&copy, end)).unwrap();
    }

    let store = open(&url(&copy)).await.unwrap();
    assert_eq!(store.setting("key").await.unwrap(), Some("value".into()));
}

#[tokio::test]
async fn a_commit_is_on_the_disk_and_only_one_connection_writes() {
    let (_folder, path) = made().await;
    let mut writer = file::open(&path).await.unwrap();
    let readers = file::readers(&path).await.unwrap();

    assert_eq!(pragma(&mut writer, "journal_mode").await, "wal");
    assert_eq!(pragma(&mut writer, "synchronous").await, "2");
    assert_eq!(pragma(&mut writer, "foreign_keys").await, "1");
    assert_eq!(pragma(&mut writer, "journal_size_limit").await, "67108864");
    let mut reader = readers.acquire().await.unwrap();
    assert!(settings::set(&mut reader, "key", "other").await.is_err());
    assert_eq!(settings::get(&mut reader, "key").await.unwrap(), Some("value".into()));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_server_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    let _store = open(&url(&path)).await.unwrap();

    for end in ["", "-wal", "-shm", ".lock"] {
        let mode = fs::metadata(file::beside(&path, end)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{end}");
    }
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_is_gone() {
    let (_folder, path) = made().await;
    let first = open(&url(&path)).await.unwrap();

    assert!(refused(&path).await.contains("is in use by another Thimble"));
    #[cfg(unix)]
    {
        let link = path.with_file_name("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refused(&link).await.contains("is in use by another Thimble"));
    }
    first.set_setting("key", "first").await.unwrap();
    first.close().await;

    let second = open(&url(&path)).await.unwrap();
    assert_eq!(second.setting("key").await.unwrap(), Some("first".into()));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_as_it_is() {
    let whole = {
        let (_folder, path) = made().await;
        fs::read(&path).unwrap()
    };
    let overwritten = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        bytes[from..to].fill(0xa5);
        bytes
    };
    for (bytes, part) in [
        (Vec::new(), "it is empty"),
        (vec![0; 8192], "is not a SQLite database"),
        (b"SQLite".to_vec(), "is not a SQLite database"),
        (b"just some text, longer than the beginning of a database".to_vec(), "is not a SQLite database"),
        (whole[..100].to_vec(), "is damaged"),
        (whole[..whole.len() / 2].to_vec(), "is damaged"),
        (whole[..whole.len() - 4096].to_vec(), "is damaged"),
        (overwritten(0, 16), "is not a SQLite database"),
        (overwritten(16, 100), "is damaged"),
        (overwritten(100, 4096), "is damaged"),
        (overwritten(4096, 3 * 4096), "is damaged"),
    ] {
        let (_folder, path) = place();
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();

        let error = refused(&path).await;

        assert!(error.contains(part), "{part}: {error}");
        assert!(fs::read(&path).unwrap() == bytes, "{part}: it was changed");
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused() {
    let (_folder, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused(&path).await.contains("is a folder"));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "").unwrap();
    raw(&path, "create table tenants (id text); pragma user_version = 7;").await;
    let before = fs::read(&path).unwrap();

    let error = refused(&path).await;

    assert!(error.contains("was not made by Thimble"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (_folder, path) = made().await;
    let newer = "
        insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (99999999, 'of the future', true, x'00', 0)";
    raw(&path, newer).await;

    let error = refused(&path).await;

    assert!(error.contains("was made by a newer Thimble"), "{error}");
}

#[tokio::test]
async fn a_start_that_was_interrupted_is_begun_again() {
    let (_folder, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    for end in [".new", ".new-wal", ".new-shm"] {
        fs::write(file::beside(&path, end), "half of it").unwrap();
    }

    let store = open(&url(&path)).await.unwrap();

    store.set_setting("key", "value").await.unwrap();
    store.close().await;
    assert_eq!(files(&path), ["thimble.db", "thimble.db.lock"]);
}

#[tokio::test]
async fn a_log_without_its_database_is_not_given_to_a_new_one() {
    let (_folder, path) = place();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(file::beside(&path, "-wal"), "frames").unwrap();

    let error = refused(&path).await;

    assert!(error.contains("is gone, but its log"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused() {
    let (folder, _) = place();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();

    let error = refused(&in_the_way.join("thimble.db")).await;

    assert!(error.contains("its folder cannot be made"), "{error}");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let (_folder, path) = made().await;
    let mut writer = file::open(&path).await.unwrap();
    let endless = "with recursive n (n) as (select 1 union all select n + 1 from n) select count(*) from n";

    limit_time(&mut writer, Duration::ZERO).await.unwrap();
    let stopped = sqlx::query(endless).execute(&mut writer).await.map_err(StoreError::from);

    assert!(matches!(stopped, Err(StoreError::Invalid(error)) if error.contains("narrow its filter")));
    unlimit_time(&mut writer).await.unwrap();
    settings::set(&mut writer, "key", "still works").await.unwrap();
}

async fn writer(path: &Path) -> Arc<Writer> {
    let lock = file::lock(path).unwrap();
    let connection = file::open(path).await.unwrap();
    // However slow the machine is: what waits together is committed together.
    Arc::new(Writer::start(connection, path, lock, Duration::MAX))
}

/// Makes the writer wait for the sender, so that the changes until then are committed together.
async fn hold(writer: &Arc<Writer>) -> oneshot::Sender<()> {
    let (release, released) = oneshot::channel();
    let (started, starting) = oneshot::channel();
    let writer = writer.clone();
    tokio::spawn(async move {
        writer
            .write(move |_| {
                async move {
                    started.send(()).unwrap();
                    released.await.unwrap();
                    Ok(())
                }
                .boxed()
            })
            .await
            .unwrap();
    });
    starting.await.unwrap();
    release
}

fn set(writer: &Arc<Writer>, key: &'static str, value: String) -> tokio::task::JoinHandle<Result<()>> {
    let writer = writer.clone();
    tokio::spawn(
        async move { writer.write(move |db| async move { settings::set(db, key, &value).await }.boxed()).await },
    )
}

fn execute(writer: &Arc<Writer>, statements: &'static [&'static str]) -> tokio::task::JoinHandle<Result<()>> {
    let writer = writer.clone();
    tokio::spawn(async move { writer.write(move |db| execute_all(db, statements).boxed()).await })
}

async fn execute_all(db: &mut SqliteConnection, statements: &[&'static str]) -> Result<()> {
    for statement in statements {
        sqlx::query(statement).execute(&mut *db).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_commit_that_fails_fails_for_all_who_waited_for_it() {
    let (_folder, path) = made().await;
    let writer = writer(&path).await;
    let release = hold(&writer).await;
    let before = set(&writer, "before", "x".into());
    // Found out only when it is committed.
    let broken = &[
        "pragma defer_foreign_keys = on",
        "
        insert into users (tenant, id, account, email, password_hash, session_epoch, role, created)
        values ('nobody', '', '', '', '', '', 0, 0)",
    ];
    let broken = execute(&writer, broken);
    let after = set(&writer, "after", "x".into());
    tokio::task::yield_now().await;
    release.send(()).unwrap();

    for change in [before, broken, after] {
        assert!(matches!(change.await.unwrap(), Err(StoreError::Database(_))));
    }

    set(&writer, "later", "x".into()).await.unwrap().unwrap();
    writer.close().await;
    let store = open(&url(&path)).await.unwrap();
    assert_eq!(store.setting("before").await.unwrap(), None);
    assert_eq!(store.setting("after").await.unwrap(), None);
    assert_eq!(store.setting("later").await.unwrap(), Some("x".into()));
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let (_folder, path) = made().await;
    let writer = writer(&path).await;
    execute(&writer, &["pragma max_page_count = 1"]).await.unwrap().unwrap();
    let release = hold(&writer).await;
    let before = set(&writer, "before", "small".into());
    let large = set(&writer, "large", "x".repeat(10 << 20));
    let after = set(&writer, "after", "small".into());
    tokio::task::yield_now().await;
    release.send(()).unwrap();

    for change in [before, large] {
        assert!(matches!(change.await.unwrap(), Err(StoreError::Full)));
    }
    // It had not begun, and there is room for it.
    after.await.unwrap().unwrap();
    set(&writer, "key", "small".into()).await.unwrap().unwrap();

    execute(&writer, &["pragma max_page_count = 1000000"]).await.unwrap().unwrap();
    set(&writer, "large", "x".repeat(10 << 20)).await.unwrap().unwrap();
    writer.close().await;
    let store = open(&url(&path)).await.unwrap();
    assert_eq!(store.setting("key").await.unwrap(), Some("small".into()));
    assert_eq!(store.setting("before").await.unwrap(), None);
    assert_eq!(store.setting("large").await.unwrap().map(|large| large.len()), Some(10 << 20));
}

/// A change of a tenant that takes this long.
fn slow(writer: &Arc<Writer>, tenant: &'static str, time: Duration) -> tokio::task::JoinHandle<Result<()>> {
    let writer = writer.clone();
    tokio::spawn(async move {
        let change = writer.write_for(tenant, move |_| {
            async move {
                tokio::time::sleep(time).await;
                Ok(())
            }
            .boxed()
        });
        change.await
    })
}

#[tokio::test]
async fn slow_changes_of_one_tenant_do_not_hold_up_those_of_another() {
    let (_folder, path) = made().await;
    let lock = file::lock(&path).unwrap();
    let connection = file::open(&path).await.unwrap();
    let writer = Arc::new(Writer::start(connection, &path, lock, Duration::from_millis(1)));
    let release = hold(&writer).await;
    let slow_ones: Vec<_> = (0..50).map(|_| slow(&writer, "heavy", Duration::from_millis(2))).collect();
    tokio::task::yield_now().await;
    let quick = slow(&writer, "light", Duration::ZERO);
    tokio::task::yield_now().await;
    release.send(()).unwrap();

    quick.await.unwrap().unwrap();
    let done = slow_ones.iter().filter(|slow| slow.is_finished()).count();

    assert!(done <= 2, "{done} of fifty came before it");
    for slow in slow_ones {
        slow.await.unwrap().unwrap();
    }
    writer.close().await;
}

#[tokio::test]
async fn who_goes_away_before_it_was_begun_has_changed_nothing() {
    let (_folder, path) = made().await;
    let writer = writer(&path).await;
    let release = hold(&writer).await;
    let gone = set(&writer, "key", "gone".into());
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();

    set(&writer, "other", "x".into()).await.unwrap().unwrap();
    writer.close().await;

    let store = open(&url(&path)).await.unwrap();
    assert_eq!(store.setting("key").await.unwrap(), Some("value".into()));
}

#[tokio::test]
async fn the_log_is_emptied_when_a_reader_no_longer_needs_it() {
    let (_folder, path) = made().await;
    let store = open(&url(&path)).await.unwrap();
    let length = || fs::metadata(file::beside(&path, "-wal")).unwrap().len();
    let write = async |n: u64| store.set_setting("large", &n.to_string().repeat(1 << 20)).await.unwrap();
    let mut reader = SqliteConnectOptions::new().filename(&path).read_only(true).connect().await.unwrap();
    execute_all(&mut reader, &["begin", "select * from settings"]).await.unwrap();

    for n in 0..20 {
        write(n).await;
    }
    assert!(length() > 16 << 20, "{}", length());
    execute_all(&mut reader, &["commit"]).await.unwrap();

    let begun = Instant::now();
    while length() > 16 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", length());
        write(0).await;
    }
}

#[tokio::test]
async fn queries_are_answered_by_the_index_of_a_field() {
    let (_folder, path) = made().await;
    let store = open(&url(&path)).await.unwrap();
    let root = crate::store::tests::root(&*store, "one").await;
    crate::store::tests::indexes::many(&*store, &root).await;
    // A connection notices an index that others have made when it reads, but not when it explains.
    let mut reader = store.reader().await.unwrap();
    sqlx::query("select count(*) from indexes").execute(&mut *reader).await.unwrap();

    for (clauses, sort) in crate::store::tests::indexes::queries() {
        let filter = Filter::parse(&clauses).unwrap();
        let page = PageRequest { sort: sort.map(str::to_owned), ..PageRequest::default() };
        let mut sql = conditions::Sql::new("explain query plan ");
        documents::push_page(&mut sql, &root, ("many", &["a".to_owned()]), &filter, &page).unwrap();
        let rows = sql.build().fetch_all(&mut *reader).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "detail")).collect();

        let plan = plan.join("\n");
        assert!(plan.contains("documents_field_1"), "{clauses} {sort:?}: {plan}");
        // But for a lookup of what the index has found.
        let through_all = "documents_in_order (tenant=? AND collection=?)";
        assert!(!plan.contains(through_all), "{clauses} {sort:?}: {plan}");
        // The documents of the page are sorted once more; those of the collection are not.
        let sorts = plan.matches("TEMP B-TREE").count();
        assert!(clauses != serde_json::json!([]) || sorts == 1, "{sort:?}: {plan}");
    }
    // Another collection has none.
    let mut sql = conditions::Sql::new("explain query plan ");
    let filter = Filter::parse(&serde_json::json!([["a", "==", 7]])).unwrap();
    documents::push_page(&mut sql, &root, ("other", &[]), &filter, &PageRequest::default()).unwrap();
    let rows = sql.build().fetch_all(&mut *reader).await.unwrap();
    assert!(rows.iter().all(|row| !sqlx::Row::get::<String, _>(row, "detail").contains("documents_field")));
}

#[tokio::test]
async fn an_index_that_takes_too_long_is_given_up_and_others_write_on() {
    let (_folder, path) = made().await;
    let store = open(&url(&path)).await.unwrap();

    let slow = store.writer.write_alone("tenant", |db| {
        async move {
            sqlx::query("insert into settings values ('half', 'done')").execute(&mut *db).await?;
            limit_time(db, Duration::from_millis(10)).await?;
            let endless = "
                create table numbers as
                with recursive numbers (n) as (select 1 union all select n + 1 from numbers) select count(*) from numbers";
            let done = sqlx::query(endless).execute(&mut *db).await;
            unlimit_time(db).await?;
            done?;
            Ok(())
        }
        .boxed()
    });
    let (slow, others) = tokio::join!(slow, store.set_setting("other", "value"));

    assert!(slow.is_err());
    others.unwrap();
    assert_eq!(store.setting("half").await.unwrap(), None);
    store.set_setting("after", "value").await.unwrap();
}

#[tokio::test]
async fn a_literal_is_its_text() {
    let mut connection = SqliteConnectOptions::new().connect().await.unwrap();
    for text in ["", "a", "'", "\"", "a') --", "\\", "é💥\n\u{1}", "$.\"a\""] {
        let literal = conditions::literal(text);
        assert!(!literal.contains("--") && literal.matches('\'').count() == 2, "{literal}");
        let read: String = sqlx::query_scalar(&format!("select {literal}")).fetch_one(&mut connection).await.unwrap();
        assert_eq!(read, text);
    }
}
