//! `/sudo/index`: indexes of fields, by which queries find and sort documents (reference, section 2.6).

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Query, Root},
};
use crate::{app::App, clock::rfc3339, collection, filter::Field};

/// A request waits so long for an index. One that takes longer is made all the same.
const PATIENCE: Duration = Duration::from_secs(20);

/// Routes of root.
pub fn routes() -> Router<App> {
    let index = || get(list).post(add).delete(remove).fallback(not_implemented);
    Router::new().route("/sudo/index", index()).route("/sudo/index/", index())
}

type Answer = Result<Response, ApiError>;

/// Which index. The reference's `type` is not looked at: an index has values of every type.
#[derive(Debug, Deserialize)]
struct Parameters {
    col: Option<String>,
    field: Option<String>,
}

impl Parameters {
    fn collection(&self) -> Result<&str, ApiError> {
        let collection = self.col.as_deref().unwrap_or_default();
        match collection::name_error(collection) {
            Some(error) => Err(ApiError::BadRequest(format!("{error}: give the collection's in `col`"))),
            None => Ok(collection),
        }
    }

    fn field(&self) -> Result<Field, ApiError> {
        let refused = |error: String| Err(ApiError::BadRequest(error));
        let Some(name) = self.field.as_deref().filter(|name| !name.is_empty()) else {
            return refused("name the field in `field`".into());
        };
        match Field::parse(name) {
            Err(error) => refused(format!("the {error}")),
            Ok(field) if field.may_meet_an_array() => refused(
                "a number in the name of a field may be the index of an array or a key, so there is no index for it: choose a \
                 field whose name has none after the first part"
                    .into(),
            ),
            Ok(field) => Ok(field),
        }
    }
}

/// An index as it is shown.
#[derive(Serialize)]
struct IndexView {
    col: String,
    field: String,
    ready: bool,
    created: String,
}

async fn list(Root(who): Root, State(app): State<App>, Query(parameters): Query<Parameters>) -> Answer {
    let wanted = parameters.col.filter(|collection| !collection.is_empty());
    let indexes = app.store.indexes(&who.tenant).await?.into_iter();
    let views: Vec<IndexView> = indexes
        .filter(|index| wanted.as_ref().is_none_or(|wanted| index.collection == *wanted))
        .map(|index| IndexView {
            col: index.collection,
            field: index.field,
            ready: index.is_ready,
            created: rfc3339(index.created),
        })
        .collect();
    Ok(json_value(StatusCode::OK, &views))
}

/// 200 when queries use it, 202 when it is still being made.
async fn add(Root(who): Root, State(app): State<App>, Query(parameters): Query<Parameters>) -> Answer {
    let (collection, field) = (parameters.collection()?.to_owned(), parameters.field()?);
    let most = app.usage.of_tenant(&who.tenant).indexes;
    let store = app.store.clone();
    // Not ended by a caller that goes away: half an index is of no use.
    let adding = tokio::spawn(async move {
        let added = store.add_index(&who.tenant, &collection, &field, most).await;
        if let Err(error) = &added {
            tracing::warn!(?error, collection, "an index was not made");
        }
        added
    });
    match timeout(PATIENCE, adding).await {
        Ok(Ok(Ok(true))) => Ok(json_value(StatusCode::OK, &true)),
        Ok(Ok(Ok(false))) => Err(ApiError::Conflict(format!(
            "this app has {most} indexes, which is as many as it may have: delete one. The operator raises the limit with \
             `tenant.indexes`"
        ))),
        Ok(Ok(Err(error))) => Err(error.into()),
        Ok(Err(error)) => Err(ApiError::Internal(error.into())),
        Err(_) => Ok(json_value(StatusCode::ACCEPTED, &true)),
    }
}

async fn remove(Root(who): Root, State(app): State<App>, Query(parameters): Query<Parameters>) -> Answer {
    let (collection, field) = (parameters.collection()?, parameters.field()?);
    if app.store.delete_index(&who.tenant, collection, &field).await? {
        return Ok(json_value(StatusCode::OK, &true));
    }
    Err(ApiError::NotFound(format!("`{collection}` has no index for the field `{}`", field.name())))
}

async fn not_implemented(Root(_): Root) -> Answer {
    Ok((StatusCode::NOT_IMPLEMENTED, "method not implemented\n").into_response())
}
