//! The command line as a newcomer meets it.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    functions::interface,
    harness::{Command, Finished, PASSWORD, Server, Tenant, eventually, fresh, operated, shared, thimble},
};

const HELLO: &str =
    "function handle(body) {\n  log(\"greeting \" + body.name);\n  return \"Hello, \" + body.name;\n}\n";

/// A folder in which somebody works on functions of a tenant.
pub struct Workplace {
    folder: TempDir,
    pub tenant: Tenant,
}

impl Workplace {
    pub async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), tenant: Tenant::new().await }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// A command in this folder that knows nothing of a server.
    fn bare<const N: usize>(&self, arguments: [&str; N]) -> Command {
        thimble(arguments).folder(self.folder.path())
    }

    /// Runs a command with the keys of the tenant.
    pub async fn run<const N: usize>(&self, arguments: [&str; N]) -> Finished {
        let command = self.bare(arguments).variable("THIMBLE_URL", &self.tenant.root.url);
        command
            .variable("THIMBLE_PUBLIC_KEY", &self.tenant.key)
            .variable("THIMBLE_ROOT_TOKEN", self.tenant.root_token())
            .run()
            .await
    }
}

#[tokio::test]
async fn the_command_says_what_it_is_and_what_it_can_do() {
    let version = thimble(["--version"]).run().await.succeeded();
    let help = thimble(["--help"]).run().await.succeeded();
    let nothing = thimble([]).run().await;

    assert!(version.contains("thimble 0."), "{version}");
    for command in ["serve", "login", "account", "function"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(nothing.failed().contains("Usage"));
}

#[tokio::test]
async fn every_command_explains_itself() {
    let serve = thimble(["serve", "--help"]).run().await.succeeded();
    for flag in ["--dev", "--listen", "--data", "--database", "--example", "127.0.0.1:8099"] {
        assert!(serve.contains(flag), "{flag}: {serve}");
    }
    for command in ["add", "update", "list", "info", "stats", "logs", "run", "delete", "rollback", "build"] {
        let help = thimble(["function", command, "--help"]).run().await.succeeded();
        assert!(help.contains("Usage"), "{command}: {help}");
    }
    thimble(["login", "--help"]).run().await.succeeded();
    thimble(["account", "create", "--help"]).run().await.succeeded();
}

#[tokio::test]
async fn a_mistyped_command_is_pointed_out() {
    for arguments in [["functions", "list"], ["function", "ad"], ["serve", "--devv"]] {
        let words = thimble(arguments).run().await.failed();
        assert!(words.contains(arguments[1]) || words.contains(arguments[0]), "{words}");
    }
}

#[tokio::test]
async fn the_tutorials_command_adds_its_function() {
    let work = Workplace::new().await;
    work.write("fn.js", "function handle(body) { log(body); }");

    let added = work
        .run(["function", "add", "--name", "new_msg", "--trigger", "chan_out", "--source", "./fn.js"])
        .await
        .succeeded();

    assert!(added.contains("Function new_msg created successfully"), "{added}");
    assert!(added.contains("chan_out"), "{added}");
    let info = work.tenant.info("new_msg").await;
    assert_eq!((&info["trigger"], &info["code"]), (&json!("chan_out"), &json!("function handle(body) { log(body); }")));
}

#[tokio::test]
async fn keys_may_come_as_flags() {
    let work = Workplace::new().await;
    work.write("hello.js", HELLO);
    let (url, key, token) =
        (work.tenant.root.url.clone(), work.tenant.key.clone(), work.tenant.root_token().to_owned());
    let keys = ["--url", &url, "--public-key", &key, "--root-token", &token];

    let add = ["function", "add", "--name", "hello", "--trigger", "web", "--source", "hello.js"];
    let added = work.bare([
        add[0], add[1], add[2], add[3], add[4], add[5], add[6], add[7], keys[0], keys[1], keys[2], keys[3], keys[4],
        keys[5],
    ]);

    let added = added.run().await.succeeded();
    assert!(added.contains("Function hello created successfully") && added.contains("/fn/exec/hello"), "{added}");
    assert_eq!(work.tenant.exec("hello", json!({ "name": "Ann" })).await.ok(), "Hello, Ann");
}

#[tokio::test]
async fn a_function_is_run_from_the_command_line() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "web", HELLO).await;
    work.tenant.add("listener", "news", "function handle() { return \"ran\"; }").await;
    work.write("ann.json", r#"{"name":"file"}"#);

    let by_data = work.run(["function", "run", "hello", "--data", r#"{"name":"Ann"}"#]).await.succeeded();
    let by_file = work.run(["function", "run", "hello", "--data-file", "ann.json"]).await.succeeded();
    let without = work.run(["function", "run", "hello"]).await.succeeded();
    let listener = work.run(["function", "run", "listener"]).await.succeeded();

    assert!(by_data.contains("\"Hello, Ann\"") && by_data.contains("greeting Ann"), "{by_data}");
    assert!(by_file.contains("Hello, file"), "{by_file}");
    assert!(without.contains("Hello, undefined"), "{without}");
    assert!(listener.contains("ran"), "{listener}");
}

#[tokio::test]
async fn a_run_that_fails_is_a_command_that_fails() {
    let work = Workplace::new().await;
    work.tenant.add("broken", "web", "function handle() {\n  log(\"before\");\n  throw new Error(\"oops\");\n}").await;
    work.tenant.add("endless", "web", "function handle() { for (;;); }").await;

    let broken = work.run(["function", "run", "broken"]).await.failed();
    let endless = work.run(["function", "run", "endless"]).await.failed();
    let unknown = work.run(["function", "run", "nothing"]).await.failed();
    let bad_data = work.run(["function", "run", "broken", "--data", "{"]).await.failed();

    assert!(broken.contains("oops") && broken.contains("broken.js:3:") && broken.contains("before"), "{broken}");
    assert!(endless.contains("fuel") || endless.contains("time"), "{endless}");
    assert!(unknown.contains("nothing"), "{unknown}");
    assert!(bad_data.contains("JSON"), "{bad_data}");
}

#[tokio::test]
async fn a_function_is_updated_and_keeps_its_trigger() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "web", "function handle() { return 1; }").await;
    work.write("hello.js", "function handle() { return 2; }");

    let updated = work.run(["function", "update", "hello", "--source", "hello.js"]).await.succeeded();

    assert!(updated.contains("hello"), "{updated}");
    let info = work.tenant.info("hello").await;
    assert_eq!((&info["version"], &info["trigger"]), (&json!(2), &json!("web")));
    assert_eq!(work.tenant.exec("hello", json!({})).await.ok(), 2);
    let by_flags = ["function", "update", "--name", "hello", "--trigger", "news", "--source", "hello.js"];
    work.run(by_flags).await.succeeded();
    assert_eq!(work.tenant.info("hello").await["trigger"], "news");
}

#[tokio::test]
async fn functions_are_listed_with_version_and_trigger() {
    let work = Workplace::new().await;
    let empty = work.run(["function", "list"]).await.succeeded();
    work.tenant.add("hello", "web", HELLO).await;
    work.tenant.add("listener", "news", HELLO).await;

    let all = work.run(["function", "list"]).await.succeeded();
    let of_news = work.run(["function", "list", "news"]).await.succeeded();

    assert!(!empty.contains("hello"), "{empty}");
    for word in ["NAME", "VERSION", "TRIGGER", "LAST RUN", "hello", "listener", "web", "news"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    assert!(of_news.contains("listener") && !of_news.contains("hello"), "{of_news}");
}

#[tokio::test]
async fn a_function_is_shown_with_its_runs_and_logs() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "web", HELLO).await;
    for name in ["Ann", "Bob"] {
        work.tenant.exec("hello", json!({ "name": name })).await.ok();
    }
    let last = work.tenant.last_run("hello").await;

    let info = work.run(["function", "info", "hello"]).await.succeeded();
    let logs = work.run(["function", "logs", "hello"]).await.succeeded();
    let one = work.run(["function", "logs", "hello", "--run", last["id"].as_str().unwrap()]).await.succeeded();
    let latest = work.run(["function", "logs", "hello", "--limit", "1"]).await.succeeded();

    assert!(info.contains("hello") && info.contains("web") && info.contains("ok"), "{info}");
    let places =
        ["greeting Ann", "greeting Bob"].map(|entry| logs.find(entry).unwrap_or_else(|| panic!("{entry}: {logs}")));
    assert!(places.is_sorted(), "oldest first: {logs}");
    for logs in [one, latest] {
        assert!(logs.contains("greeting Bob") && !logs.contains("greeting Ann"), "{logs}");
    }
    for command in ["info", "logs"] {
        let unknown = work.run(["function", command, "nothing"]).await.failed();
        assert!(unknown.contains("nothing"), "{unknown}");
    }
}

#[tokio::test]
async fn a_terminal_is_not_taken_over_by_a_log() {
    let work = Workplace::new().await;
    work.tenant
        .add(
            "evil",
            "web",
            r#"function handle() { log("\u001b[2J\u001b]0;owned\u0007evil"); return "\u001b[31mred"; }"#,
        )
        .await;

    let run = work.run(["function", "run", "evil"]).await.succeeded();
    let logs = work.run(["function", "logs", "evil"]).await.succeeded();
    let info = work.run(["function", "info", "evil"]).await.succeeded();

    for output in [run, logs, info] {
        assert!(!output.contains('\u{1b}') && !output.contains('\u{7}'), "{output:?}");
    }
}

#[tokio::test]
async fn a_function_is_rolled_back_and_deleted() {
    let work = Workplace::new().await;
    for n in 1..=3 {
        let code = format!("function handle() {{ return {n}; }}");
        if n == 1 {
            work.tenant.add("hello", "web", &code).await
        } else {
            work.tenant.update("hello", "web", &code).await
        };
    }

    work.run(["function", "rollback", "hello"]).await.succeeded();
    let second = work.tenant.exec("hello", json!({})).await.ok();
    let unknown = work.run(["function", "rollback", "nothing"]).await.failed();
    work.run(["function", "delete", "hello"]).await.succeeded();
    let deleted = work.tenant.exec("hello", json!({})).await.status;
    let again = work.run(["function", "delete", "hello"]).await.failed();

    assert_eq!(second, 2);
    assert!(unknown.contains("nothing"), "{unknown}");
    assert_eq!(deleted, 404);
    assert!(again.contains("hello"), "{again}");
}

#[tokio::test]
async fn a_function_is_rolled_back_to_a_version() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "web", "function handle() { return 1; }").await;
    for n in 2..=3 {
        work.tenant.update("hello", "web", &format!("function handle() {{ return {n}; }}")).await;
    }

    let help = work.run(["function", "rollback", "--help"]).await.succeeded();
    let flag = ["--to", "--version"]
        .into_iter()
        .find(|flag| help.contains(&format!("{flag} <")))
        .unwrap_or_else(|| panic!("{help}"));
    work.run(["function", "rollback", "hello", flag, "1"]).await.succeeded();

    assert_eq!(work.tenant.exec("hello", json!({})).await.ok(), 1);
    let unknown = work.run(["function", "rollback", "hello", flag, "99"]).await.failed();
    assert!(unknown.contains("99"), "{unknown}");
}

#[tokio::test]
async fn a_syntax_error_is_shown_with_file_line_and_column() {
    let work = Workplace::new().await;
    work.write("fn.js", "function handle() {\n  let x = ;\n}\n");

    let add = work.run(["function", "add", "--name", "bad", "--trigger", "web", "--source", "fn.js"]).await.failed();
    let build = work.run(["function", "build", "--source", "fn.js"]).await.failed();

    for words in [add, build] {
        assert!(words.contains("SyntaxError") && words.contains(".js:2:"), "{words}");
    }
    assert_eq!(work.tenant.root.get("/fn/info/bad").await.status, 404);
    assert!(!work.folder.path().join("fn.wasm").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let work = Workplace::new().await;
    work.write("binary.js", b"function handle() {} // \xff\xfe");
    work.write("empty.js", "");
    let add = async |file: &str| {
        work.run(["function", "add", "--name", "x", "--trigger", "web", "--source", file]).await.failed()
    };

    for file in ["missing.js", "binary.js", "empty.js", "."] {
        let words = add(file).await;
        assert!(words.contains(file) || words.contains("`x`"), "{file}: {words}");
    }
}

#[tokio::test]
async fn an_upload_without_a_trigger_or_source_says_what_is_missing() {
    let work = Workplace::new().await;
    work.write("fn.js", HELLO);

    let no_source = work.run(["function", "add", "--name", "x", "--trigger", "web"]).await.failed();
    let no_name = work.run(["function", "add", "--trigger", "web", "--source", "fn.js"]).await.failed();

    assert!(no_source.contains("--source"), "{no_source}");
    assert!(no_name.contains("--name") || no_name.contains("NAME"), "{no_name}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let work = Workplace::new().await;
    let nowhere = "http://127.0.0.1:9";

    let words = work.bare(["function", "list", "--url", nowhere]).run().await.failed();

    assert!(words.contains("127.0.0.1:9"), "{words}");
}

#[tokio::test]
async fn keys_that_do_not_fit_are_told_apart() {
    let work = Workplace::new().await;
    let with = |key: &str, token: &str| {
        let command = work.bare(["function", "list"]).variable("THIMBLE_URL", &work.tenant.root.url);
        command.variable("THIMBLE_PUBLIC_KEY", key).variable("THIMBLE_ROOT_TOKEN", token)
    };

    let wrong_key = with("no_such_key", work.tenant.root_token()).run().await.failed();
    let wrong_token = with(&work.tenant.key, "a|b|c").run().await.failed();

    assert!(wrong_key.contains("no_such_key"), "{wrong_key}");
    assert!(!wrong_token.is_empty() && wrong_token != wrong_key, "{wrong_token}");
}

#[tokio::test]
async fn keys_are_kept_by_login_for_the_commands_after_it() {
    let work = Workplace::new().await;
    work.write("hello.js", HELLO);
    let (url, key, token) = (&work.tenant.root.url, &work.tenant.key, work.tenant.root_token());

    work.bare(["login", "--url", url, "--public-key", key, "--root-token", token]).run().await.succeeded();
    let added =
        work.bare(["function", "add", "--name", "hello", "--trigger", "web", "--source", "hello.js"]).run().await;

    added.succeeded();
    assert_eq!(work.tenant.info("hello").await["version"], 1);
    let kept = work.folder.path().join(".thimble.toml");
    assert!(fs::read_to_string(&kept).unwrap().contains(key.as_str()));
    assert_private(&kept);
}

#[tokio::test]
async fn login_refuses_keys_that_do_not_fit() {
    let work = Workplace::new().await;
    let url = &work.tenant.root.url;

    let words = work
        .bare(["login", "--url", url, "--public-key", &work.tenant.key, "--root-token", "a|b|c"])
        .run()
        .await
        .failed();

    assert!(!words.is_empty());
    assert!(!work.folder.path().join(".thimble.toml").exists(), "nothing is kept");
}

#[tokio::test]
async fn a_user_may_run_functions_from_the_command_line() {
    let work = Workplace::new().await;
    let ann = work.tenant.user("ann").await;
    work.tenant.add("whoami", "web", "function handle() { return create(\"whoami\", {}).content.accountId; }").await;
    let (url, key, token) = (&work.tenant.root.url, &work.tenant.key, work.tenant.root_token());

    let login = work.bare(["login", "--url", url, "--public-key", key, "--root-token", token, "--email", &ann.email]);
    login.variable("THIMBLE_PASSWORD", PASSWORD).run().await.succeeded();
    let as_user = work.bare(["function", "run", "whoami", "--as-user"]).run().await.succeeded();
    let as_root = work.bare(["function", "run", "whoami"]).run().await.succeeded();

    assert!(as_user.contains(&ann.account), "{as_user}");
    assert!(!as_root.contains(&ann.account), "{as_root}");
}

#[tokio::test]
async fn a_newcomer_needs_no_keys_in_development_mode() {
    let work = Workplace::new().await;
    let server = shared().await;
    let name = fresh("newcomer");
    work.write("hello.js", HELLO);

    work.bare(["login", "--dev", "--url", &server.url]).run().await.succeeded();
    work.bare(["function", "add", "--name", &name, "--trigger", "web", "--source", "hello.js"]).run().await.succeeded();

    assert_eq!(Tenant::of_development(server).exec(&name, json!({ "name": "you" })).await.ok(), "Hello, you");
}

#[tokio::test]
async fn an_app_is_created_from_the_command_line() {
    let work = Workplace::new().await;
    let server = shared().await;
    let email = format!("{}@example.com", fresh("owner"));

    let created = work.bare(["account", "create", &email, "--url", &server.url]).run().await.succeeded();
    let again = work.bare(["account", "create", &email, "--url", &server.url]).run().await.failed();
    let invalid = work.bare(["account", "create", "nonsense", "--url", &server.url]).run().await.failed();

    let token =
        created.split_whitespace().find(|word| word.matches('|').count() == 2).unwrap_or_else(|| panic!("{created}"));
    let keys = created.split_whitespace().map(|key| Tenant::with(server, key, token));
    let mut works = false;
    for tenant in keys {
        works |= tenant.root.get("/fn").await.status == 200;
    }
    assert!(works, "one of the words is the public key: {created}");
    assert!(!again.is_empty() && !invalid.is_empty());
}

#[tokio::test]
async fn where_sign_up_is_closed_the_operator_creates_apps() {
    let work = Workplace::new().await;
    let server: Server = thimble(["serve"]).serve().await;
    let email = format!("{}@example.com", fresh("owner"));
    let output = eventually("the keys are shown", async || {
        let output = server.output();
        output.contains("operator_").then_some(output)
    })
    .await;
    let operator = output.split_whitespace().find(|word| word.starts_with("operator_")).unwrap();

    let without = work.bare(["account", "create", &email, "--url", &server.url]).run().await.failed();
    let wrong = work
        .bare(["account", "create", &email, "--url", &server.url, "--operator-token", "operator_wrong"])
        .run()
        .await
        .failed();
    let created =
        work.bare(["account", "create", &email, "--url", &server.url, "--operator-token", operator]).run().await;

    assert!(without.contains("operator"), "{without}");
    assert!(!wrong.is_empty());
    assert!(created.succeeded().contains('|'));
}

#[tokio::test]
async fn a_function_is_built_without_a_server() {
    let work = Workplace::new().await;
    work.write("hello.js", HELLO);

    work.bare(["function", "build", "--source", "hello.js"]).run().await.succeeded();
    work.bare(["function", "build", "--source", "hello.js", "--output", "other.wasm"]).run().await.succeeded();

    let (imports, exports) = interface(&work.read("hello.wasm"));
    assert!(imports.iter().all(|name| name.starts_with("thimble:functions/")), "{imports:?}");
    assert_eq!(exports, ["handle"]);
    assert_eq!(work.read("other.wasm"), work.read("hello.wasm"), "what is built depends on the source only");
}

#[tokio::test]
async fn the_component_of_a_function_is_saved() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "web", HELLO).await;

    work.run(["function", "wasm", "hello", "--output", "saved.wasm"]).await.succeeded();

    assert_eq!(work.read("saved.wasm"), work.tenant.root.get("/fn/wasm/hello").await.body);
}

#[tokio::test]
async fn the_session_of_the_readme_works() {
    let work = Workplace::new().await;
    let code = "function handle(body) {
  const visit = create(\"visits\", { name: body.name, at: new Date() });
  if (!visit.ok) throw new Error(visit.content);

  const visits = list(\"visits\").content.total;
  log(\"visit number\", visits);
  return { hello: body.name, visits };
}
";
    work.write("hello.js", code);

    work.run(["function", "add", "--name", "hello", "--trigger", "web", "--source", "./hello.js"]).await.succeeded();
    let run = work.run(["function", "run", "hello", "--data", r#"{"name": "Ann"}"#]).await.succeeded();
    let logs = work.run(["function", "logs", "hello"]).await.succeeded();
    work.run(["function", "update", "hello", "--source", "./hello.js"]).await.succeeded();
    work.run(["function", "rollback", "hello"]).await.succeeded();

    let line = run.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{run}"));
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), json!({ "hello": "Ann", "visits": 1 }));
    assert!(logs.contains("visit number"), "{logs}");
}

/// Nobody but its owner may read a file.
#[track_caller]
fn assert_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", file.display());
}

#[tokio::test]
async fn limits_are_set_and_given_up_without_the_code() {
    let work = Workplace::new().await;
    work.tenant.add("hello", "chan_out", HELLO).await;

    work.run(["function", "update", "hello", "--rate", "5", "--timeout", "1000"]).await.succeeded();
    assert_eq!(work.tenant.info("hello").await["limits"]["own"], json!({ "rate": 5, "timeout": 1_000 }));
    let updated = work.run(["function", "update", "hello", "--rate", "none"]).await.succeeded();
    // Nothing is left to give up, which is what was asked for.
    work.run(["function", "update", "hello", "--rate", "none"]).await.succeeded();
    let nonsense = work.run(["function", "update", "hello", "--rate", "many"]).await.failed();
    let nothing = work.run(["function", "update", "hello"]).await.failed();

    assert!(updated.contains("version 3"), "{updated}");
    let info = work.tenant.info("hello").await;
    assert_eq!(info["limits"]["own"], json!({ "timeout": 1_000 }));
    assert_eq!((&info["trigger"], &info["code"]), (&json!("chan_out"), &json!(HELLO)));
    assert!(nonsense.contains("--rate") && nonsense.contains("none"), "{nonsense}");
    assert!(nothing.contains("--source") && nothing.contains("--rate"), "{nothing}");
}

#[tokio::test]
async fn the_operator_sets_the_quota_of_an_app() {
    let work = Workplace::new().await;
    let (server, operator, tenant) = operated().await;
    let token = operator.token.clone().unwrap();
    let quota = async |arguments: &[&str]| {
        let command = thimble(["account", "quota", &tenant.key, "--url", &server.url]).with(arguments);
        command.folder(work.folder.path()).variable("THIMBLE_OPERATOR_TOKEN", &token).run().await
    };
    let own = async || operator.get(&format!("/account/quota/{}", tenant.key)).await.ok()["own"].clone();

    let before = quota(&[]).await.succeeded();
    quota(&["--rate", "7", "--documents", "100"]).await.succeeded();
    let changed = quota(&["--documents", "5", "--fuel-per-day", "9"]).await.succeeded();
    assert_eq!(own().await, json!({ "rate": 7, "documents": 5, "fuelPerDay": 9 }));
    let given_up = quota(&["--rate", "none", "--documents", "none", "--fuel-per-day", "none"]).await.succeeded();
    assert_eq!(own().await, json!({}));

    assert!(before.contains("documents") && before.contains("every app"), "{before}");
    assert!(changed.contains("Set for this app alone") && changed.contains("rate"), "{changed}");
    assert!(given_up.contains("every app"), "{given_up}");
    let wrong = quota(&["--operator-token", "operator_wrong", "--rate", "1"]).await.failed();
    assert!(wrong.contains("operator"), "{wrong}");
    let unknown = thimble(["account", "quota", "nobody", "--url", &server.url, "--operator-token", &token]);
    assert!(unknown.run().await.failed().contains("no app with that public key"));
}

#[tokio::test]
async fn one_run_is_shown_with_what_it_used() {
    let work = Workplace::new().await;
    let code = "function handle() { create('used', { a: 1 }); list('used'); send('t', 'd', 'ring'); }";
    work.tenant.add("first", "web", code).await;
    work.tenant.add("second", "ring", "function handle() { return 1; }").await;
    work.tenant.exec("first", json!({})).await;
    let second = eventually("the second has run", async || work.tenant.runs("second").await.pop()).await;
    let ids = [&work.tenant.last_run("first").await, &second].map(|run| run["id"].as_str().unwrap().to_owned());

    let first = work.run(["function", "logs", "first", "--run", &ids[0]]).await.succeeded();
    let second = work.run(["function", "logs", "second", "--run", &ids[1]]).await.succeeded();

    assert!(first.contains("1 reads, 1 writes (") && first.contains("1 messages, 0 mails"), "{first}");
    assert!(first.contains("in calls of the platform") && !first.contains("in the chain"), "{first}");
    assert!(second.contains("in the chain first → second"), "{second}");
}
