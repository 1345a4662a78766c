//! The platform from outside: every test drives the real server over HTTP, SSE, WebSocket or the command line.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod harness;

mod abuse;
mod accounts;
mod architecture;
mod backup;
mod channels;
mod chat;
mod cli;
mod cli_db;
mod cli_tasks;
mod compiling;
mod components;
mod crash;
mod documents;
mod edge;
mod engine;
mod functions;
mod hooks;
mod hostile_components;
mod http_answers;
mod indexes;
mod javascript;
mod limits;
mod log;
mod mail;
mod migrations;
mod nodes;
mod outbox;
mod quotas;
mod realtime;
mod realtime_sse;
mod realtime_websocket;
mod restart;
mod schedule;
mod stats;
mod tasks;
mod transactions;
mod upload;
