//! Triggers: what happens outside, made into events.

pub mod http;
pub mod realtime;
pub mod schedule;
