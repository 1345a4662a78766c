//! Accounts of the platform itself: creating an app, and what its root user may ask about it.

use axum::{
    Form, Router,
    extract::{FromRequest, Request, State, rejection::FormRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    error::ApiError,
    extract::{Bearer, CallerAddress, Json, Path, Query, Root},
    pages,
};
use crate::{
    accounts::{AccountError, TenantKeys},
    app::App,
    mail::MailMessage,
};

/// What the reference answers where signing up costs nothing.
const NO_NEED: &str = "no need to sign up in dev mode";

/// Routes of section 2.3 of the reference and others of root, and `/account/create`, which answers with the keys.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/account/init", get(init_by_link).post(init_by_form))
        .route("/account/create", post(create))
        .route("/account/auth", get(auth))
        .route("/sudogettoken/{account}", get(account_session))
}

/// How an app is asked for.
#[derive(Deserialize)]
struct SignUp {
    #[serde(default)]
    email: String,
    /// The operator's token, for those who cannot send a header: a form.
    #[serde(default)]
    token: String,
}

#[derive(Default, Deserialize)]
struct Options {
    /// `true` for an answer that is read in a browser.
    #[serde(default)]
    ui: String,
    /// Set by StaticBackend's tools for the app of development mode, which is there already.
    #[serde(default)]
    mem: String,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    email: String,
}

async fn init_by_link(
    State(app): State<App>,
    bearer: Bearer,
    caller: CallerAddress,
    Query(options): Query<Options>,
    Query(link): Query<Link>,
) -> Result<Response, ApiError> {
    // A token in a URL would be kept in logs and histories: only headers and forms have one.
    let sign_up = SignUp { email: link.email, token: String::new() };
    if options.ui == "true" {
        return Ok(pages::created(&new_app(&app, bearer, caller, sign_up).await?));
    }
    if !options.mem.is_empty() && app.config.server.dev {
        return Ok(Json(NO_NEED).into_response());
    }
    Ok(mailed(&app, bearer, caller, sign_up).await?.into_response())
}

async fn init_by_form(
    State(app): State<App>,
    bearer: Bearer,
    caller: CallerAddress,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if media_type.starts_with("application/json") {
        let Json(sign_up) = Json::from_request(request, &app).await?;
        return Ok(mailed(&app, bearer, caller, sign_up).await?.into_response());
    }
    let form: Result<Form<SignUp>, FormRejection> = Form::from_request(request, &app).await;
    Ok(pages::created(&new_app(&app, bearer, caller, form?.0).await?))
}

async fn create(
    State(app): State<App>,
    bearer: Bearer,
    caller: CallerAddress,
    Json(sign_up): Json<SignUp>,
) -> Result<impl IntoResponse, ApiError> {
    let keys = new_app(&app, bearer, caller, sign_up).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(keys)))
}

async fn auth(Root(who): Root) -> Json<String> {
    Json(who.email)
}

async fn account_session(
    Root(who): Root,
    State(app): State<App>,
    Path(account): Path<String>,
) -> Result<Json<String>, ApiError> {
    Ok(Json(app.accounts.account_session(&who, &account).await?))
}

async fn new_app(
    app: &App,
    Bearer(bearer): Bearer,
    CallerAddress(caller): CallerAddress,
    SignUp { email, token }: SignUp,
) -> Result<TenantKeys, ApiError> {
    let token = bearer.or_else(|| Some(token.trim().to_owned())).filter(|token| !token.is_empty());
    app.accounts.may_sign_up(token.as_deref(), caller).await?;
    Ok(app.accounts.create_tenant(&email).await?)
}

/// Creates an app whose keys are mailed, as the reference does; the answer is a sentence.
async fn mailed(app: &App, bearer: Bearer, caller: CallerAddress, sign_up: SignUp) -> Result<Json<String>, ApiError> {
    let dev = app.config.server.dev;
    if app.config.mail.smtp.is_none() && !dev {
        return Err(ApiError::BadRequest(
            "this server sends no mail, so nobody would get the keys of the app: create it with \
             `thimble account create`, or with the form at /"
                .into(),
        ));
    }
    // Before there are keys that could not be mailed.
    if sign_up.email.trim().parse::<lettre::Address>().is_err() {
        return Err(AccountError::InvalidEmail.into());
    }
    let keys = new_app(app, bearer, caller, sign_up).await?;
    app.mailer.queue(&keys.public_key, None, mail(&keys)).await?;
    Ok(Json(if dev { NO_NEED.into() } else { format!("the keys of your app are on their way to {}", keys.email) }))
}

fn mail(keys: &TenantKeys) -> MailMessage {
    let TenantKeys { public_key, root_token, password, email } = keys;
    MailMessage {
        to: vec![email.clone()],
        subject: "The keys of your app".into(),
        text_body: format!(
            "Your app is ready. Keep these keys: they are not shown again.\n\n\
             Public key: {public_key}\n\
             Root token: {root_token}\n\n\
             To sign in as its root user:\n\n\
             E-mail: {email}\n\
             Password: {password}\n"
        ),
        ..MailMessage::default()
    }
}
