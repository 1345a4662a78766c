//! Tasks from the command line, as a newcomer meets them.

use serde_json::{Value, json};

use crate::{
    cli::Workplace,
    harness::{eventually, text, thimble},
};

const KEEPS: &str = "function handle(a, b, c) { log(\"kept\"); create(\"kept\", { a, b, c }); }";

async fn task(work: &Workplace, name: &str) -> Value {
    work.tenant.root.get(&format!("/task/{name}")).await.ok()
}

#[tokio::test]
async fn every_command_explains_itself() {
    let task = thimble(["task", "--help"]).run().await.succeeded();
    for command in ["add", "update", "list", "info", "run", "pause", "resume", "history", "delete"] {
        assert!(task.contains(command), "{task}");
        let help = thimble(["task", command, "--help"]).run().await.succeeded();
        assert!(help.contains("Usage"), "{command}: {help}");
    }
}

#[tokio::test]
async fn a_task_is_added_as_the_reference_does_it() {
    let work = Workplace::new().await;
    work.tenant.add("clean", "web", KEEPS).await;
    let meta = r#"{"data":"{\"a\":1}"}"#;

    let added = work
        .run([
            "task",
            "add",
            "--name",
            "nightly",
            "--type",
            "function",
            "--value",
            "clean",
            "--interval",
            "0 3 * * *",
            "--meta",
            meta,
        ])
        .await
        .succeeded();

    assert!(added.contains("Task nightly created successfully") && added.contains("First run:"), "{added}");
    let task = task(&work, "nightly").await;
    assert_eq!((&task["type"], &task["value"]), (&json!("function"), &json!("clean")));
    assert_eq!((&task["meta"], &task["interval"]), (&json!(meta), &json!("0 3 * * *")));
}

#[tokio::test]
async fn a_task_is_added_with_words_instead_of_json() {
    let work = Workplace::new().await;
    let message = ["task", "add", "news", "--type", "message", "--value", "tick", "--interval", "@hourly"];
    let [a, b, c, d, e, f, g, h, i] = message;
    work.run([
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        "--channel",
        "lobby",
        "--data",
        "{\"n\":1}",
        "--overlap",
        "--time-zone",
        "Asia/Tokyo",
    ])
    .await
    .succeeded();
    work.run([
        "task",
        "add",
        "call",
        "--type",
        "http",
        "--value",
        "https://example.com/",
        "--interval",
        "@daily",
        "--method",
        "PUT",
        "--content-type",
        "application/json",
        "--header",
        "X-A: 1",
        "--header",
        "X-B: a:b",
        "--catch-up",
        "once",
    ])
    .await
    .succeeded();
    let missing = work.run(["task", "add", "early", "--value", "later", "--interval", "@every 90s"]).await.succeeded();

    let news = task(&work, "news").await;
    assert_eq!(
        serde_json::from_str::<Value>(&text(&news["meta"])).unwrap(),
        json!({ "data": "{\"n\":1}", "channel": "lobby" })
    );
    assert_eq!((&news["overlap"], &news["timeZone"]), (&json!(true), &json!("Asia/Tokyo")));
    let call = task(&work, "call").await;
    let meta = serde_json::from_str::<Value>(&text(&call["meta"])).unwrap();
    assert_eq!((&meta["method"], &meta["ct"]), (&json!("PUT"), &json!("application/json")));
    assert_eq!(serde_json::from_str::<Value>(&text(&meta["headers"])).unwrap(), json!({ "X-A": "1", "X-B": "a:b" }));
    assert_eq!(call["catchUp"], "once");
    assert!(missing.contains("There is no function `later` yet"), "{missing}");
}

#[tokio::test]
async fn mistakes_are_told_in_a_sentence() {
    let work = Workplace::new().await;
    let add = async |interval: &str, extra: [&str; 2]| {
        let arguments = ["task", "add", "t", "--value", "f", "--interval", interval, extra[0], extra[1]];
        work.run(arguments).await.failed()
    };

    let seconds = add("* * * * * *", ["--type", "function"]).await;
    let february = add("0 0 30 2 *", ["--type", "function"]).await;
    let kind = add("@daily", ["--type", "shell"]).await;
    let meta = add("@daily", ["--meta", "{"]).await;
    let header = add("@daily", ["--header", "no colon"]).await;
    let no_name = work.run(["task", "add", "--value", "f", "--interval", "@daily"]).await.failed();
    let unknown = work.run(["task", "info", "nothing"]).await.failed();

    assert!(seconds.contains("6 fields"), "{seconds}");
    assert!(february.contains("never comes"), "{february}");
    assert!(kind.contains("function, message, http"), "{kind}");
    assert!(meta.contains("`--meta` is not a JSON object"), "{meta}");
    assert!(header.contains("Name: value"), "{header}");
    assert!(no_name.contains("NAME"), "{no_name}");
    assert!(unknown.contains("task `nothing` not found"), "{unknown}");
}

#[tokio::test]
async fn a_task_is_run_and_says_how_it_ended() {
    let work = Workplace::new().await;
    work.tenant.add("keeps", "web", KEEPS).await;
    work.tenant.add("broken", "web", "function handle() { throw new Error(\"oops\"); }").await;
    for function in ["keeps", "broken"] {
        work.run(["task", "add", function, "--value", function, "--interval", "@daily", "--data", "[1]"])
            .await
            .succeeded();
    }

    let ran = work.run(["task", "run", "keeps"]).await.succeeded();
    let broke = work.run(["task", "run", "broken"]).await.failed();
    let unknown = work.run(["task", "run", "nothing"]).await.failed();

    assert!(ran.contains("Task keeps ended well") && ran.contains("thimble function logs"), "{ran}");
    assert!(broke.contains("error:") && broke.contains("oops"), "{broke}");
    assert!(unknown.contains("not found"), "{unknown}");
    let kept = work.tenant.root.get("/db/kept").await.ok()["results"][0].clone();
    assert_eq!((&kept["a"], &kept["b"], &kept["c"]), (&json!("keeps"), &json!("fn_call"), &json!([1])));
    let history = work.run(["task", "history", "broken"]).await.succeeded();
    for word in ["DUE", "OUTCOME", "hand", "error", "oops"] {
        assert!(history.contains(word), "{word}: {history}");
    }
}

#[tokio::test]
async fn tasks_are_listed_and_shown() {
    let work = Workplace::new().await;
    let empty = work.run(["task", "list"]).await.succeeded();
    work.tenant.add("keeps", "web", KEEPS).await;
    let add = ["task", "add", "nightly", "--value", "keeps", "--interval", "0 3 * * *", "--time-zone", "Europe/Zurich"];
    work.run(add).await.succeeded();
    let before = work.run(["task", "history", "nightly"]).await.succeeded();
    work.run(["task", "run", "nightly"]).await.succeeded();

    let list = work.run(["task", "list"]).await.succeeded();
    let info = work.run(["task", "info", "nightly"]).await.succeeded();

    assert!(empty.contains("There are no tasks here yet"), "{empty}");
    assert!(before.contains("has not run yet"), "{before}");
    for word in ["NAME", "TYPE", "INTERVAL", "NEXT RUN", "nightly", "function", "0 3 * * * Europe/Zurich", "ok"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    for word in
        ["Name       nightly", "Interval   0 3 * * * Europe/Zurich", "Catch up   skip", "Overlap    no", "hand", "ok"]
    {
        assert!(info.contains(word), "{word}: {info}");
    }
}

#[tokio::test]
async fn a_task_is_changed_paused_and_deleted() {
    let work = Workplace::new().await;
    work.tenant.add("keeps", "web", KEEPS).await;
    work.run(["task", "add", "t", "--value", "keeps", "--interval", "@daily", "--data", "1"]).await.succeeded();

    let updated = work.run(["task", "update", "t", "--interval", "@hourly", "--method", "GET"]).await.succeeded();
    assert!(updated.contains("Task t updated successfully") && updated.contains("Next run:"), "{updated}");
    let changed = task(&work, "t").await;
    assert_eq!((&changed["interval"], &changed["value"]), (&json!("@hourly"), &json!("keeps")));
    let meta = serde_json::from_str::<Value>(&text(&changed["meta"])).unwrap();
    assert_eq!(meta, json!({ "data": "1", "method": "GET" }), "what is not named stays");
    let nothing = work.run(["task", "update", "t"]).await.failed();
    assert!(nothing.contains("nothing to change"), "{nothing}");

    let paused = work.run(["task", "pause", "t"]).await.succeeded();
    assert!(paused.contains("Task t is paused"), "{paused}");
    assert!(work.run(["task", "list"]).await.succeeded().contains("paused"));
    let resumed = work.run(["task", "resume", "t"]).await.succeeded();
    assert!(resumed.contains("Task t goes on; next run: 2"), "{resumed}");
    let deleted = work.run(["task", "delete", "t"]).await.succeeded();
    assert!(deleted.contains("Task t deleted"), "{deleted}");
    assert!(work.run(["task", "delete", "t"]).await.failed().contains("not found"));
    eventually("it is gone", async || (work.tenant.root.get("/task").await.ok() == json!([])).then_some(())).await;
}
