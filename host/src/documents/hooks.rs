//! The functions that are asked before a change of documents is made: what they are to whoever changes documents, and what
//! their answers mean.
//!
//! Who asks, and when, stands in `work/asking.rs`; how a function runs, in `dispatcher/hooks.rs`.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{DocumentsError, Result, Work};
use crate::{
    document::{ChangeKind, Content},
    event::{BeforeChange, Cause},
    identity::Identity,
    run::Outcome,
    store::Transaction,
};

/// Runs functions that are asked before a change. Documents cannot, because functions use documents.
#[async_trait]
pub trait BeforeHooks: Send + Sync {
    /// Runs the function of that name once, as `who`, and waits for it. What it does itself is part of `work`.
    async fn ask(&self, name: &str, who: Identity, change: BeforeChange, cause: Cause, work: Box<Work>) -> Asked;

    /// How long those that are asked before one write may take together.
    fn patience(&self) -> Duration;

    /// Commits a change with what they did, and lets go out what waited for that.
    async fn commit(&self, transaction: Transaction) -> Result<()>;
}

/// What came of asking a function.
pub struct Asked {
    /// What the function was given, with what it has done; `None` when its run was not finished.
    pub work: Option<Box<Work>>,
    /// What it says.
    pub answer: Answer,
    /// Ends when the run is in the history.
    pub recorded: Option<JoinHandle<()>>,
}

/// What a function says that is asked before a change.
#[derive(Debug)]
pub enum Answer {
    /// There is no such function any more.
    Gone,
    /// `handle` returned this JSON text, or nothing.
    Returned(Option<String>),
    /// It ended otherwise: with the text of what was thrown, or of the limit it met.
    Failed(Outcome, String),
    /// It has not run, because too many others wait.
    Busy(String),
    /// It has not run, because a quota is used up.
    Refused {
        /// Which one, and who raises it.
        message: String,
        /// When there is more of it.
        retry_after: Duration,
    },
}

/// The status of a refusal that names none, or one that is none.
const REFUSED: u16 = 400;

/// When to try again what a busy server has not done.
const BUSY: Duration = Duration::from_secs(1);

/// How an answer of HTTP looks: nothing but these fields (design of answers: `trigger/http.rs`). A document that is returned has
/// its `id`, so it never looks like that.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpAnswer {
    status: u16,
    #[serde(default)]
    body: Value,
    #[serde(default, rename = "headers")]
    _headers: IgnoredAny,
}

/// What the function `name` wants: nothing, another content of the document, or that the change is not made.
pub fn understand(name: &str, kind: ChangeKind, answer: Answer) -> Result<Option<Content>> {
    let vetoed = |status, message| Err(DocumentsError::Vetoed { status, message });
    let not_well =
        |text| format!("not written: the function `{name}`, which runs before this write, did not end well: {text}");
    match answer {
        Answer::Gone | Answer::Returned(None) => Ok(None),
        Answer::Returned(Some(text)) => returned(name, kind, &text),
        Answer::Failed(Outcome::Error, text) => vetoed(REFUSED, message_of(&text)),
        Answer::Failed(outcome, text) => vetoed(status_of(outcome), not_well(text)),
        Answer::Busy(message) => Err(DocumentsError::NotAsked { message, retry_after: BUSY, is_quota: false }),
        Answer::Refused { message, retry_after } => {
            let message = format!("not written: the function `{name}` runs before this write, and was {message}");
            Err(DocumentsError::NotAsked { message, retry_after, is_quota: true })
        }
    }
}

fn returned(name: &str, kind: ChangeKind, text: &str) -> Result<Option<Content>> {
    let vetoed = |status, message| Err(DocumentsError::Vetoed { status, message });
    match text.trim_ascii() {
        "null" | "true" => return Ok(None),
        "false" => return vetoed(REFUSED, refused_by(name)),
        object if object.starts_with('{') => {}
        _ => {
            let message = format!(
                "not written: the function `{name}`, which runs before this write, returned neither a document nor an answer: \
                 it returns nothing, the document to store, or {{status, body}}, or throws"
            );
            return vetoed(REFUSED, message);
        }
    }
    if let Some(HttpAnswer { status, body, .. }) = http_answer(text) {
        let message = match body {
            Value::Null => refused_by(name),
            Value::String(text) => text,
            other => other.to_string(),
        };
        return vetoed(if (400..500).contains(&status) { status } else { REFUSED }, message);
    }
    if kind == ChangeKind::Deleted {
        return Ok(None);
    }
    let cannot =
        |error| format!("not written: what the function `{name}` made of the document cannot be stored: {error}");
    Content::parse(text.as_bytes())
        .map(Some)
        .map_err(|error| DocumentsError::Vetoed { status: REFUSED, message: cannot(error) })
}

fn http_answer(text: &str) -> Option<HttpAnswer> {
    serde_json::from_str(text).ok().filter(|answer: &HttpAnswer| (200..600).contains(&answer.status))
}

fn refused_by(name: &str) -> String {
    format!("not written: the function `{name}` refused it")
}

/// What whoever threw an error wanted to say: without the name of plain errors, and without the place.
fn message_of(thrown: &str) -> String {
    let end = thrown.find("\n    at ").unwrap_or(thrown.len());
    let message = thrown[..end].trim_end();
    message.strip_prefix("Error: ").unwrap_or(message).to_owned()
}

/// Statuses of outcomes (as in `trigger/http.rs`); an error that is thrown is a refusal.
fn status_of(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Ok | Outcome::Error => REFUSED,
        Outcome::Memory | Outcome::Stack => 500,
        Outcome::Fuel | Outcome::Timeout => 504,
        Outcome::Quota => 429,
        Outcome::Chain => 508,
        Outcome::Conflict => 409,
        Outcome::Interrupted => 503,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Option<Content>> {
        understand("check", ChangeKind::Updated, Answer::Returned(Some(text.into())))
    }

    fn veto(result: Result<Option<Content>>) -> (u16, String) {
        match result {
            Err(DocumentsError::Vetoed { status, message }) => (status, message),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn nothing_and_true_let_the_change_be() {
        let nothing = understand("check", ChangeKind::Created, Answer::Returned(None));

        assert!(matches!(nothing, Ok(None)));
        assert!(matches!(understand("check", ChangeKind::Created, Answer::Gone), Ok(None)));
        for text in ["null", "true", " true "] {
            assert!(matches!(said(text), Ok(None)), "{text}");
        }
    }

    #[test]
    fn an_object_is_the_document_to_store() {
        for (text, content) in [
            (r#"{"id":"other","n":1,"accountId":"mine"}"#, r#"{"n":1}"#),
            ("{}", "{}"),
            (r#"{"id":"1","status":404,"body":"x"}"#, r#"{"status":404,"body":"x"}"#),
            (r#"{"status":"done","body":"x"}"#, r#"{"status":"done","body":"x"}"#),
            (r#"{"status":3}"#, r#"{"status":3}"#),
            (r#"{"status":404.5,"body":"x"}"#, r#"{"status":404.5,"body":"x"}"#),
            (r#"{"body":"x"}"#, r#"{"body":"x"}"#),
        ] {
            assert_eq!(said(text).unwrap().unwrap().as_str(), content);
        }
    }

    #[test]
    fn an_answer_of_http_is_a_refusal_with_its_status_and_text() {
        for (text, status, message) in [
            (r#"{"status":409,"body":"taken"}"#, 409, "taken"),
            (r#"{"body":"no","headers":{"x":"y"},"status":499}"#, 499, "no"),
            (r#"{"status":422,"body":{"field":"name"}}"#, 422, r#"{"field":"name"}"#),
            (r#"{"status":200,"body":"fine"}"#, 400, "fine"),
            (r#"{"status":503,"body":"later"}"#, 400, "later"),
            (r#"{"status":403}"#, 403, "not written: the function `check` refused it"),
            ("false", 400, "not written: the function `check` refused it"),
        ] {
            assert_eq!(veto(said(text)), (status, message.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_a_refusal_that_says_so() {
        for text in ["1", "\"text\"", "[1]", "[]"] {
            let (status, message) = veto(said(text));
            assert!(status == 400 && message.contains("`check`") && message.contains("neither"), "{text}: {message}");
        }
        let (status, message) = veto(said(r#"{"a":"\u0000"}"#));
        assert!(status == 400 && message.contains("cannot be stored") && message.contains("U+0000"), "{message}");
        let (_, message) = veto(said(&format!(r#"{{"a":"{}"}}"#, "x".repeat(crate::document::MAX_BYTES))));
        assert!(message.contains("at most 1048576 bytes"), "{message}");
    }

    #[test]
    fn a_deletion_stores_nothing_whatever_is_returned() {
        let said = |text: &str| understand("check", ChangeKind::Deleted, Answer::Returned(Some(text.into())));

        assert!(matches!(said(r#"{"id":"1","n":1}"#), Ok(None)));
        assert_eq!(veto(said(r#"{"status":403,"body":"stays"}"#)), (403, "stays".into()));
    }

    #[test]
    fn what_is_thrown_is_the_message_and_limits_have_their_words() {
        let failed =
            |outcome, text: &str| veto(understand("check", ChangeKind::Created, Answer::Failed(outcome, text.into())));

        let thrown =
            "Error: the title is missing\nand so is the date\n    at handle (check:1:2)\n    at <eval>\ncaused by: x";
        assert_eq!(failed(Outcome::Error, thrown), (400, "the title is missing\nand so is the date".into()));
        assert_eq!(failed(Outcome::Error, "TypeError: x\n    at f"), (400, "TypeError: x".into()));
        assert_eq!(failed(Outcome::Error, "plain"), (400, "plain".into()));
        for (outcome, expected) in [(Outcome::Fuel, 504), (Outcome::Memory, 500), (Outcome::Chain, 508)] {
            let (status, message) = failed(outcome, "stopped: too much");
            assert!(
                status == expected && message.contains("`check`") && message.ends_with("stopped: too much"),
                "{message}"
            );
        }
    }

    #[test]
    fn one_that_cannot_run_now_is_no_refusal() {
        let busy = understand("check", ChangeKind::Created, Answer::Busy("busy".into()));
        let (message, retry_after) = ("not started: too often".into(), Duration::from_secs(7));
        let quota = understand("check", ChangeKind::Created, Answer::Refused { message, retry_after });

        assert!(matches!(busy, Err(DocumentsError::NotAsked { is_quota: false, .. })));
        let Err(DocumentsError::NotAsked { message, retry_after, is_quota: true }) = quota else { unreachable!() };
        assert!(retry_after.as_secs() == 7 && message.contains("`check`"), "{message}");
    }
}
