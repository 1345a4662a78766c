//! Tasks with their history, and jobs.

use futures_util::future::join_all;

use super::*;
use crate::{
    run::Outcome,
    store::{Begun, StoreError},
    task::{CatchUp, Job, JobState, Task, TaskKind, TaskOutcome, TaskRun},
};

fn task(tenant: &str, name: &str, next: i64) -> Task {
    Task {
        id: format!("{tenant}-{name}"),
        tenant: tenant.into(),
        name: name.into(),
        kind: TaskKind::Http,
        value: "https://example.com/é".into(),
        meta: r#"{"data":"{\"a\":1}"}"#.into(),
        interval: "*/5 * * * *".into(),
        time_zone: "Europe/Zurich".into(),
        catch_up: CatchUp::Once,
        overlap: false,
        paused: false,
        next: Some(at(next)),
        last: None,
        created: at(0),
        last_outcome: None,
    }
}

fn run(task: &Task, id: &str, due: i64, node: &str) -> TaskRun {
    TaskRun {
        id: id.into(),
        tenant: task.tenant.clone(),
        task: task.id.clone(),
        due: at(due),
        manual: false,
        started: at(due),
        completed: None,
        outcome: TaskOutcome::Running,
        detail: String::new(),
        run: None,
        trace_id: "trace".into(),
        node: node.into(),
        lease: at(due + 30),
    }
}

fn job(tenant: &str, id: &str, user: &str, due: i64) -> Job {
    Job {
        id: id.into(),
        tenant: tenant.into(),
        function: "f".into(),
        payload: r#"{"é":[1]}"#.into(),
        user: user.into(),
        due: at(due),
        state: JobState::Waiting,
        attempts: 0,
        error: None,
        run: None,
        created: at(0),
        ended: None,
        cause: Some(r#"{"trace":"é"}"#.into()),
    }
}

fn names(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.name.as_str()).collect()
}

fn outcomes(runs: &[TaskRun]) -> Vec<&str> {
    runs.iter().map(|run| run.outcome.as_str()).collect()
}

fn ids(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

on_every_store! {
    async fn a_task_is_kept_as_it_is(store) {
        root(&*store, "one").await;
        let mut kept = task("one", "nightly", 60);

        assert!(store.add_task(&kept, 10).await.unwrap());

        assert_eq!(store.task("one", &kept.id).await.unwrap(), Some(kept.clone()));
        assert_eq!(store.task("one", "nightly").await.unwrap(), Some(kept.clone()), "by its name as well");
        assert_eq!(store.task("two", &kept.id).await.unwrap(), None);
        kept = Task {
            name: "daily".into(),
            kind: TaskKind::Function,
            value: "f".into(),
            meta: String::new(),
            interval: "@daily".into(),
            time_zone: String::new(),
            catch_up: CatchUp::Skip,
            overlap: true,
            paused: true,
            next: None,
            ..kept
        };
        assert!(store.update_task(&kept).await.unwrap());
        assert_eq!(store.tasks("one").await.unwrap(), std::slice::from_ref(&kept));
        assert!(!store.update_task(&Task { tenant: "two".into(), ..kept.clone() }).await.unwrap());
        assert!(!store.delete_task("two", &kept.id).await.unwrap());
        assert!(store.delete_task("one", &kept.id).await.unwrap());
        assert!(!store.delete_task("one", &kept.id).await.unwrap());
        assert_eq!(store.tasks("one").await.unwrap(), []);
    }

    async fn a_tasks_name_is_its_own_and_there_are_so_many(store) {
        root(&*store, "one").await;
        root(&*store, "two").await;
        assert!(store.add_task(&task("one", "a", 0), 2).await.unwrap());
        assert!(store.add_task(&task("two", "a", 0), 2).await.unwrap());

        let again = store.add_task(&Task { id: "other".into(), ..task("one", "a", 0) }, 2).await.unwrap_err();
        assert!(matches!(&again, StoreError::TaskTaken(name) if name == "a"), "{again}");
        assert!(store.add_task(&task("one", "b", 0), 2).await.unwrap());
        assert!(!store.add_task(&task("one", "c", 0), 2).await.unwrap());
        let renamed = store.update_task(&Task { name: "a".into(), ..task("one", "b", 0) }).await;
        assert!(matches!(renamed, Err(StoreError::TaskTaken(_))));
        assert_eq!(names(&store.tasks("one").await.unwrap()), ["a", "b"]);
    }

    async fn what_is_due_comes_in_order_and_tells_when_the_next_is(store) {
        root(&*store, "one").await;
        for (name, next) in [("late", 30), ("early", 10), ("future", 90)] {
            store.add_task(&task("one", name, next), 10).await.unwrap();
        }
        store.add_task(&Task { next: None, paused: true, ..task("one", "paused", 0) }, 10).await.unwrap();
        store.add_job(&job("one", "job", "ann", 70), 10).await.unwrap();

        let due = store.due(at(30), 10, 10).await.unwrap();
        assert_eq!(names(&due.tasks), ["early", "late"]);
        assert_eq!((due.jobs, due.next), (vec![], Some(at(70))));
        assert_eq!(names(&store.due(at(30), 1, 10).await.unwrap().tasks), ["early"]);
        let due = store.due(at(80), 10, 10).await.unwrap();
        assert_eq!((ids(&due.jobs), due.next), (vec!["job"], Some(at(90))));
        assert_eq!(store.due(at(90), 10, 10).await.unwrap().next, None);
        let mut waiting = store.waiting_tasks().await.unwrap();
        waiting.sort_by_key(|task| task.next);
        assert_eq!(names(&waiting), ["early", "late", "future"]);
    }

    async fn of_many_who_claim_a_tick_one_gets_it(store) {
        root(&*store, "one").await;
        let task = task("one", "a", 60);
        store.add_task(&task, 10).await.unwrap();

        let claims = (0..20).map(|n| {
            let (store, task) = (store.clone(), task.clone());
            tokio::spawn(async move {
                let run = run(&task, &n.to_string(), 60, &n.to_string());
                store.claim_tick(&task, Some(at(120)), Some(&run)).await.unwrap()
            })
        });
        let claims: Vec<Begun> = join_all(claims).await.into_iter().map(Result::unwrap).collect();

        assert_eq!(claims.iter().filter(|begun| **begun == Begun::Started).count(), 1, "{claims:?}");
        assert_eq!(claims.iter().filter(|begun| **begun == Begun::Lost).count(), 19);
        let claimed = store.task("one", "a").await.unwrap().unwrap();
        assert_eq!((claimed.next, claimed.last, claimed.last_outcome), (Some(at(120)), Some(at(60)), Some(TaskOutcome::Running)));
        assert_eq!(store.task_runs("one", &task.id, 10).await.unwrap().len(), 1);
    }

    async fn a_task_that_was_changed_or_paused_meanwhile_is_not_claimed(store) {
        root(&*store, "one").await;
        let task = task("one", "a", 60);
        store.add_task(&task, 10).await.unwrap();
        store.update_task(&Task { paused: true, next: None, ..task.clone() }).await.unwrap();

        let claim = store.claim_tick(&task, Some(at(120)), Some(&run(&task, "1", 60, "n"))).await.unwrap();

        assert_eq!(claim, Begun::Lost);
        assert_eq!(store.task("one", "a").await.unwrap().unwrap().next, None);
        assert_eq!(store.task_runs("one", &task.id, 10).await.unwrap(), []);
    }

    async fn a_tick_can_be_moved_without_an_entry(store) {
        root(&*store, "one").await;
        let task = task("one", "a", 60);
        store.add_task(&task, 10).await.unwrap();

        assert_eq!(store.claim_tick(&task, Some(at(30)), None).await.unwrap(), Begun::Started);

        let moved = store.task("one", "a").await.unwrap().unwrap();
        assert_eq!((moved.next, moved.last), (Some(at(30)), None));
        assert_eq!(store.task_runs("one", &task.id, 10).await.unwrap(), []);
    }

    async fn a_task_overlaps_itself_only_when_it_may(store) {
        root(&*store, "one").await;
        let mut task = task("one", "a", 60);
        store.add_task(&task, 10).await.unwrap();
        assert_eq!(store.start_task_run(&run(&task, "1", 10, "n")).await.unwrap(), Begun::Started);

        assert_eq!(store.start_task_run(&run(&task, "2", 20, "n")).await.unwrap(), Begun::Overlaps);
        let tick = store.claim_tick(&task, Some(at(120)), Some(&run(&task, "3", 60, "n"))).await.unwrap();
        assert_eq!(tick, Begun::Overlaps);
        let runs = store.task_runs("one", &task.id, 10).await.unwrap();
        assert_eq!(outcomes(&runs), ["running", "skipped"]);
        assert_eq!((runs[1].due, runs[1].completed), (at(60), Some(at(60))));
        assert!(runs[1].detail.contains("has not ended"), "{}", runs[1].detail);

        task = Task { overlap: true, next: Some(at(120)), ..task };
        store.update_task(&task).await.unwrap();
        assert_eq!(store.start_task_run(&run(&task, "4", 70, "n")).await.unwrap(), Begun::Started);
        assert_eq!(store.claim_tick(&task, None, Some(&run(&task, "5", 120, "n"))).await.unwrap(), Begun::Started);
        let gone = Task { id: "gone".into(), ..task };
        assert_eq!(store.start_task_run(&run(&gone, "6", 70, "n")).await.unwrap(), Begun::Lost);
    }

    async fn the_history_says_how_it_ended_and_forgets_what_is_old(store) {
        root(&*store, "one").await;
        let task = Task { overlap: true, ..task("one", "a", 60) };
        store.add_task(&task, 10).await.unwrap();
        for n in 0..6 {
            store.start_task_run(&run(&task, &n.to_string(), n, "n")).await.unwrap();
        }
        let ended = TaskRun {
            completed: Some(at(9)),
            outcome: TaskOutcome::Ended(Outcome::Timeout),
            detail: "too slow".into(),
            run: Some("run".into()),
            ..run(&task, "3", 3, "n")
        };

        assert!(store.end_task_run(&ended).await.unwrap());
        assert!(!store.end_task_run(&ended).await.unwrap(), "it has ended");
        assert!(!store.end_task_run(&TaskRun { id: "4".into(), node: "other".into(), ..ended.clone() }).await.unwrap());
        assert_eq!(store.task_runs("one", &task.id, 3).await.unwrap()[0], ended);
        assert_eq!(store.task_runs("two", &task.id, 3).await.unwrap(), []);
        for n in [0, 1, 2, 4] {
            store.end_task_run(&TaskRun { id: n.to_string(), ..ended.clone() }).await.unwrap();
        }
        assert_eq!(store.prune_runs(at(1), 3).await.unwrap(), 3, "one is too old, and of five three are kept");
        assert_eq!(outcomes(&store.task_runs("one", &task.id, 10).await.unwrap()), ["timeout", "timeout", "running"]);
        store.delete_task("one", &task.id).await.unwrap();
        assert_eq!(store.task_runs("one", &task.id, 10).await.unwrap(), []);
    }

    async fn what_a_node_had_that_is_gone_is_interrupted_or_waits_again(store) {
        root(&*store, "one").await;
        let task = Task { overlap: true, ..task("one", "a", 60) };
        store.add_task(&task, 10).await.unwrap();
        for (id, node) in [("1", "dead"), ("2", "alive")] {
            store.start_task_run(&run(&task, id, 0, node)).await.unwrap();
            let job = job("one", id, "ann", 0);
            store.add_job(&job, 10).await.unwrap();
            assert!(store.begin_job(&job, node, at(30)).await.unwrap());
        }

        let taken = store.renew_leases("alive", vec!["2".into()], at(31), at(61)).await.unwrap();

        assert_eq!(taken, 2);
        let runs = store.task_runs("one", &task.id, 10).await.unwrap();
        assert_eq!(outcomes(&runs), ["interrupted", "running"]);
        assert_eq!((runs[0].completed, runs[1].lease), (Some(at(31)), at(61)));
        let jobs = store.jobs("one", None, 10).await.unwrap();
        let states: Vec<_> = jobs.iter().map(|job| (job.id.as_str(), job.state, job.attempts)).collect();
        assert_eq!(states, [("2", JobState::Running, 1), ("1", JobState::Waiting, 1)]);
        assert_eq!(store.renew_leases("alive", vec!["2".into()], at(40), at(70)).await.unwrap(), 0);
        let late = TaskRun { outcome: TaskOutcome::Ended(Outcome::Ok), ..run(&task, "1", 0, "dead") };
        assert!(!store.end_task_run(&late).await.unwrap(), "what was taken cannot be ended");
        let late = Job { state: JobState::Done, ..job("one", "1", "ann", 0) };
        assert!(!store.end_job(&late, "dead").await.unwrap());
        let taken = store.renew_leases("alive", Vec::new(), at(71), at(101)).await.unwrap();
        assert_eq!(taken, 2, "what a node does not know that it has is taken from it as well");
    }

    async fn a_job_is_begun_once_and_ends(store) {
        root(&*store, "one").await;
        let waiting = job("one", "1", "ann", 10);
        assert!(store.add_job(&waiting, 10).await.unwrap());
        assert_eq!(store.job("one", "1").await.unwrap(), Some(waiting.clone()));
        assert_eq!(store.job("two", "1").await.unwrap(), None);

        let begun = join_all((0..10).map(|n| {
            let (store, waiting) = (store.clone(), waiting.clone());
            async move { store.begin_job(&waiting, &n.to_string(), at(40)).await.unwrap() }
        }));
        let begun: Vec<bool> = begun.await;
        assert_eq!(begun.iter().filter(|begun| **begun).count(), 1);
        let node = begun.iter().position(|begun| *begun).unwrap().to_string();
        assert_eq!(store.due(at(100), 10, 10).await.unwrap().jobs, []);
        assert!(!store.cancel_job("one", "1", at(11)).await.unwrap(), "it runs");

        let again = Job { due: at(50), attempts: 1, error: Some("oops".into()), ..waiting.clone() };
        assert!(store.end_job(&again, &node).await.unwrap());
        assert!(!store.begin_job(&waiting, &node, at(90)).await.unwrap(), "its time is another one now");
        assert_eq!(store.due(at(50), 10, 10).await.unwrap().jobs, std::slice::from_ref(&again));
        assert!(store.begin_job(&again, &node, at(90)).await.unwrap());
        let done = Job { state: JobState::Done, attempts: 2, error: None, run: Some("run".into()), ended: Some(at(51)), ..again };
        assert!(store.end_job(&done, &node).await.unwrap());
        assert_eq!(store.job("one", "1").await.unwrap(), Some(done));
    }

    async fn jobs_are_bounded_fair_and_forgotten(store) {
        root(&*store, "one").await;
        root(&*store, "two").await;
        for n in 0..5 {
            assert!(store.add_job(&job("one", &format!("a{n}"), "ann", n), 5).await.unwrap());
        }
        assert!(!store.add_job(&job("one", "a5", "ann", 5), 5).await.unwrap());
        store.add_job(&job("two", "b0", "ben", 100), 5).await.unwrap();

        assert_eq!(ids(&store.due(at(200), 10, 2).await.unwrap().jobs), ["a0", "a1", "b0"]);
        assert_eq!(ids(&store.jobs("one", Some("ann"), 2).await.unwrap()), ["a4", "a3"]);
        assert_eq!(store.jobs("one", Some("ben"), 2).await.unwrap(), []);
        assert!(!store.cancel_job("two", "a0", at(6)).await.unwrap());
        for n in 0..5 {
            assert!(store.cancel_job("one", &format!("a{n}"), at(6 + n)).await.unwrap());
        }
        assert_eq!(store.job("one", "a0").await.unwrap().unwrap().state, JobState::Cancelled);
        assert!(store.add_job(&job("one", "a6", "ann", 5), 5).await.unwrap(), "those that ended do not count");
        assert_eq!(store.prune_runs(at(7), 2).await.unwrap(), 3);
        assert_eq!(ids(&store.jobs("one", None, 10).await.unwrap()), ["a6", "a4", "a3"]);
    }
}
