//! The stream of `/sse/connect`: every message as one event.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::time::timeout;

use crate::hub::Connected;

/// How often a comment goes to a client that has nothing else to read: proxies keep the stream open, and the system notices when
/// the client has vanished.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What clients skip.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The answer that goes on until the connection ends.
pub fn answer(connected: Connected) -> Response {
    let events = stream::unfold(connected, async |connected| {
        let event = match timeout(KEEP_ALIVE, connected.next()).await {
            Ok(frame) => frame?.into_event(),
            Err(_) => COMMENT,
        };
        Some((Ok::<_, Infallible>(event), connected))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONNECTION, "keep-alive"),
        // For nginx, which would hold messages back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}
