//! Events are kept until their functions have run well.

use std::collections::HashMap;

use super::*;
use crate::{
    event::{Cause, Event, EventKind},
    listeners::{Listener, Matched},
    message::Message,
    store::{DeadLetter, Failure, Fingerprint, Planned},
};

async fn function(store: &dyn Store, tenant: &str, name: &str) -> Listener {
    let function = store.add_function(tenant, name, "lobby", super::functions::version("x")).await.unwrap();
    Listener { function: function.id, matched: Matched::Channel }
}

fn message(who: &Identity, channel: &str, data: &str) -> Event {
    let message = Message { kind: "said".into(), channel: channel.into(), data: data.into(), ..Message::default() };
    Event::message(who.clone(), message, Cause::outside())
}

async fn keep(store: &dyn Store, event: Event, listeners: &[Listener]) -> Event {
    let mut transaction = Transaction::new(event.identity.clone(), Stored::UNLIMITED, Cause::outside());
    transaction.events.push((event, listeners.to_vec()));
    store.commit(transaction).await.unwrap().events.pop().unwrap()
}

async fn complete(store: &dyn Store, who: &Identity, delivery: i64) -> Result<(), StoreError> {
    let mut transaction = Transaction::new(who.clone(), Stored::UNLIMITED, Cause::outside());
    transaction.delivery = Some(delivery);
    store.commit(transaction).await.map(drop)
}

fn failure(delivery: i64, retry_at: Option<DateTime<Utc>>) -> Failure {
    Failure { delivery, error: "it threw".into(), run: Some("run".into()), counts: true, retry_at }
}

async fn claim(store: &dyn Store, at: DateTime<Utc>) -> Vec<Event> {
    store.claim(at, 100).await.unwrap()
}

fn data(events: &[Event]) -> Vec<&str> {
    let data = events.iter().map(|event| match &event.kind {
        EventKind::Message(message) => message.data.as_str(),
        EventKind::Web(_) | EventKind::Scheduled(_) | EventKind::Before(_) => "",
    });
    data.collect()
}

fn later(seconds: i64) -> DateTime<Utc> {
    Utc::now() + chrono::Duration::seconds(seconds)
}

on_every_store! {
    async fn an_event_is_in_hand_at_once_and_gone_when_it_is_done(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let [first, second] = [function(&*store, "one", "f").await, function(&*store, "one", "g").await];

        let kept = keep(&*store, message(&ann, "lobby", "hello"), &[first.clone(), second.clone()]).await;

        assert_eq!(kept.deliveries.len(), 2);
        assert!(claim(&*store, later(60)).await.is_empty(), "this process has it in hand");
        for delivery in &kept.deliveries {
            complete(&*store, &ann, delivery.id).await.unwrap();
            assert!(matches!(complete(&*store, &ann, delivery.id).await, Err(StoreError::ClaimLost)));
        }
        store.release(vec![kept.deliveries[0].id], later(0)).await.unwrap();
        assert!(claim(&*store, later(60)).await.is_empty());
    }

    async fn what_was_given_back_is_taken_up_again_as_it_was(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let kept = keep(&*store, message(&ann, "lobby", "hello"), std::slice::from_ref(&function)).await;

        store.release(vec![kept.deliveries[0].id], later(30)).await.unwrap();

        assert!(claim(&*store, later(0)).await.is_empty(), "not before its time");
        let again = claim(&*store, later(60)).await.pop().unwrap();
        assert_eq!((again.deliveries, again.identity, again.key), (kept.deliveries, ann, "lobby".into()));
        assert!(again.again);
    }

    async fn a_failure_holds_back_its_key_and_no_other(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let first = keep(&*store, message(&ann, "lobby", "1"), std::slice::from_ref(&function)).await;
        let second = keep(&*store, message(&ann, "lobby", "2"), std::slice::from_ref(&function)).await;

        store.fail(failure(first.deliveries[0].id, Some(later(30))), None).await.unwrap();
        let third = keep(&*store, message(&ann, "lobby", "3"), std::slice::from_ref(&function)).await;
        let other = keep(&*store, message(&ann, "other", "4"), std::slice::from_ref(&function)).await;

        assert!(third.deliveries.is_empty(), "it stands behind the first");
        assert_eq!(other.deliveries.len(), 1);
        assert!(matches!(complete(&*store, &ann, second.deliveries[0].id).await, Err(StoreError::ClaimLost)));
        assert!(claim(&*store, later(0)).await.is_empty());
        let claimed = claim(&*store, later(60)).await;
        assert_eq!(data(&claimed), ["1", "2", "3"]);
        assert_eq!(claimed.iter().map(|event| event.deliveries[0].attempts).collect::<Vec<_>>(), [1, 0, 0]);
    }

    async fn a_dead_letter_lets_the_next_pass_and_can_be_sent_again(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let first = keep(&*store, message(&ann, "lobby", "1"), std::slice::from_ref(&function)).await;
        keep(&*store, message(&ann, "lobby", "2"), std::slice::from_ref(&function)).await;

        store.fail(failure(first.deliveries[0].id, None), None).await.unwrap();

        assert_eq!(data(&claim(&*store, later(0)).await), ["2"]);
        let dead = store.dead_letters("one", &function.function, 10).await.unwrap();
        let [DeadLetter { id, attempts: 1, error, data: text, channel, run, .. }] = dead.as_slice() else {
            unreachable!("{dead:?}")
        };
        assert_eq!((error.as_str(), text.as_str(), channel.as_str()), ("it threw", "1", "lobby"));
        assert_eq!(run.as_deref(), Some("run"));
        assert!(store.dead_letters("two", &function.function, 10).await.unwrap().is_empty());
        assert_eq!(store.resend("one", &function.function, Some(id + 1)).await.unwrap(), 0);
        assert_eq!(store.resend("one", &function.function, None).await.unwrap(), 1);
        let again = claim(&*store, later(1)).await;
        assert_eq!((data(&again), again[0].deliveries[0].attempts), (vec!["1"], 0));
        store.fail(failure(*id, None), None).await.unwrap();
        assert_eq!(store.forget_dead("one", &function.function, Some(*id)).await.unwrap(), 1);
        assert!(store.dead_letters("one", &function.function, 10).await.unwrap().is_empty());
    }

    async fn an_event_is_not_done_before_those_that_stand_before_it(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let [first, second, other] = [("lobby", "1"), ("lobby", "2"), ("other", "3")]
            .map(|(channel, data)| keep(&*store, message(&ann, channel, data), std::slice::from_ref(&function)));
        let [first, second, other] = [first.await, second.await, other.await].map(|event| event.deliveries[0].id);

        assert!(matches!(complete(&*store, &ann, second).await, Err(StoreError::OutOfTurn)));
        complete(&*store, &ann, other).await.unwrap();
        store.fail(failure(first, None), None).await.unwrap();
        assert!(matches!(complete(&*store, &ann, second).await, Err(StoreError::ClaimLost)), "it was given back as well");
        assert_eq!(data(&claim(&*store, later(1)).await), ["2"]);

        complete(&*store, &ann, second).await.unwrap();
    }

    async fn what_an_app_keeps_of_events_is_counted_and_bounded(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let [f, g] = [function(&*store, "one", "f").await, function(&*store, "one", "g").await];
        let events = async || store.stored("one").await.unwrap().events;
        let most = Stored { events: 3, ..Stored::UNLIMITED };

        let kept = keep(&*store, message(&ann, "lobby", "1"), &[f.clone(), g.clone()]).await;
        assert_eq!(events().await, 2);
        let mut transaction = Transaction::new(ann.clone(), most, Cause::outside());
        transaction.events.push((message(&ann, "lobby", "2"), vec![f.clone(), g.clone()]));
        let refused = store.commit(transaction.clone()).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Quota(why) if why.contains("tenant.events")), "{refused}");
        assert_eq!(events().await, 2);
        complete(&*store, &ann, kept.deliveries[0].id).await.unwrap();
        assert_eq!(events().await, 1);
        store.commit(transaction).await.unwrap();
        assert_eq!(events().await, 3);

        store.fail(failure(kept.deliveries[1].id, None), None).await.unwrap();
        assert_eq!(events().await, 3, "a dead letter is kept");
        store.forget_dead("one", &g.function, None).await.unwrap();
        assert_eq!(events().await, 2);
        store.delete_function("one", "f").await.unwrap();
        assert_eq!(events().await, 1);
    }

    async fn a_function_that_is_deleted_takes_its_events_along(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let kept = keep(&*store, message(&ann, "lobby", "1"), std::slice::from_ref(&function)).await;

        store.delete_function("one", "f").await.unwrap();

        assert!(matches!(complete(&*store, &ann, kept.deliveries[0].id).await, Err(StoreError::ClaimLost)));
        assert!(keep(&*store, message(&ann, "lobby", "2"), std::slice::from_ref(&function)).await.deliveries.is_empty());
        assert!(claim(&*store, later(60)).await.is_empty());
    }

    async fn changed_documents_are_events_of_their_own_keys(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let documents: Vec<_> = ["1", "2"].map(|id| Document::new(id.into(), &ann, at(0), &object(json!({}))).unwrap()).into();
        let step = Step::Create { collection: "tasks".into(), documents };

        let transaction = Transaction::of(ann, Stored::UNLIMITED, Cause::outside(), step, vec![function]);
        let events = store.commit(transaction).await.unwrap().events;

        assert_eq!(events.iter().map(|event| event.key.as_str()).collect::<Vec<_>>(), ["db-tasks/1", "db-tasks/2"]);
        assert_eq!(data(&events), [r#"{"id":"1","accountId":"a"}"#, r#"{"id":"2","accountId":"a"}"#]);
        assert!(events.iter().all(|event| event.deliveries.len() == 1));
    }

    async fn a_transaction_that_fails_keeps_nothing(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let made = create(&*store, &ann, "tasks", &[json!({ "n": 1 })]).await.remove(0);
        let get = || Step::Get { collection: "tasks".into(), id: made.id.clone() };
        let expected = Some(Fingerprint::of(&Done::Documents(vec![made.clone()])));
        let transaction = |document: Document| {
            let mut transaction = Transaction::new(ann.clone(), Stored::UNLIMITED, Cause::outside());
            let create = Step::Create { collection: "tasks".into(), documents: vec![document] };
            let listeners = vec![function.clone()];
            transaction.steps.push(Planned { step: create, expected: None, listeners, cause: None });
            transaction.steps.push(Planned { step: get(), expected, listeners: Vec::new(), cause: None });
            transaction
        };
        let new = || Document::new(uuid::Uuid::new_v4().to_string(), &ann, at(0), &object(json!({}))).unwrap();

        assert_eq!(store.preview(transaction(new())).await.unwrap().len(), 2);
        assert_eq!(all(&*store, &ann, "tasks").await.len(), 1, "a preview leaves nothing");
        store.increment(&ann, "tasks", &made.id, "n", 1).await.unwrap();
        let refused = store.commit(transaction(new())).await;

        assert!(matches!(refused, Err(StoreError::Conflict)));
        assert_eq!(all(&*store, &ann, "tasks").await.len(), 1);
        store.release(Vec::new(), later(0)).await.unwrap();
        assert!(claim(&*store, later(60)).await.is_empty());
    }

    async fn each_event_is_taken_by_one_of_many(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let function = function(&*store, "one", "f").await;
        let mut deliveries = Vec::new();
        for number in 0..40 {
            let event = message(&ann, &format!("channel {}", number % 10), &number.to_string());
            deliveries.extend(keep(&*store, event, std::slice::from_ref(&function)).await.deliveries.into_iter().map(|kept| kept.id));
        }
        store.release(deliveries, later(0)).await.unwrap();

        let claims = (0..8).map(|_| store.claim(later(1), 7));
        let claimed: Vec<Event> =
            futures_util::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();

        let mut times: HashMap<i64, u32> = HashMap::new();
        for delivery in claimed.iter().flat_map(|event| &event.deliveries) {
            *times.entry(delivery.id).or_default() += 1;
        }
        assert_eq!((times.len(), times.values().max()), (40, Some(&1)));
    }
}
