//! Thimble: a self-hosted, WebAssembly-first function platform.
//!
//! The modules stand in the order in which an event passes through them (ARCHITECTURE.md): something happens; a trigger makes
//! it an event; the dispatcher picks the functions that wait for it; the runtime calls each once, in a sandbox of its own;
//! what a function asks for goes through a host function to the store, the hub or the mailer.

pub mod app;
pub mod backup;
pub mod cli;
pub mod config;
pub mod logging;
pub mod metrics;

pub mod edge;

pub mod api;
pub mod peers;
pub mod trigger;

pub mod event;
pub mod event_queue;
pub mod listeners;
pub mod message;

pub mod arguments;
pub mod dispatcher;
pub mod function;
pub mod history;
pub mod hooks;
pub mod quota;
pub mod registry;
pub mod run;
pub mod schedule;
pub mod statistics;
pub mod task;
pub mod usage;

pub mod runtime;

pub mod host_functions;

pub mod channels;
pub mod documents;
pub mod jobs;

pub mod collection;
pub mod document;
pub mod filter;
pub mod permissions;
pub mod store;

pub mod hub;

pub mod mail;
pub mod mailer;
pub mod outgoing;

pub mod accounts;
pub mod credentials;
pub mod identity;
pub mod user;

pub mod clock;
#[cfg(test)]
mod corpus;
pub mod fair;
pub mod memory;
