//! A mail as functions and root ask for it and as it is queued.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One mail on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Unique id; also its Message-ID.
    pub id: String,
    /// Public key of the tenant that sends it.
    pub tenant: String,
    /// Run that asked for it, if a function did.
    pub run: Option<String>,
    /// Content.
    pub message: MailMessage,
    /// When it was queued.
    pub created: DateTime<Utc>,
}

/// Content of a mail (`staticbackend-api.md`, sections 2.6 and 4.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MailMessage {
    /// Sender's address; the configured one when empty.
    pub from: String,
    /// Sender's name.
    pub from_name: String,
    /// Receivers' addresses, one at least.
    #[serde(deserialize_with = "one_or_many")]
    pub to: Vec<String>,
    /// Receiver's name.
    pub to_name: String,
    /// Subject, one line.
    pub subject: String,
    /// Content as HTML.
    pub html_body: String,
    /// Content as text.
    pub text_body: String,
    /// Fills HTML and text when those are empty.
    pub body: String,
    /// Address for answers.
    pub reply_to: String,
}

impl MailMessage {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        [&self.subject, &self.html_body, &self.text_body, &self.body].map(String::len).iter().sum()
    }

    /// The same without its text and HTML: what is kept of a mail that will not be sent any more, because there may be passwords
    /// and tokens in it.
    pub fn without_content(&self) -> Self {
        let nothing = String::new;
        Self { html_body: nothing(), text_body: nothing(), body: nothing(), ..self.clone() }
    }
}

/// A mail with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMail {
    /// The mail.
    pub mail: Mail,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was handed over.
    pub sent: Option<DateTime<Utc>>,
    /// When it is tried next; `None` when it was sent or given up.
    pub next_attempt: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(address) if address.is_empty() => Vec::new(),
        OneOrMany::One(address) => vec![address],
        OneOrMany::Many(addresses) => addresses,
    })
}
