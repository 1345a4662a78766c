//! That every verb on documents keeps to the permissions of the collection's name.

use super::*;
use crate::store::{StoreError, Updated};

/// What somebody may do with a document, by every verb.
#[derive(Debug, PartialEq)]
struct Allowed {
    read: bool,
    write: bool,
}

async fn allowed(store: &dyn Store, who: &Identity, collection: &str, owner: &Identity) -> Allowed {
    let id = create(store, owner, collection, &[json!({ "n": 1 })]).await[0].id.clone();
    let ids = [id.clone()];
    let this = filter(json!([["id", "=", id]]));
    let page = PageRequest::default();

    let read = store.document(who, collection, &id).await.unwrap().is_some();
    assert_eq!(store.documents(who, collection, &ids).await.unwrap().len(), usize::from(read));
    assert_eq!(store.list(who, collection, &this, &page).await.unwrap().total, i64::from(read));
    assert_eq!(store.list(who, collection, &this, &page).await.unwrap().results.len(), usize::from(read));
    assert_eq!(store.count(who, collection, &this).await.unwrap(), i64::from(read));

    let changes = object(json!({ "n": 2 }));
    let updated = match store.update_document(who, collection, &id, changes.clone()).await.unwrap() {
        Updated::Done(_) => Some(true),
        Updated::Forbidden => Some(false),
        Updated::Missing => None,
    };
    let incremented = match store.increment(who, collection, &id, "n", 1).await.unwrap() {
        Updated::Done(_) => Some(true),
        Updated::Forbidden => Some(false),
        Updated::Missing => None,
    };
    assert_eq!(updated.is_some(), read, "what cannot be read is missing");
    assert_eq!(incremented, updated);
    let many = store.update_documents(who, collection, &this, changes).await.unwrap().len();
    assert_eq!(many, usize::from(updated == Some(true)));

    let kept = all(store, owner, collection).await.last().map(|document| document.version);
    assert_eq!(kept, Some(if updated == Some(true) { 4 } else { 1 }));
    let deleted = if updated == Some(true) {
        store.delete_documents(who, collection, &this).await.unwrap().len() == 1
    } else {
        assert_eq!(store.delete_documents(who, collection, &this).await.unwrap(), []);
        store.delete_document(who, collection, &id).await.unwrap().is_some()
    };
    assert_eq!(store.document(owner, collection, &id).await.unwrap().is_none(), deleted);
    Allowed { read, write: deleted }
}

on_every_store! {
    async fn the_name_of_the_collection_decides(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let bob = somebody(&*store, "one", "a", "bob").await;
        let eve = somebody(&*store, "one", "b", "eve").await;
        for (collection, colleague, stranger) in [
            ("tasks", (true, false), (false, false)),
            ("x_700_", (false, false), (false, false)),
            ("x_000_", (false, false), (false, false)),
            ("x_760_", (true, true), (false, false)),
            ("x_744_", (true, false), (true, false)),
            ("x_774_", (true, true), (true, false)),
            ("x_776_", (true, true), (true, true)),
            ("x_772_", (true, true), (false, true)),
            ("pub_x", (true, false), (true, false)),
        ] {
            for (who, (read, write)) in [(&ann, (true, true)), (&bob, colleague), (&eve, stranger)] {
                let found = allowed(&*store, who, collection, &ann).await;
                assert_eq!(found, Allowed { read, write }, "{} in {collection}", who.user);
            }
        }
    }

    async fn root_may_do_everything(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let root = root(&*store, "one").await;
        for collection in ["x_000_", "tasks", "pub_x"] {
            assert_eq!(allowed(&*store, &root, collection, &ann).await, Allowed { read: true, write: true });
        }
    }

    async fn an_anonymous_caller_creates_and_reads_in_public_collections(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let nobody = Identity::anonymous("one".into());

        let made = create(&*store, &nobody, "pub_x", &[json!({ "by": "nobody" })]).await;
        create(&*store, &ann, "pub_x", &[json!({ "by": "ann" })]).await;

        assert_eq!((made[0].account.as_str(), made[0].owner.as_str()), ("", ""));
        assert_eq!(made[0].fields()["accountId"], "");
        assert_eq!(values(&all(&*store, &nobody, "pub_x").await, "by"), json!(["nobody", "ann"]));
        let changes = object(json!({ "by": "x" }));
        for who in [&nobody, &ann] {
            let updated = store.update_document(who, "pub_x", &made[0].id, changes.clone()).await.unwrap();
            assert!(matches!(updated, Updated::Forbidden));
            assert_eq!(store.delete_document(who, "pub_x", &made[0].id).await.unwrap(), None);
        }
        let refused = store.create_documents(&nobody, "x_776_", vec![object(json!({}))]).await;
        assert!(matches!(refused, Err(StoreError::Forbidden)));
        create(&*store, &ann, "x_776_", &[json!({})]).await;
        assert_eq!(all(&*store, &nobody, "x_776_").await, []);
    }

    async fn tenants_never_meet(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let twin = somebody(&*store, "two", "a", "ann").await;
        let (root_of_one, root_of_two) = (root(&*store, "one").await, root(&*store, "two").await);
        create(&*store, &ann, "x_776_", &[json!({ "of": "one" })]).await;
        let others = create(&*store, &twin, "x_776_", &[json!({ "of": "two" })]).await;
        let id = &others[0].id;

        for who in [&ann, &root_of_one] {
            assert_eq!(values(&all(&*store, who, "x_776_").await, "of"), json!(["one"]));
            assert_eq!(store.document(who, "x_776_", id).await.unwrap(), None);
            assert_eq!(store.documents(who, "x_776_", std::slice::from_ref(id)).await.unwrap(), []);
            let changes = object(json!({ "of": "x" }));
            assert!(matches!(store.update_document(who, "x_776_", id, changes.clone()).await, Ok(Updated::Missing)));
            assert!(matches!(store.increment(who, "x_776_", id, "n", 1).await, Ok(Updated::Missing)));
            assert_eq!(store.delete_document(who, "x_776_", id).await.unwrap(), None);
            let theirs = filter(json!([["id", "=", id]]));
            assert_eq!(store.update_documents(who, "x_776_", &theirs, changes).await.unwrap(), []);
            assert_eq!(store.delete_documents(who, "x_776_", &theirs).await.unwrap(), []);
        }

        assert_eq!(all(&*store, &root_of_two, "x_776_").await, others);
        store.delete_documents(&root_of_one, "x_776_", &Filter::all()).await.unwrap();
        assert_eq!(store.collections("one").await.unwrap(), Vec::<String>::new());
        assert_eq!(store.collections("two").await.unwrap(), ["x_776_"]);
    }
}
