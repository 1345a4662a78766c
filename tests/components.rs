//! Components that were made elsewhere: uploaded in every form, run like any other function, and given back as they came.

use serde_json::json;

use crate::harness::{
    Tenant,
    component::{ECHO, guest, returning},
    eventually, fresh, shared, text, thimble,
};

/// A component that answers with this JSON.
fn answering(json: &str) -> Vec<u8> {
    let (handle, items) = returning(json);
    guest(&handle, &items)
}

#[tokio::test]
async fn a_component_is_uploaded_and_runs() {
    let tenant = Tenant::new().await;
    let (_, items) = returning("hello log");
    let logs = format!("(call $log (i32.const 2) (i32.const 1024) (i32.const 9)) {ECHO}");

    let added = tenant.upload_component("echo", "web", guest(&logs, &items)).await.ok();
    let answer = tenant.exec("echo", json!({ "n": [1, "zwei"] })).await;

    assert_eq!((&added["version"], &added["trigger"]), (&json!(1), &json!("web")));
    assert_eq!(answer.ok(), json!({ "n": [1, "zwei"] }));
    let run = tenant.last_run("echo").await;
    assert_eq!((&run["outcome"], &run["success"]), (&json!("ok"), &json!(true)), "{run}");
    assert!(run["output"].to_string().contains("hello log"), "{run}");
    assert!(run["fuel"].as_u64() > Some(0) && run["peakMemory"].as_u64() >= Some(65_536), "{run}");
}

#[tokio::test]
async fn every_run_of_a_component_begins_anew() {
    let tenant = Tenant::new().await;
    let counter = "(i32.store8 (i32.const 1024) (i32.add (i32.load8_u (i32.const 1024)) (i32.const 1)))
        (call $string (i32.const 1024) (i32.const 1))";

    let name = tenant.component(guest(counter, "(data (i32.const 1024) \"0\")")).await;

    for _ in 0..5 {
        assert_eq!(tenant.exec(&name, json!({})).await.ok(), 1);
    }
}

#[tokio::test]
async fn it_is_shown_with_its_kind_and_given_back_as_it_came() {
    let tenant = Tenant::new().await;
    let component = answering("1");

    let name = tenant.component(component.clone()).await;
    tenant.add("script", "web", "function handle() {}").await;

    let info = tenant.info(&name).await;
    assert_eq!((&info["kind"], &info["code"]), (&json!("component"), &json!("")));
    let version = &info["versions"][0];
    assert_eq!((&version["kind"], &version["bytes"]), (&json!("component"), &json!(component.len())));
    assert_eq!(tenant.info("script").await["kind"], "javascript");
    assert_eq!(tenant.info("script").await["versions"][0]["bytes"], 20);
    let given = tenant.root.get(&format!("/fn/wasm/{name}")).await;
    assert_eq!((given.status, given.header("content-type")), (200, "application/wasm"));
    assert!(given.body == component, "{} bytes instead of {}", given.body.len(), component.len());
}

#[tokio::test]
async fn a_form_uploads_either() {
    let tenant = Tenant::new().await;
    let form = |name: &str, code: &[u8]| {
        let field = |name: &str, value: &[u8]| {
            [format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(), value, b"\r\n"]
                .concat()
        };
        let limits = br#"{ "fuel": 123456789 }"#;
        let fields = [field("name", name.as_bytes()), field("trigger", b"web"), field("limits", limits)];
        [fields.concat(), field("code", code), b"--edge--\r\n".to_vec()].concat()
    };
    let media_type = "multipart/form-data; boundary=edge";

    tenant.root.post_raw("/fn/add", media_type, form("binary", &answering("7"))).await.ok();
    tenant.root.post_raw("/fn/add", media_type, form("script", b"function handle() { return 8; }")).await.ok();
    let refused = tenant.root.post_raw("/fn/add", media_type, form("neither", b"\xff\xfe\xfd")).await.refused(400);

    assert_eq!(tenant.exec("binary", json!({})).await.ok(), 7);
    assert_eq!(tenant.exec("script", json!({})).await.ok(), 8);
    for name in ["binary", "script"] {
        assert_eq!(tenant.info(name).await["limits"]["fuel"], 123_456_789);
    }
    assert!(refused.contains("byte 0 cannot be read"), "{refused}");
}

#[tokio::test]
async fn versions_may_be_of_either_kind() {
    let tenant = Tenant::new().await;
    tenant.add("either", "web", "function handle() { return 1; }").await;

    let update = |json: &str| {
        let component = answering(json);
        tenant.root.post_raw("/fn/update?name=either", "application/wasm", component)
    };
    assert_eq!(update("2").await.ok()["version"], 2);
    assert_eq!(tenant.exec("either", json!({})).await.ok(), 2);
    tenant.update("either", "web", "function handle() { return 3; }").await;
    assert_eq!(tenant.exec("either", json!({})).await.ok(), 3);

    for version in [2, 1, 3] {
        tenant.root.post("/fn/rollback/either", json!({ "version": version })).await.ok();
        assert_eq!(tenant.exec("either", json!({})).await.ok(), version);
    }
    // Limits change without the code being sent again.
    tenant.root.post("/fn/rollback/either", json!({ "version": 2 })).await.ok();
    tenant.root.post("/fn/update", json!({ "name": "either", "limits": { "fuel": 10_000_000 } })).await.ok();
    let info = tenant.info("either").await;
    assert_eq!(
        (&info["version"], &info["kind"], &info["limits"]["fuel"]),
        (&json!(4), &json!("component"), &json!(10_000_000))
    );
    assert_eq!(tenant.exec("either", json!({})).await.ok(), 2);
    // So does the trigger of a component, which nobody has at hand.
    tenant.root.post("/fn/update", json!({ "name": "either", "trigger": "lobby", "code": "" })).await.ok();
    let info = tenant.info("either").await;
    assert_eq!((&info["version"], &info["trigger"], &info["kind"]), (&json!(5), &json!("lobby"), &json!("component")));
}

#[tokio::test]
async fn a_component_receives_every_argument_of_a_message() {
    let tenant = Tenant::new().await;
    // The third argument is the data.
    let third =
        "(call $log (i32.const 1) (i32.load offset=16 (local.get $args)) (i32.load offset=20 (local.get $args)))
        (call $string (i32.load (local.get $args)) (i32.load offset=4 (local.get $args)))";
    tenant.upload_component("listener", "note", guest(third, "")).await.ok();

    tenant.root.post("/publish", json!({ "channel": "lobby", "type": "note", "data": "{\"a\":1}" })).await.ok();

    let run = eventually("the component runs", async || tenant.runs("listener").await.pop()).await;
    assert_eq!(run["outcome"], "ok", "{run}");
    assert!(run["output"].to_string().contains(r#"{\"a\":1}"#) || run["output"][1] == "{\"a\":1}", "{run}");
}

#[tokio::test]
async fn what_this_server_makes_of_javascript_is_a_component_like_any_other() {
    let tenant = Tenant::new().await;
    let script = tenant.function("function handle(body) { log('as before'); return { got: body.n }; }").await;
    let exported = tenant.root.get(&format!("/fn/wasm/{script}")).await;

    let name = tenant.component(exported.body).await;

    assert_eq!(tenant.exec(&name, json!({ "n": 5 })).await.ok(), json!({ "got": 5 }));
    assert!(tenant.last_run(&name).await["output"].to_string().contains("as before"));
}

#[tokio::test]
async fn a_component_is_uploaded_from_the_command_line() {
    let tenant = Tenant::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fn.wasm"), answering("[1]")).unwrap();
    let command = |arguments: [&str; 4]| {
        let [noun, verb, name, option] = arguments;
        let mut command = thimble([noun, verb, name, "--source", "fn.wasm", option]).folder(folder.path());
        for (name, value) in
            [("URL", &tenant.root.url), ("PUBLIC_KEY", &tenant.key), ("ROOT_TOKEN", &tenant.root_token().to_owned())]
        {
            command = command.variable(&format!("THIMBLE_{name}"), value);
        }
        command.run()
    };

    command(["function", "add", "cli", "--trigger=web"]).await.succeeded();
    assert_eq!(tenant.exec("cli", json!({})).await.ok(), json!([1]));
    std::fs::write(folder.path().join("fn.wasm"), answering("[2]")).unwrap();
    command(["function", "update", "cli", "--fuel=1000000"]).await.succeeded();

    assert_eq!(tenant.exec("cli", json!({})).await.ok(), json!([2]));
    assert_eq!(tenant.info("cli").await["limits"]["fuel"], 1_000_000);
}

/// U-18: native code that was changed on the disk, or is gone, is never loaded: it is compiled again.
#[tokio::test]
async fn native_code_that_was_changed_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    tenant.upload_component("kept", "web", answering("41")).await.ok();
    tenant.add("script", "web", "function handle() { return 42; }").await;
    let native = server.data.join("store/native");
    server.stop().await;

    let files = |folder: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
    };
    let is_function = |path: &std::path::PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with("engine-");
    let mut changed = 0;
    for path in files(&native).into_iter().filter(is_function) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
        changed += 1;
    }
    assert_eq!(changed, 2);
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);

    assert_eq!(tenant.exec("kept", json!({})).await.ok(), 41);
    assert_eq!(tenant.exec("script", json!({})).await.ok(), 42);
    assert_eq!(server.output().matches("was changed").count(), 2, "{}", server.output());
    assert!(server.is_well());
    server.stop().await;

    files(&native).iter().filter(|path| is_function(path)).for_each(|path| std::fs::remove_file(path).unwrap());
    let server = thimble(["serve", "--dev"]).folder(folder.path()).serve().await;
    let tenant = Tenant::of_development(&server);
    assert_eq!(tenant.exec("kept", json!({})).await.ok(), 41);
}

#[tokio::test]
async fn limits_hold_for_components_as_for_javascript() {
    let tenant = Tenant::new().await;
    let looping = fresh("component");
    // Less fuel than the server gives, so that it is used up in time on a slow machine as well.
    let limited = format!("/fn/add?name={looping}&trigger=web&limits=%7B%22fuel%22%3A100000000%7D");
    let endless = guest("(loop $on (br $on)) unreachable", "");
    tenant.root.post_raw(&limited, "application/wasm", endless).await.ok();
    let deep = tenant.component(guest("(call $deep) unreachable", "(func $deep (call $deep))")).await;
    let trapping = tenant.component(guest("unreachable", "")).await;
    let hungry = "(block $full (loop $on (br_if $full (i32.eq (i32.const -1) (memory.grow (i32.const 16)))) (br $on))) unreachable";
    let hungry = tenant.component(guest(hungry, "")).await;
    let not_json = tenant.component(answering("not JSON")).await;

    for (name, status, outcome, words) in [
        (looping, 504, "fuel", "fuel"),
        (deep, 500, "stack", "stack"),
        (trapping, 500, "error", "unreachable"),
        (hungry, 500, "memory", "memory"),
        (not_json, 500, "error", "not JSON"),
    ] {
        let answer = tenant.exec(&name, json!({})).await;
        assert_eq!(answer.status, status, "{outcome}: {}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(text(&tenant.last_run(&name).await["outcome"]), outcome);
    }
    assert!(shared().await.is_well());
}
