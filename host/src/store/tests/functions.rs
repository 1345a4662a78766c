//! Functions, their versions and their runs.

use bytes::Bytes;

use super::*;
use crate::{
    function::{Code, Delivery, Function},
    quota::OwnLimits,
    run::{Outcome, Run, Used},
    statistics::{Failure, Figures},
    store::{LISTED_SOURCE, NewCode, NewVersion, StoreError},
};

pub(in crate::store) fn version(source: &str) -> NewVersion {
    NewVersion {
        code: NewCode::JavaScript { source: source.into(), parameters: 2 },
        hash: format!("hash of {source}"),
        limits: OwnLimits { fuel: Some(7), ..OwnLimits::default() },
        delivery: Delivery::AtMostOnce,
    }
}

async fn add(store: &dyn Store, tenant: &str, name: &str) -> Function {
    root(store, tenant).await;
    store.add_function(tenant, name, "web", version("one")).await.unwrap()
}

fn run(function: &Function, id: &str, seconds: i64) -> Run {
    Run {
        id: id.into(),
        tenant: function.tenant.clone(),
        function: function.id.clone(),
        version: 1,
        trigger: "web".into(),
        outcome: Outcome::Ok,
        error: None,
        started: at(seconds),
        completed: at(seconds + 1),
        duration_us: 1_000_000,
        fuel: i64::MAX,
        peak_memory: 1 << 40,
        guest_us: 1,
        host_us: 2,
        queued_us: 3,
        used: Used { writes: 4, ..Used::default() },
        trace_id: "trace".into(),
        depth: 1,
        chain: "a → b".into(),
        log: vec!["hello \"world\"\n\u{1}".into(), String::new(), "💥".into()],
    }
}

fn ids(runs: &[Run]) -> Vec<&str> {
    runs.iter().map(|run| run.id.as_str()).collect()
}

fn names(functions: &[Function]) -> Vec<&str> {
    functions.iter().map(|function| function.name.as_str()).collect()
}

on_every_store! {
    async fn a_function_is_found_by_name_and_id(store) {
        let added = add(&*store, "one", "hello").await;

        assert_eq!((added.name.as_str(), added.trigger.as_str(), added.last_run), ("hello", "web", None));
        assert_eq!(added.version.code, Code::JavaScript { source: "one".into(), parameters: 2 });
        assert_eq!((added.version.number, added.version.bytes), (1, 3));
        assert_eq!(added.version.hash, "hash of one");
        assert_eq!(store.function("one", "hello").await.unwrap().as_ref(), Some(&added));
        assert_eq!(store.function_by_id("one", &added.id).await.unwrap().as_ref(), Some(&added));
        assert_eq!(store.function("one", "Hello").await.unwrap(), None);
        assert_eq!(store.function_by_id("two", &added.id).await.unwrap(), None);
    }

    async fn a_name_is_taken_once_in_each_tenant(store) {
        let first = add(&*store, "one", "hello").await;

        let again = store.add_function("one", "hello", "web", version("two")).await;

        assert!(matches!(again, Err(StoreError::NameTaken(name)) if name == "hello"));
        assert_eq!(store.function("one", "hello").await.unwrap(), Some(first));
        add(&*store, "two", "hello").await;
    }

    async fn versions_count_on_after_a_rollback(store) {
        let function = add(&*store, "one", "hello").await;
        let second = store.add_version("one", &function.id, "chan_out", version("two")).await.unwrap().unwrap();
        assert_eq!((second.version.number, second.trigger.as_str()), (2, "chan_out"));

        let back = store.set_version("one", &function.id, 1).await.unwrap().unwrap();
        assert_eq!((back.version, back.trigger.as_str()), (function.version.clone(), "chan_out"));

        let third = store.add_version("one", &function.id, "web", version("three")).await.unwrap().unwrap();
        assert_eq!((third.version.number, third.version.code.source()), (3, "three"));
        assert_eq!(store.function("one", "hello").await.unwrap(), Some(third));
        let versions = store.versions("one", &function.id, 2).await.unwrap();
        assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 2]);
        let newest = store.versions("one", &function.id, 1).await.unwrap();
        assert_eq!((newest[0].number, newest[0].code.source()), (3, "three"));
    }

    async fn a_component_stays_in_the_store_until_it_is_asked_for(store) {
        let function = add(&*store, "one", "hello").await;
        root(&*store, "two").await;
        let bytes = Bytes::from_static(b"\0asm\xff\0");
        let component = NewVersion { code: NewCode::Component(bytes.clone()), ..version("two") };

        let second = store.add_version("one", &function.id, "web", component).await.unwrap().unwrap();

        assert_eq!((second.version.code.clone(), second.version.bytes), (Code::Component, 6));
        assert_eq!(store.versions("one", &function.id, 1).await.unwrap(), [second.version]);
        assert_eq!(store.component("one", &function.id, 2).await.unwrap(), Some(bytes));
        for (tenant, number) in [("one", 1), ("one", 3), ("two", 2)] {
            assert_eq!(store.component(tenant, &function.id, number).await.unwrap(), None);
        }
    }

    async fn the_newest_versions_and_the_current_one_are_kept(store) {
        let function = add(&*store, "one", "hello").await;
        for source in ["two", "three", "four", "five"] {
            store.add_version("one", &function.id, "web", version(source)).await.unwrap();
        }
        store.set_version("one", &function.id, 2).await.unwrap();

        assert_eq!(store.prune_versions("two", &function.id, 1).await.unwrap(), [] as [String; 0]);
        let mut gone = store.prune_versions("one", &function.id, 2).await.unwrap();

        gone.sort();
        assert_eq!(gone, ["hash of one", "hash of three"]);
        let kept = store.versions("one", &function.id, 9).await.unwrap();
        assert_eq!(kept.iter().map(|version| version.number).collect::<Vec<_>>(), [5, 4, 2]);
        assert_eq!(store.function("one", "hello").await.unwrap().unwrap().version.number, 2);
        let next = store.add_version("one", &function.id, "web", version("six")).await.unwrap().unwrap();
        assert_eq!(next.version.number, 6);
    }

    async fn a_hash_is_used_as_long_as_any_version_has_it(store) {
        let function = add(&*store, "one", "hello").await;
        add(&*store, "two", "hello").await;
        let hashes = || vec!["hash of one".to_owned(), "hash of nothing".to_owned()];
        assert_eq!(store.unused_hashes(hashes()).await.unwrap(), ["hash of nothing"]);

        store.delete_function("one", &function.name).await.unwrap();
        assert_eq!(store.unused_hashes(hashes()).await.unwrap(), ["hash of nothing"]);
        store.delete_function("two", &function.name).await.unwrap();

        let mut unused = store.unused_hashes(hashes()).await.unwrap();
        unused.sort();
        assert_eq!(unused, ["hash of nothing", "hash of one"]);
        assert_eq!(store.unused_hashes(Vec::new()).await.unwrap(), [] as [String; 0]);
    }

    async fn a_list_leaves_out_long_sources(store) {
        let function = add(&*store, "one", "hello").await;
        let long = "x".repeat(LISTED_SOURCE + 1);
        store.add_version("one", &function.id, "web", version(&long)).await.unwrap();
        store.add_function("one", "short", "web", version(&long[1..])).await.unwrap();

        let listed = store.functions("one").await.unwrap();

        let sources: Vec<usize> = listed.iter().map(|function| function.version.code.source().len()).collect();
        assert_eq!((names(&listed), sources), (vec!["short", "hello"], vec![LISTED_SOURCE, 0]));
        assert_eq!(listed[1].version.bytes, long.len() as u64);
        assert_eq!(store.function("one", "hello").await.unwrap().unwrap().version.code.source(), long);
    }

    async fn versions_of_others_are_out_of_reach(store) {
        let function = add(&*store, "one", "hello").await;
        add(&*store, "two", "hello").await;

        assert_eq!(store.add_version("two", &function.id, "web", version("x")).await.unwrap(), None);
        assert_eq!(store.set_version("two", &function.id, 1).await.unwrap(), None);
        assert_eq!(store.versions("two", &function.id, 9).await.unwrap(), []);
        for number in [0, -1, 2] {
            assert_eq!(store.set_version("one", &function.id, number).await.unwrap(), None);
        }
        assert_eq!(store.function("one", "hello").await.unwrap(), Some(function));
    }

    async fn the_last_upload_is_listed_first(store) {
        let first = add(&*store, "one", "first").await;
        add(&*store, "one", "second").await;
        add(&*store, "two", "other").await;
        assert_eq!(names(&store.functions("one").await.unwrap()), ["second", "first"]);

        store.add_version("one", &first.id, "web", version("two")).await.unwrap();
        assert_eq!(names(&store.functions("one").await.unwrap()), ["first", "second"]);
        store.set_version("one", &first.id, 1).await.unwrap();

        assert_eq!(names(&store.functions("one").await.unwrap()), ["first", "second"]);
        assert_eq!(store.all_functions().await.unwrap().len(), 3);
    }

    async fn a_run_is_kept_as_it_was(store) {
        let function = add(&*store, "one", "hello").await;
        let run = Run { outcome: Outcome::Timeout, error: Some("it took 5 s".into()), ..run(&function, "1", 0) };

        store.record_run(&run).await.unwrap();

        assert_eq!(store.runs("one", &function.id, 10).await.unwrap(), std::slice::from_ref(&run));
        assert_eq!(store.runs("two", &function.id, 10).await.unwrap(), []);
        assert_eq!(store.function("one", "hello").await.unwrap().unwrap().last_run, Some(run.started));
    }

    async fn the_last_runs_come_oldest_first(store) {
        let function = add(&*store, "one", "hello").await;
        for (id, seconds) in [("c", 2), ("a", 0), ("d", 2), ("b", 1)] {
            store.record_run(&run(&function, id, seconds)).await.unwrap();
        }

        assert_eq!(ids(&store.runs("one", &function.id, 10).await.unwrap()), ["a", "b", "c", "d"]);
        assert_eq!(ids(&store.runs("one", &function.id, 2).await.unwrap()), ["c", "d"]);
        assert_eq!(store.function("one", "hello").await.unwrap().unwrap().last_run, Some(at(2)));
    }

    async fn figures_are_of_the_newest_runs_since_a_time_and_of_the_last_failure(store) {
        let function = add(&*store, "one", "hello").await;
        let failed = |id: &str, seconds| Run { outcome: Outcome::Memory, error: Some(id.into()), ..run(&function, id, seconds) };
        for run in [run(&function, "a", 0), failed("b", 1), failed("c", 2), run(&function, "d", 3), run(&function, "e", 3)] {
            store.record_run(&run).await.unwrap();
        }
        let figures = async |tenant: &str, since, limit| store.figures(tenant, &function.id, since, limit).await.unwrap();

        let all = figures("one", DateTime::UNIX_EPOCH, 100).await;
        let first = all.runs.last().unwrap();
        assert_eq!((all.runs.len(), first.started, first.outcome, first.trigger.as_str()), (5, at(0), Outcome::Ok, "web"));
        assert_eq!((first.duration_us, first.guest_us, first.host_us, first.queued_us), (1_000_000, 1, 2, 3));
        assert_eq!((first.fuel, first.peak_memory), (i64::MAX, 1 << 40));
        let failure = Failure { run: "c".into(), outcome: Outcome::Memory, error: Some("c".into()), started: at(2) };
        assert_eq!(all.last_failure, Some(failure.clone()));

        let newest = figures("one", DateTime::UNIX_EPOCH, 2).await;
        assert_eq!((newest.runs.len(), newest.runs[1].started, newest.last_failure), (2, at(3), Some(failure)));
        let late = figures("one", at(3), 100).await;
        assert_eq!((late.runs.len(), late.last_failure), (2, None));
        assert_eq!(figures("two", DateTime::UNIX_EPOCH, 100).await, Figures::default());
    }

    async fn the_size_grows_with_what_is_kept(store) {
        let function = add(&*store, "one", "hello").await;
        let before = store.size().await.unwrap();

        // What a database cannot make smaller.
        let log = (0..20_000).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        store.record_run(&Run { log, ..run(&function, "1", 0) }).await.unwrap();

        assert!(store.size().await.unwrap() > before + 500_000);
    }

    async fn a_deleted_function_leaves_nothing(store) {
        let function = add(&*store, "one", "hello").await;
        add(&*store, "two", "hello").await;
        store.record_run(&run(&function, "1", 0)).await.unwrap();

        assert!(store.delete_function("one", "hello").await.unwrap());

        assert!(!store.delete_function("one", "hello").await.unwrap());
        assert_eq!(store.runs("one", &function.id, 10).await.unwrap(), []);
        assert_eq!(store.versions("one", &function.id, 10).await.unwrap(), []);
        assert_eq!(store.add_version("one", &function.id, "web", version("x")).await.unwrap(), None);
        store.record_run(&run(&function, "2", 1)).await.unwrap();
        assert_eq!(store.runs("one", &function.id, 10).await.unwrap(), []);
        assert!(store.function("two", "hello").await.unwrap().is_some());
    }

    async fn a_run_cannot_be_recorded_for_a_function_of_another_tenant(store) {
        let function = add(&*store, "one", "hello").await;
        root(&*store, "two").await;

        store.record_run(&Run { tenant: "two".into(), ..run(&function, "1", 0) }).await.unwrap();

        assert_eq!(store.runs("two", &function.id, 10).await.unwrap(), []);
        assert_eq!(store.function("one", "hello").await.unwrap().unwrap().last_run, None);
    }

    async fn old_and_surplus_runs_are_forgotten(store) {
        let (one, two) = (add(&*store, "one", "hello").await, add(&*store, "two", "hello").await);
        for seconds in 0..5 {
            store.record_run(&run(&one, &seconds.to_string(), seconds)).await.unwrap();
        }
        store.record_run(&run(&two, "x", 3)).await.unwrap();

        assert_eq!(store.prune_runs(at(1), 3).await.unwrap(), 2);

        assert_eq!(ids(&store.runs("one", &one.id, 10).await.unwrap()), ["2", "3", "4"]);
        assert_eq!(ids(&store.runs("two", &two.id, 10).await.unwrap()), ["x"]);
        assert_eq!(store.prune_runs_of("two", &one.id, 1).await.unwrap(), 0);
        assert_eq!(store.prune_runs_of("one", &one.id, 1).await.unwrap(), 2);
        assert_eq!(ids(&store.runs("one", &one.id, 10).await.unwrap()), ["4"]);
        assert_eq!(ids(&store.runs("two", &two.id, 10).await.unwrap()), ["x"]);
    }
}
