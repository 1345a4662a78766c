//! The pages: sign-in and the form that creates an app at `/`, and what an app holds at `/ui`.
//!
//! They are rendered here, work without scripts, and may load nothing but their own style and icon.

use axum::{
    Extension, Form, Router,
    extract::{DefaultBodyLimit, State, rejection::FormRejection},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use self::{
    session::{Session, Sessions, is_own_form},
    template::{Markup, Part},
};
use super::error::ApiError;
use crate::{
    accounts::{AccountError, DEV_TENANT, TenantKeys},
    app::App,
    credentials::root_token::DEV_ALIAS,
    function::Function,
    user::Tenant,
};

mod session;
mod template;

/// Bytes of a form.
const MAX_FORM: usize = 16 << 10;

/// Nothing from elsewhere, no scripts, and no page of others around ours.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The pages with their style.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(welcome))
        .route("/ui", get(app_page))
        .route("/ui/", get(app_page))
        .route("/ui/login", post(sign_in))
        .route("/ui/logout", post(sign_out))
        .route("/ui/style.css", get(async || asset("text/css; charset=utf-8", include_str!("../pages/style.css"))))
        .route("/ui/icon.svg", get(async || asset("image/svg+xml", include_str!("../pages/icon.svg"))))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(Extension(Sessions::default()))
}

/// The page that shows the keys of a new app, once.
pub fn created(keys: &TenantKeys) -> Response {
    let content = Markup::fill(
        include_str!("../pages/created.html"),
        &[
            ("public_key", Part::Text(&keys.public_key)),
            ("root_token", Part::Text(&keys.root_token)),
            ("email", Part::Text(&keys.email)),
            ("password", Part::Text(&keys.password)),
        ],
    );
    page("Your app is ready", "/", Markup::default(), content)
}

async fn welcome(State(app): State<App>) -> Response {
    welcome_page(&app, None, None)
}

/// The field names are those of StaticBackend's page.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    pk: String,
    #[serde(default)]
    token: String,
}

async fn sign_in(
    State(app): State<App>,
    Extension(sessions): Extension<Sessions>,
    headers: HeaderMap,
    form: Result<Form<Keys>, FormRejection>,
) -> Result<Response, ApiError> {
    let Form(Keys { pk, token }) = form?;
    if !is_own_form(&headers, &app.config.server.url) {
        return Err(ApiError::Forbidden("this form was sent by a page of another site".into()));
    }
    let (pk, token) = (pk.trim(), token.trim());
    match app.accounts.root(pk, token).await {
        Ok(_) => {
            let cookie = sessions.begin(pk.to_owned(), token.to_owned(), is_https(&app));
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/ui")).into_response())
        }
        Err(AccountError::Store(error)) => Err(error.into()),
        Err(AccountError::Internal(cause)) => Err(ApiError::Internal(cause)),
        Err(_) => {
            let mut response = welcome_page(&app, Some(pk), Some("No app has this public key and root token."));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok(response)
        }
    }
}

#[derive(Deserialize)]
struct SignOut {
    #[serde(default)]
    csrf: String,
}

async fn sign_out(
    State(app): State<App>,
    Extension(sessions): Extension<Sessions>,
    headers: HeaderMap,
    form: Result<Form<SignOut>, FormRejection>,
) -> Result<Response, ApiError> {
    let Form(SignOut { csrf }) = form?;
    if sessions.of(&headers).is_some_and(|session| !session.made(&csrf)) {
        return Err(ApiError::Forbidden(
            "this form is not of the session you are in: go back and load the page anew".into(),
        ));
    }
    let cookie = sessions.end(&headers, is_https(&app));
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

async fn app_page(
    State(app): State<App>,
    Extension(sessions): Extension<Sessions>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(session) = sessions.of(&headers) else { return Ok(Redirect::to("/").into_response()) };
    let who = match app.accounts.root(&session.public_key, &session.root_token).await {
        Ok(who) => who,
        Err(AccountError::Store(error)) => return Err(error.into()),
        // The token has ended, and the session with it.
        Err(_) => {
            let cookie = sessions.end(&headers, is_https(&app));
            return Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response());
        }
    };
    let Some(tenant) = app.accounts.tenant(&who.tenant).await? else { return Ok(Redirect::to("/").into_response()) };
    let functions = app.store.functions(&who.tenant).await?;
    Ok(dashboard(&session, &tenant, &functions, &address(&app, &headers)))
}

fn welcome_page(app: &App, public_key: Option<&str>, error: Option<&str>) -> Response {
    let dev = app.config.server.dev;
    let well_known = |key: &'static str| if dev { key } else { "" };
    let when =
        |shown: bool, template: &'static str| if shown { Markup::fill(template, &[]) } else { Markup::default() };
    let error = error.map_or_else(Markup::default, |text| {
        Markup::fill(include_str!("../pages/error.html"), &[("text", Part::Text(text))])
    });
    let operator_only = !dev && !app.config.accounts.open;
    let content = Markup::fill(
        include_str!("../pages/welcome.html"),
        &[
            ("error", Part::Markup(error)),
            ("public_key", Part::Text(public_key.unwrap_or(well_known(DEV_TENANT)))),
            ("root_token", Part::Text(well_known(DEV_ALIAS))),
            ("operator", Part::Markup(when(operator_only, include_str!("../pages/operator.html")))),
            ("development", Part::Markup(when(dev, include_str!("../pages/development.html")))),
        ],
    );
    page("Sign in", "/", Markup::default(), content)
}

fn dashboard(session: &Session, tenant: &Tenant, functions: &[Function], url: &str) -> Response {
    let rows: Markup = functions.iter().map(function_row).collect();
    let functions = match functions {
        [] => Markup::fill(include_str!("../pages/no_functions.html"), &[]),
        _ => Markup::fill(include_str!("../pages/functions.html"), &[("rows", Part::Markup(rows))]),
    };
    let content = Markup::fill(
        include_str!("../pages/app.html"),
        &[
            ("email", Part::Text(&tenant.email)),
            ("public_key", Part::Text(&tenant.id)),
            ("url", Part::Text(url)),
            ("functions", Part::Markup(functions)),
        ],
    );
    let user = Markup::fill(include_str!("../pages/user.html"), &[("csrf", Part::Text(session.csrf()))]);
    page(&tenant.email, "/ui", user, content)
}

fn function_row(function: &Function) -> Markup {
    let time = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%d %H:%M UTC").to_string();
    Markup::fill(
        include_str!("../pages/function_row.html"),
        &[
            ("name", Part::Text(&function.name)),
            ("trigger", Part::Text(&function.trigger)),
            ("version", Part::Text(&function.version.number.to_string())),
            ("updated", Part::Text(&time(function.version.created))),
            ("last_run", Part::Text(&function.last_run.map_or_else(|| "never".into(), time))),
        ],
    )
}

fn page(title: &str, home: &str, user: Markup, content: Markup) -> Response {
    let html = Markup::fill(
        include_str!("../pages/layout.html"),
        &[
            ("title", Part::Text(title)),
            ("home", Part::Text(home)),
            ("user", Part::Markup(user)),
            ("content", Part::Markup(content)),
        ],
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        // With `no-referrer`, browsers would hide the origin of our own forms, too.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(html.into_string())).into_response()
}

/// It changes with the binary only, but the binary does not say when.
fn asset(media_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

fn is_https(app: &App) -> bool {
    app.config.server.url.starts_with("https://")
}

/// The address of this server as its user knows it.
fn address(app: &App, headers: &HeaderMap) -> String {
    match app.config.server.url.as_str() {
        "" => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            format!("http://{}", host.map_or_else(|| app.config.server.listen.to_string(), str::to_owned))
        }
        url => url.to_owned(),
    }
}
