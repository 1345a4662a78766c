//! What happens by the clock: tasks, which come again and again, and jobs, which come once.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{message::channel_name_error, run::Outcome};

/// Something that is done each time its schedule says so, as root of its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Unique id.
    pub id: String,
    /// Public key of the tenant it belongs to.
    pub tenant: String,
    /// Unique within the tenant.
    pub name: String,
    /// What is done.
    pub kind: TaskKind,
    /// Name of the function, type of the message, or URL.
    pub value: String,
    /// What goes with it: a JSON object as text (see [`Meta`]), or empty.
    pub meta: String,
    /// When (see [`Schedule`](crate::schedule::Schedule)).
    pub interval: String,
    /// Time zone of the schedule; empty for UTC.
    pub time_zone: String,
    /// What becomes of ticks that nobody was there for.
    pub catch_up: CatchUp,
    /// Whether it may begin while it still runs.
    pub overlap: bool,
    /// Whether its ticks are let pass.
    pub paused: bool,
    /// The next tick; `None` while it is paused.
    pub next: Option<DateTime<Utc>>,
    /// The last tick that was due.
    pub last: Option<DateTime<Utc>>,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// How the newest entry of its history ended. Read only: the store finds it in the history.
    pub last_outcome: Option<TaskOutcome>,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// Runs a function.
    Function,
    /// Sends a message to a channel.
    Message,
    /// Calls a URL.
    Http,
}

/// What becomes of ticks that passed while the server was not running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are noted and let pass.
    #[default]
    Skip,
    /// One run makes up for all of them.
    Once,
}

/// One entry in the history of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRun {
    /// Unique id.
    pub id: String,
    /// Public key of the tenant.
    pub tenant: String,
    /// Id of the task.
    pub task: String,
    /// The tick that it is for, or when it was asked for.
    pub due: DateTime<Utc>,
    /// Whether somebody asked for it, and not the schedule.
    pub manual: bool,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub completed: Option<DateTime<Utc>>,
    /// How it ended, if it has.
    pub outcome: TaskOutcome,
    /// What went wrong, or what came of it.
    pub detail: String,
    /// The run of the function, if there was one.
    pub run: Option<String>,
    /// Shared by all that it caused.
    pub trace_id: String,
    /// The process that it runs in.
    pub node: String,
    /// Until then that process is believed to be alive without having said so again.
    pub lease: DateTime<Utc>,
}

/// How a task's run ended, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskOutcome {
    /// It has not ended.
    Running,
    /// It ended; messages and calls of URLs end with `ok` or `error`.
    Ended(Outcome),
    /// It was not begun, because the run before it had not ended.
    Skipped,
    /// It was not begun, because the server was not there at the time.
    Missed,
    /// The server ended while it ran.
    Interrupted,
}

/// Something that is done once: a call of a function, as whoever scheduled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Unique id.
    pub id: String,
    /// Public key of the tenant.
    pub tenant: String,
    /// Name of the function.
    pub function: String,
    /// What it is called with: JSON text.
    pub payload: String,
    /// Id of the user who scheduled it.
    pub user: String,
    /// When it is to run; after a failure, when it is tried again.
    pub due: DateTime<Utc>,
    /// Where it stands.
    pub state: JobState,
    /// How often it was begun.
    pub attempts: u32,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// Its last run.
    pub run: Option<String>,
    /// When it was scheduled.
    pub created: DateTime<Utc>,
    /// When it was done, given up or cancelled.
    pub ended: Option<DateTime<Utc>>,
    /// The chain of causes that it goes on with (see [`Chains`](crate::event::Chains)); `None` when it begins one.
    pub cause: Option<String>,
}

/// The sentence for whoever would have more jobs waiting than may.
pub fn too_many_jobs(most: u64) -> String {
    format!(
        "{most} jobs of this app wait already, which is as many as may: try again when some are done. The operator raises \
         the limit with `tenant.jobs`"
    )
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for its time.
    Waiting,
    /// It runs.
    Running,
    /// It ran, and its function ended well.
    Done,
    /// It failed as often as it is tried.
    Failed,
    /// Somebody took it back before it ran.
    Cancelled,
}

/// Writes the words of an enum, and how it is read from them.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ }) => {
        impl $name {
            /// The word in the API and the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// Reads what [`Self::as_str`] wrote.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(TaskKind { Function = "function", Message = "message", Http = "http" });
words!(CatchUp { Skip = "skip", Once = "once" });
words!(JobState { Waiting = "waiting", Running = "running", Done = "done", Failed = "failed", Cancelled = "cancelled" });

impl TaskOutcome {
    /// The word in the history and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ended(outcome) => outcome.as_str(),
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "running" => Some(Self::Running),
            "skipped" => Some(Self::Skipped),
            "missed" => Some(Self::Missed),
            "interrupted" => Some(Self::Interrupted),
            outcome => Outcome::parse(outcome).map(Self::Ended),
        }
    }
}

/// What goes with a task, as its `meta` says (reference, section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// What the function, the message or the request brings; `None` when nothing is said.
    pub data: Option<String>,
    /// The channel of a message.
    pub channel: String,
    /// The method of a request; `POST` when nothing is said.
    pub method: String,
    /// The media type of a request; that of a form when nothing is said.
    pub content_type: String,
    /// Further headers of a request.
    pub headers: Vec<(String, String)>,
}

/// The media type of a request whose task names none.
pub const FORM: &str = "application/x-www-form-urlencoded";

impl Meta {
    /// Reads the JSON text of a task; an empty one says nothing.
    ///
    /// # Errors
    ///
    /// The sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let empty = Map::new();
        let value: Value = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| format!("`meta` is not JSON: {error}"))?,
        };
        let object = match &value {
            Value::Null => &empty,
            Value::Object(object) => object,
            _ => return Err("`meta` is not a JSON object: write {\"data\": \"…\"}, for instance".into()),
        };
        // The reference asks for JSON in text; an object is taken for the text it makes.
        let get = |name: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let text = |name: &str| match get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(value.to_string()),
        };
        let headers = match text("headers").or_else(|| text("HTTPHeaders")).unwrap_or_default() {
            empty if empty.trim().is_empty() => Map::new(),
            text => {
                serde_json::from_str(&text).map_err(|_| "the headers in `meta` are not a JSON object".to_string())?
            }
        };
        let or = |text: Option<String>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or(default.into());
        Ok(Self {
            data: text("data").filter(|data| !data.is_empty()),
            channel: text("channel").unwrap_or_default(),
            method: or(text("method"), "POST").to_uppercase(),
            content_type: or(text("ct").or_else(|| text("contentType")), FORM),
            headers: headers
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(value) => (name, value),
                    value => (name, value.to_string()),
                })
                .collect(),
        })
    }
}

/// Bytes of a task's name: short enough for a channel that is called after it.
const MAX_NAME: usize = 100;

/// Bytes of a task's value.
const MAX_VALUE: usize = 2_048;

/// Bytes of a task's meta.
const MAX_META: usize = 64 << 10;

impl Task {
    /// Whether it can be kept, apart from its schedule and its URL; the sentence that refuses it otherwise.
    pub fn check(&self) -> Result<(), String> {
        if self.name.trim().is_empty() {
            return Err("the task has no name: give one in the field `name`".into());
        }
        if self.name.len() > MAX_NAME || self.name.chars().any(char::is_control) || self.name.contains('/') {
            return Err(format!("a task's name has at most {MAX_NAME} bytes in one line, without `/`"));
        }
        let what = match self.kind {
            TaskKind::Function => "the name of a function",
            TaskKind::Message => "the type of the message",
            TaskKind::Http => "a URL",
        };
        if self.value.is_empty() {
            return Err(format!("the task has no value: for the type `{}` it is {what}", self.kind.as_str()));
        }
        if self.value.len() > MAX_VALUE {
            return Err(format!("a task's value has at most {MAX_VALUE} bytes; this one has {}", self.value.len()));
        }
        if self.meta.len() > MAX_META {
            return Err(format!("a task's `meta` has at most {MAX_META} bytes; this one has {}", self.meta.len()));
        }
        let meta = Meta::parse(&self.meta)?;
        match self.kind {
            TaskKind::Message if meta.channel.is_empty() => {
                Err("a task of the type `message` needs a channel: give `meta` the field \"channel\"".into())
            }
            TaskKind::Message => channel_name_error(&meta.channel).map_or(Ok(()), Err),
            TaskKind::Function | TaskKind::Http => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn meta_is_read_as_the_reference_writes_it_and_as_people_do() {
        let reference = r#"{"data":"{\"a\":1}","channel":"","method":"put","ct":"application/json","HTTPHeaders":"{\"x-a\":\"1\"}"}"#;
        let plain = r#"{"data":{"a":1},"method":"PUT","contentType":"application/json","headers":{"x-a":1}}"#;

        let expected = Meta {
            data: Some(r#"{"a":1}"#.into()),
            channel: String::new(),
            method: "PUT".into(),
            content_type: "application/json".into(),
            headers: vec![("x-a".into(), "1".into())],
        };
        assert_eq!(Meta::parse(reference).unwrap(), expected);
        assert_eq!(Meta::parse(plain).unwrap(), expected);
    }

    #[test]
    fn meta_may_say_nothing_but_not_nonsense() {
        for nothing in ["", " ", "{}", "null", r#"{"data":"","HTTPHeaders":""}"#] {
            let meta = Meta::parse(nothing).unwrap();
            assert_eq!(
                (meta.data, meta.method.as_str(), meta.content_type.as_str()),
                (None, "POST", FORM),
                "{nothing}"
            );
        }
        for (nonsense, words) in [("{", "not JSON"), ("[1]", "not a JSON object"), (r#"{"headers":"x"}"#, "headers")] {
            assert!(Meta::parse(nonsense).unwrap_err().contains(words), "{nonsense}");
        }
    }

    #[test]
    fn words_are_read_back() {
        for outcome in [
            TaskOutcome::Running,
            TaskOutcome::Ended(Outcome::Ok),
            TaskOutcome::Ended(Outcome::Fuel),
            TaskOutcome::Skipped,
            TaskOutcome::Missed,
            TaskOutcome::Interrupted,
        ] {
            assert_eq!(TaskOutcome::parse(outcome.as_str()), Some(outcome));
        }
        assert_eq!(TaskOutcome::parse("else"), None);
        assert_eq!(JobState::parse(JobState::Cancelled.as_str()), Some(JobState::Cancelled));
    }
}
