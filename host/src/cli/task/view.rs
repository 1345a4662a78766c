//! `task list`, `info` and `history`: what the server knows of tasks and their runs.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::cli::{
    client::Client,
    output::{self, printable},
};

/// A task as the server shows it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskView {
    id: String,
    pub name: String,
    r#type: String,
    value: String,
    pub meta: String,
    interval: String,
    time_zone: String,
    catch_up: String,
    overlap: bool,
    paused: bool,
    last: Option<DateTime<Utc>>,
    pub next: Option<DateTime<Utc>>,
    last_outcome: String,
}

/// An entry of the history.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskRunView {
    pub id: String,
    due: Option<DateTime<Utc>>,
    manual: bool,
    started: Option<DateTime<Utc>>,
    completed: Option<DateTime<Utc>>,
    pub outcome: String,
    pub detail: String,
    pub run_id: Option<String>,
}

/// Entries that `task info` shows.
const SHOWN: usize = 20;

/// Entries that the server tells of at once.
const MOST: usize = 1_000;

impl TaskView {
    /// The function may come later; but most often its name is misspelt.
    pub async fn note_missing_function(&self, client: &Client) {
        if self.r#type != "function" {
            return;
        }
        let answer = client.send(reqwest::Method::GET, &["fn", "info", &self.value], |request| request).await;
        if answer.is_ok_and(|answer| answer.status == reqwest::StatusCode::NOT_FOUND) {
            let name = printable(&self.value);
            output::note(&format!("There is no function `{name}` yet: `thimble function add {name} …` uploads it."));
        }
    }

    fn interval(&self) -> String {
        match self.time_zone.as_str() {
            "" => self.interval.clone(),
            zone => format!("{} {zone}", self.interval),
        }
    }

    fn next(&self) -> String {
        if self.paused { "paused".into() } else { output::time(self.next) }
    }
}

impl TaskRunView {
    /// The history of a task, oldest first.
    pub async fn fetch(client: &Client, task: &str, limit: usize) -> anyhow::Result<Vec<Self>> {
        client.get(&["task", task, "history"], &[("limit", &limit.min(MOST).to_string())]).await
    }

    /// How long it took, if it has ended and took any time.
    pub fn took(&self) -> String {
        match (self.started, self.completed.filter(|time| time.timestamp() > 0)) {
            (Some(started), Some(completed)) if self.outcome != "missed" && self.outcome != "skipped" => {
                output::duration((completed - started).num_milliseconds() as f64)
            }
            _ => String::new(),
        }
    }
}

pub async fn list(client: &Client) -> anyhow::Result<()> {
    let tasks: Vec<TaskView> = client.get(&["task"], &[]).await?;
    if tasks.is_empty() {
        output::note("There are no tasks here yet: `thimble task add` makes one.");
        return Ok(());
    }
    let rows = tasks.into_iter().map(|task| {
        let (interval, next, last) = (task.interval(), task.next(), output::time(task.last));
        [task.name, task.r#type, task.value, interval, next, last, task.last_outcome]
    });
    output::table(["NAME", "TYPE", "VALUE", "INTERVAL", "NEXT RUN", "LAST RUN", "OUTCOME"], rows.collect())
}

pub async fn info(client: &Client, task: &str) -> anyhow::Result<()> {
    let task: TaskView = client.get(&["task", task], &[]).await?;
    let (interval, next, last) = (task.interval(), task.next(), output::time(task.last));
    for (label, text) in [
        ("Name", &task.name),
        ("Id", &task.id),
        ("Type", &task.r#type),
        ("Value", &task.value),
        ("Meta", &task.meta),
        ("Interval", &interval),
        ("Catch up", &task.catch_up),
        ("Overlap", &if task.overlap { "may overlap itself" } else { "no" }.to_owned()),
        ("Next run", &next),
        ("Last run", &last),
    ] {
        if !text.is_empty() {
            output::line(&format!("{label:<10} {}", printable(text)))?;
        }
    }
    let runs = TaskRunView::fetch(client, &task.id, SHOWN).await?;
    if runs.is_empty() {
        return Ok(());
    }
    output::line("")?;
    table(runs.into_iter().rev())
}

pub async fn history(client: &Client, task: &str, limit: usize) -> anyhow::Result<()> {
    let runs = TaskRunView::fetch(client, task, limit).await?;
    if runs.is_empty() {
        output::note(&format!("{} has not run yet.", printable(task)));
        return Ok(());
    }
    table(runs.into_iter())
}

fn table(runs: impl Iterator<Item = TaskRunView>) -> anyhow::Result<()> {
    let rows = runs.map(|run| {
        let (due, took) = (output::time(run.due), run.took());
        let by = if run.manual { "hand" } else { "clock" };
        // One line each: the rest of a long error is in the function's log.
        let detail = run.detail.lines().next().unwrap_or_default().to_owned();
        [due, by.to_owned(), run.outcome, took, run.run_id.unwrap_or_default(), detail]
    });
    output::table(["DUE", "BY", "OUTCOME", "TIME", "RUN", "DETAIL"], rows.collect())
}
