//! `function dead`: events that a function did not run well for and that are tried no more.

use reqwest::Method;
use serde::Deserialize;

use super::Dead;
use crate::cli::{client::Client, output};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    id: i64,
    created: String,
    #[serde(rename = "type")]
    kind: String,
    channel: String,
    data: String,
    attempts: u32,
    error: String,
}

/// Letters of data that are shown of each.
const SHOWN: usize = 200;

pub async fn dead(client: &Client, dead: &Dead) -> anyhow::Result<()> {
    let name = dead.name.as_str();
    if let Some(id) = &dead.resend {
        let answer = client.send(Method::POST, &["fn", "dead", name, id, "resend"], |request| request).await?;
        client.accepted(answer)?;
        return output::line(&format!("Function {name} runs again for {}", which(id)));
    }
    if let Some(id) = &dead.delete {
        let answer = client.send(Method::DELETE, &["fn", "dead", name, id], |request| request).await?;
        client.accepted(answer)?;
        return output::line(&format!("Deleted {}", which(id)));
    }
    let answer = client.send(Method::GET, &["fn", "dead", name], |request| request).await?;
    let letters: Vec<Letter> = serde_json::from_slice(&client.accepted(answer)?)?;
    if letters.is_empty() {
        return output::line(&format!("Function {name} has no dead letters"));
    }
    for Letter { id, created, kind, channel, data, attempts, error } in letters {
        output::line(&format!(
            "{id}  {created}  {} in {}  {attempts} attempts",
            output::printable(&kind),
            output::printable(&channel)
        ))?;
        output::line(&format!("    {}", output::printable(&data.chars().take(SHOWN).collect::<String>())))?;
        output::line(&format!("    {}", output::printable(&error)))?;
    }
    output::note("Send them again with `--resend ID` or `--resend all`.");
    Ok(())
}

fn which(id: &str) -> String {
    if id == "all" { "all dead letters".into() } else { format!("dead letter {id}") }
}
