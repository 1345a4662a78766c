//! Users of an app: registering, signing in, the users of one's account.

use axum::{
    Router,
    extract::State,
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    error::ApiError,
    extract::{Caller, CallerAddress, Json, Path, PublicKey, Query, SessionCaller},
};
use crate::{app::App, clock::rfc3339, identity::Identity, user::User};

/// Routes of users, of sections 2.2 and 2.11 of the reference.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/register", post(register))
        .route("/login", post(login))
        .route("/email", get(email))
        .route("/me", get(me))
        .route("/user/changepw", post(change_password))
        .route("/setrole", post(set_role))
        .route("/account/users", get(members).post(add_member))
        .route("/account/users/{id}", delete(remove_member))
}

/// Other fields (an account, a role) are not for the caller to choose and are ignored.
#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn register(
    PublicKey(tenant): PublicKey,
    State(app): State<App>,
    CallerAddress(caller): CallerAddress,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<Json<String>, ApiError> {
    Ok(Json(app.accounts.register(&tenant, &email, password, caller).await?))
}

async fn login(
    PublicKey(tenant): PublicKey,
    State(app): State<App>,
    CallerAddress(caller): CallerAddress,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<Json<String>, ApiError> {
    Ok(Json(app.accounts.login(&tenant, &email, password, caller).await?))
}

#[derive(Deserialize)]
struct EmailQuery {
    #[serde(default)]
    e: String,
}

async fn email(
    PublicKey(tenant): PublicKey,
    State(app): State<App>,
    Query(EmailQuery { e }): Query<EmailQuery>,
) -> Result<Json<bool>, ApiError> {
    Ok(Json(app.accounts.has_email(&tenant, &e).await?))
}

/// Clients of version 1.7 read `id`, earlier ones `userId`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Me {
    account_id: String,
    user_id: String,
    id: String,
    email: String,
    role: i32,
}

async fn me(SessionCaller(Identity { account, user, email, role, .. }): SessionCaller) -> Json<Me> {
    Json(Me { account_id: account, id: user.clone(), user_id: user, email, role })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasswordChange {
    email: String,
    old_password: String,
    new_password: String,
}

async fn change_password(
    SessionCaller(who): SessionCaller,
    State(app): State<App>,
    CallerAddress(caller): CallerAddress,
    Json(PasswordChange { email, old_password, new_password }): Json<PasswordChange>,
) -> Result<Json<bool>, ApiError> {
    app.accounts.change_password(&who, &email, old_password, new_password, caller).await?;
    Ok(Json(true))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleChange {
    email: String,
    role: i32,
    account_id: Option<String>,
}

async fn set_role(
    Caller(who): Caller,
    State(app): State<App>,
    Json(RoleChange { email, role, account_id }): Json<RoleChange>,
) -> Result<Json<bool>, ApiError> {
    let account = account_id.as_deref().filter(|account| !account.is_empty());
    app.accounts.set_role(&who, &email, role, account).await?;
    Ok(Json(true))
}

/// `token` was half of a secret in the reference; here it is there for those who look for the field, and empty.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserView {
    id: String,
    account_id: String,
    token: &'static str,
    email: String,
    role: i32,
    created: String,
}

impl From<User> for UserView {
    fn from(User { id, account, email, role, created, .. }: User) -> Self {
        Self { id, account_id: account, token: "", email, role, created: rfc3339(created) }
    }
}

async fn members(SessionCaller(who): SessionCaller, State(app): State<App>) -> Result<Json<Vec<UserView>>, ApiError> {
    let users = app.accounts.members(&who).await?;
    Ok(Json(users.into_iter().map(UserView::from).collect()))
}

async fn add_member(
    SessionCaller(who): SessionCaller,
    State(app): State<App>,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<Json<UserView>, ApiError> {
    Ok(Json(app.accounts.add_member(&who, &email, password).await?.into()))
}

async fn remove_member(
    SessionCaller(who): SessionCaller,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<bool>, ApiError> {
    app.accounts.remove_member(&who, &id).await?;
    Ok(Json(true))
}
