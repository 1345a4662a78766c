//! What a JavaScript function can rely on, shown on the committed `engine.wasm`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod errors;
mod limits;
mod loading;
mod logging;
mod sandbox;
mod web;
