//! `thimble task`: what is done again and again.

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use self::view::TaskView;
use super::{client::Client, credentials::Connection, output};

mod run;
mod view;

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Add a task
    Add(Add),
    /// Change a task; what is not named stays
    Update(Update),
    /// List tasks
    List,
    /// Show a task and its last runs
    Info {
        /// Name or id
        task: String,
    },
    /// Run a task now, and wait for its end
    Run {
        /// Name or id
        task: String,
    },
    /// Let the ticks of a task pass
    Pause {
        /// Name or id
        task: String,
    },
    /// Do the ticks of a task again
    Resume {
        /// Name or id
        task: String,
    },
    /// Show what became of a task's ticks, oldest first
    History {
        /// Name or id
        task: String,
        /// At most so many entries
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Delete a task with its history
    Delete {
        /// Name or id
        task: String,
    },
}

/// Arguments of `task add`.
#[derive(Debug, Args)]
pub struct Add {
    #[command(flatten)]
    name: Name,
    /// What it does
    #[arg(long = "type", value_enum, default_value_t)]
    kind: Kind,
    /// The name of the function, the type of the message, or the URL
    #[arg(long)]
    value: String,
    /// Five fields of cron (`0 3 * * *`) or `@every 90s`
    #[arg(long, value_name = "CRON")]
    interval: String,
    #[command(flatten)]
    details: Details,
}

/// Arguments of `task update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Name or id
    task: String,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// What it does
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// The name of the function, the type of the message, or the URL
    #[arg(long)]
    value: Option<String>,
    /// Five fields of cron (`0 3 * * *`) or `@every 90s`
    #[arg(long, value_name = "CRON")]
    interval: Option<String>,
    #[command(flatten)]
    details: Details,
}

/// The name, as an option (StaticBackend's way) or as an argument.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Name {
    /// Name of the task
    #[arg(value_name = "NAME")]
    positional: Option<String>,
    /// Name of the task
    #[arg(long = "name", value_name = "NAME")]
    option: Option<String>,
}

/// What a task may have besides.
#[derive(Debug, Args)]
struct Details {
    /// Time zone of the interval, such as Europe/Zurich [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// What becomes of ticks that pass while the server is not running: let them be, or run once for all of them
    #[arg(long, value_enum)]
    catch_up: Option<CatchUp>,
    /// Whether it may begin while it still runs
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    overlap: Option<bool>,
    /// JSON for the function, text of the message, or body of the request
    #[arg(long, conflicts_with = "meta")]
    data: Option<String>,
    /// Channel of the message
    #[arg(long, conflicts_with = "meta")]
    channel: Option<String>,
    /// Method of the request [default: POST]
    #[arg(long, conflicts_with = "meta")]
    method: Option<String>,
    /// Media type of the request, such as application/json [default: that of a form]
    #[arg(long, conflicts_with = "meta", value_name = "TYPE")]
    content_type: Option<String>,
    /// Header of the request; may be repeated
    #[arg(long = "header", conflicts_with = "meta", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// All of these as one JSON object, as StaticBackend has it
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    #[default]
    Function,
    Message,
    Http,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CatchUp {
    Skip,
    Once,
}

pub async fn run(connection: &Connection, task: Task) -> anyhow::Result<()> {
    let client = Client::new(&connection.credentials()?)?;
    match task {
        Task::Add(task) => add(&client, &task).await,
        Task::Update(changes) => update(&client, &changes).await,
        Task::List => view::list(&client).await,
        Task::Info { task } => view::info(&client, &task).await,
        Task::Run { task } => run::run(&client, &task).await,
        Task::Pause { task } => pause(&client, &task).await,
        Task::Resume { task } => resume(&client, &task).await,
        Task::History { task, limit } => view::history(&client, &task, limit).await,
        Task::Delete { task } => delete(&client, &task).await,
    }
}

async fn add(client: &Client, add: &Add) -> anyhow::Result<()> {
    let name = add.name.positional.as_deref().or(add.name.option.as_deref()).unwrap_or_default();
    let mut body = add.details.body(&Value::Null)?;
    body.insert("name".into(), name.into());
    body.insert("type".into(), word(add.kind));
    body.insert("value".into(), add.value.clone().into());
    body.insert("interval".into(), add.interval.clone().into());
    let task: TaskView = client.post(&["task"], &body).await?;
    output::line(&format!("Task {} created successfully", output::printable(&task.name)))?;
    output::line(&format!("First run: {}", output::time(task.next)))?;
    task.note_missing_function(client).await;
    Ok(())
}

async fn update(client: &Client, update: &Update) -> anyhow::Result<()> {
    let current: TaskView = client.get(&["task", &update.task], &[]).await?;
    // What is not named of the meta stays, like everything else.
    let meta = serde_json::from_str(&current.meta).unwrap_or(Value::Null);
    let mut body = update.details.body(&meta)?;
    let texts = [("name", &update.name), ("value", &update.value), ("interval", &update.interval)];
    body.extend(texts.into_iter().filter_map(|(field, text)| Some((field.to_owned(), text.clone()?.into()))));
    body.extend(update.kind.map(|kind| ("type".to_owned(), word(kind))));
    ensure!(!body.is_empty(), "nothing to change: name what is to be another, `--interval \"0 4 * * *\"` for instance");
    let task: TaskView = client.post(&["task", &update.task], &body).await?;
    output::line(&format!("Task {} updated successfully", output::printable(&task.name)))?;
    output::line(&format!("Next run: {}", output::time(task.next)))?;
    task.note_missing_function(client).await;
    Ok(())
}

async fn pause(client: &Client, task: &str) -> anyhow::Result<()> {
    let task: TaskView = client.post(&["task", task, "pause"], &json!({})).await?;
    output::line(&format!("Task {} is paused: `thimble task resume` goes on with it", output::printable(&task.name)))
}

async fn resume(client: &Client, task: &str) -> anyhow::Result<()> {
    let task: TaskView = client.post(&["task", task, "resume"], &json!({})).await?;
    let (name, next) = (output::printable(&task.name).into_owned(), output::time(task.next));
    output::line(&format!("Task {name} goes on; next run: {next}"))
}

async fn delete(client: &Client, task: &str) -> anyhow::Result<()> {
    let answer = client.send(Method::DELETE, &["task", task], |request| request).await?;
    client.accepted(answer)?;
    output::line(&format!("Task {} deleted", output::printable(task)))
}

impl Details {
    /// The fields that are named. `meta` is what the task has so far.
    fn body(&self, meta: &Value) -> anyhow::Result<Map<String, Value>> {
        let mut body = Map::new();
        if let Some(zone) = &self.time_zone {
            body.insert("timeZone".into(), zone.as_str().into());
        }
        if let Some(catch_up) = self.catch_up {
            body.insert("catchUp".into(), word(catch_up));
        }
        if let Some(overlap) = self.overlap {
            body.insert("overlap".into(), overlap.into());
        }
        if let Some(meta) = self.meta(meta)? {
            body.insert("meta".into(), meta.into());
        }
        Ok(body)
    }

    /// The meta as text, when something of it is named.
    fn meta(&self, current: &Value) -> anyhow::Result<Option<String>> {
        if let Some(meta) = &self.meta {
            let parsed = serde_json::from_str::<Map<String, Value>>(meta);
            parsed.with_context(|| format!("`--meta` is not a JSON object: {meta}"))?;
            return Ok(Some(meta.clone()));
        }
        let texts =
            [("data", &self.data), ("channel", &self.channel), ("method", &self.method), ("ct", &self.content_type)];
        let mut meta = current.as_object().cloned().unwrap_or_default();
        let mut is_named = false;
        for (field, text) in texts {
            if let Some(text) = text {
                meta.insert(field.into(), text.as_str().into());
                is_named = true;
            }
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|header| split(header)).collect::<anyhow::Result<Map<_, _>>>()?;
            meta.insert("headers".into(), Value::from(headers).to_string().into());
            is_named = true;
        }
        Ok(is_named.then(|| Value::from(meta).to_string()))
    }
}

fn split(header: &str) -> anyhow::Result<(String, Value)> {
    match header.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().into())),
        None => bail!("`--header` is written `Name: value`; {header:?} has no colon"),
    }
}

fn word(value: impl ValueEnum) -> Value {
    value.to_possible_value().map_or(Value::Null, |value| value.get_name().into())
}
