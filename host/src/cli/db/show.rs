//! How documents are printed: one JSON object on a line, so that other programs can read them; or on several for people.

use anyhow::Context;
use serde_json::{Map, Value, value::RawValue};

use super::Shown;
use crate::cli::output;

/// A page as the server sends it.
#[derive(serde::Deserialize)]
struct Page {
    total: i64,
    /// `null` when there are none.
    results: Option<Vec<Box<RawValue>>>,
}

/// The number of results on standard error, so that standard output holds documents only.
pub fn page(body: &[u8], shown: &Shown) -> anyhow::Result<()> {
    let Page { total, results } = serde_json::from_slice(body).context("the answer is not a page of documents")?;
    output::note(&format!("{total} result(s)"));
    results.into_iter().flatten().try_for_each(|document| print(document.get(), shown))
}

pub fn document(body: &[u8], shown: &Shown) -> anyhow::Result<()> {
    print(std::str::from_utf8(body).context("the answer is not a document")?, shown)
}

/// As the server has it, unless something else is asked for: a number keeps all its digits.
fn print(document: &str, shown: &Shown) -> anyhow::Result<()> {
    if !shown.pretty && shown.fields.is_empty() {
        return output::line(document.trim_end());
    }
    let mut document: Map<String, Value> = serde_json::from_str(document).context("the answer is not a document")?;
    if !shown.fields.is_empty() {
        document.retain(|field, _| shown.fields.contains(field));
    }
    let text = if shown.pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
    output::line(&text.context("the document cannot be printed")?)
}
