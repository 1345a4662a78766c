//! `task run`: runs a task and shows what came of it.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde_json::json;

use super::view::TaskRunView;
use crate::cli::{
    client::Client,
    output::{self, printable},
};

/// How often the server is asked whether the task has ended, and for how long.
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);

/// The entry is among the last, unless very much has happened meanwhile.
const LAST: usize = 50;

pub async fn run(client: &Client, task: &str) -> anyhow::Result<()> {
    let begun: TaskRunView = client.post(&["task", task, "run"], &json!({})).await?;
    let end = Instant::now() + PATIENCE;
    let ended = loop {
        let entries = TaskRunView::fetch(client, task, LAST).await?;
        match entries.into_iter().find(|entry| entry.id == begun.id) {
            Some(entry) if entry.outcome != "running" => break entry,
            Some(_) => {}
            None => bail!("the run is not in the history of `{}` any more", printable(task)),
        }
        ensure!(
            Instant::now() < end,
            "`{}` still runs after {} s: `thimble task history` shows its end",
            printable(task),
            PATIENCE.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    };
    if let Some(run) = &ended.run_id {
        output::note(&format!("run {run}: `thimble function logs` shows what it logged"));
    }
    let detail = printable(&ended.detail).into_owned();
    ensure!(ended.outcome == "ok", "{}: {detail}", ended.outcome);
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    output::line(&format!("Task {} ended well in {}{detail}", printable(task), ended.took()))
}
