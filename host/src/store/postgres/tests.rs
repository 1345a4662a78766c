//! What only a database server has to do: being away, being unfit, several nodes that start at once.

use std::collections::HashMap;

use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection};

use super::*;
use crate::store::{
    exchange::{IsWhole, Notice, Relayed},
    tests::{cluster::Cluster, settings},
};

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

/// Two nodes on one database.
async fn two(place: &Place) -> (Postgres, Postgres) {
    let (url, settings) = (place.url(), settings());
    (Postgres::open(&url, &settings).await.unwrap(), Postgres::open(&url, &settings).await.unwrap())
}

fn place_of(tenant: &str, channel: &str) -> crate::store::exchange::Place {
    (tenant.into(), channel.into())
}

/// As if the node had been killed half a minute ago.
async fn let_lease_pass(place: &Place, node: &str) {
    place.raw(&format!("update nodes set lease = now() - interval '1 second' where id = '{node}'")).await;
}

#[tokio::test]
async fn a_mail_is_in_the_hands_of_one_node_while_it_lives() {
    let place = Place::new().await;
    let (one, two) = two(&place).await;
    let who = crate::store::tests::somebody(&one, "app", "a", "ann").await;
    let message = MailMessage { to: vec!["ben@example.com".into()], ..MailMessage::default() };
    for id in ["1", "2", "3"] {
        let (id, tenant) = (id.to_owned(), who.tenant.to_string());
        one.queue_mail(&Mail { id, tenant, run: None, message: message.clone(), created: Utc::now() }).await.unwrap();
    }
    let due = async |store: &Postgres, limit| {
        let mails = store.due_mails(Utc::now(), limit).await.unwrap();
        mails.into_iter().map(|queued| queued.mail.id).collect::<Vec<_>>()
    };

    assert_eq!(due(&one, 2).await, ["1", "2"]);
    assert_eq!(due(&two, 9).await, ["3"]);
    assert_eq!(due(&one, 9).await, ["1", "2"], "its own it may take again");
    one.mail_failed("1", "later", Utc::now()).await.unwrap();
    assert_eq!(due(&two, 9).await, ["1", "3"]);
    let_lease_pass(&place, &one.node).await;
    assert_eq!(due(&two, 9).await, ["1", "2", "3"]);

    one.close().await;
    two.close().await;
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
async fn what_is_relayed_is_heard_in_order_and_can_be_read_once_more() {
    let place = Place::new().await;
    let (one, two) = two(&place).await;
    let (from, to) = (one.exchange().unwrap(), two.exchange().unwrap());
    from.relay(1, &["before".into()]).await.unwrap();
    let mut news = to.listen().await.unwrap();
    let large = "x".repeat(exchange::MAX_NOTICE);
    let relayed = |number, batch: &str| Relayed { node: one.node.clone(), number, batch: batch.into() };

    // The same may be sent twice, when the answer to the first time was lost.
    for _ in 0..2 {
        from.relay(2, &["same".into(), "same".into(), large.clone(), "after".into()]).await.unwrap();
    }

    let mut heard = Vec::new();
    while heard.len() < 8 {
        match news.next().await.unwrap() {
            Notice::Relayed(relayed, whole) => heard.push((relayed, whole)),
            Notice::Nodes | Notice::Changed(_) => {}
        }
    }
    let once = [
        (relayed(2, "same"), IsWhole::Yes),
        (relayed(3, "same"), IsWhole::Yes),
        (relayed(4, ""), IsWhole::No),
        (relayed(5, "after"), IsWhole::Yes),
    ];
    assert_eq!(heard, [once.clone(), once].concat());
    let read = async |known: i64| {
        let known = HashMap::from([(one.node.clone(), known)]);
        to.relayed(&known, false).await.unwrap().into_iter().map(|relayed| relayed.number).collect::<Vec<_>>()
    };
    assert_eq!(read(0).await, [2, 3, 4, 5], "nothing from before it listened");
    assert_eq!(read(4).await, [5]);
    assert_eq!(to.relayed(&HashMap::new(), false).await.unwrap()[2].batch, large);
    assert!(to.relayed(&HashMap::new(), true).await.unwrap().is_empty(), "none of it is late");
    assert!(from.relayed(&HashMap::new(), false).await.unwrap().is_empty(), "its own are not news");

    drop(news);
    one.close().await;
    two.close().await;
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

#[tokio::test]
async fn members_count_where_their_node_lives() {
    let place = Place::new().await;
    let (one, two) = two(&place).await;
    let (from, to) = (one.exchange().unwrap(), two.exchange().unwrap());
    let [lobby, other] = [place_of("app", "lobby"), place_of("app", "other")];
    let heard = async || to.heard(&[lobby.clone(), other.clone()]).await.unwrap();
    assert_eq!(heard().await, [true, true], "it has not said yet where it has members");

    from.list_members(Some(&[(lobby.clone(), 2)])).await.unwrap();
    assert_eq!(heard().await, [true, false]);
    from.set_members(&[(lobby.clone(), 3), (other.clone(), 1)]).await.unwrap();
    assert_eq!(heard().await, [true, true]);
    assert_eq!((to.members("app", "lobby").await.unwrap(), to.members("app", "other").await.unwrap()), (3, 1));
    assert_eq!((to.members("other", "lobby").await.unwrap(), from.members("app", "lobby").await.unwrap()), (0, 0));
    from.set_members(&[(other.clone(), 0)]).await.unwrap();
    assert_eq!(heard().await, [true, false]);

    assert_eq!(two.beat().await.unwrap(), Beat { others: vec![one.node.clone()], is_new: false });
    let_lease_pass(&place, &one.node).await;
    assert_eq!((heard().await, to.members("app", "lobby").await.unwrap()), (vec![false, false], 0));
    assert_eq!(two.beat().await.unwrap(), Beat { others: vec![], is_new: false });
    assert!(to.is_alone());
    let back = one.beat().await.unwrap();
    assert_eq!(back, Beat { others: vec![two.node.clone()], is_new: true });
    assert_eq!(to.members("app", "lobby").await.unwrap(), 0, "it has to say again where it has members");
    assert_eq!(heard().await, [true, true]);

    one.close().await;
    assert_eq!(two.beat().await.unwrap().others, Vec::<String>::new(), "who ends says so");
    two.close().await;
    place.remove().await;
}

#[tokio::test]
async fn changes_are_counted_and_told() {
    let place = Place::new().await;
    let (one, two) = two(&place).await;
    crate::store::tests::somebody(&one, "app", "a", "ann").await;
    let to = two.exchange().unwrap();
    let mut news = to.listen().await.unwrap();

    let function = one.add_function("app", "hello", "web", crate::store::tests::functions::version("x")).await.unwrap();

    while news.next().await.unwrap() != Notice::Changed("app".into()) {}
    assert_eq!(to.changes(true).await.unwrap(), [("app".to_owned(), 1)]);
    let outlines = to.outlines("app").await.unwrap();
    assert_eq!((&outlines[0].id, outlines[0].version, outlines.len()), (&function.id, 1, 1));
    assert!(one.set_quota("app", &OwnQuota::default()).await.unwrap());
    assert!(one.delete_function("app", "hello").await.unwrap());
    assert!(!one.delete_user("app", "nobody").await.unwrap());
    assert_eq!(to.changes(false).await.unwrap(), [("app".to_owned(), 3)]);
    place.raw("update changes set at = now() - interval '1 hour'").await;
    assert!(to.changes(true).await.unwrap().is_empty());

    drop(news);
    one.close().await;
    two.close().await;
    place.remove().await;
}
