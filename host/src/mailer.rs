//! Outgoing mail: checked, queued in the store, and handed to the operator's SMTP server by a worker.
//!
//! Whoever asks for a mail waits only until it is queued. The worker retries with growing pauses; a mail keeps its Message-ID
//! through all attempts, so that a receiver can tell a repetition. Without an SMTP server, development mode shows mail in the
//! log, and otherwise it stays queued until a server is set.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MultiPart, SinglePart},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::MailConfig,
    mail::{Mail, MailMessage, QueuedMail},
    store::{Store, StoreError},
};

mod text;

/// A mail has at most this many receivers.
const MAX_RECEIVERS: usize = 50;

/// Bytes of a mail's subject, and of each name in it.
const MAX_LINE: usize = 900;

/// Bytes of a mail's text and HTML together.
const MAX_BODY: usize = 1 << 20;

/// A mail is tried this often: over a little more than two hours, with the pauses between.
const ATTEMPTS: u32 = 8;

/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: TimeDelta = TimeDelta::minutes(1);

/// The worker looks for due mail at least this often.
const POLL: Duration = Duration::from_secs(15);

/// Mails that are taken from the queue at once.
const BATCH: u32 = 100;

/// Mails that are under way to the SMTP server at once: a slow one does not hold up the rest.
const AT_ONCE: usize = 4;

/// Time for one command of an SMTP conversation, and for the whole of it.
const SMTP_COMMAND: Duration = Duration::from_secs(15);
const SMTP_CONVERSATION: Duration = Duration::from_secs(60);

/// All apps together may send an address as many mails as so many of them.
const APPS: usize = 5;

/// Stands for all apps where mails are counted; no app has this key.
const EVERYBODY: &str = "";

/// Addresses whose recent mails are remembered.
const REMEMBERED: u64 = 100_000;

/// Characters of a mail's text that development mode shows.
const SHOWN: usize = 2_000;

/// Why a mail was not queued.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// It cannot be sent as it is, and why.
    #[error("{0}")]
    Invalid(String),
    /// It is larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// An address got as many as it may, and when there can be more.
    #[error("{0}")]
    TooMany(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Queues mail and sends it. Cheap to clone.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<Clock>,
    from: Address,
    from_name: String,
    delivery: Delivery,
    hourly_per_address: usize,
    /// When an address of a tenant got its mails of the last hour.
    recent: moka::sync::Cache<(String, String), Vec<DateTime<Utc>>>,
    /// Held while mails are counted, so that two at once cannot both take the last place.
    counting: Mutex<()>,
    queued: Notify,
}

/// What becomes of queued mail.
enum Delivery {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    /// Development mode: one line in the log.
    Shown,
    /// It waits for the operator to name a server.
    Kept,
}

impl Mailer {
    /// A mailer that sends as `config` says.
    pub fn new(config: &MailConfig, dev: bool, store: Arc<dyn Store>, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let from = config.from.parse().map_err(|_| anyhow!("`mail.from` is not an e-mail address: {}", config.from))?;
        let delivery = match &config.smtp {
            Some(url) => Delivery::Smtp(transport(url)?),
            None if dev => Delivery::Shown,
            None => Delivery::Kept,
        };
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            from,
            from_name: config.from_name.clone(),
            delivery,
            hourly_per_address: config.hourly_per_address,
            recent: moka::sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(Duration::from_secs(3_600))
                .build(),
            counting: Mutex::new(()),
            queued: Notify::new(),
        })))
    }

    /// Checks a mail and queues it: when this returns, it is stored.
    pub async fn queue(&self, tenant: &str, run: Option<&str>, message: MailMessage) -> Result<(), MailError> {
        let mail = self.checked(tenant, run, message)?;
        self.0.store.queue_mail(&mail).await?;
        self.queued(&mail).await
    }

    /// A mail that may be sent, for [`Self::queued`] once it is stored.
    pub fn checked(&self, tenant: &str, run: Option<&str>, message: MailMessage) -> Result<Mail, MailError> {
        let mailer = &self.0;
        let receivers = check(&message)?;
        let now = mailer.clock.now();
        mailer.count(tenant, &receivers, now)?;
        Ok(Mail {
            id: uuid::Uuid::new_v4().to_string(),
            tenant: tenant.to_owned(),
            run: run.map(str::to_owned),
            message,
            created: now,
        })
    }

    /// Sends a mail that was stored.
    pub async fn queued(&self, mail: &Mail) -> Result<(), MailError> {
        let mailer = &self.0;
        match mailer.delivery {
            Delivery::Shown => {
                show(mail);
                mailer.store.mail_sent(&mail.id, mailer.clock.now(), &mail.message).await?;
            }
            Delivery::Smtp(_) => mailer.queued.notify_one(),
            Delivery::Kept => {}
        }
        Ok(())
    }

    /// Sends due mail until `shutdown`. The returned task ends when the mails under way then have ended.
    pub fn start(&self, shutdown: CancellationToken) -> tokio::task::JoinHandle<()> {
        let mailer = self.0.clone();
        tokio::spawn(async move {
            match &mailer.delivery {
                Delivery::Smtp(smtp) => mailer.work(smtp, shutdown).await,
                Delivery::Shown => {}
                Delivery::Kept => tracing::warn!(
                    "no SMTP server is set: mail stays queued until `mail.smtp` in thimble.toml or THIMBLE_SMTP names one"
                ),
            }
        })
    }
}

impl Inner {
    /// Takes one mail from the allowance of each receiver, or from none.
    fn count(&self, tenant: &str, receivers: &[Address], now: DateTime<Utc>) -> Result<(), MailError> {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let hour_ago = now - TimeDelta::hours(1);
        let mut counted: HashMap<(&str, String), Vec<DateTime<Utc>>> = HashMap::new();
        for receiver in receivers {
            let address = receiver.to_string().to_lowercase();
            let of_all = self.hourly_per_address.saturating_mul(APPS);
            for (sender, limit) in [(tenant, self.hourly_per_address), (EVERYBODY, of_all)] {
                let known = || self.recent.get(&(sender.to_owned(), address.clone())).unwrap_or_default();
                // Counted here as well: an address may be there twice.
                let times = counted.entry((sender, address.clone())).or_insert_with(known);
                times.retain(|time| *time > hour_ago);
                if times.len() >= limit {
                    return Err(MailError::TooMany(format!(
                        "{receiver} got {limit} mails within the last hour, which is as many as one address may get: \
                         try again later. The operator raises the limit with `mail.hourly_per_address`"
                    )));
                }
                times.push(now);
            }
        }
        for ((sender, address), times) in counted {
            self.recent.insert((sender.to_owned(), address), times);
        }
        Ok(())
    }

    async fn work(&self, smtp: &AsyncSmtpTransport<Tokio1Executor>, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if !self.send_due(smtp, &shutdown).await {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = self.queued.notified() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        }
    }

    /// Tries every mail that is due; whether there was one.
    async fn send_due(&self, smtp: &AsyncSmtpTransport<Tokio1Executor>, shutdown: &CancellationToken) -> bool {
        let due = self.store.due_mails(self.clock.now(), BATCH).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the queue of mails cannot be read");
            Vec::new()
        });
        let some = !due.is_empty();
        // Those that have not begun when the server shuts down stay queued.
        futures_util::stream::iter(due)
            .take_while(|_| std::future::ready(!shutdown.is_cancelled()))
            .for_each_concurrent(AT_ONCE, |mail| self.attempt(smtp, mail))
            .await;
        some
    }

    async fn attempt(&self, smtp: &AsyncSmtpTransport<Tokio1Executor>, queued: QueuedMail) {
        let mail = &queued.mail;
        let failure = match self.compose(mail) {
            Ok(message) => match tokio::time::timeout(SMTP_CONVERSATION, smtp.send(message)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some((causes(&error), !is_final(&error))),
                Err(_) => Some((format!("the SMTP server took longer than {SMTP_CONVERSATION:?}"), true)),
            },
            Err(error) => Some((error.to_string(), false)),
        };
        let now = self.clock.now();
        let noted = match failure {
            None => self.store.mail_sent(&mail.id, now, &mail.message.without_content()).await,
            Some((error, worth_retrying)) => {
                let retry_at = next_attempt(queued.attempts, now).filter(|_| worth_retrying);
                let next = retry_at
                    .map_or_else(|| "given up".to_owned(), |at| at.format("tried again at %H:%M:%S").to_string());
                tracing::warn!(mail = %mail.id, tenant = %mail.tenant, %error, %next, "a mail could not be sent");
                match retry_at {
                    Some(retry_at) => self.store.mail_failed(&mail.id, &error, retry_at).await,
                    None => self.store.mail_given_up(&mail.id, &error, &mail.message.without_content()).await,
                }
            }
        };
        if let Err(error) = noted {
            tracing::error!(mail = %mail.id, error = &error as &dyn std::error::Error, "the outcome of a mail is not stored");
            // It is due still: without a pause it would be sent again at once.
            tokio::time::sleep(POLL).await;
        }
    }

    /// The mail as it goes over the wire.
    fn compose(&self, mail: &Mail) -> anyhow::Result<Message> {
        let message = &mail.message;
        let (from, from_name) = match message.from.as_str() {
            "" => (self.from.clone(), or_else(&message.from_name, &self.from_name)),
            address => (address.parse()?, message.from_name.as_str()),
        };
        let mut builder = Message::builder()
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.domain())))
            .date(mail.created.into())
            .from(mailbox(from_name, from))
            .subject(message.subject.as_str());
        for (number, address) in message.to.iter().enumerate() {
            // One name cannot be the name of several receivers.
            let name = if number == 0 { message.to_name.as_str() } else { "" };
            builder = builder.to(mailbox(name, address.parse()?));
        }
        if !message.reply_to.is_empty() {
            builder = builder.reply_to(Mailbox::new(None, message.reply_to.parse()?));
        }
        let (html, plain) = bodies(message);
        Ok(match (html.is_empty(), plain.is_empty()) {
            (true, _) => builder.singlepart(SinglePart::plain(plain))?,
            (false, true) => builder.singlepart(SinglePart::html(html))?,
            (false, false) => builder.multipart(MultiPart::alternative_plain_html(plain, html))?,
        })
    }
}

/// The receivers, when the mail can be sent.
fn check(message: &MailMessage) -> Result<Vec<Address>, MailError> {
    let invalid = |text: String| Err(MailError::Invalid(text));
    if message.to.is_empty() {
        return invalid("the mail has no receiver: give an address in `to`".into());
    }
    if message.to.len() > MAX_RECEIVERS {
        return invalid(format!("a mail has at most {MAX_RECEIVERS} receivers; this one has {}", message.to.len()));
    }
    for (field, text) in [("subject", &message.subject), ("fromName", &message.from_name), ("toName", &message.to_name)]
    {
        // A line break here would begin another header.
        if text.chars().any(char::is_control) {
            return invalid(format!(
                "`{field}` holds a line break or another control character: give one line of text"
            ));
        }
        if text.len() > MAX_LINE {
            return invalid(format!("`{field}` has at most {MAX_LINE} bytes; this one has {}", text.len()));
        }
    }
    if message.subject.trim().is_empty() {
        return invalid("the mail has no `subject`".into());
    }
    for (field, text) in [("from", &message.from), ("replyTo", &message.reply_to)] {
        if !text.is_empty() {
            address(field, text)?;
        }
    }
    let receivers: Vec<Address> = message.to.iter().map(|text| address("to", text)).collect::<Result<_, _>>()?;
    let size = message.html_body.len() + message.text_body.len() + message.body.len();
    if size == 0 {
        return invalid("the mail is empty: give `textBody`, `htmlBody` or `body`".into());
    }
    if size > MAX_BODY {
        return Err(MailError::TooLarge(format!(
            "a mail's text and HTML have at most {MAX_BODY} bytes; these have {size}"
        )));
    }
    Ok(receivers)
}

fn address(field: &str, text: &str) -> Result<Address, MailError> {
    let whole = text.len() <= 254 && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    text.parse().ok().filter(|_| whole).ok_or_else(|| {
        let shown: String = text.chars().take(100).collect();
        MailError::Invalid(format!(
            "`{field}` is not an e-mail address: {shown:?}; give one such as \"ann@example.com\""
        ))
    })
}

/// HTML and text; `body` stands in for those that are empty.
fn bodies(message: &MailMessage) -> (String, String) {
    let MailMessage { html_body, text_body, body, .. } = message;
    if !html_body.is_empty() || !text_body.is_empty() {
        return (html_body.clone(), text_body.clone());
    }
    let plain = if body.contains('<') { text::of_html(body) } else { body.clone() };
    (body.clone(), plain)
}

fn mailbox(name: &str, address: Address) -> Mailbox {
    Mailbox::new(Some(name).filter(|name| !name.is_empty()).map(str::to_owned), address)
}

fn or_else<'a>(text: &'a str, fallback: &'a str) -> &'a str {
    if text.is_empty() { fallback } else { text }
}

/// One line for the developer. The debug form keeps line breaks and escape characters of a mail out of the terminal.
fn show(mail: &Mail) {
    let (html, plain) = bodies(&mail.message);
    let whole = if plain.is_empty() { text::of_html(&html) } else { plain };
    let mut text: String = whole.chars().take(SHOWN).collect();
    if text.len() < whole.len() {
        text.push_str(" …");
    }
    let to = mail.message.to.join(", ");
    tracing::info!(?to, subject = ?mail.message.subject, ?text, "mail (shown here, not sent, in development mode)");
}

/// When a mail that failed `attempts` times before is tried again; `None` when it was the last time.
fn next_attempt(attempts: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (attempts + 1 < ATTEMPTS).then(|| now + FIRST_PAUSE * 2_i32.pow(attempts.min(ATTEMPTS)))
}

fn transport(url: &str) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    // The text of the error is left out: it may repeat the URL, with the password in it.
    let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
        .ok()
        .context("`mail.smtp` cannot be used: give smtps://user:password@host, or smtp://user:password@host:port")?;
    if url.starts_with("smtp://") && !url.contains("tls=") && url.contains('@') {
        tracing::warn!(
            "mail is sent without TLS, and so is its password: use smtps:// or add `?tls=required` to `mail.smtp`"
        );
    }
    Ok(builder.timeout(Some(SMTP_COMMAND)).build())
}

/// Whether the server will never take this mail. It may still take it when it only refuses our own credentials (RFC 4954).
fn is_final(error: &lettre::transport::smtp::Error) -> bool {
    let ours = |code| matches!(u16::from(code), 530 | 534 | 535 | 538);
    error.is_permanent() && !error.status().is_some_and(ours)
}

/// An error with its causes in one line; those of SMTP name no secret.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
