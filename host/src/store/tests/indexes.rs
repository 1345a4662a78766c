//! Indexes of fields: asked for, counted, used and removed, and never seen in what queries find.

use super::*;

pub fn field(name: &str) -> Field {
    Field::parse(name).unwrap()
}

async fn names(store: &dyn Store, tenant: &str) -> Vec<String> {
    let indexes = store.indexes(tenant).await.unwrap();
    indexes.iter().map(|index| format!("{} {} {}", index.collection, index.field, index.is_ready)).collect()
}

/// Queries that are to be answered by an index of the field `a`, and how many of a hundred documents they find.
pub fn queries() -> Vec<(Value, Option<&'static str>)> {
    vec![
        (json!([]), Some("a")),
        (json!([["a", "==", 7]]), None),
        (json!([["a", "=", "text 7"]]), None),
        (json!([["a", "<", 3]]), None),
        (json!([["a", ">=", "text 9"]]), None),
        (json!([["a", ">", 1], ["a", "<=", 3]]), Some("a")),
        (json!([["a", "in", [1, 2, "text 3"]]]), None),
        (json!([["a", "in", ["text 3"]], ["b", "!=", 1]]), None),
    ]
}

/// Many documents with numbers and texts in `a`, in a collection between others, and an index for the field.
pub async fn many(store: &dyn Store, root: &Identity) {
    for collection in ["before", "many", "other"] {
        for part in 0..5 {
            let numbers = (part * 1_000..(part + 1) * 1_000).map(|n| match n % 2 {
                0 => json!({ "a": n / 2, "b": n }),
                _ => json!({ "a": format!("text {}", n / 2), "b": n }),
            });
            create(store, root, collection, &numbers.collect::<Vec<_>>()).await;
        }
    }
    assert!(store.add_index("one", "many", &field("a"), 10).await.unwrap());
}

on_every_store! {
    async fn indexes_are_added_once_listed_and_removed(store) {
        somebody(&*store, "one", "a", "ann").await;
        somebody(&*store, "two", "a", "bob").await;

        for _ in 0..2 {
            assert!(store.add_index("one", "tasks", &field("a.b"), 2).await.unwrap());
        }
        assert!(store.add_index("one", "tasks", &field("a"), 2).await.unwrap());
        assert!(!store.add_index("one", "tasks", &field("c"), 2).await.unwrap());
        assert!(store.add_index("one", "tasks", &field("a"), 0).await.unwrap(), "it is there");
        assert!(store.add_index("two", "tasks", &field("a"), 2).await.unwrap());

        assert_eq!(names(&*store, "one").await, ["tasks a true", "tasks a.b true"]);
        assert!(!store.delete_index("one", "other", &field("a")).await.unwrap());
        assert!(store.delete_index("one", "tasks", &field("a")).await.unwrap());
        assert!(!store.delete_index("one", "tasks", &field("a")).await.unwrap());
        store.mend_indexes().await.unwrap();
        assert_eq!(names(&*store, "one").await, ["tasks a.b true"]);
        assert_eq!(names(&*store, "two").await, ["tasks a true"]);
    }

    async fn queries_find_the_same_with_indexes(store) {
        super::filters::assert_found(&*store, 60, true).await;
    }

    async fn changes_of_documents_reach_their_index(store) {
        let root = root(&*store, "one").await;
        assert!(store.add_index("one", "tasks", &field("a"), 1).await.unwrap());
        let made = create(&*store, &root, "tasks", &[json!({ "a": 1 }), json!({ "a": "x".repeat(100_000) })]).await;
        let count = async |value: Value| {
            store.count(&root, "tasks", &filter(json!([["a", "=", value]]))).await.unwrap()
        };

        assert_eq!((count(json!(1)).await, count(json!("x".repeat(100_000))).await), (1, 1));
        store.update_document(&root, "tasks", &made[0].id, object(json!({ "a": 2 }))).await.unwrap();
        store.delete_document(&root, "tasks", &made[1].id).await.unwrap();

        assert_eq!((count(json!(1)).await, count(json!(2)).await), (0, 1));
        assert_eq!(count(json!("x".repeat(100_000))).await, 0);
    }

    async fn many_ask_for_indexes_at_once_and_while_others_write(store) {
        let root = root(&*store, "one").await;
        let fields = ["a", "b", "a", "c", "b", "a"].map(field);
        let adding = fields.iter().map(|field| store.add_index("one", "tasks", field, 10));
        let writing = async {
            for n in 0..20 {
                create(&*store, &root, "tasks", &[json!({ "a": n, "b": n, "c": n })]).await;
            }
        };

        let (added, ()) = tokio::join!(futures_util::future::join_all(adding), writing);

        assert!(added.into_iter().all(|added| added.unwrap()));
        assert_eq!(names(&*store, "one").await, ["tasks a true", "tasks b true", "tasks c true"]);
        assert_eq!(store.count(&root, "tasks", &filter(json!([["b", ">=", 5]]))).await.unwrap(), 15);
    }
}
