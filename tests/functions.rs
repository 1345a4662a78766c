//! Functions as their owner handles them: added, replaced, looked at, rolled back, deleted; and who may run them.

use std::collections::HashSet;

use futures_util::{StreamExt, future::join_all, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Tenant, eventually, fresh, text};

const WHO_AM_I: &str = r#"function handle() {
    const res = create("whoami", {});
    return { accountId: res.content.accountId };
}"#;

fn answering(value: impl std::fmt::Display) -> String {
    format!("function handle() {{ return {value}; }}")
}

#[tokio::test]
async fn a_function_is_added_and_runs_at_once() {
    let tenant = Tenant::new().await;

    let added = tenant.upload("hello", "web", &answering("\"hi\"")).await;

    assert_eq!(added.header("content-type"), "application/json");
    let added = added.ok();
    assert_eq!((&added["name"], &added["trigger"], &added["version"]), (&json!("hello"), &json!("web"), &json!(1)));
    assert_eq!(added["log"], json!([]));
    assert!(!text(&added["id"]).is_empty());
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), "hi");
}

#[tokio::test]
async fn the_whole_struct_that_older_tools_send_is_accepted() {
    let tenant = Tenant::new().await;

    let added = tenant.root.post(
        "/fn/add",
        json!({
            "id": "", "name": "new_msg", "trigger": "chan_out", "code": answering(1), "version": 0, "secrets": "",
            "lastUpdated": "0001-01-01T00:00:00Z", "lastRun": "0001-01-01T00:00:00Z", "history": null,
        }),
    );

    assert_eq!(added.await.ok()["version"], 1);
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    tenant.add("hello", "web", &answering(1)).await;

    let again = tenant.upload("hello", "web", &answering(2)).await;

    assert!(again.refused(409).contains("hello"));
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), 1);
    other.add("hello", "web", &answering(3)).await;
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), 1);
    assert_eq!(other.exec("hello", json!({})).await.ok(), 3);
}

#[tokio::test]
async fn of_uploads_of_one_name_at_once_exactly_one_works() {
    let tenant = Tenant::new().await;

    let uploads = (0..8).map(|n| {
        let tenant = &tenant;
        async move { tenant.upload("race", "web", &answering(n)).await.status }
    });
    let statuses = join_all(uploads).await;

    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert_eq!(tenant.info("race").await["version"], 1);
}

#[tokio::test]
async fn names_that_could_be_mistaken_are_refused() {
    let tenant = Tenant::new().await;

    for name in ["", " ", "a/b", "../../etc/passwd", "..", "a\nb", "a\0b", "a?b", "a#b", "<script>", &"n".repeat(1_000)]
    {
        let refusal = tenant.upload(name, "web", &answering(1)).await;
        assert_eq!(refusal.status, 400, "{name:.30?}: {}", refusal.text());
    }
    assert_eq!(tenant.root.get("/fn").await.ok().as_array().map_or(0, Vec::len), 0);
}

#[tokio::test]
async fn a_function_is_replaced_by_name_or_by_id() {
    let tenant = Tenant::new().await;
    let id = text(&tenant.add("hello", "web", &answering(1)).await["id"]);

    let by_name = tenant.update("hello", "web", &answering(2)).await;
    let second = tenant.exec("hello", json!({})).await.ok();
    let by_id = tenant.root.post("/fn/update", json!({ "id": id, "trigger": "web", "code": answering(3) })).await.ok();
    let third = tenant.exec("hello", json!({})).await.ok();

    assert_eq!((&by_name["version"], &by_name["id"]), (&json!(2), &json!(id)));
    assert_eq!(by_id["version"], 3);
    assert_eq!((second, third), (json!(2), json!(3)));
}

#[tokio::test]
async fn an_update_changes_the_trigger_as_well() {
    let tenant = Tenant::new().await;
    tenant.add("listener", "old-channel", "function handle(channel, type, data) { log(channel); }").await;

    tenant.update("listener", "new-channel", "function handle(channel, type, data) { log(channel); }").await;
    for channel in ["old-channel", "new-channel"] {
        tenant.root.post("/publish", json!({ "channel": channel, "type": "t", "data": "1" })).await.ok();
    }

    let run = eventually("the function runs", async || tenant.runs("listener").await.pop()).await;
    assert_eq!(run["output"][1], "new-channel");
    assert_eq!(tenant.info("listener").await["trigger"], "new-channel");
}

#[tokio::test]
async fn what_does_not_exist_is_not_updated_shown_or_run() {
    let tenant = Tenant::new().await;

    let update = json!({ "name": "nothing", "trigger": "web", "code": answering(1) });
    assert_eq!(tenant.root.post("/fn/update", update).await.status, 404);
    let update = json!({ "id": "00000000-0000-4000-8000-000000000000", "trigger": "web", "code": answering(1) });
    assert_eq!(tenant.root.post("/fn/update", update).await.status, 404);
    assert_eq!(tenant.root.get("/fn/info/nothing").await.status, 404);
    assert_eq!(tenant.root.get("/fn/wasm/nothing").await.status, 404);
    assert_eq!(tenant.root.post("/fn/rollback/nothing", json!({ "version": 1 })).await.status, 404);
    assert_eq!(tenant.root.exec("nothing", json!({})).await.status, 404);
    assert_eq!(tenant.exec("nothing", json!({})).await.status, 404);
}

#[tokio::test]
async fn functions_are_listed_newest_change_first() {
    let tenant = Tenant::new().await;
    for name in ["one", "two", "three"] {
        tenant.add(name, "web", &answering(1)).await;
    }
    tenant.update("one", "web", &answering(2)).await;

    let listed = tenant.root.get("/fn").await.ok();

    let listed = listed.as_array().unwrap();
    let names: Vec<&Value> = listed.iter().map(|function| &function["name"]).collect();
    assert_eq!(names, ["one", "three", "two"]);
    for function in listed {
        assert_eq!(function["history"], Value::Null);
        assert!(is_time(&function["lastUpdated"]) && is_time(&function["lastRun"]), "{function}");
    }
}

#[tokio::test]
async fn a_function_is_shown_with_its_code_and_its_runs() {
    let tenant = Tenant::new().await;
    let code =
        "function handle(body) { log(\"got \" + body.n); if (body.n == 2) throw new Error(\"two\"); return body.n; }";
    let added = tenant.add("hello", "web", code).await;
    for n in 1..=3 {
        tenant.exec("hello", json!({ "n": n })).await;
    }

    let info = tenant.info("hello").await;

    for field in ["id", "name", "trigger", "version"] {
        assert_eq!(info[field], added[field], "{field}");
    }
    assert_eq!(info["code"], code);
    assert_eq!(info["accountId"], "");
    let runs = info["history"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{info}");
    let outcomes: Vec<&Value> = runs.iter().map(|run| &run["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "error", "ok"]);
    for (n, run) in (1..).zip(runs) {
        assert_eq!(run["functionId"], added["id"]);
        assert_eq!(run["version"], 1);
        assert_eq!(run["success"], n != 2);
        assert_eq!(run["trigger"], "web");
        assert_eq!(run["output"][0], "Function started");
        assert_eq!(run["output"][1], format!("got {n}"));
        assert!(!text(&run["id"]).is_empty() && !text(&run["traceId"]).is_empty(), "{run}");
        assert!(run["fuel"].as_u64().unwrap() > 0, "{run}");
        assert!((1..=64 << 20).contains(&run["peakMemory"].as_u64().unwrap()), "{run}");
        assert!(run["durationMs"].as_f64().unwrap() >= 0.0, "{run}");
        assert!(is_time(&run["started"]) && is_time(&run["completed"]), "{run}");
        assert!(text(&run["started"]) <= text(&run["completed"]), "{run}");
    }
    assert_eq!(runs[0]["output"][2], "Function completed");
    assert!(text(runs[1]["output"].as_array().unwrap().last().unwrap()).contains("two"), "{}", runs[1]);
    assert!(text(&runs[1]["error"]).contains("two"), "{}", runs[1]);
    assert_eq!(runs.iter().map(|run| text(&run["id"])).collect::<HashSet<_>>().len(), 3);
    assert_eq!(runs.iter().map(|run| text(&run["traceId"])).collect::<HashSet<_>>().len(), 3);
}

#[tokio::test]
async fn as_many_of_the_latest_runs_are_shown_as_asked_for() {
    let tenant = Tenant::new().await;
    tenant.add("hello", "web", "function handle(body) { log(String(body.n)); }").await;
    for n in 1..=5 {
        tenant.exec("hello", json!({ "n": n })).await.ok();
    }

    let history = tenant.root.get("/fn/info/hello?runs=2").await.ok()["history"].clone();

    let shown: Vec<&Value> = history.as_array().unwrap().iter().map(|run| &run["output"][1]).collect();
    assert_eq!(shown, ["4", "5"]);
}

#[tokio::test]
async fn a_function_goes_back_to_any_earlier_version() {
    let tenant = Tenant::new().await;
    tenant.add("hello", "web", &answering(1)).await;
    for n in 2..=4 {
        tenant.update("hello", "web", &answering(n)).await;
    }
    let rollback = async |body: Value| {
        tenant.root.post("/fn/rollback/hello", body).await.ok();
        tenant.exec("hello", json!({})).await.ok()
    };

    assert_eq!(rollback(json!({})).await, 3);
    assert_eq!(rollback(json!({ "version": 1 })).await, 1);
    assert_eq!(tenant.info("hello").await["code"], answering(1));
    assert_eq!(rollback(json!({ "version": 4 })).await, 4);
    for version in [json!(0), json!(-1), json!(99), json!("1"), json!(1.5)] {
        let answer = tenant.root.post("/fn/rollback/hello", json!({ "version": version })).await;
        assert!(matches!(answer.status, 400 | 404), "{version}: {} {}", answer.status, answer.text());
    }
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), 4);
}

#[tokio::test]
async fn a_run_says_which_version_ran() {
    let tenant = Tenant::new().await;
    tenant.add("hello", "web", &answering(1)).await;
    tenant.exec("hello", json!({})).await.ok();
    tenant.update("hello", "web", &answering(2)).await;
    tenant.exec("hello", json!({})).await.ok();

    let versions: Vec<Value> = tenant.runs("hello").await.iter().map(|run| run["version"].clone()).collect();

    assert_eq!(versions, [1, 2]);
}

#[tokio::test]
async fn all_versions_are_shown() {
    let tenant = Tenant::new().await;
    tenant.add("hello", "web", &answering(1)).await;
    tenant.update("hello", "web", &answering(2)).await;

    let versions = tenant.info("hello").await["versions"].clone();

    let mut numbers: Vec<u64> = versions.as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2], "{versions}");
}

#[tokio::test]
async fn a_deleted_function_is_gone_and_its_name_is_free() {
    let tenant = Tenant::new().await;
    for path in ["/fn/del/hello", "/fn/delete/hello"] {
        tenant.add("hello", "web", &answering(1)).await;
        tenant.exec("hello", json!({})).await.ok();

        let deleted = tenant.root.get(path).await;

        assert_eq!(deleted.header("content-type"), "application/json");
        deleted.ok();
        assert_eq!(tenant.exec("hello", json!({})).await.status, 404);
        assert_eq!(tenant.root.get("/fn/info/hello").await.status, 404);
    }
    let added = tenant.add("hello", "web", &answering(2)).await;
    assert_eq!(added["version"], 1);
    assert_eq!(tenant.runs("hello").await.len(), 0);
}

#[tokio::test]
async fn a_deleted_function_hears_nothing_more() {
    let tenant = Tenant::new().await;
    tenant.add("listener", "news", r#"function handle(channel, type, data) { create("heard", { data }); }"#).await;
    tenant.add("witness", "news", "function handle(channel, type, data) {}").await;
    tenant.root.get("/fn/del/listener").await.ok();

    tenant.root.post("/publish", json!({ "channel": "news", "type": "t", "data": "1" })).await.ok();

    eventually("the other function runs", async || tenant.runs("witness").await.pop()).await;
    assert_eq!(tenant.root.get("/db/heard").await.ok()["total"], 0);
}

#[tokio::test]
async fn functions_are_managed_with_the_root_token_only() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    tenant.add("hello", "web", &answering(1)).await;
    let requests = [
        (Method::GET, "/fn"),
        (Method::POST, "/fn/add"),
        (Method::POST, "/fn/update"),
        (Method::GET, "/fn/info/hello"),
        (Method::GET, "/fn/wasm/hello"),
        (Method::POST, "/fn/rollback/hello"),
        (Method::POST, "/fn/sudoexec/hello"),
        (Method::GET, "/fn/del/hello"),
        (Method::GET, "/fn/delete/hello"),
    ];

    for (method, path) in requests {
        let body = json!({ "name": "hello", "trigger": "web", "code": answering(666), "version": 1 });
        let by_user = Answer::of(ann.request(method.clone(), path).json(&body)).await;
        let by_nobody = Answer::of(tenant.anybody.request(method, path).json(&body)).await;
        assert_eq!(by_user.refused(400), "invalid root token", "{path}");
        assert_eq!(by_nobody.status, 401, "{path}");
    }
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), 1);
}

#[tokio::test]
async fn tenants_do_not_see_each_others_functions() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let id = text(&tenant.add("hello", "web", &answering(1)).await["id"]);

    assert_eq!(other.root.get("/fn").await.ok().as_array().map_or(0, Vec::len), 0);
    assert_eq!(other.root.get("/fn/info/hello").await.status, 404);
    assert_eq!(other.root.get("/fn/wasm/hello").await.status, 404);
    assert_eq!(other.exec("hello", json!({})).await.status, 404);
    assert_eq!(other.user("mallory").await.exec("hello", json!({})).await.status, 404);
    assert_eq!(other.root.post("/fn/rollback/hello", json!({})).await.status, 404);
    let update = json!({ "id": id, "trigger": "web", "code": answering(666) });
    assert_eq!(other.root.post("/fn/update", update).await.status, 404);
    other.root.get("/fn/del/hello").await;
    assert_eq!(tenant.exec("hello", json!({})).await.ok(), 1);
}

#[tokio::test]
async fn users_run_web_functions_only() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    for trigger in ["web", "lobby", "chan_out", "db-tasks"] {
        tenant.add(&format!("on-{trigger}"), trigger, &answering(1)).await;
    }

    assert_eq!(ann.exec("on-web", json!({})).await.ok(), 1);
    for trigger in ["lobby", "chan_out", "db-tasks"] {
        let name = format!("on-{trigger}");
        let refusal = ann.exec(&name, json!({})).await;
        let unknown = ann.exec("on-nothing", json!({})).await;
        assert_eq!((refusal.status, unknown.status), (404, 404), "{trigger}");
        assert_eq!(refusal.text().replace(&name, "on-nothing"), unknown.text());
        assert_eq!(tenant.root.exec(&name, json!({})).await.status, 200, "{trigger}");
        assert_eq!(tenant.exec(&name, json!({})).await.status, 200, "{trigger}");
    }
    assert_eq!(tenant.anybody.exec("on-web", json!({})).await.status, 401);
}

#[tokio::test]
async fn a_function_runs_with_the_rights_of_its_caller() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let hidden = ann.create_id("secrets_700_", json!({})).await;
    tenant.add("whoami", "web", WHO_AM_I).await;
    let peek =
        format!(r#"function handle() {{ const res = getById("secrets_700_", "{hidden}"); return {{ ok: res.ok }}; }}"#);
    tenant.add("peek", "web", &peek).await;

    assert_eq!(ann.exec("whoami", json!({})).await.ok()["accountId"], json!(ann.account));
    assert_eq!(bob.exec("whoami", json!({})).await.ok()["accountId"], json!(bob.account));
    assert_eq!(ann.exec("peek", json!({})).await.ok(), json!({ "ok": true }));
    assert_eq!(bob.exec("peek", json!({})).await.ok(), json!({ "ok": false }));
    assert_eq!(tenant.exec("peek", json!({})).await.ok(), json!({ "ok": true }));
}

#[tokio::test]
async fn a_function_cannot_reach_into_another_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let id = other.root.create_id("tasks_776_", json!({ "secret": true })).await;

    let code = format!(
        r#"function handle() {{
        return [
            getById("tasks_776_", "{id}").ok,
            list("tasks_776_").content.total,
            query("tasks_776_", [["secret", "=", true]]).content.total,
            update("tasks_776_", "{id}", {{ secret: false }}).ok,
            del("tasks_776_", "{id}").content === 1,
            list("{key}/tasks_776_").content.total || 0,
        ];
    }}"#,
        key = other.key
    );

    assert_eq!(tenant.value(&code).await, json!([false, 0, 0, false, false, 0]));
    assert_eq!(other.root.get(&format!("/sudo/tasks_776_/{id}")).await.ok()["secret"], true);
}

#[tokio::test]
async fn functions_use_documents_as_the_reference_says() {
    let tenant = Tenant::new().await;

    let results = tenant
        .value(
            r#"function handle() {
        const a = create("tasks", { title: "a", n: 1, done: false });
        const b = create("tasks", { title: "b", n: 2, done: false });
        const c = create("tasks", { title: "c", n: 10, done: true });
        const changed = update("tasks", a.content.id, { done: true });
        return {
            created: [a.ok, a.content.title, typeof a.content.id, typeof a.content.accountId],
            got: getById("tasks", b.content.id),
            b: b.content,
            changed: [changed.ok, changed.content.title, changed.content.done],
            all: list("tasks").content,
            page: list("tasks", { page: 2, size: 2 }).content,
            sorted: list("tasks", { sortBy: "n", sortDescending: true }).content.results.map(d => d.n),
            done: query("tasks", [["done", "==", true], ["n", ">", 1]]).content,
            queried: query("tasks", [["n", ">", 0]], { size: 1, page: 3 }).content.results.map(d => d.n),
            deleted: [del("tasks", c.content.id), del("tasks", c.content.id)],
            missing: [getById("tasks", c.content.id), update("tasks", c.content.id, { n: 1 })],
            nothing: list("nothing").content,
        };
    }"#,
        )
        .await;

    assert_eq!(results["created"], json!([true, "a", "string", "string"]));
    assert_eq!(results["got"], json!({ "ok": true, "content": results["b"] }));
    assert_eq!(results["changed"], json!([true, "a", true]));
    assert_eq!(
        (&results["all"]["page"], &results["all"]["size"], &results["all"]["total"]),
        (&json!(1), &json!(25), &json!(3))
    );
    assert_eq!(results["page"]["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(results["page"]["total"], 3);
    assert_eq!(results["sorted"], json!([10, 2, 1]));
    assert_eq!(results["done"]["results"][0]["title"], "c");
    assert_eq!(results["done"]["total"], 1);
    assert_eq!(results["queried"], json!([10]));
    assert_eq!(results["deleted"], json!([{ "ok": true, "content": 1 }, { "ok": true, "content": 0 }]));
    for missing in results["missing"].as_array().unwrap() {
        assert_eq!(missing["ok"], false);
        assert!(missing["content"].is_string(), "{missing}");
    }
    assert_eq!(results["nothing"], json!({ "page": 1, "size": 25, "total": 0, "results": null }));
    assert_eq!(tenant.root.get("/db/tasks").await.ok()["total"], 2);
}

#[tokio::test]
async fn wrong_arguments_are_answered_and_not_thrown() {
    let tenant = Tenant::new().await;

    let answers = tenant
        .value(
            r#"function handle() {
        const cyclic = {}; cyclic.self = cyclic;
        const calls = {
            mismatch: [() => create(), () => create("a"), () => getById("a"), () => update("a", "b"), () => del("a"),
                () => query("a"), () => list(), () => send("a"), () => publish("a", "b"), () => sendMail()],
            invalid: [() => create({}, {}), () => create("a", "text"), () => create("a", null), () => create("a", [1]),
                () => getById("a", {}),
                () => query("a", "text"), () => query("a", [["x"]]), () => query("a", [["x", "~", 1]]),
                () => update("a", "b", 1), () => create("a\ud800", {}), () => create("", {}), () => email("text"),
                () => create("a", { s: "\u0000" })],
            not_json: [() => create("a", cyclic), () => create("a", { n: 1n })],
        };
        const tried = (call, n) => {
            try { return { n, ...call() }; } catch (error) { return { n, thrown: String(error) }; }
        };
        return { mismatch: calls.mismatch.map(tried), invalid: calls.invalid.map(tried), not_json: calls.not_json.map(tried) };
    }"#,
        )
        .await;

    for answer in answers["mismatch"].as_array().unwrap() {
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["content"].as_str().is_some_and(|text| text.starts_with("argument missmatch:")), "{answer}");
    }
    for answer in answers["invalid"].as_array().unwrap() {
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["content"].is_string(), "{answer}");
    }
    // What JSON cannot hold is thrown, as `JSON.stringify` does.
    for answer in answers["not_json"].as_array().unwrap() {
        assert!(answer["thrown"].as_str().is_some_and(|text| text.starts_with("TypeError")), "{answer}");
    }
    assert_eq!(tenant.root.get("/db/a").await.ok()["total"], 0);
}

#[tokio::test]
async fn a_lone_surrogate_in_a_document_is_refused_and_the_run_goes_on() {
    let tenant = Tenant::new().await;

    let answer = tenant
        .value(r#"function handle() { return [create("a", { s: "x\ud800y" }).ok, create("a", { s: "fine" }).ok]; }"#);

    assert_eq!(answer.await, json!([false, true]));
}

#[tokio::test]
async fn the_component_of_a_function_is_given_out_self_contained() {
    let tenant = Tenant::new().await;
    tenant.add("hello", "web", &answering("1")).await;

    let wasm = tenant.root.get("/fn/wasm/hello").await;

    assert_eq!(wasm.status, 200);
    assert_eq!(wasm.header("content-type"), "application/wasm");
    let (imports, exports) = interface(&wasm.body);
    assert!(imports.iter().all(|name| name.starts_with("thimble:functions/") && name.contains("@0.1.")), "{imports:?}");
    assert_eq!(exports, ["handle"]);
}

#[tokio::test]
async fn each_answer_during_updates_is_wholly_of_one_version() {
    let tenant = Tenant::new().await;
    let code = |version: usize| {
        format!(
            "const a = {version}; const pad = \"{}\"; function handle() {{ return [a, pad.length, {version}]; }}",
            "x".repeat(version)
        )
    };
    tenant.add("busy", "web", &code(1)).await;
    let done = std::sync::atomic::AtomicBool::new(false);

    let callers = join_all((0..20).map(|_| async {
        let mut seen = HashSet::new();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let answer = tenant.exec("busy", json!({})).await.ok();
            assert!(answer[0] == answer[1] && answer[1] == answer[2], "{answer}");
            seen.insert(answer[0].as_u64().unwrap());
        }
        seen.len()
    }));
    let updates = async {
        for version in 2..=51 {
            tenant.update("busy", "web", &code(version)).await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (seen, ()) = tokio::join!(callers, updates);

    assert!(seen.iter().any(|versions| *versions > 1), "no caller was there during the updates");
    assert_eq!(tenant.exec("busy", json!({})).await.ok()[0], 51);
    assert_eq!(tenant.info("busy").await["version"], 51);
}

#[tokio::test]
async fn a_function_that_is_deleted_while_it_runs_ends_normally() {
    let tenant = Tenant::new().await;
    let name =
        tenant.function("function handle() { let s = 0; for (let i = 0; i < 1e5; i++) s += i; return s; }").await;

    let runs = stream::iter(0..10).map(|_| tenant.exec(&name, json!({}))).buffer_unordered(10).collect::<Vec<_>>();
    let path = format!("/fn/del/{name}");
    let (answers, deleted) = tokio::join!(runs, tenant.root.get(&path));

    deleted.ok();
    for answer in answers {
        assert!(matches!(answer.status, 200 | 404), "{} {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn many_functions_live_side_by_side() {
    let tenant = Tenant::new().await;
    let uploads = stream::iter(0..100).map(|n| {
        let tenant = &tenant;
        async move { tenant.add(&format!("function-{n}"), "web", &answering(n)).await }
    });
    uploads.buffer_unordered(4).collect::<Vec<_>>().await;

    let answers = stream::iter(0..100).map(|n| {
        let tenant = &tenant;
        async move { (n, tenant.exec(&format!("function-{n}"), json!({})).await.ok()) }
    });
    let answers: Vec<_> = answers.buffer_unordered(10).collect().await;

    assert!(answers.iter().all(|(n, answer)| answer == n), "{answers:?}");
    assert_eq!(tenant.root.get("/fn").await.ok().as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn an_unknown_function_name_leads_nowhere_else() {
    let tenant = Tenant::new().await;

    for name in [&fresh("nothing"), "..%2f..%2fetc%2fpasswd", "%00", "%ff", &"n".repeat(5_000)] {
        let answer = tenant.root.post(&format!("/fn/exec/{name}"), json!({})).await;
        assert!(matches!(answer.status, 400 | 404 | 414), "{name:.30}: {} {}", answer.status, answer.text());
    }
}

/// The names of what a component imports and exports; fails when it is not valid.
pub fn interface(component: &[u8]) -> (Vec<String>, Vec<String>) {
    use wasmparser::{Parser, Payload, Validator, WasmFeatures};

    Validator::new_with_features(WasmFeatures::all()).validate_all(component).expect("a valid component");
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}

fn is_time(value: &Value) -> bool {
    // As the Go client reads it: RFC 3339, never null or empty.
    value.as_str().is_some_and(|time| time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with(['Z', '0']))
}
