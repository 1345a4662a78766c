//! Examples that `thimble serve --dev --example …` deploys, with their pages. They are part of the binary.

use std::sync::Arc;

use anyhow::Context;
use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use serde::Deserialize;

use crate::{
    accounts::DEV_TENANT,
    app::App,
    function::{Settings, Upload},
};

/// An example by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Example {
    /// Live chat: a page, and a function that keeps every message
    Chat,
}

/// `function.toml` of the example.
const MANIFEST: &str = include_str!("../../../functions-examples/chat/function.toml");

const SOURCE: &str = include_str!("../../../functions-examples/chat/fn.js");

/// The built page.
#[derive(rust_embed::Embed)]
#[folder = "../functions-examples/chat/page/dist"]
struct Page;

/// The page loads only its own files, and talks to this server under either of its names.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self' http://localhost:* http://127.0.0.1:*; \
                      object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The fields of `function.toml` that are needed here.
#[derive(Deserialize)]
struct Manifest {
    name: String,
    trigger: String,
}

impl Example {
    /// Where its page is.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/",
        }
    }

    /// Adds the function to the development app, or updates it when the example has changed.
    pub async fn deploy(self, app: &App) -> anyhow::Result<()> {
        let Manifest { name, trigger } = toml::from_str(MANIFEST).context("function.toml of the example")?;
        let tenant: Arc<str> = DEV_TENANT.into();
        let upload = Upload::JavaScript(SOURCE.into());
        match app.registry.get(&tenant, &name) {
            Some(current) if current.version.code.source() == SOURCE && current.trigger == trigger => return Ok(()),
            Some(current) => {
                app.registry.update(&tenant, &name, Some(&trigger), upload, current.version.settings()).await
            }
            None => app.registry.add(&tenant, &name, &trigger, upload, Settings::default()).await,
        }
        .context("the example's function cannot be deployed")?;
        Ok(())
    }

    /// The routes of its page.
    pub fn page(self) -> Router {
        Router::new()
            .route("/chat", get(async || Redirect::temporary("/chat/")))
            .route("/chat/", get(async || file("index.html")))
            .route("/chat/{*file}", get(async |Path(name): Path<String>| file(&name)))
    }
}

fn file(name: &str) -> Response {
    let Some(file) = Page::get(name) else { return (StatusCode::NOT_FOUND, "not found\n").into_response() };
    let headers = [
        (header::CONTENT_TYPE, file.metadata.mimetype().to_owned()),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // It changes with the binary, and the binary does not say when.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, file.data).into_response()
}
