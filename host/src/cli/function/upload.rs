//! `function add`, `update` and `build`: from a file to a function.

use std::{fs, path::Path};

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::{Method, RequestBuilder, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;

use super::{Add, Build, Update, Upload, view::FunctionView};
use crate::{
    cli::{caret, client::Client, output},
    config::{Config, Overrides},
    function::{Upload as Code, WEB_TRIGGER, name_error},
    hooks,
    runtime::build_component,
};

/// What the server says to an upload; other servers answer `true`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Uploaded {
    /// The version that runs now.
    version: i64,
    /// What the top level logged.
    log: Vec<String>,
}

pub async fn add(client: &Client, Add { upload, source }: &Add) -> anyhow::Result<()> {
    let name = checked_name(upload.name.as_str())?;
    let trigger = upload.trigger.as_deref().context(
        "no trigger: give `--trigger web` for a function that is called over HTTP, \
         a channel or a type (`--trigger chan_out`) for one that runs for messages, \
         or a change (`--trigger before:db_created:tasks`) for one that runs before it",
    )?;
    let code = read(source)?;
    let fields = Fields { id: "", name, trigger, upload };
    send(client, "add", &fields, Some((source, &code))).await?;
    output::line(&format!("Function {name} created successfully"))?;
    match trigger {
        WEB_TRIGGER => output::line(&format!("Function URL: {}", client.url(&["fn", "exec", name]))),
        trigger if hooks::is_hook(trigger) => {
            output::line(&format!("Function will run before each write of its trigger: {trigger}"))
        }
        trigger => output::line(&format!("Function will trigger on topic: {trigger}")),
    }
}

pub async fn update(client: &Client, Update { upload, source }: &Update) -> anyhow::Result<()> {
    let name = checked_name(upload.name.as_str())?;
    let code = source.as_deref().map(read).transpose()?;
    let limits = serde_json::to_value(&upload.limits)?;
    ensure!(
        code.is_some() || upload.delivery.is_some() || limits.as_object().is_some_and(|limits| !limits.is_empty()),
        "there is nothing to change: give `--source` for new code, or limits such as `--rate 100` (`--rate none` gives one up)"
    );
    let current = FunctionView::fetch(client, name, 1).await?;
    let trigger = upload.trigger.as_deref().unwrap_or(&current.trigger);
    let fields = Fields { id: &current.id, name, trigger, upload };
    let version = send(client, "update", &fields, source.as_deref().zip(code.as_ref())).await?.version;
    output::line(&format!("Function {name} updated successfully: it runs version {version} now"))
}

/// Compiles without a server.
pub async fn build(build: &Build) -> anyhow::Result<()> {
    let Code::JavaScript(source) = read(&build.source)? else {
        bail!("{} is a WebAssembly binary already", build.source.display());
    };
    let name = match &build.name {
        Some(name) => name.clone(),
        None => build.source.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let name = checked_name(&name)?;
    let output = build.output.clone().unwrap_or_else(|| build.source.with_extension("wasm"));
    let limits = Config::load(None, Overrides::default())?.limits;
    let component = build_component(name, &source, &limits)
        .await
        .map_err(|error| in_file(error.into(), name, &build.source, &source))?;
    fs::write(&output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    output::line(&format!("{} written, {}", output.display(), output::size(component.len() as i64)))
}

/// What is said of a function beside its code.
struct Fields<'a> {
    id: &'a str,
    name: &'a str,
    trigger: &'a str,
    upload: &'a Upload,
}

/// Without `code`, a file and what it holds, the function keeps its own.
async fn send(
    client: &Client,
    route: &str,
    fields: &Fields<'_>,
    code: Option<(&Path, &Code)>,
) -> anyhow::Result<Uploaded> {
    let Fields { id, name, trigger, upload } = *fields;
    let limits = &upload.limits;
    let json = |source: &str| {
        let mut body = json!({ "id": id, "name": name, "trigger": trigger, "code": source, "limits": limits });
        if let Some(delivery) = &upload.delivery {
            body["delivery"] = delivery.as_str().into();
        }
        body
    };
    let post = async |body| client.send(Method::POST, &["fn", route], |request| request.json(&body)).await;
    let answer = match code {
        None => post(json("")).await?,
        Some((_, Code::JavaScript(source))) => post(json(source)).await?,
        Some((_, Code::Component(component))) => {
            let limits = serde_json::to_string(limits)?;
            let delivery = upload.delivery.as_deref().unwrap_or_default();
            let query = [("id", id), ("name", name), ("trigger", trigger), ("limits", &limits), ("delivery", delivery)];
            let prepare = |request: RequestBuilder| {
                request.query(&query).header(CONTENT_TYPE, "application/wasm").body(component.clone())
            };
            client.send(Method::POST, &["fn", route], prepare).await?
        }
    };
    let body = client.accepted(answer).map_err(|error| match code {
        Some((file, Code::JavaScript(source))) => in_file(error, name, file, source),
        _ => error,
    })?;
    let uploaded: Uploaded = serde_json::from_slice(&body).unwrap_or_default();
    if !uploaded.log.is_empty() {
        output::note("The top level of the function logged:");
        uploaded.log.iter().for_each(|entry| output::note(&format!("  {}", output::printable(entry))));
    }
    Ok(uploaded)
}

/// An error in the source is shown with the file and the line; others (a taken name, a bad trigger) stay.
fn in_file(error: anyhow::Error, name: &str, path: &Path, source: &str) -> anyhow::Error {
    caret::explain(&error.to_string(), name, path, source).map_or(error, |text| anyhow!(text))
}

fn checked_name(name: &str) -> anyhow::Result<&str> {
    match name_error(name) {
        Some(error) => bail!(error),
        None => Ok(name),
    }
}

/// The code in a file: a WebAssembly binary, whose kind the server tells, or JavaScript.
fn read(path: &Path) -> anyhow::Result<Code> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.starts_with(b"\0asm") {
        return Ok(Code::Component(bytes.into()));
    }
    let source = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("{} is not UTF-8 text: byte {at} cannot be read. Save the file as UTF-8", path.display())
    })?;
    ensure!(!source.trim().is_empty(), "{} is empty: declare `function handle(body) {{ … }}`", path.display());
    Ok(Code::JavaScript(source))
}
