//! What the verbs on documents do.

use super::*;
use crate::store::{Fingerprint, StoreError, Updated};

fn done(updated: Updated) -> Document {
    match updated {
        Updated::Done(document) => document,
        other => unreachable!("{other:?}"),
    }
}

async fn numbers(store: &dyn Store, who: &Identity, count: usize) -> Vec<Document> {
    let contents: Vec<Value> = (0..count).map(|n| json!({ "n": n })).collect();
    create(store, who, "numbers", &contents).await
}

on_every_store! {
    async fn a_document_is_read_back_as_it_was_created(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let text = r#"{"b":1.0,"a":{"z":[1e+300,-0.0,0.1,18446744073709551615],"":"é😀\u0001\"\\"},"__proto__":null}"#;

        let created = create(&*store, &ann, "tasks", &[serde_json::from_str(text).unwrap()]).await.remove(0);

        let read = store.document(&ann, "tasks", &created.id).await.unwrap().unwrap();
        assert_eq!(read, created);
        assert_eq!((read.account.as_str(), read.owner.as_str(), read.version), ("a", "ann", 1));
        let whole = format!(r#"{{"id":"{}","accountId":"a",{}"#, created.id, &text[1..]);
        assert_eq!(*read.text, whole);
    }

    async fn numbers_keep_their_last_digit(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let numbers = json!([0.30000000000000004, 123456.78901234567, 5e-324, 1.7976931348623157e308, 9007199254740993_i64]);

        create(&*store, &ann, "tasks", &[json!({ "n": numbers })]).await;

        assert_eq!(values(&all(&*store, &ann, "tasks").await, "n"), json!([numbers]));
    }

    async fn clients_choose_neither_id_nor_account(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let mine = json!({ "id": "mine", "accountId": "theirs", "a": 1 });

        let created = create(&*store, &ann, "tasks", std::slice::from_ref(&mine)).await.remove(0);
        let updated = store.update_document(&ann, "tasks", &created.id, object(mine)).await.unwrap();

        assert_ne!(created.id, "mine");
        assert_eq!(*done(updated).text, format!(r#"{{"id":"{}","accountId":"a","a":1}}"#, created.id));
        assert_eq!(store.document(&ann, "tasks", "mine").await.unwrap(), None);
    }

    async fn all_fields_are_replaced_in_the_version_that_was_seen(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let ben = somebody(&*store, "one", "b", "ben").await;
        let made = create(&*store, &ann, "tasks", &[json!({ "a": 1, "b": 2 })]).await.remove(0);
        let mut expected = made.clone();
        expected.set(&object(json!({ "c": 3 }))).unwrap();
        let replace = || {
            let content = object(json!({ "c": 3, "id": "mine", "accountId": "mine" }));
            let step = Step::Replace { collection: "tasks".into(), id: made.id.clone(), content };
            let mut transaction = Transaction::of(ann.clone(), Stored::UNLIMITED, Cause::outside(), step, Vec::new());
            let seen = Fingerprint::of(&Done::Updated(Updated::Done(expected.clone())));
            transaction.steps[0].expected = Some(seen);
            transaction.steps[0].cause = Some(Cause::outside().by("function", 1, 1));
            transaction
        };
        let mut of_ben = replace();
        (of_ben.who, of_ben.steps[0].expected) = (ben, None);

        let of_ben = store.commit(of_ben).await.unwrap().done;
        let replaced = store.commit(replace()).await.unwrap();
        let again = store.commit(replace()).await;

        assert!(matches!(of_ben.as_slice(), [Done::Updated(Updated::Missing)]), "{of_ben:?}");
        assert_eq!(replaced.done[0].documents(), std::slice::from_ref(&expected));
        assert_eq!(*expected.text, format!(r#"{{"id":"{}","accountId":"a","c":3}}"#, made.id));
        assert_eq!((replaced.events.len(), replaced.events[0].cause.depth), (1, 1), "with a cause of its own");
        assert!(matches!(again, Err(StoreError::Conflict)));
        assert_eq!(store.document(&ann, "tasks", &made.id).await.unwrap(), Some(expected));
    }

    async fn what_a_change_would_change_is_found_without_changing_it(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let ben = somebody(&*store, "one", "b", "ben").await;
        let of_ann = numbers(&*store, &ann, 5).await;
        create(&*store, &ben, "numbers", &[json!({ "n": 4 })]).await;
        let (some, all) = (filter(json!([["n", ">=", 3]])), Filter::all());

        let found = store.writable(&ann, "numbers", &some).await.unwrap();

        assert_eq!(found, of_ann[3..]);
        assert_eq!(store.writable(&ann, "numbers", &all).await.unwrap(), of_ann);
        assert_eq!(store.writable(&ben, "numbers", &some).await.unwrap().len(), 1);
        // Everybody may read these, and only their account may write.
        create(&*store, &ann, "news_764_", &[json!({ "n": 4 })]).await;
        assert!(store.writable(&ben, "news_764_", &all).await.unwrap().is_empty());
        // And these the other way round.
        create(&*store, &ann, "box_662_", &[json!({ "n": 4 })]).await;
        assert!(store.writable(&ben, "box_662_", &all).await.unwrap().is_empty());
    }

    async fn documents_are_created_all_or_none(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let large = json!({ "a": "x".repeat(2 << 20) });
        let contents = vec![object(json!({})), object(large), object(json!({}))];

        let refused = store.create_documents(&ann, "tasks", contents).await;

        assert!(matches!(refused, Err(StoreError::TooLarge(_))));
        assert_eq!(all(&*store, &ann, "tasks").await, []);
        assert_eq!(create(&*store, &ann, "tasks", &[]).await, []);
    }

    async fn a_list_is_paged_in_the_order_of_creation(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        numbers(&*store, &ann, 7).await;
        let page = |page, size, descending| PageRequest { page, size, sort: None, descending };

        for (request, expected) in [
            (page(1, 3, false), json!([0, 1, 2])),
            (page(3, 3, false), json!([6])),
            (page(4, 3, false), json!([])),
            (page(u32::MAX, 1_000, false), json!([])),
            (page(1, 3, true), json!([6, 5, 4])),
            (page(3, 3, true), json!([0])),
            (page(0, 2, false), json!([0, 1])),
            (page(1, 0, false), json!([0])),
            (page(1, u32::MAX, false), json!([0, 1, 2, 3, 4, 5, 6])),
        ] {
            let found = store.list(&ann, "numbers", &Filter::all(), &request).await.unwrap();
            assert_eq!(values(&found.results, "n"), expected, "{request:?}");
            assert_eq!((found.page, found.size, found.total), (request.page, request.size, 7));
        }
    }

    async fn the_total_counts_what_matches(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        numbers(&*store, &ann, 7).await;
        let some = filter(json!([["n", ">", 1], ["n", "<", 6]]));

        let page = PageRequest { size: 2, descending: true, ..PageRequest::default() };
        let found = store.list(&ann, "numbers", &some, &page).await.unwrap();

        assert_eq!((values(&found.results, "n"), found.total), (json!([5, 4]), 4));
        assert_eq!(store.count(&ann, "numbers", &some).await.unwrap(), 4);
        assert_eq!(store.count(&ann, "numbers", &Filter::all()).await.unwrap(), 7);
    }

    async fn an_unknown_collection_is_empty(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;

        let page = store.list(&ann, "nothing", &Filter::all(), &PageRequest::default()).await.unwrap();

        assert_eq!((page.page, page.size, page.total, page.results), (1, 25, 0, vec![]));
        assert_eq!(store.count(&ann, "nothing", &Filter::all()).await.unwrap(), 0);
        assert_eq!(store.document(&ann, "nothing", "x").await.unwrap(), None);
        assert!(matches!(store.increment(&ann, "nothing", "x", "n", 1).await, Ok(Updated::Missing)));
    }

    async fn a_list_is_sorted_by_kind_and_value(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let sorted = [
            json!(null), json!(false), json!(true), json!(-1e300), json!(-1), json!(0.5), json!(1), json!(10),
            json!(9007199254740992_i64), json!(9007199254740993_i64), json!(1e300),
            json!(""), json!("10"), json!("9"), json!("Z"), json!("a"), json!("ä"), json!("\u{ffff}"), json!("😀"),
        ];
        let mixed: Vec<Value> = (0..sorted.len()).map(|i| json!({ "v": { "w": sorted[i * 7 % sorted.len()] } })).collect();
        create(&*store, &ann, "tasks", &mixed).await;
        let request = |descending| PageRequest { size: 100, sort: Some("v.w".into()), descending, ..PageRequest::default() };
        let found = async |descending| {
            let page = store.list(&ann, "tasks", &Filter::all(), &request(descending)).await.unwrap();
            page.results.iter().map(|document| document.fields()["v"]["w"].clone()).collect::<Vec<_>>()
        };

        assert_eq!(found(false).await, sorted);
        assert_eq!(found(true).await, sorted.iter().rev().cloned().collect::<Vec<_>>());
    }

    async fn ties_are_sorted_by_age_and_pages_do_not_overlap(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let contents: Vec<Value> = (0..9).map(|n| json!({ "n": n, "same": "x", "list": [n] })).collect();
        create(&*store, &ann, "tasks", &contents).await;
        for (sort, descending, expected) in [
            ("same", false, json!([3, 4, 5])),
            ("same", true, json!([5, 4, 3])),
            ("missing", false, json!([3, 4, 5])),
            ("n.x.0", true, json!([5, 4, 3])),
        ] {
            let request = PageRequest { page: 2, size: 3, sort: Some(sort.into()), descending };
            let found = store.list(&ann, "tasks", &Filter::all(), &request).await.unwrap();
            assert_eq!(values(&found.results, "n"), expected, "{request:?}");
        }
    }

    async fn a_sort_that_cannot_be_is_refused_in_a_sentence(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        numbers(&*store, &ann, 2).await;
        let list = async |sort: String| {
            let request = PageRequest { sort: Some(sort), ..PageRequest::default() };
            store.list(&ann, "numbers", &Filter::all(), &request).await
        };

        for sort in ["a".repeat(300), "a.".repeat(20), "a\0".into()] {
            assert!(matches!(list(sort).await, Err(StoreError::Invalid(error)) if error.starts_with("the sort field")));
        }
        for sort in ["n; drop table documents", "n\"", "$", "]", "'", "n desc --", "\\", "..", "?1"] {
            assert_eq!(list(sort.into()).await.unwrap().results.len(), 2, "{sort}");
        }
    }

    async fn documents_are_read_in_the_order_that_is_asked_for(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let made = numbers(&*store, &ann, 3).await;
        let ids = [&made[2].id, "unknown", "\0", &made[0].id, &made[2].id].map(str::to_owned);

        let found = store.documents(&ann, "numbers", &ids).await.unwrap();

        assert_eq!(values(&found, "n"), json!([2, 0]));
        assert_eq!(store.documents(&ann, "numbers", &[]).await.unwrap(), []);
    }

    async fn an_update_merges_the_top_level(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "a": { "x": 1 }, "b": 2 })]).await[0].id.clone();

        let updated = store.update_document(&ann, "tasks", &id, object(json!({ "c": [1], "a": { "y": 2 } }))).await;

        let updated = done(updated.unwrap());
        assert_eq!(content(&updated).to_string(), r#"{"a":{"y":2},"b":2,"c":[1]}"#);
        assert_eq!(updated.version, 2);
        assert_eq!(store.document(&ann, "tasks", &id).await.unwrap(), Some(updated));
    }

    async fn an_update_that_makes_it_too_large_changes_nothing(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "a": "x".repeat(600_000) })]).await[0].id.clone();
        let changes = object(json!({ "b": "x".repeat(600_000) }));

        let one = store.update_document(&ann, "tasks", &id, changes.clone()).await;
        let many = store.update_documents(&ann, "tasks", &Filter::all(), changes).await;

        assert!(matches!(one, Err(StoreError::TooLarge(_))));
        assert!(matches!(many, Err(StoreError::TooLarge(_))));
        assert_eq!(all(&*store, &ann, "tasks").await[0].version, 1);
    }

    async fn what_matches_is_updated_and_deleted(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        numbers(&*store, &ann, 5).await;

        let updated = store
            .update_documents(&ann, "numbers", &filter(json!([["n", ">=", 3]])), object(json!({ "big": true })))
            .await
            .unwrap();
        assert_eq!(values(&updated, "big"), json!([true, true]));
        assert_eq!(updated.iter().map(|document| document.version).collect::<Vec<_>>(), [2, 2]);

        let deleted = store.delete_documents(&ann, "numbers", &filter(json!([["big", "!=", true]]))).await.unwrap();
        assert_eq!(values(&deleted, "n"), json!([0, 1, 2]));
        assert_eq!(all(&*store, &ann, "numbers").await, updated);
    }

    async fn a_deleted_document_is_gone(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let made = numbers(&*store, &ann, 2).await;

        assert_eq!(store.delete_document(&ann, "numbers", &made[0].id).await.unwrap().as_ref(), Some(&made[0]));

        assert_eq!(store.delete_document(&ann, "numbers", &made[0].id).await.unwrap(), None);
        assert_eq!(store.delete_document(&ann, "tasks", &made[1].id).await.unwrap(), None);
        assert_eq!(all(&*store, &ann, "numbers").await, made[1..]);
    }

    async fn an_increment_stays_an_integer_while_it_can(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        for (from, by, to) in [
            (json!(1), 4, json!(5)),
            (json!(1), -4, json!(-3)),
            (json!(1.5), 1, json!(2.5)),
            (json!(1.0), 1, json!(2.0)),
            (json!(9007199254740993_i64), 1, json!(9007199254740994_i64)),
            (json!(i64::MAX), 1, json!(i64::MAX as u64 + 1)),
            (json!(u64::MAX), -1, json!(u64::MAX - 1)),
            (json!(u64::MAX), 1, json!(u64::MAX as f64)),
            (json!(i64::MIN), -1, json!(i64::MIN as f64)),
            (json!(1e308), i64::MAX, json!(1e308)),
        ] {
            let id = create(&*store, &ann, "tasks", &[json!({ "n": from })]).await[0].id.clone();
            let after = done(store.increment(&ann, "tasks", &id, "n", by).await.unwrap());
            assert_eq!(content(&after), json!({ "n": to }));
            assert_eq!(store.document(&ann, "tasks", &id).await.unwrap(), Some(after));
        }
    }

    async fn a_missing_number_counts_as_zero_and_other_things_are_refused(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "text": "1", "null": null })]).await[0].id.clone();

        let after = done(store.increment(&ann, "tasks", &id, "new \" field", 3).await.unwrap());

        assert_eq!(after.fields()["new \" field"], json!(3));
        for field in ["text", "null", "id", "accountId", "\0"] {
            let refused = store.increment(&ann, "tasks", &id, field, 1).await;
            assert!(matches!(refused, Err(StoreError::Invalid(_))), "{field}");
        }
        assert_eq!(store.document(&ann, "tasks", &id).await.unwrap(), Some(after));
    }

    async fn collections_are_named_in_order(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        for collection in ["tasks", "pub_x", "tasks", "Apples"] {
            create(&*store, &ann, collection, &[json!({})]).await;
        }

        assert_eq!(store.collections("one").await.unwrap(), ["Apples", "pub_x", "tasks"]);
        assert_eq!(store.collections("two").await.unwrap(), Vec::<String>::new());
    }

    async fn no_more_is_changed_or_read_at_once_than_fits(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let empty = || vec![Content::empty(); 10_000];
        assert!(matches!(
            store.create_documents(&ann, "tasks", vec![Content::empty(); 10_001]).await,
            Err(StoreError::Invalid(_))
        ));
        store.create_documents(&ann, "tasks", empty()).await.unwrap();
        assert_eq!(store.update_documents(&ann, "tasks", &Filter::all(), Content::empty()).await.unwrap().len(), 10_000);
        create(&*store, &ann, "tasks", &[json!({})]).await;

        let refused = store.update_documents(&ann, "tasks", &Filter::all(), Content::empty()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(error)) if error.contains("narrow the filter")));
        let refused = store.delete_documents(&ann, "tasks", &Filter::all()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
        assert_eq!(store.count(&ann, "tasks", &Filter::all()).await.unwrap(), 10_001);

        let large = json!({ "a": "x".repeat(1_000_000) });
        create(&*store, &ann, "large", &vec![large; 40]).await;
        let page = |size| PageRequest { size, ..PageRequest::default() };
        let refused = store.list(&ann, "large", &Filter::all(), &page(40)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(error)) if error.contains("ask for fewer")));
        assert_eq!(store.list(&ann, "large", &Filter::all(), &page(25)).await.unwrap().results.len(), 25);
    }
}
