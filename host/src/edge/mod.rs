//! The edge of the network: connections, and what clients may do with them before anybody knows who they are.
//!
//! Everything here holds a client to its part: requests arrive and answers are taken at a bearable pace, within bounds that
//! nobody stretches. What a request means is the business of `api/`.

pub mod body_budget;
pub mod client_address;
mod framing;
pub mod json_shape;
mod lingering;
pub mod open_files;
pub mod paced_body;
mod paced_write;
pub mod places;
pub mod server;
pub mod shares;
mod watched;
pub mod websocket_frames;
