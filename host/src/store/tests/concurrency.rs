//! Many callers at once.

use futures_util::future::join_all;

use super::*;
use crate::store::{NewCode, NewVersion, Updated};

on_every_store! {
    async fn fifty_writers_all_write(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;

        let writers = (0..50).map(|writer| {
            let (store, ann) = (store.clone(), ann.clone());
            tokio::spawn(async move {
                for n in 0..20 {
                    create(&*store, &ann, "tasks", &[json!({ "writer": writer, "n": n })]).await;
                    all(&*store, &ann, "tasks").await;
                }
            })
        });
        for writer in join_all(writers).await {
            writer.unwrap();
        }

        assert_eq!(store.count(&ann, "tasks", &Filter::all()).await.unwrap(), 1_000);
    }

    async fn no_increment_is_lost(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "n": 0 })]).await[0].id.clone();

        let increments = (0..1_000).map(|_| store.increment(&ann, "tasks", &id, "n", 1));
        for incremented in join_all(increments).await {
            assert!(matches!(incremented, Ok(Updated::Done(_))));
        }

        let document = store.document(&ann, "tasks", &id).await.unwrap().unwrap();
        assert_eq!((document.fields()["n"].clone(), document.version), (json!(1_000), 1_001));
    }

    async fn what_is_refused_leaves_the_others_alone(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "text": "x", "n": 0 })]).await[0].id.clone();

        let mixed = (0..300).map(|n| store.increment(&ann, "tasks", &id, if n % 3 == 0 { "text" } else { "n" }, 1));
        let refused = join_all(mixed).await.into_iter().filter(Result::is_err).count();

        let document = store.document(&ann, "tasks", &id).await.unwrap().unwrap();
        assert_eq!((refused, document.fields()["n"].clone(), document.fields()["text"].clone()), (100, json!(200), json!("x")));
    }

    async fn a_name_is_taken_once_by_many(store) {
        root(&*store, "one").await;
        let code = || NewCode::JavaScript { source: "x".into(), parameters: 0 };
        let version = || NewVersion { code: code(), hash: "x".into(), limits: Default::default(), delivery: Default::default() };

        let added = join_all((0..20).map(|_| store.add_function("one", "hello", "web", version()))).await;

        assert_eq!(added.iter().filter(|added| added.is_ok()).count(), 1);
        assert_eq!(store.functions("one").await.unwrap().len(), 1);
    }

    async fn callers_that_go_away_leave_the_store_working(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        let id = create(&*store, &ann, "tasks", &[json!({ "n": 0 })]).await[0].id.clone();
        let page = PageRequest::default();

        for polls in 0..200 {
            let write = store.increment(&ann, "tasks", &id, "n", 1);
            let everything = Filter::all();
            let read = store.list(&ann, "tasks", &everything, &page);
            // Dropped after as many steps, wherever they are then.
            let _ = tokio::time::timeout(std::time::Duration::from_micros(polls * 10), join_all([
                Box::pin(async { drop(write.await) }) as futures_util::future::BoxFuture<'_, ()>,
                Box::pin(async { drop(read.await) }),
            ]))
            .await;
        }

        let Updated::Done(document) = store.increment(&ann, "tasks", &id, "n", 1).await.unwrap() else {
            unreachable!("the document is there")
        };
        assert_eq!(document.fields()["n"], json!(document.version - 1));
        assert_eq!(all(&*store, &ann, "tasks").await, [document]);
    }
}
