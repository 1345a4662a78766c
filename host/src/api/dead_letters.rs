//! Events that a function did not run well for and that are tried no more: seen, sent again, forgotten.

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{documents::json_value, error::ApiError, extract::Root};
use crate::{app::App, identity::Identity, registry::RegistryError};

/// At most so many are shown.
const SHOWN: u32 = 100;

/// Routes of dead letters. `{id}` is the number of one, or `all`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/fn/dead/{name}", get(list))
        .route("/fn/dead/{name}/{id}", axum::routing::delete(forget))
        .route("/fn/dead/{name}/{id}/resend", post(resend))
}

async fn list(Root(who): Root, State(app): State<App>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let function = function(&app, &who, &name).await?;
    Ok(json_value(StatusCode::OK, &app.store.dead_letters(&who.tenant, &function, SHOWN).await?))
}

async fn resend(
    Root(who): Root,
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (function, id) = (function(&app, &who, &name).await?, number(&id)?);
    let resent = app.store.resend(&who.tenant, &function, id).await?;
    some(id, resent, &name)?;
    Ok(json_value(StatusCode::OK, &json!({ "resent": resent })))
}

async fn forget(
    Root(who): Root,
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (function, id) = (function(&app, &who, &name).await?, number(&id)?);
    let forgotten = app.store.forget_dead(&who.tenant, &function, id).await?;
    some(id, forgotten, &name)?;
    Ok(json_value(StatusCode::OK, &json!({ "deleted": forgotten })).into_response())
}

async fn function(app: &App, who: &Identity, name: &str) -> Result<String, ApiError> {
    let function = app.registry.find(&who.tenant, name).await.ok_or_else(|| RegistryError::Unknown(name.to_owned()))?;
    Ok(function.id.clone())
}

fn number(id: &str) -> Result<Option<i64>, ApiError> {
    match id {
        "all" => Ok(None),
        id => id
            .parse()
            .map(Some)
            .map_err(|_| ApiError::BadRequest(format!("`{id}` names no dead letter: give its number, or `all`"))),
    }
}

fn some(id: Option<i64>, found: u64, name: &str) -> Result<(), ApiError> {
    match id {
        Some(id) if found == 0 => Err(ApiError::NotFound(format!("the function `{name}` has no dead letter {id}"))),
        _ => Ok(()),
    }
}
