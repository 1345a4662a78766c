//! `function run`: calls a function and shows what it returned and logged.

use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow, ensure};
use reqwest::{Method, header};

use super::{Run, view};
use crate::cli::{client::Client, credentials::Credentials, login, output};

pub async fn run(credentials: &Credentials, root: Client, run: Run) -> anyhow::Result<()> {
    let body = body(&run)?;
    let name = run.name.as_str();
    let post = |request: reqwest::RequestBuilder| request.header(header::CONTENT_TYPE, "application/json").body(body);
    let answer = if run.as_user {
        let (email, password) = credentials.user.as_ref().context(
            "no user is known: `thimble login --email … --password …` keeps one, or leave out `--as-user` to run as root",
        )?;
        let token = login::sign_in(credentials, email, password).await?;
        let user = Client::new(credentials)?.with_token(Some(token));
        user.send(Method::POST, &["fn", "exec", name], post).await?
    } else {
        root.send(Method::POST, &["fn", "sudoexec", name], post).await?
    };
    // Without a run there is no log, only the refusal.
    if let Some(id) = &answer.run {
        view::note_log(&root, name, id).await.unwrap_or_else(|error| output::note(&format!("no log: {error:#}")));
    }
    let succeeded = answer.status.is_success();
    if succeeded || answer.run.is_none() {
        let text = answer.text();
        let body = root.accepted(answer)?;
        // A person gets text that cannot control the terminal, a program the bytes.
        return if io::stdout().is_terminal() { output::line(&text) } else { output::ended(&body) };
    }
    Err(anyhow!(answer.text()))
}

fn body(run: &Run) -> anyhow::Result<String> {
    let (text, from) = match (&run.data, &run.data_file) {
        (_, Some(file)) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            (text, file.display().to_string())
        }
        (Some(data), None) => (data.clone(), "`--data`".to_owned()),
        (None, None) => ("{}".to_owned(), String::new()),
    };
    let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&text);
    ensure!(parsed.is_ok(), "{from} is not JSON: {}", parsed.err().map_or_else(String::new, |error| error.to_string()));
    Ok(text)
}
