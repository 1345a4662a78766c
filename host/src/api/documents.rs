//! `/db`, `/query`, `/inc` and their `/sudo` variants: documents over HTTP (reference, sections 2.4 and 2.6).

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post, put},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::ApiError,
    extract::{Caller, CallerOrAnonymous, JsonBody, Path, Query, Root},
};
use crate::{
    app::App,
    document::{self, Content, DocumentError, MAX_PAGE_SIZE, PageRequest},
    documents::{DocumentsError, array_text, page_text},
    event::Cause,
    filter::{Filter, FilterError},
    identity::Identity,
};

/// At most this many documents in one bulk request.
const MAX_BULK: usize = 10_000;

/// Bytes of a body: room for a bulk request; a single document has its own limit.
const MAX_BODY: usize = 20 << 20;

/// Routes of users.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/db/{collection}", get(list).post(create).put(update_bulk).delete(delete_bulk).fallback(unknown))
        .route("/db/{collection}/", get(list).post(create).put(update_bulk).delete(delete_bulk).fallback(unknown))
        .route("/db/{collection}/{id}", get(show).put(update).delete(remove).fallback(unknown))
        .route("/db/{collection}/{id}/", get(show).put(update).delete(remove).fallback(unknown))
        .route("/db/count/{collection}", post(count).get(show_in_count).put(update_in_count).delete(remove_in_count))
        .route("/db/count/{collection}/", post(count))
        .route("/query/{collection}", post(query))
        .route("/query/{collection}/", post(query))
        .route("/inc/{collection}/{id}", put(increment).post(increment))
        .route("/newid", any(new_id))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Routes of root.
pub fn root_routes() -> Router<App> {
    Router::new()
        .route(
            "/sudo/{collection}",
            get(sudo_list).post(sudo_create).put(sudo_update_bulk).delete(sudo_delete_bulk).fallback(unknown),
        )
        .route("/sudo/{collection}/{id}", get(sudo_show).put(sudo_update).delete(sudo_remove).fallback(unknown))
        .route("/sudoquery/{collection}", post(sudo_query))
        .route("/sudo/{collection}/", get(sudo_list).post(sudo_create).put(sudo_update_bulk).delete(sudo_delete_bulk))
        .route("/sudo/{collection}/{id}/", get(sudo_show).put(sudo_update).delete(sudo_remove))
        .route("/sudoquery/{collection}/", post(sudo_query))
        // Of the original, and not here yet: it must not become a collection of this name.
        .route("/sudo/cache", any(not_implemented))
        .route("/sudolistall", any(collections))
        .route("/sudolistall/", any(collections))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

type Answer = Result<Response, ApiError>;

/// The query parameters of all document routes, as text: what cannot be used is the default, as in the reference.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    page: Option<String>,
    size: Option<String>,
    sort: Option<String>,
    desc: Option<String>,
    bulk: Option<String>,
    ids: Option<String>,
    x: Option<String>,
}

impl Parameters {
    fn page(&self) -> PageRequest {
        let default = PageRequest::default();
        let number = |text: &Option<String>, default: u32| {
            text.as_deref().and_then(|text| text.parse().ok()).filter(|number| *number > 0).unwrap_or(default)
        };
        PageRequest {
            page: number(&self.page, default.page),
            size: number(&self.size, default.size).min(MAX_PAGE_SIZE),
            sort: self.sort.clone().filter(|field| !field.is_empty()),
            descending: self.desc.as_deref().is_some_and(|desc| !desc.is_empty()),
        }
    }
}

async fn list(
    CallerOrAnonymous(who): CallerOrAnonymous,
    State(app): State<App>,
    Path(collection): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer {
    page(&app, &who, &collection, &Filter::all(), &parameters).await
}

async fn query(
    CallerOrAnonymous(who): CallerOrAnonymous,
    State(app): State<App>,
    Path(collection): Path<String>,
    Query(parameters): Query<Parameters>,
    JsonBody(body): JsonBody,
) -> Answer {
    let filter = Filter::parse(&value(&body)?)?;
    page(&app, &who, &collection, &filter, &parameters).await
}

async fn page(app: &App, who: &Identity, collection: &str, filter: &Filter, parameters: &Parameters) -> Answer {
    let page = app.documents.list(who, collection, filter, &parameters.page()).await?;
    Ok(json_text(StatusCode::OK, page_text(&page)))
}

/// Creates one document, or with `bulk` several; with `ids` the same route reads documents by id.
async fn create(
    CallerOrAnonymous(who): CallerOrAnonymous,
    State(app): State<App>,
    Path(collection): Path<String>,
    Query(parameters): Query<Parameters>,
    JsonBody(body): JsonBody,
) -> Answer {
    if parameters.ids.is_some() {
        return by_ids(&app, &who, &collection, &body).await;
    }
    if parameters.bulk.is_some() {
        return create_bulk(&app, &who, &collection, &body).await;
    }
    let content = Content::parse(&body)?;
    let created = app.documents.create(&who, &collection, content, Cause::outside()).await?;
    Ok(json_text(StatusCode::CREATED, created.text.to_string()))
}

async fn create_bulk(app: &App, who: &Identity, collection: &str, body: &[u8]) -> Answer {
    let contents = document::parse_many(body, MAX_BULK)?;
    app.documents.create_many(who, collection, contents, Cause::outside()).await?;
    Ok(json_value(StatusCode::CREATED, &true))
}

async fn by_ids(app: &App, who: &Identity, collection: &str, body: &[u8]) -> Answer {
    let ids: Vec<String> = serde_json::from_slice(body)
        .map_err(|error| ApiError::BadRequest(format!("the body must be an array of ids: {error}")))?;
    if ids.is_empty() {
        return Err(ApiError::BadRequest("ids list can not be empty".into()));
    }
    if ids.len() > MAX_PAGE_SIZE as usize {
        return Err(ApiError::BadRequest(format!("at most {MAX_PAGE_SIZE} ids can be asked for at once")));
    }
    let found = app.documents.get_many(who, collection, &ids).await?;
    Ok(json_text(StatusCode::OK, array_text(&found)))
}

async fn show(
    CallerOrAnonymous(who): CallerOrAnonymous,
    State(app): State<App>,
    Path((collection, id)): Path<(String, String)>,
) -> Answer {
    let document = app.documents.get(&who, &collection, &id).await?;
    Ok(json_text(StatusCode::OK, document.text.to_string()))
}

async fn update(
    Caller(who): Caller,
    State(app): State<App>,
    Path((collection, id)): Path<(String, String)>,
    JsonBody(body): JsonBody,
) -> Answer {
    update_one(&app, &who, &collection, &id, &body).await
}

async fn update_one(app: &App, who: &Identity, collection: &str, id: &str, body: &[u8]) -> Answer {
    let changes = Content::parse(body)?;
    let updated = app.documents.update(who, collection, id, changes, Cause::outside()).await?;
    Ok(json_text(StatusCode::OK, updated.text.to_string()))
}

async fn remove(Caller(who): Caller, State(app): State<App>, Path((collection, id)): Path<(String, String)>) -> Answer {
    let deleted = app.documents.delete(&who, &collection, &id, Cause::outside()).await?;
    Ok(json_value(StatusCode::OK, &u32::from(deleted)))
}

#[derive(Deserialize)]
struct BulkUpdate {
    update: Content,
    clauses: Value,
}

/// Without an id a change is a bulk change, and has to say so.
async fn update_bulk(
    Caller(who): Caller,
    State(app): State<App>,
    Path(collection): Path<String>,
    Query(parameters): Query<Parameters>,
    JsonBody(body): JsonBody,
) -> Answer {
    if parameters.bulk.is_none() {
        return Err(ApiError::NotFound("not found".into()));
    }
    let invalid =
        |error| ApiError::BadRequest(format!("invalid body: a bulk update takes {{\"update\", \"clauses\"}}: {error}"));
    let BulkUpdate { update, clauses } = serde_json::from_slice(&body).map_err(invalid)?;
    let filter = Filter::parse(&clauses)?;
    let count = app.documents.update_many(&who, &collection, &filter, update, Cause::outside()).await?;
    Ok(json_value(StatusCode::OK, &count))
}

async fn delete_bulk(
    Caller(who): Caller,
    State(app): State<App>,
    Path(collection): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer {
    let clauses = match (&parameters.bulk, &parameters.x) {
        (None, _) => return Err(ApiError::NotFound("not found".into())),
        (_, Some(clauses)) if !clauses.is_empty() => clauses,
        _ => return Err(ApiError::BadRequest("no filters supplied via the &x= query parameter".into())),
    };
    // The clients do not escape base64 for URLs, so that a plus may arrive as a space.
    let clauses = STANDARD
        .decode(clauses.replace(' ', "+"))
        .map_err(|error| ApiError::BadRequest(format!("the &x= query parameter is not base64: {error}")))?;
    let filter = Filter::parse(&value(&clauses)?)?;
    let count = app.documents.delete_many(&who, &collection, &filter, Cause::outside()).await?;
    Ok(json_value(StatusCode::OK, &count))
}

/// A missing or unusable filter counts everything, as in the reference.
async fn count(
    Caller(who): Caller,
    State(app): State<App>,
    Path(collection): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let filter = serde_json::from_slice(&body).ok().and_then(|clauses| Filter::parse(&clauses).ok());
    let count = app.documents.count(&who, &collection, &filter.unwrap_or_else(Filter::all)).await?;
    Ok(json_value(StatusCode::OK, &json!({ "count": count })))
}

/// The collection that is named `count` is one like any other.
const COUNT: &str = "count";

async fn show_in_count(who: CallerOrAnonymous, app: State<App>, Path(id): Path<String>) -> Answer {
    show(who, app, Path((COUNT.into(), id))).await
}

async fn update_in_count(who: Caller, app: State<App>, Path(id): Path<String>, body: JsonBody) -> Answer {
    update(who, app, Path((COUNT.into(), id)), body).await
}

async fn remove_in_count(who: Caller, app: State<App>, Path(id): Path<String>) -> Answer {
    remove(who, app, Path((COUNT.into(), id))).await
}

#[derive(Deserialize)]
struct Increment {
    field: String,
    range: i64,
}

async fn increment(
    Caller(who): Caller,
    State(app): State<App>,
    Path((collection, id)): Path<(String, String)>,
    JsonBody(body): JsonBody,
) -> Answer {
    let Increment { field, range } = super::extract::object(&body)?;
    app.documents.increment(&who, &collection, &id, &field, range, Cause::outside()).await?;
    Ok(json_value(StatusCode::OK, &true))
}

async fn new_id(_: Caller) -> Answer {
    Ok(json_value(StatusCode::OK, &uuid::Uuid::new_v4()))
}

async fn sudo_list(
    Root(who): Root,
    app: State<App>,
    collection: Path<String>,
    parameters: Query<Parameters>,
) -> Answer {
    list(CallerOrAnonymous(who), app, collection, parameters).await
}

async fn sudo_query(
    Root(who): Root,
    app: State<App>,
    collection: Path<String>,
    parameters: Query<Parameters>,
    body: JsonBody,
) -> Answer {
    query(CallerOrAnonymous(who), app, collection, parameters, body).await
}

async fn sudo_create(
    Root(who): Root,
    app: State<App>,
    collection: Path<String>,
    parameters: Query<Parameters>,
    body: JsonBody,
) -> Answer {
    create(CallerOrAnonymous(who), app, collection, parameters, body).await
}

async fn sudo_update_bulk(
    Root(who): Root,
    app: State<App>,
    collection: Path<String>,
    parameters: Query<Parameters>,
    body: JsonBody,
) -> Answer {
    update_bulk(Caller(who), app, collection, parameters, body).await
}

async fn sudo_delete_bulk(
    Root(who): Root,
    app: State<App>,
    collection: Path<String>,
    parameters: Query<Parameters>,
) -> Answer {
    delete_bulk(Caller(who), app, collection, parameters).await
}

async fn sudo_show(Root(who): Root, app: State<App>, path: Path<(String, String)>) -> Answer {
    show(CallerOrAnonymous(who), app, path).await
}

async fn sudo_update(Root(who): Root, app: State<App>, path: Path<(String, String)>, body: JsonBody) -> Answer {
    update(Caller(who), app, path, body).await
}

async fn sudo_remove(Root(who): Root, app: State<App>, path: Path<(String, String)>) -> Answer {
    remove(Caller(who), app, path).await
}

async fn collections(Root(who): Root, State(app): State<App>) -> Answer {
    Ok(json_value(StatusCode::OK, &app.store.collections(&who.tenant).await?))
}

async fn not_implemented(Root(_): Root) -> Answer {
    Ok((StatusCode::NOT_IMPLEMENTED, "this route of StaticBackend is not implemented\n").into_response())
}

async fn unknown() -> ApiError {
    ApiError::NotFound("not found".into())
}

fn value(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::BadRequest(format!("the body is not JSON: {error}")))
}

/// JSON with exactly the media type that the original clients compare with.
pub(super) fn json_value(status: StatusCode, value: &impl serde::Serialize) -> Response {
    json_text(status, serde_json::to_string(value).unwrap_or_default())
}

fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

impl From<DocumentsError> for ApiError {
    fn from(error: DocumentsError) -> Self {
        match error {
            DocumentsError::Collection(text) => Self::BadRequest(text),
            DocumentsError::Anonymous => Self::Unauthorized("missing authorization HTTP header".into()),
            DocumentsError::Missing => Self::NotFound(error.to_string()),
            DocumentsError::Forbidden => Self::Forbidden(error.to_string()),
            DocumentsError::Interrupted => Self::Unavailable,
            DocumentsError::Vetoed { status, message } => Self::Vetoed { status, message },
            DocumentsError::NotAsked { message, retry_after, is_quota: true } => Self::TooMany { retry_after, message },
            DocumentsError::NotAsked { message, retry_after, is_quota: false } => Self::Busy { retry_after, message },
            DocumentsError::Store(error) => error.into(),
        }
    }
}

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Invalid(text) => Self::BadRequest(text),
            DocumentError::TooLarge(text) => Self::TooLarge(text),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::BadRequest(error.to_string())
    }
}
