//! `mail`: mail from a run.

use wasmtime::Result;

use super::{Invocation, refuse, world::thimble::functions::mail::Host, world::thimble::functions::types::Error};
use crate::mail::MailMessage;

impl Host for Invocation {
    async fn email(&mut self, message: String) -> Result<std::result::Result<(), Error>> {
        self.count_mail(message.len())?;
        let message: MailMessage = match serde_json::from_str(&message) {
            Ok(message) => message,
            Err(error) => return Ok(Err(refuse("invalid", format!("the mail cannot be used: {error}")))),
        };
        let (mailer, tenant, run) = (&self.services.mailer, &self.call.identity.tenant, Some(self.call.run.as_str()));
        let queued = match &mut self.work {
            Some(work) => mailer.checked(tenant, run, message).map(|mail| work.mail(mail)),
            None => mailer.queue(tenant, run, message).await,
        };
        Ok(queued.map_err(Error::from))
    }
}
