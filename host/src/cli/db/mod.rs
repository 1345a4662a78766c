//! `thimble db`: documents, as root; and the database's tables, for the operator.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::{client::Client, credentials::Connection, output, place::Place};

mod clauses;
mod indexes;
mod migrate;
mod show;

#[derive(Debug, Subcommand)]
pub enum Db {
    /// List the documents of a collection, oldest first
    List {
        collection: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show a document
    Get {
        collection: String,
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Create a document
    Create {
        collection: String,
        /// A JSON object
        document: String,
    },
    /// Merge changes into the top level of a document
    Update {
        collection: String,
        id: String,
        /// A JSON object
        changes: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Delete a document
    Delete { collection: String, id: String },
    /// Find documents
    Query {
        collection: String,
        /// A field, an operator (== != < <= > >= in !in) and a value each; all of them have to hold
        #[arg(required = true, value_name = "FIELD OP VALUE", allow_negative_numbers = true)]
        clauses: Vec<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        shown: Shown,
    },
    /// Count documents
    Count {
        collection: String,
        /// A field, an operator and a value each, as in `db query`
        #[arg(value_name = "FIELD OP VALUE", allow_negative_numbers = true)]
        clauses: Vec<String>,
    },
    /// List collections
    #[command(visible_alias = "repo")]
    Collections,
    /// Let queries find and sort the documents of a collection by an index of a field
    Index {
        collection: String,
        /// The field, as in `db query`
        field: String,
        /// Remove the index
        #[arg(long)]
        delete: bool,
    },
    /// List indexes
    Indexes {
        /// Of this collection only
        collection: Option<String>,
    },
    /// Bring the tables of a server's database up to date, without serving (`thimble serve` does it as well)
    Migrate(Place),
}

/// Which part of a long list.
#[derive(Debug, Args)]
pub struct Page {
    /// Newest first, or by `--sort` downwards
    #[arg(short, long)]
    descending: bool,
    /// Which page
    #[arg(long, default_value_t = 1)]
    page: u32,
    /// Documents on a page
    #[arg(long, default_value_t = 50)]
    size: u32,
    /// Field to sort by [default: time of creation]
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
}

/// How documents are shown.
#[derive(Debug, Args)]
pub struct Shown {
    /// On several lines
    #[arg(short, long)]
    pretty: bool,
    /// Only these fields
    #[arg(long, value_delimiter = ',', value_name = "FIELDS")]
    fields: Vec<String>,
}

pub async fn run(connection: &Connection, db: Db) -> anyhow::Result<()> {
    let client = || Client::new(&connection.credentials()?);
    match db {
        // No client of a server.
        Db::Migrate(place) => migrate::run(place).await,
        db => ask(&client()?, db).await,
    }
}

async fn ask(client: &Client, db: Db) -> anyhow::Result<()> {
    match db {
        Db::Migrate(place) => migrate::run(place).await,
        Db::Index { collection, field, delete: false } => indexes::add(client, &collection, &field).await,
        Db::Index { collection, field, delete: true } => indexes::remove(client, &collection, &field).await,
        Db::Indexes { collection } => indexes::list(client, collection.as_deref()).await,
        Db::List { collection, page, shown } => {
            let answer =
                client.send(Method::GET, &["sudo", &collection], |request| request.query(&page.query())).await?;
            show::page(&client.accepted(answer)?, &shown)
        }
        Db::Get { collection, id, shown } => {
            let answer = client.send(Method::GET, &["sudo", &collection, &id], |request| request).await?;
            show::document(&client.accepted(answer)?, &shown)
        }
        Db::Create { collection, document } => {
            let document = clauses::object("document", &document)?;
            let answer = client.send(Method::POST, &["sudo", &collection], |request| json(request, document)).await?;
            show::document(&client.accepted(answer)?, &Shown { pretty: false, fields: Vec::new() })
        }
        Db::Update { collection, id, changes, shown } => {
            let changes = clauses::object("changes", &changes)?;
            let answer =
                client.send(Method::PUT, &["sudo", &collection, &id], |request| json(request, changes)).await?;
            show::document(&client.accepted(answer)?, &shown)
        }
        Db::Delete { collection, id } => delete(client, &collection, &id).await,
        Db::Query { collection, clauses, page, shown } => {
            let clauses = Value::from(clauses::parse(&clauses)?);
            let query = |request: reqwest::RequestBuilder| request.query(&page.query()).json(&clauses);
            let answer = client.send(Method::POST, &["sudoquery", &collection], query).await?;
            show::page(&client.accepted(answer)?, &shown)
        }
        Db::Count { collection, clauses } => count(client, &collection, &clauses).await,
        Db::Collections => collections(client).await,
    }
}

/// A body that is sent as it was written.
fn json(request: reqwest::RequestBuilder, text: String) -> reqwest::RequestBuilder {
    request.header(reqwest::header::CONTENT_TYPE, "application/json").body(text)
}

async fn delete(client: &Client, collection: &str, id: &str) -> anyhow::Result<()> {
    let answer = client.send(Method::DELETE, &["sudo", collection, id], |request| request).await?;
    let deleted: u32 = serde_json::from_slice(&client.accepted(answer)?).unwrap_or_default();
    anyhow::ensure!(deleted > 0, "there is no document `{id}` in `{collection}`");
    output::line(&format!("{deleted} document deleted"))
}

async fn count(client: &Client, collection: &str, clauses: &[String]) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Counted {
        count: i64,
    }
    let clauses = clauses::parse(clauses)?;
    let Counted { count } = client.post(&["db", "count", collection], &clauses).await?;
    output::line(&count.to_string())
}

async fn collections(client: &Client) -> anyhow::Result<()> {
    let names: Option<Vec<String>> = client.get(&["sudolistall"], &[]).await?;
    let names = names.unwrap_or_default();
    if names.is_empty() {
        output::note("There are no documents here yet: `thimble db create` makes one.");
    }
    names.iter().try_for_each(|name| output::line(&output::printable(name)))
}

impl Page {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("page", self.page.to_string()), ("size", self.size.to_string())];
        if self.descending {
            query.push(("desc", "true".into()));
        }
        query.extend(self.sort.clone().map(|field| ("sort", field)));
        query
    }
}
