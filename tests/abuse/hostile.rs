//! The hostile functions, and every way in which a function comes to run.
//!
//! The first line of a function's file says what it does, the second how it may end: names of outcomes, of which there are
//! several where it depends on which limit is met first.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Connection, Tenant, Transport, User, eventually, repository, text};

/// A function that means harm.
pub struct Hostile {
    /// Of the file, without its end.
    pub name: String,
    /// Of the file.
    pub code: String,
    /// Outcomes that it may have.
    pub ends: Vec<String>,
}

/// How a function comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A user's request.
    User,
    /// A request with the root token.
    Root,
    /// A message that a member says in a channel.
    Message,
    /// A document that is created.
    Document,
    /// A message that is published, matched by its type.
    Topic,
}

impl Hostile {
    /// All of them, by name.
    pub fn all() -> Vec<Self> {
        let files = fs::read_dir(repository("tests/abuse/functions")).unwrap();
        let mut names: Vec<String> = files
            .map(|file| {
                let path = file.unwrap().path();
                assert!(path.extension().is_some_and(|end| end == "js"), "{} is not a function", path.display());
                path.file_stem().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names.iter().map(|name| Self::named(name)).collect()
    }

    /// One of them.
    pub fn named(name: &str) -> Self {
        let code = fs::read_to_string(repository(&format!("tests/abuse/functions/{name}.js"))).unwrap();
        let mut lines = code.lines();
        let what = lines.next().and_then(|line| line.strip_prefix("// ")).unwrap_or_default();
        assert!(what.ends_with('.'), "{name}.js begins with a sentence that says what it does");
        let ends = lines.next().and_then(|line| line.strip_prefix("// ends: "));
        let ends = ends.unwrap_or_else(|| panic!("the second line of {name}.js says how it ends"));
        let ends: Vec<String> = ends.split(", ").map(String::from).collect();
        for end in &ends {
            let known = ["ok", "error", "fuel", "timeout", "memory", "stack", "quota"];
            assert!(known.contains(&end.as_str()), "{name}.js: there is no outcome {end}");
        }
        Self { name: name.into(), code, ends }
    }

    /// Adds it and lets it run once; says what was not as it should be.
    pub async fn run(&self, tenant: &Tenant, user: &User, trigger: Trigger) -> Vec<String> {
        let listens_to = match trigger {
            Trigger::User | Trigger::Root => "web".into(),
            Trigger::Message | Trigger::Topic => format!("on-{}", self.name),
            Trigger::Document => format!("db-on-{}", self.name),
        };
        let mut upload = json!({ "name": self.name, "trigger": listens_to, "code": self.code });
        if trigger != Trigger::User {
            upload["limits"] = json!({ "fuel": LESS_FUEL });
        }
        tenant.root.post("/fn/add", upload).await.ok();

        let answer = match trigger {
            Trigger::User => Some(user.exec(&self.name, json!({})).await),
            Trigger::Root => Some(tenant.exec(&self.name, json!({})).await),
            Trigger::Message => {
                let mut member = Connection::member(Transport::WebSocket, user, &listens_to).await;
                member.say("chan_in", "{}", &listens_to).await;
                member.until_type("ok").await;
                None
            }
            Trigger::Document => {
                user.create(listens_to.strip_prefix("db-").unwrap(), json!({ "cause": true })).await;
                None
            }
            Trigger::Topic => {
                let message = json!({ "channel": "topics", "type": listens_to, "data": "{}" });
                user.post("/publish", message).await.ok();
                None
            }
        };
        let runs = eventually(&format!("{} has run", self.name), async || {
            Some(tenant.runs(&self.name).await).filter(|runs| !runs.is_empty())
        })
        .await;
        eprintln!(
            "RUN {:?} {} {} {} {} {:.100}",
            trigger,
            self.name,
            runs[0]["outcome"],
            runs[0]["durationMs"],
            runs[0]["fuel"],
            runs[0]["error"].to_string()
        );
        match &runs[..] {
            [run] => self.faults(trigger, run, answer.as_ref()),
            runs => vec![format!("{} ran {} times", self.name, runs.len())],
        }
    }

    /// The run is one that the function may have, its owner sees why, and the caller learns the same and nothing more.
    fn faults(&self, trigger: Trigger, run: &Value, answer: Option<&Answer>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |is: bool, otherwise: String| {
            if !is {
                faults.push(format!("{}: {otherwise}", self.name));
            }
        };
        let (outcome, error) = (text(&run["outcome"]), run["error"].as_str().unwrap_or_default());
        let is_cut = trigger != Trigger::User && outcome == "fuel";
        expect(self.ends.contains(&outcome) || is_cut, format!("ended with {outcome}: {error}"));
        expect(run["success"] == (outcome == "ok"), format!("success is {}", run["success"]));
        let peak = run["peakMemory"].as_u64().unwrap();
        expect(peak <= 64 << 20, format!("used {peak} bytes of memory"));
        expect(error.is_empty() == (outcome == "ok"), format!("the error of {outcome} is {error:?}"));
        expect(error.len() <= ERROR, format!("the error has {} bytes", error.len()));
        expect(tells_nothing_of_the_server(error), format!("the error tells of the server: {error}"));

        let Some(answer) = answer else { return faults };
        expect(answer.header("x-run-id") == text(&run["id"]), "the answer is of another run".into());
        let expected = match outcome.as_str() {
            "error" | "memory" | "stack" => 500,
            "fuel" | "timeout" => 504,
            "quota" => 429,
            _ => return faults,
        };
        expect(answer.status == expected, format!("{outcome} was answered with {}", answer.status));
        expect(answer.body.len() <= 64 << 10, format!("the answer has {} bytes", answer.body.len()));
        expect(
            tells_nothing_of_the_server(&answer.text()),
            format!("the answer tells of the server: {}", answer.text()),
        );
        faults
    }
}

/// Each of them has the default fuel once, and this for the other ways in which it comes to run, to save time.
const LESS_FUEL: u64 = 300_000_000;

/// Bytes of a stored error, with the mark where it was cut.
const ERROR: usize = 4_096 + 64;

fn tells_nothing_of_the_server(text: &str) -> bool {
    let words = ["wasmtime", "wasm backtrace", "host/src", "/root/", "/home/", ".cargo", "panicked"];
    !words.iter().any(|word| text.contains(word))
}
