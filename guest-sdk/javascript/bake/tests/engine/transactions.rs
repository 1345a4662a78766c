//! `transaction`: the closure is run, committed, and run again after a conflict.

use crate::sandbox::{Run, World, run, upload};

/// What was asked of the world, in order.
fn calls(run: &Run) -> Vec<&str> {
    run.world.calls.iter().map(|(name, _)| name.as_str()).collect()
}

fn after_conflicts(source: &str, conflicts: u32) -> Run {
    upload(source).unwrap().call_in(World { conflicts, ..World::new() }, &[])
}

#[test]
fn the_value_of_the_closure_is_the_value_of_the_transaction() {
    for source in [
        "function handle() { return transaction(() => { create('c', {}); return [1]; }) }",
        "async function handle() { return await transaction(async () => { await null; create('c', {}); return [1]; }) }",
        "function handle() { return transaction(() => ({ then(resolve) { create('c', {}); resolve([1]); } })) }",
        "export const handle = async () => transaction(() => { create('c', {}); return [1]; });",
    ] {
        let run = run(source, &[]);

        assert_eq!((run.json(), calls(&run)), ("[1]", vec!["begin", "create", "commit"]), "{source}");
    }
    let nothing = run("function handle() { return [transaction(() => {}), transaction(() => null)] }", &[]);
    assert_eq!(nothing.json(), "[null,null]");
}

#[test]
fn after_a_conflict_the_closure_runs_again() {
    for source in [
        "let runs = 0; function handle() { return transaction(() => ++runs) }",
        "let runs = 0; function handle() { return transaction(async () => { await null; return ++runs; }) }",
    ] {
        let run = after_conflicts(source, 2);

        assert_eq!(run.json(), "3", "{source}");
        assert_eq!(calls(&run), ["begin", "conflict", "begin", "conflict", "begin", "commit"]);
    }
}

#[test]
fn after_the_fifth_conflict_it_throws() {
    for source in [
        "function handle() { try { transaction(() => log('run')) } catch (error) { return [error.code, error.message] } }",
        "async function handle() {
            try { await transaction(async () => log('run')) } catch (error) { return [error.code, error.message] }
        }",
    ] {
        let run = after_conflicts(source, 9);

        assert_eq!((run.json(), run.world.texts().len()), (r#"["conflict","it has changed"]"#, 5), "{source}");
    }
    let uncaught = after_conflicts("function handle() { transaction(() => 1) }", 9);
    assert!(uncaught.error().contains("Error: it has changed"), "{}", uncaught.error());
}

#[test]
fn what_the_closure_throws_takes_the_transaction_back_and_is_thrown_on() {
    for source in [
        "function handle() { try { transaction(() => { throw 7 }) } catch (thrown) { return thrown } }",
        "async function handle() { try { await transaction(async () => { throw 7 }) } catch (thrown) { return thrown } }",
        "function handle() { return transaction(() => Promise.reject(7)).catch(thrown => thrown) }",
        "function handle() { try { transaction(() => ({ get then() { throw 7 } })) } catch (thrown) { return thrown } }",
    ] {
        let run = run(source, &[]);

        assert_eq!((run.json(), calls(&run)), ("7", vec!["begin", "drop"]), "{source}");
        assert!(run.world.logs.is_empty(), "{:?}", run.world.logs);
    }
    let second = after_conflicts(
        "let runs = 0; const once = async () => { if (runs++) throw 7 };
         function handle() { return transaction(once).catch(thrown => thrown) }",
        1,
    );
    assert_eq!((second.json(), calls(&second)), ("7", vec!["begin", "conflict", "begin", "drop"]));
}

#[test]
fn one_is_open_at_a_time() {
    let nested = run(
        "function handle() {
            return transaction(() => { try { transaction(() => 1) } catch (error) { return error.message } });
        }",
        &[],
    );
    assert_eq!((nested.json(), calls(&nested)), (r#""one is open""#, vec!["begin", "commit"]));

    let one_after_another = run("function handle() { return [1, 2].map(n => transaction(() => n)) }", &[]);
    assert_eq!(one_after_another.json(), "[1,2]");

    let beside = run(
        "async function handle() {
            const both = await Promise.allSettled([1, 2].map(async n => transaction(async () => n)));
            return both.map(({ status }) => status);
        }",
        &[],
    );
    assert_eq!(beside.json(), r#"["fulfilled","rejected"]"#);
}

#[test]
fn it_takes_a_function_and_a_run() {
    let wrong =
        run("function handle() { try { transaction(1) } catch (error) { return [error.name, error.message] } }", &[]);
    assert!(wrong.json().starts_with(r#"["TypeError","transaction takes a function"#), "{}", wrong.json());

    let loading = upload("transaction(() => 1); function handle() {}").err().unwrap();
    assert!(loading.contains("`transaction` is not available while loading"), "{loading}");

    let shadowed = run("function transaction(a) { return a } function handle() { return transaction(2) }", &[]);
    assert_eq!(shadowed.json(), "2");
}

#[test]
fn a_script_that_changes_what_promises_are_gets_what_it_asked_for_and_no_more() {
    let run = run(
        "Promise.prototype.then = () => { throw new Error('mine') };
         function handle() { try { return transaction(() => 1) } catch (error) { return error.message } }",
        &[],
    );

    assert_eq!((run.json(), calls(&run)), ("1", vec!["begin", "commit"]));
}
