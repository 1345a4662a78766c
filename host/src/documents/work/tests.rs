//! Transactions of two runs at the same time have the effect of one after the other, and each sees its own changes.

use std::sync::Arc;

use futures_util::future::join;
use serde_json::{Value, json};

use super::*;
use crate::{
    channels::Channels,
    clock::Clock,
    document::PageRequest,
    event_queue::{self, EventReceiver},
    hub::{Hub, tests::config},
    listeners::Listeners,
    message::Message,
    store::{
        Store,
        tests::{all, create, filter, object, on_every_store, somebody, values},
    },
    usage::Usage,
};

/// One app with its user `ann`.
struct App {
    documents: Documents,
    store: Arc<dyn Store>,
    ann: Identity,
    _events: EventReceiver,
}

impl App {
    async fn new(store: &Arc<dyn Store>) -> Self {
        let (sender, events) = event_queue::queue(1_000, 1 << 20);
        let clock: Arc<Clock> = Arc::default();
        let settings = crate::config::Config::from_toml("thimble.toml", "").unwrap();
        let usage = Usage::new(clock.clone(), settings.function, settings.tenant);
        let (hub, listeners) = (Hub::new(&config()), Listeners::default());
        let channels = Channels::new(hub, sender, listeners, store.clone(), usage.clone(), clock.clone());
        let ann = somebody(&**store, "one", "a", "ann").await;
        let documents = Documents::new(store.clone(), channels, usage, clock);
        Self { documents, store: store.clone(), ann, _events: events }
    }

    fn begin(&self) -> Work {
        Work::new(self.documents.clone(), self.ann.clone(), Cause::outside())
    }

    async fn commit(&self, work: Work) -> bool {
        match self.documents.commit(work.into_transaction().unwrap()).await {
            Ok(_) => true,
            Err(DocumentsError::Store(StoreError::Conflict)) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// New documents with this field.
    async fn with(&self, collection: &str, field: &str, fields: &[Value]) -> Vec<String> {
        let contents: Vec<Value> = fields.iter().map(|value| json!({ field: value })).collect();
        let documents = create(&*self.store, &self.ann, collection, &contents).await;
        documents.into_iter().map(|document| document.id).collect()
    }

    /// One field of all documents.
    async fn field(&self, collection: &str, field: &str) -> Value {
        values(&all(&*self.store, &self.ann, collection).await, field)
    }
}

fn by(field: &str) -> PageRequest {
    PageRequest { sort: Some(field.into()), ..PageRequest::default() }
}

async fn number(work: &mut Work, collection: &str, id: &str, field: &str) -> i64 {
    work.get(collection, id).await.unwrap().fields()[field].as_i64().unwrap()
}

async fn add(work: &mut Work, id: &str, by: i64) {
    let n = number(work, "counters", id, "n").await;
    work.update("counters", id, object(json!({ "n": n + by }))).await.unwrap();
}

/// Goes off duty unless that leaves nobody.
async fn leave(work: &mut Work, id: &str, how: usize) {
    let on_duty = filter(json!([["on", "==", true]]));
    let others = match how % 3 {
        0 => work.count("doctors", &on_duty).await.unwrap(),
        1 => work.list("doctors", &on_duty, &by("on")).await.unwrap().total,
        _ => {
            let all = work.list("doctors", &Filter::all(), &PageRequest::default()).await.unwrap().results;
            all.iter().filter(|doctor| doctor.fields()["on"] == true).count() as i64
        }
    };
    if others > 1 {
        work.update("doctors", id, object(json!({ "on": false }))).await.unwrap();
    }
}

/// Takes a room for an hour unless somebody has it.
async fn book(work: &mut Work, who: &str, how: usize) -> bool {
    let wanted = filter(json!([["room", "==", 7], ["hour", "==", 9]]));
    let taken = match how % 2 {
        0 => work.count("bookings", &wanted).await.unwrap(),
        _ => work.list("bookings", &wanted, &PageRequest::default()).await.unwrap().results.len() as i64,
    };
    if taken == 0 {
        work.create("bookings", &object(json!({ "room": 7, "hour": 9, "who": who }))).await.unwrap();
    }
    taken == 0
}

fn message(who: &Identity) -> Event {
    let message = Message { kind: "said".into(), channel: "lobby".into(), ..Message::default() };
    Event::message(who.clone(), message, Cause::outside())
}

on_every_store! {
    async fn no_update_is_lost(store) {
        let app = App::new(&store).await;
        let id = app.with("counters", "n", &[json!(0)]).await.remove(0);
        let (mut one, mut two) = (app.begin(), app.begin());
        add(&mut one, &id, 1).await;
        add(&mut two, &id, 10).await;

        assert!(app.commit(one).await);
        assert!(!app.commit(two).await, "it has seen 0");

        assert_eq!(app.field("counters", "n").await, json!([1]));
        let mut again = app.begin();
        add(&mut again, &id, 10).await;
        assert!(app.commit(again).await);
        assert_eq!(app.field("counters", "n").await, json!([11]));
    }

    async fn of_two_that_rely_on_what_the_other_changes_one_is_committed(store) {
        let app = App::new(&store).await;
        for round in 0..12 {
            let ids = app.with("doctors", "on", &[json!(true), json!(true)]).await;
            let (mut one, mut two) = (app.begin(), app.begin());
            leave(&mut one, &ids[0], round).await;
            leave(&mut two, &ids[1], round).await;

            let (first, second) = join(app.commit(one), app.commit(two)).await;

            assert!(!(first && second), "round {round}: each alone is fine, together they leave nobody");
            let on_duty = app.store.count(&app.ann, "doctors", &filter(json!([["on", "==", true]]))).await.unwrap();
            assert!(on_duty >= 1, "round {round}");
            app.documents.delete_many(&app.ann, "doctors", &Filter::all(), Cause::outside()).await.unwrap();
        }
    }

    async fn what_was_not_there_and_came_is_noticed(store) {
        let app = App::new(&store).await;
        app.with("bookings", "room", &[json!(1)]).await;
        for round in 0..12 {
            let (mut one, mut two) = (app.begin(), app.begin());
            assert!(book(&mut one, "one", round).await && book(&mut two, "two", round).await);

            let (first, second) = join(app.commit(one), app.commit(two)).await;

            assert!(!(first && second), "round {round}");
            let mut later = app.begin();
            assert_eq!(book(&mut later, "later", round).await, !(first || second), "round {round}");
            let room = filter(json!([["room", "==", 7]]));
            assert!(app.store.count(&app.ann, "bookings", &room).await.unwrap() <= 1);
            app.documents.delete_many(&app.ann, "bookings", &room, Cause::outside()).await.unwrap();
        }
    }

    async fn what_does_not_touch_is_committed_side_by_side(store) {
        let app = App::new(&store).await;
        let ids = app.with("counters", "n", &[json!(0), json!(0)]).await;
        let (mut one, mut two) = (app.begin(), app.begin());
        add(&mut one, &ids[0], 1).await;
        assert_eq!(one.count("counters", &filter(json!([["n", "<", 0]]))).await.unwrap(), 0);
        add(&mut two, &ids[1], 2).await;

        assert_eq!((app.commit(one).await, app.commit(two).await), (true, true));

        assert_eq!(app.field("counters", "n").await, json!([1, 2]));
    }

    async fn one_that_only_reads_is_of_one_moment(store) {
        let app = App::new(&store).await;
        let ids = app.with("counters", "n", &[json!(5), json!(5)]).await;
        let mut reads = app.begin();
        let before = number(&mut reads, "counters", &ids[0], "n").await;
        let mut moves = app.begin();
        add(&mut moves, &ids[0], -5).await;
        add(&mut moves, &ids[1], 5).await;
        assert!(app.commit(moves).await);
        let after = number(&mut reads, "counters", &ids[1], "n").await;

        assert_eq!(before + after, 15, "there never was so much");
        assert!(!app.commit(reads).await);
    }

    async fn it_sees_its_own_changes_in_order(store) {
        let app = App::new(&store).await;
        let ids = app.with("tasks", "n", &[json!(1), json!(5), json!(9)]).await;
        let mut work = app.begin();

        work.create("tasks", &object(json!({ "n": 7 }))).await.unwrap();
        work.update("tasks", &ids[0], object(json!({ "n": 20 }))).await.unwrap();
        work.increment("tasks", &ids[1], "n", -3).await.unwrap();
        assert!(work.delete("tasks", &ids[2]).await.unwrap());
        work.create("others", &object(json!({ "n": 1 }))).await.unwrap();

        let large = filter(json!([["n", ">", 2]]));
        let page = work.list("tasks", &Filter::all(), &by("n")).await.unwrap();
        assert_eq!((values(&page.results, "n"), page.total), (json!([2, 7, 20]), 3));
        let first = PageRequest { size: 1, descending: true, ..by("n") };
        let page = work.list("tasks", &large, &first).await.unwrap();
        assert_eq!((values(&page.results, "n"), page.total), (json!([20]), 2));
        assert_eq!(work.count("tasks", &large).await.unwrap(), 2);
        assert_eq!(work.count("others", &Filter::all()).await.unwrap(), 1);
        assert!(matches!(work.get("tasks", &ids[2]).await, Err(DocumentsError::Missing)));
        assert_eq!(app.field("tasks", "n").await, json!([1, 5, 9]), "nobody else does");

        assert!(app.commit(work).await);
        assert_eq!(app.field("tasks", "n").await, json!([20, 2, 7]));
    }

    async fn what_is_taken_back_leaves_the_rest(store) {
        let app = App::new(&store).await;
        let ids = app.with("tasks", "n", &[json!(1), json!(2)]).await;
        let mut work = app.begin();
        work.update("tasks", &ids[0], object(json!({ "n": 10 }))).await.unwrap();
        work.send(message(&app.ann), Vec::new());

        let before = work.savepoint();
        work.update("tasks", &ids[0], object(json!({ "n": 100 }))).await.unwrap();
        work.delete("tasks", &ids[1]).await.unwrap();
        work.create("tasks", &object(json!({ "n": 3 }))).await.unwrap();
        work.send(message(&app.ann), Vec::new());
        assert_eq!(work.count("tasks", &filter(json!([["n", ">", 2]]))).await.unwrap(), 2);
        work.go_back(before);

        assert_eq!(number(&mut work, "tasks", &ids[0], "n").await, 10);
        assert_eq!(work.count("tasks", &filter(json!([["n", "<", 3]]))).await.unwrap(), 1);
        work.increment("tasks", &ids[1], "n", 1).await.unwrap();
        let transaction = work.into_transaction().unwrap();
        assert_eq!(transaction.events.len(), 1);
        app.documents.commit(transaction).await.unwrap();
        assert_eq!(app.field("tasks", "n").await, json!([10, 3]));
        assert_eq!(app.store.stored("one").await.unwrap().documents, 2);
    }

    async fn what_was_seen_before_it_was_taken_back_counts(store) {
        let app = App::new(&store).await;
        for changes in [false, true] {
            let id = app.with("tasks", "n", &[json!(1)]).await.remove(0);
            let given_up = async || {
                let mut work = app.begin();
                let before = work.savepoint();
                if changes {
                    work.create("tasks", &object(json!({ "n": 50 }))).await.unwrap();
                }
                assert!(work.count("tasks", &filter(json!([["n", "==", 1]]))).await.unwrap() == 1);
                work.go_back(before);
                work.create("reports", &object(json!({ "ones": 1 }))).await.unwrap();
                work
            };

            let (same, changed) = (given_up().await, given_up().await);
            assert!(app.commit(same).await);
            app.documents.increment(&app.ann, "tasks", &id, "n", 1, Cause::outside()).await.unwrap();
            assert!(!app.commit(changed).await, "it gave up because of what is not so any more");
        }
        assert_eq!(app.field("reports", "ones").await, json!([1, 1]));
        assert_eq!(app.field("tasks", "n").await, json!([2, 2]));
    }
}
