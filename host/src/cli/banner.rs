//! What `thimble serve` prints when it is ready: where it is, and keys that are shown only once.

use std::{fmt::Write, net::SocketAddr};

use super::{example::Example, output};
use crate::{accounts::FirstKeys, app::App, config::Server};

/// Prints it on standard output. A server whose output nobody reads serves all the same.
pub fn show(app: &App, address: SocketAddr, first_keys: Option<&FirstKeys>, example: Option<Example>) {
    let _ = output::line(&text(app, address, first_keys, example));
}

fn text(app: &App, address: SocketAddr, first_keys: Option<&FirstKeys>, example: Option<Example>) -> String {
    let Server { url, dev, .. } = &app.config.server;
    let url = if url.is_empty() { format!("http://{address}") } else { url.clone() };
    let version = env!("CARGO_PKG_VERSION");
    let mode = if *dev { ", in development mode" } else { "" };
    let mut text = format!("Thimble {version} is ready at {url}{mode}\n");
    if let Some(FirstKeys { public_key, root_token, email, password, .. }) = first_keys {
        let _ = write!(
            text,
            "\n  Public key       {public_key}\n  Root token       {root_token}\n  \
             E-mail           {email}\n  Password         {password}\n"
        );
        if !dev {
            text.push_str(
                "\nThese keys of the first app are shown only now: keep them, for instance with `thimble login`.\n",
            );
        }
    }
    if let Some(token) = app.accounts.operator_token_if_new() {
        let _ = write!(
            text,
            "\n  Operator token   {token}\n\n\
             It creates further apps (`thimble account create`) and is shown only now: keep it.\n"
        );
    }
    if let Some(example) = example {
        let _ = write!(text, "\nOpen {url}{} in two windows.\n", example.path());
    }
    text
}
