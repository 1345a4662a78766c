//! What a tenant keeps is counted and limited.

use super::*;
use crate::{event::Cause, store::Planned};

async fn commit(store: &dyn Store, who: &Identity, most: Stored, steps: Vec<Step>) -> Result<Vec<Done>, StoreError> {
    let planned = |step| Planned { step, expected: None, listeners: Vec::new(), cause: None };
    let steps = steps.into_iter().map(planned).collect();
    let transaction = Transaction { steps, ..Transaction::new(who.clone(), most, Cause::outside()) };
    store.commit(transaction).await.map(|committed| committed.done)
}

fn new(who: &Identity, content: Value) -> Document {
    Document::new(uuid::Uuid::new_v4().to_string(), who, at(0), &object(content)).unwrap()
}

fn creation(documents: &[Document]) -> Step {
    Step::Create { collection: "tasks".into(), documents: documents.to_vec() }
}

on_every_store! {
    async fn what_is_kept_is_counted_through_every_change(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let ben = somebody(&*store, "two", "b", "ben").await;
        create(&*store, &ben, "tasks", &[json!({})]).await;
        let made = create(&*store, &ann, "tasks", &[json!({ "n": 1 }), json!({ "text": "ä" }), json!({})]).await;

        store.update_document(&ann, "tasks", &made[0].id, object(json!({ "more": "x".repeat(100) }))).await.unwrap();
        store.increment(&ann, "tasks", &made[2].id, "n", 1).await.unwrap();
        store.update_documents(&ann, "tasks", &filter(json!([["n", "=", 1]])), object(json!({ "b": [] }))).await.unwrap();
        store.delete_document(&ann, "tasks", &made[1].id).await.unwrap();
        assert!(store.increment(&ann, "tasks", &made[0].id, "more", 1).await.is_err());

        let kept = all(&*store, &ann, "tasks").await;
        let bytes: usize = kept.iter().map(|document| document.text.len()).sum();
        assert_eq!(store.stored("one").await.unwrap(), Stored { documents: 2, bytes: bytes as i64, events: 0 });
        assert_eq!(store.stored("two").await.unwrap().documents, 1);
        store.delete_documents(&ann, "tasks", &Filter::all()).await.unwrap();
        assert_eq!(store.stored("one").await.unwrap(), Stored::default());
        assert_eq!(store.stored("nobody").await.unwrap(), Stored::default());
    }

    async fn more_than_may_be_kept_is_refused_as_a_whole(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let most = Stored { documents: 3, ..Stored::UNLIMITED };
        let many = [new(&ann, json!({})), new(&ann, json!({}))];

        commit(&*store, &ann, most, vec![creation(&many)]).await.unwrap();
        let refused = commit(&*store, &ann, most, vec![creation(&[new(&ann, json!({})), new(&ann, json!({}))])]).await;

        assert!(matches!(refused, Err(StoreError::Quota(text)) if text.contains("at most 3 documents")));
        assert_eq!(store.stored("one").await.unwrap().documents, 2);
        let exchange = vec![
            creation(&[new(&ann, json!({})), new(&ann, json!({}))]),
            Step::Delete { collection: "tasks".into(), id: many[0].id.clone() },
        ];
        commit(&*store, &ann, most, exchange).await.unwrap();
        assert_eq!(all(&*store, &ann, "tasks").await.len(), 3);
    }

    async fn who_keeps_too_much_can_still_make_it_less(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let made = create(&*store, &ann, "tasks", &[json!({ "text": "x".repeat(1_000) }), json!({})]).await;
        let most = Stored { documents: 1, bytes: 500, ..Stored::UNLIMITED };
        let update = |text: String| Step::Update {
            collection: "tasks".into(),
            id: made[0].id.clone(),
            changes: object(json!({ "text": text })),
        };

        let refused = commit(&*store, &ann, most, vec![update("x".repeat(1_001))]).await;
        assert!(matches!(refused, Err(StoreError::Quota(text)) if text.contains("500 bytes of documents")));
        commit(&*store, &ann, most, vec![update("x".repeat(999))]).await.unwrap();
        let delete = Step::Delete { collection: "tasks".into(), id: made[0].id.clone() };
        commit(&*store, &ann, most, vec![delete]).await.unwrap();

        assert_eq!(store.stored("one").await.unwrap().documents, 1);
    }

    async fn steps_are_taken_together_or_not_at_all(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "n": 1, "text": "" })]).await[0].id.clone();
        let increment = |field: &str| Step::Increment {
            collection: "tasks".into(),
            id: id.clone(),
            field: field.into(),
            by: 1,
        };

        let refused = commit(&*store, &ann, Stored::UNLIMITED, vec![increment("n"), increment("text")]).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
        assert_eq!(values(&all(&*store, &ann, "tasks").await, "n"), json!([1]));
        let done = commit(&*store, &ann, Stored::UNLIMITED, vec![increment("n"), increment("n"), creation(&[])]).await;

        let done = done.unwrap();
        assert_eq!(done.iter().map(|done| done.documents().len()).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(values(done[1].documents(), "n"), json!([3]));
    }
}
