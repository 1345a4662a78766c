//! `db index` and `db indexes`: fields by which queries find and sort documents.

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::cli::{client::Client, output};

#[derive(Deserialize)]
struct IndexView {
    col: String,
    field: String,
    ready: bool,
}

pub async fn add(client: &Client, collection: &str, field: &str) -> anyhow::Result<()> {
    let query = [("col", collection), ("field", field)];
    let answer = client.send(Method::POST, &["sudo", "index"], |request| request.query(&query)).await?;
    let is_ready = answer.status != StatusCode::ACCEPTED;
    client.accepted(answer)?;
    if !is_ready {
        return output::line("The index is being made: `thimble db indexes` says when it is ready.");
    }
    let (collection, field) = (output::printable(collection), output::printable(field));
    output::line(&format!("Documents of {collection} are found and sorted by {field} with an index."))
}

pub async fn remove(client: &Client, collection: &str, field: &str) -> anyhow::Result<()> {
    let query = [("col", collection), ("field", field)];
    let answer = client.send(Method::DELETE, &["sudo", "index"], |request| request.query(&query)).await?;
    client.accepted(answer)?;
    output::line("Index deleted")
}

pub async fn list(client: &Client, collection: Option<&str>) -> anyhow::Result<()> {
    let query: Vec<(&str, &str)> = collection.map(|collection| ("col", collection)).into_iter().collect();
    let indexes: Vec<IndexView> = client.get(&["sudo", "index"], &query).await?;
    if indexes.is_empty() {
        output::note("There are no indexes here yet: `thimble db index COLLECTION FIELD` makes one.");
        return Ok(());
    }
    let state = |ready| if ready { "ready" } else { "being made" }.to_owned();
    let rows = indexes.into_iter().map(|index| [index.col, index.field, state(index.ready)]);
    output::table(["COLLECTION", "FIELD", ""], rows.collect())
}
