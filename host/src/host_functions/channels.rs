//! `channels`: messages from a run, as the identity it runs with.

use wasmtime::Result;

use super::{Invocation, world::thimble::functions::channels::Host, world::thimble::functions::types::Error};
use crate::message::Message;

impl Host for Invocation {
    async fn publish(&mut self, channel: String, kind: String, data: String) -> Result<std::result::Result<(), Error>> {
        self.count_message(channel.len() + kind.len() + data.len())?;
        let message = Message { sid: self.call.function.to_string(), kind, data, channel, token: String::new() };
        let (channels, who, cause) = (&self.services.channels, &self.call.identity, self.cause.clone());
        let sent = match &mut self.work {
            Some(work) => channels.checked(who, message, cause).map(|event| {
                let listeners = channels.listeners_of(&event);
                work.send(event, listeners);
            }),
            None => channels.publish(who, message, cause).await,
        };
        Ok(sent.map_err(Error::from))
    }

    async fn send(&mut self, channel: String, kind: String, data: String) -> Result<std::result::Result<(), Error>> {
        self.publish(channel, kind, data).await
    }
}
