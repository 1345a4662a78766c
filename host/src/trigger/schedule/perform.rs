//! What a task does at its tick. It acts as root of its tenant, as in the reference (section 5.2).

use std::sync::Arc;

use serde_json::Value;

use super::Inner;
use crate::{
    dispatcher::{Finished, NotCalled},
    event::{Cause, Event},
    function::Function,
    identity::Identity,
    message::Message,
    outgoing::OutgoingRequest,
    run::Outcome,
    task::{FORM, Meta, Task, TaskKind, TaskOutcome, TaskRun},
};

/// How a task's run ended.
pub struct Performed {
    pub outcome: TaskOutcome,
    pub detail: String,
    pub run: Option<String>,
}

/// The type of the message that calls a function, and of the one that brings a URL's answer (reference, section 5.2).
const CALL: &str = "fn_call";
const ANSWER: &str = "http_response";

impl Inner {
    pub async fn perform(&self, task: &Task, run: &TaskRun) -> Performed {
        let meta = match Meta::parse(&task.meta) {
            Ok(meta) => meta,
            Err(error) => return Performed::failed(error),
        };
        let root = match self.parts.store.root_user(&task.tenant).await {
            Ok(Some(root)) => root.identity(),
            Ok(None) => return Performed::failed("the app has no root user to run it as"),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, task = task.name, "a task cannot run");
                return Performed::failed("internal error");
            }
        };
        let mut cause = Cause::outside();
        cause.trace_id.clone_from(&run.trace_id);
        match task.kind {
            TaskKind::Function => self.call(task, meta, root, cause).await,
            TaskKind::Message => self.publish(task, meta, root, cause).await,
            TaskKind::Http => self.request(task, meta, root, cause).await,
        }
    }

    async fn call(&self, task: &Task, meta: Meta, root: Identity, cause: Cause) -> Performed {
        let Some(function) = self.parts.registry.find(&task.tenant, &task.value).await else {
            return Performed::failed(format!("function `{}` not found", task.value));
        };
        let data = meta.data.unwrap_or_else(|| Value::Null.to_string());
        let message = message(task, task.name.clone(), CALL, data);
        match self.hand_over(function, Event::message(root, message, cause)).await {
            Ok(Finished { run, .. }) => Performed {
                outcome: TaskOutcome::Ended(run.outcome),
                detail: run.error.unwrap_or_default(),
                run: Some(run.id),
            },
            Err(NotCalled::Quota { message, .. }) => {
                Performed { outcome: TaskOutcome::Ended(Outcome::Quota), detail: message, run: None }
            }
            Err(gone @ NotCalled::Gone(_)) => Performed::failed(gone.to_string()),
            Err(NotCalled::Busy) => {
                Performed { outcome: TaskOutcome::Interrupted, detail: NotCalled::Busy.to_string(), run: None }
            }
        }
    }

    async fn publish(&self, task: &Task, meta: Meta, root: Identity, cause: Cause) -> Performed {
        let message = message(task, meta.channel, &task.value, meta.data.unwrap_or_default());
        let sent = format!("sent to `{}`", message.channel);
        match self.parts.channels.publish(&root, message, cause).await {
            Ok(()) => Performed::well(sent),
            Err(error) => Performed::failed(error.to_string()),
        }
    }

    async fn request(&self, task: &Task, meta: Meta, root: Identity, cause: Cause) -> Performed {
        let answer = match self.parts.outgoing.send(request(task, meta)).await {
            Ok(answer) => answer,
            Err(error) => return Performed::failed(error.to_string()),
        };
        let about = format!("the server answered {} with {} bytes", answer.status, answer.body.len());
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let message = message(task, format!("{}-http-response", task.name), ANSWER, body);
        // Functions that wait for the answer see it whatever it says; the task is well when the other server says so.
        let told = match self.parts.channels.publish(&root, message, cause).await {
            Ok(()) => about,
            Err(error) => format!("{about}, which no function saw: {error}"),
        };
        if (200..300).contains(&answer.status) { Performed::well(told) } else { Performed::failed(told) }
    }

    /// The one place where the clock hands something to the dispatcher: a task's call or a job.
    pub async fn hand_over(&self, function: Arc<Function>, event: Event) -> Result<Finished, NotCalled> {
        self.parts.dispatcher.call_patiently(function, event).await
    }
}

impl Performed {
    fn well(detail: impl Into<String>) -> Self {
        Self { outcome: TaskOutcome::Ended(Outcome::Ok), detail: detail.into(), run: None }
    }

    fn failed(detail: impl Into<String>) -> Self {
        Self { outcome: TaskOutcome::Ended(Outcome::Error), detail: detail.into(), run: None }
    }
}

fn message(task: &Task, channel: String, kind: &str, data: String) -> Message {
    Message { sid: task.id.clone(), kind: kind.into(), data, channel, token: String::new() }
}

fn request(task: &Task, meta: Meta) -> OutgoingRequest {
    let mut headers = meta.headers;
    let has_body = !matches!(meta.method.as_str(), "GET" | "HEAD");
    let data = meta.data.filter(|_| has_body).unwrap_or_default();
    let body = if meta.content_type.starts_with(FORM) { form(data) } else { data };
    if has_body {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        headers.push(("content-type".into(), meta.content_type));
    }
    OutgoingRequest { method: meta.method, url: task.value.clone(), headers, body: body.into_bytes() }
}

/// A JSON object as the fields of a form; other text stays as it is.
fn form(data: String) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(&data) else { return data };
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &fields {
        match value {
            Value::String(text) => form.append_pair(name, text),
            value => form.append_pair(name, &value.to_string()),
        };
    }
    form.finish()
}
