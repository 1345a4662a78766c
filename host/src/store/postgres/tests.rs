//! What only a database server has to do: being away, being unfit, several nodes that start at once.

use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection};

use super::*;
use crate::store::tests::{cluster::Cluster, settings};

/// A new database on the cluster of all tests, removed at the end.
struct Place {
    cluster: &'static Cluster,
    name: String,
}

impl Place {
    async fn new() -> Self {
        let cluster = Cluster::shared().await;
        Self { cluster, name: cluster.database().await }
    }

    fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    async fn raw(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn remove(self) {
        self.cluster.remove(&self.name).await;
    }
}

async fn refused(url: &str) -> String {
    match Postgres::open(url, &Database { start_wait_s: 0, ..settings() }).await {
        Err(StoreError::Unusable(error)) => error,
        Err(error) => unreachable!("{error:?}"),
        Ok(_) => unreachable!("it was opened"),
    }
}

#[tokio::test]
async fn nodes_that_start_at_once_make_the_tables_once() {
    let place = Place::new().await;

    let (url, settings) = (place.url(), settings());
    let opened = join_all((0..8).map(|_| Postgres::open(&url, &settings))).await;

    for store in opened {
        let store = store.unwrap();
        store.set_setting("key", "value").await.unwrap();
        store.close().await;
    }
    place.remove().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let place = Place::new().await;
    Postgres::open(&place.url(), &settings()).await.unwrap().close().await;
    place.raw("insert into _sqlx_migrations values (1000000, 'later', now(), true, '\\x00', 0)").await;

    let error = refused(&place.url()).await;

    assert!(error.contains(&place.name) && error.contains("newer Thimble"), "{error}");
    assert!(error.contains("version 1000000"), "{error}");
    place.remove().await;
}

#[tokio::test]
async fn a_migration_that_was_cut_off_is_begun_again() {
    let place = Place::new().await;
    // As far as a server gets that is killed in the middle: the table of migrations is made by itself, each of them as a whole.
    place
        .raw(
            "create table _sqlx_migrations (version bigint primary key, description text not null, installed_on timestamptz
             not null default now(), success boolean not null, checksum bytea not null, execution_time bigint not null)",
        )
        .await;

    let store = Postgres::open(&place.url(), &settings()).await.unwrap();

    store.set_setting("key", "value").await.unwrap();
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_named_without_its_password() {
    let cluster = Cluster::shared().await;
    let with_password = |url: String| url.replace("postgres://thimble@", "postgres://thimble:hunter2@");

    let missing = refused(&with_password(cluster.url("nowhere"))).await;
    assert!(missing.contains("nowhere") && missing.contains("createdb"), "{missing}");
    let nobody = refused("postgres://thimble:hunter2@127.0.0.1:1/there").await;
    assert!(nobody.contains("there at 127.0.0.1:1 cannot be reached"), "{nobody}");
    let nonsense = refused("postgres://thimble:hunter2@host:port/there").await;
    assert!(nonsense.contains("postgres://user:password@host:5432/database"), "{nonsense}");
    for error in [missing, nobody, nonsense] {
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn another_encoding_is_refused() {
    let place = Place::new().await;
    let latin = format!("{}_latin", place.name);
    place
        .raw(&format!("create database {latin} encoding 'LATIN1' template template0 locale_provider libc locale 'C'"))
        .await;

    let error = refused(&place.cluster.url(&latin)).await;

    assert!(error.contains("LATIN1") && error.contains("--encoding=UTF8"), "{error}");
    place.cluster.remove(&latin).await;
    place.remove().await;
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped_and_others_go_on() {
    let place = Place::new().await;
    let store = Postgres::open(&place.url(), &Database { statement_ms: 50, ..settings() }).await.unwrap();

    let slow = store.search(async {
        sqlx::query("select pg_sleep(60)").execute(&mut *store.connection().await?).await?;
        Ok(())
    });

    assert!(matches!(slow.await, Err(StoreError::Invalid(error)) if error.contains("narrow its filter")));
    store.ping().await.unwrap();
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn whoever_waits_for_a_connection_too_long_is_told_so() {
    let place = Place::new().await;
    let settings = Database { connections: 2, acquire_ms: 100, ..settings() };
    let store = Postgres::open(&place.url(), &settings).await.unwrap();
    let taken = [store.connection().await.unwrap(), store.connection().await.unwrap()];

    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    drop(taken);

    store.ping().await.unwrap();
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn a_change_waits_for_another_one_but_not_for_ever() {
    let place = Place::new().await;
    let store = Postgres::open(&place.url(), &Database { lock_ms: 50, ..settings() }).await.unwrap();
    store.set_setting("key", "one").await.unwrap();
    let mut other = store.pool.begin().await.unwrap();
    super::settings::set(&mut other, "key", "two").await.unwrap();

    assert!(matches!(store.set_setting("key", "three").await, Err(StoreError::Unavailable(_))));
    other.commit().await.unwrap();

    assert_eq!(store.setting("key").await.unwrap(), Some("two".into()));
    store.close().await;
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_answered_by_the_index_of_a_field() {
    let place = Place::new().await;
    let store = Postgres::open(&place.url(), &settings()).await.unwrap();
    let root = crate::store::tests::root(&store, "one").await;
    crate::store::tests::indexes::many(&store, &root).await;
    let plan = async |collection: &str, clauses: &serde_json::Value, sort: Option<&str>| {
        let filter = Filter::parse(clauses).unwrap();
        let page = PageRequest { sort: sort.map(str::to_owned), ..PageRequest::default() };
        let (sql, _) = documents::chosen(&root, collection, &filter, &page).unwrap();
        let (text, arguments) = sql.into_parts();
        let explain = format!("explain {text}");
        let lines = sqlx::query_scalar_with::<_, String, _>(&explain, arguments).persistent(false);
        lines.fetch_all(&mut *store.connection().await.unwrap()).await.unwrap().join("\n")
    };

    for (clauses, sort) in crate::store::tests::indexes::queries() {
        let plan = plan("many", &clauses, sort).await;
        assert!(plan.contains("documents_field_1"), "{clauses} {sort:?}: {plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("in_order"), "{clauses} {sort:?}: {plan}");
    }
    // Another collection has none.
    assert!(!plan("other", &serde_json::json!([["a", "==", 7]]), None).await.contains("documents_field"));
    store.close().await;
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_find_the_same_when_indexes_are_used_wherever_they_can_be() {
    let place = Place::new().await;
    let url = format!("{}&options=-c%20enable_seqscan%3Doff", place.url());
    let store = Postgres::open(&url, &settings()).await.unwrap();

    crate::store::tests::filters::assert_found(&store, 60, true).await;

    store.close().await;
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_of_indexes_is_mended() {
    let place = Place::new().await;
    let store = Postgres::open(&place.url(), &settings()).await.unwrap();
    crate::store::tests::root(&store, "one").await;
    let a = crate::store::tests::indexes::field("a");
    assert!(store.add_index("one", "tasks", &a, 10).await.unwrap());

    // One that was not begun, one that was not finished, one that was not removed.
    place
        .raw("insert into indexes (tenant, collection, field, created) values ('one', 'tasks', 'b', 1), ('one', 'tasks', 'c', 1)")
        .await;
    place.raw("create index documents_field_3 on documents (id)").await;
    place.raw("update pg_index set indisvalid = false where indexrelid = 'documents_field_3'::regclass").await;
    place.raw("create index documents_field_77 on documents (id)").await;
    let ready = async || {
        let indexes = store.indexes("one").await.unwrap();
        indexes.iter().map(|index| index.is_ready).collect::<Vec<_>>()
    };
    assert_eq!(ready().await, [true, false, false]);

    store.mend_indexes().await.unwrap();

    assert_eq!(ready().await, [true; 3]);
    let mut connection = PgConnection::connect(&place.url()).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("select relname::text from pg_class where relname like 'documents_field%' order by 1")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(left, ["documents_field_1", "documents_field_2", "documents_field_3"]);
    connection.close().await.unwrap();
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn an_index_that_cannot_be_made_is_told_and_forgotten() {
    let place = Place::new().await;
    let store = Postgres::open(&place.url(), &settings()).await.unwrap();
    crate::store::tests::root(&store, "one").await;
    // Something else has its name.
    place.raw("create table documents_field_1 (a integer)").await;

    let added = store.add_index("one", "tasks", &crate::store::tests::indexes::field("a"), 10).await;

    assert!(matches!(added, Err(StoreError::Database(_))), "{added:?}");
    assert_eq!(store.indexes("one").await.unwrap(), []);
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn a_literal_is_its_text() {
    let place = Place::new().await;
    let mut connection = PgConnection::connect(&place.url()).await.unwrap();
    for text in ["", "a", "'", "\"", "a') --", "\\", "é💥\n\u{1}", "\\0041"] {
        let literal = conditions::literal(text);
        assert!(!literal.contains("--") && literal.matches('\'').count() == 2, "{literal}");
        let read: String = sqlx::query_scalar(&format!("select {literal}")).fetch_one(&mut connection).await.unwrap();
        assert_eq!(read, text);
    }
    connection.close().await.unwrap();
    place.remove().await;
}
