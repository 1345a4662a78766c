//! The tutorial: people talk in a channel, and a function on the server keeps what they say.

use std::{
    path::Path,
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::harness::{
    Caller, Connection, Tenant, Transport, eventually, on_every_transport, repository, shared, text, thimble,
};

fn chat_function() -> String {
    std::fs::read_to_string(repository("functions-examples/chat/fn.js")).unwrap()
}

on_every_transport! {
    async fn every_message_is_kept_by_the_function(transport) {
        let tenant = Tenant::new().await;
        tenant.add("new_msg", "chan_out", &chat_function()).await;
        let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
        let mut of_ann = Connection::member(transport, &ann, "lobby").await;
        let mut of_bob = Connection::member(transport, &bob, "lobby").await;

        for n in 0..10 {
            of_ann.say("chan_in", &json!({ "from": "ann", "body": format!("{n} ☕") }).to_string(), "lobby").await;
            of_bob.say("chan_in", &json!({ "from": "bob", "body": format!("{n} 👋") }).to_string(), "lobby").await;
        }

        for member in [&mut of_ann, &mut of_bob] {
            for _ in 0..20 {
                assert_eq!(member.until_type("chan_out").await["channel"], "lobby");
            }
        }
        let page = eventually("all messages are kept", async || {
            let page = ann.get("/db/msgs_774_?size=100").await.ok();
            (page["total"] == 20).then_some(page)
        })
        .await;
        for (user, from, sign) in [(&ann, "ann", "☕"), (&bob, "bob", "👋")] {
            let own: Vec<&Value> = page["results"].as_array().unwrap().iter().filter(|kept| kept["from"] == from).collect();
            let bodies: Vec<String> = own.iter().map(|kept| text(&kept["body"])).collect();
            assert_eq!(bodies, (0..10).map(|n| format!("{n} {sign}")).collect::<Vec<_>>());
            for kept in own {
                assert_eq!(kept["accountId"], json!(user.account));
                assert!(text(&kept["sentOn"]).ends_with('Z') && text(&kept["sentOn"]).starts_with("20"), "{kept}");
            }
        }
        assert_eq!(bob.get("/db/msgs_774_").await.ok()["total"], 20);
        let runs = tenant.runs("new_msg").await;
        assert_eq!(runs.len(), 20);
        assert!(runs.iter().all(|run| run["outcome"] == "ok"), "{runs:?}");
    }

    async fn what_is_not_a_message_of_the_chat_is_noted_and_not_kept(transport) {
        let tenant = Tenant::new().await;
        tenant.add("new_msg", "chan_out", &chat_function()).await;
        let ann = tenant.user("ann").await;
        let mut connection = Connection::member(transport, &ann, "lobby").await;

        connection.say("chan_in", "not JSON", "lobby").await;

        let run = eventually("the function runs", async || tenant.runs("new_msg").await.pop()).await;
        assert_eq!(run["outcome"], "ok", "{run}");
        assert_eq!(ann.get("/db/msgs_774_").await.ok()["total"], 0);
    }
}

#[tokio::test]
async fn the_function_of_the_tutorial_as_it_was_published_works() {
    let tenant = Tenant::new().await;
    let code = r#"function handle(body) {
        log(body);

        const msg = JSON.parse(body.data);
        msg.sentOn = new Date();

        const res = create("msgs_774_", msg);
        if (!res.ok) {
            log("error saving the message");
            log(res.content);
            return;
        }

        log("saved");
    }"#;
    tenant.add("new_msg", "chan_out", code).await;
    let ann = tenant.user("ann").await;
    let mut connection = Connection::member(Transport::Sse, &ann, "lobby").await;

    connection.say("chan_in", &json!({ "from": "ann", "body": "hello" }).to_string(), "lobby").await;

    let run = eventually("the function runs", async || tenant.runs("new_msg").await.pop()).await;
    assert!(run["output"].as_array().unwrap().contains(&json!("saved")), "{run}");
    assert!(run["output"][1].as_str().unwrap().contains("chan_out"), "the argument is shown: {run}");
    assert_eq!(ann.get("/db/msgs_774_").await.ok()["results"][0]["body"], "hello");
}

#[tokio::test]
async fn the_example_brings_its_function_and_its_page() {
    let server = thimble(["serve", "--dev", "--example", "chat"]).serve().await;
    let development = Tenant::of_development(&server);

    let functions = development.root.get("/fn").await.ok();
    let page = Caller::nobody(&server.url).get("/chat/").await;

    assert_eq!((&functions[0]["name"], &functions[0]["trigger"]), (&json!("new_msg"), &json!("chan_out")));
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().contains("app.js"), "{}", page.text());
    let script = Caller::nobody(&server.url).get("/chat/app.js").await;
    assert_eq!(script.status, 200);
    assert!(script.header("content-type").contains("javascript"), "{}", script.header("content-type"));
    for path in ["/chat/../Cargo.toml", "/chat/%2e%2e/%2e%2e/Cargo.toml", "/chat/nothing.js", "/chat//etc/passwd"] {
        assert_eq!(Caller::nobody(&server.url).get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_chat_works_with_the_published_clients() {
    let server = shared().await;
    let tenant = Tenant::new().await;

    node("chat.mjs", server.url.clone(), &tenant).await;
}

#[tokio::test]
async fn every_call_of_the_published_client_works() {
    let server = shared().await;
    let tenant = Tenant::new().await;

    node("api.mjs", server.url.clone(), &tenant).await;
}

#[tokio::test]
async fn two_people_chat_in_browsers() {
    let server = thimble(["serve", "--dev", "--example", "chat"]).serve().await;
    let development = Tenant::of_development(&server);

    node("browser.mjs", server.url.clone(), &development).await;
}

/// Runs one of the scripts in `tests/client` against a tenant.
async fn node(script: &'static str, url: String, tenant: &Tenant) {
    let (key, root_token) = (tenant.key.clone(), tenant.root_token().to_owned());
    let output = tokio::task::spawn_blocking(move || {
        let folder = installed();
        let mut command = Command::new("node");
        command.arg("--test-reporter=spec").arg(script).current_dir(folder);
        command.env("THIMBLE_URL", url).env("THIMBLE_PK", key).env("THIMBLE_ROOT_TOKEN", root_token);
        finished(command)
    });
    let output = output.await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {text}");
}

/// The folder of the scripts, with the clients they use.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<std::path::PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = repository("tests/client");
        if !folder.join("node_modules").exists() {
            let mut command = Command::new("npm");
            command.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
            let output = finished(command);
            assert!(output.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        folder
    })
}

fn finished(mut command: Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().unwrap_or_else(|error| panic!("cannot run {program} ({error}): install Node.js 20 or newer"))
}
