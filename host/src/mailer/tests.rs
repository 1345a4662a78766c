//! Mail from the checks to an SMTP server of the test.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    identity::ROOT_ROLE,
    store::NewTenant,
    user::{Tenant, User},
};

fn mail() -> MailMessage {
    MailMessage {
        to: vec!["ann@example.com".into()],
        subject: "Hello".into(),
        text_body: "How are you?".into(),
        ..MailMessage::default()
    }
}

fn refusal(change: impl FnOnce(&mut MailMessage)) -> String {
    let mut message = mail();
    change(&mut message);
    check(&message).unwrap_err().to_string()
}

#[test]
fn a_plain_mail_is_accepted() {
    assert_eq!(check(&mail()).unwrap(), ["ann@example.com".parse().unwrap()]);
}

#[test]
fn what_is_missing_is_named() {
    assert!(refusal(|mail| mail.to.clear()).contains("`to`"));
    assert!(refusal(|mail| mail.subject = " ".into()).contains("`subject`"));
    assert!(refusal(|mail| mail.text_body.clear()).contains("`textBody`"));
}

#[test]
fn nothing_can_begin_another_header() {
    for evil in ["a\r\nBcc: eve@example.com", "a\nb", "a\rb", "a\0b", "a\u{85}b"] {
        assert!(refusal(|mail| mail.subject = evil.into()).contains("`subject` holds a line break"));
        assert!(refusal(|mail| mail.from_name = evil.into()).contains("`fromName`"));
        assert!(refusal(|mail| mail.to_name = evil.into()).contains("`toName`"));
        assert!(refusal(|mail| mail.to = vec![format!("ann@example.com{evil}")]).contains("`to` is not"));
        assert!(refusal(|mail| mail.from = format!("{evil}@example.com")).contains("`from` is not"));
        assert!(refusal(|mail| mail.reply_to = format!("x@{evil}")).contains("`replyTo` is not"));
    }
}

#[test]
fn addresses_must_be_addresses() {
    for bad in ["", "ann", "@", "ann@", "@example.com", "Ann <ann@example.com>", "a@b@c", "a b@example.com"] {
        assert!(refusal(|mail| mail.to = vec![bad.into()]).contains("`to`"), "{bad}");
    }
    assert!(refusal(|mail| mail.to = vec![format!("{}@example.com", "a".repeat(300))]).contains("`to`"));
    assert!(refusal(|mail| mail.to = vec!["a@example.com".into(); 51]).contains("at most 50 receivers"));
}

#[test]
fn a_large_mail_is_too_large() {
    let mut message = mail();
    message.text_body = "x".repeat(MAX_BODY + 1);

    assert!(matches!(check(&message), Err(MailError::TooLarge(_))));
}

#[test]
fn body_alone_is_html_and_text() {
    let mut message = mail();
    message.text_body.clear();
    message.body = "<p>Tom &amp; Ann</p>".into();

    assert_eq!(bodies(&message), ("<p>Tom &amp; Ann</p>".to_owned(), "Tom & Ann".to_owned()));
}

#[test]
fn pauses_double_and_end() {
    let now = Utc::now();
    let minutes = |attempts| next_attempt(attempts, now).map(|at| (at - now).num_minutes());

    assert_eq!([minutes(0), minutes(1), minutes(6), minutes(7)], [Some(1), Some(2), Some(64), None]);
}

/// What the server of the test says to a mail.
#[derive(Clone, Copy)]
enum Sink {
    Takes,
    RefusesForNow,
    RefusesForGood,
    RefusesThePassword,
}

/// A mailer with a store of its own that sends to `sink`; what arrives there comes out of the receiver.
async fn mailer(sink: Sink) -> (Mailer, tokio::sync::mpsc::UnboundedReceiver<String>, tempfile::TempDir) {
    let (arrived, arrives) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = if matches!(sink, Sink::RefusesThePassword) { "me:wrong@" } else { "" };
    let smtp = format!("smtp://{login}{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let arrived = arrived.clone();
            tokio::spawn(async move { converse(stream, sink, arrived).await });
        }
    });
    let config = MailConfig {
        smtp: Some(smtp),
        from: "thimble@example.org".into(),
        from_name: "Thimble".into(),
        hourly_per_address: 2,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let store = Arc::new(crate::store::sqlite::Sqlite::open(path.to_str().unwrap()).await.unwrap());
    for tenant in ["tenant", "other"] {
        store.add_tenant(new_tenant(tenant)).await.unwrap();
    }
    (Mailer::new(&config, false, store, Arc::new(Clock::default())).unwrap(), arrives, folder)
}

fn new_tenant(id: &str) -> NewTenant {
    let created = Utc::now();
    let email = "root@example.com".to_owned();
    NewTenant {
        tenant: Tenant {
            id: id.into(),
            email: email.clone(),
            session_key: Vec::new(),
            quota: Default::default(),
            created,
        },
        root: User {
            id: format!("root of {id}"),
            tenant: id.into(),
            account: "account".into(),
            email,
            password_hash: String::new(),
            session_epoch: String::new(),
            root_token_hash: None,
            role: ROOT_ROLE,
            created,
        },
    }
}

/// One SMTP conversation.
async fn converse(stream: TcpStream, sink: Sink, arrived: tokio::sync::mpsc::UnboundedSender<String>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 test\r\n").await.ok()?;
    loop {
        let line = lines.next_line().await.ok()??;
        let answer = match (line.split(' ').next()?, sink) {
            ("EHLO", Sink::RefusesThePassword) => "250-test\r\n250 AUTH PLAIN",
            ("EHLO", _) => "250 test",
            ("AUTH", _) => "535 wrong password",
            ("RCPT", Sink::RefusesForNow) => "451 later",
            ("RCPT", Sink::RefusesForGood) => "550 nobody here",
            ("DATA", _) => {
                write.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = String::new();
                loop {
                    let line = lines.next_line().await.ok()??;
                    if line == "." {
                        break;
                    }
                    mail.push_str(&line);
                    mail.push('\n');
                }
                arrived.send(mail).ok()?;
                "250 taken"
            }
            _ => "250 fine",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

impl Mailer {
    /// Tries what is due now; whether there was anything.
    async fn send_now(&self) -> bool {
        let Delivery::Smtp(smtp) = &self.0.delivery else { unreachable!("the tests set a server") };
        self.0.send_due(smtp, &CancellationToken::new()).await
    }

    async fn newest(&self) -> QueuedMail {
        self.0.store.mails("tenant", 1).await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn a_mail_arrives_once_as_it_was_meant() {
    let (mailer, mut arrives, _folder) = mailer(Sink::Takes).await;
    let mut message = mail();
    message.to_name = "Änn, \"the\" friend".into();
    message.reply_to = "office@example.com".into();
    message.html_body = "<b>How are you?</b>".into();

    mailer.queue("tenant", None, message).await.unwrap();
    assert!(mailer.send_now().await);

    let arrived = arrives.recv().await.unwrap();
    let sent = mailer.newest().await;
    assert!(arrived.contains(&format!("Message-ID: <{}@example.org>", sent.mail.id)), "{arrived}");
    assert!(arrived.contains("From: Thimble <thimble@example.org>"), "{arrived}");
    assert!(arrived.contains("Reply-To: office@example.com"), "{arrived}");
    assert!(arrived.contains("Subject: Hello"), "{arrived}");
    assert!(arrived.contains("multipart/alternative") && arrived.contains("<b>How are you?</b>"), "{arrived}");
    assert!(sent.sent.is_some());
    assert!(!mailer.send_now().await, "it was sent twice");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_now_is_tried_again_later() {
    for sink in [Sink::RefusesForNow, Sink::RefusesThePassword] {
        let (mailer, _arrives, _folder) = mailer(sink).await;
        mailer.queue("tenant", None, mail()).await.unwrap();

        mailer.send_now().await;

        let waiting = mailer.newest().await;
        assert_eq!((waiting.attempts, waiting.sent), (1, None));
        assert!(waiting.next_attempt.is_some(), "given up: {:?}", waiting.error);
        assert!(!mailer.send_now().await, "tried again at once");
        mailer.0.clock.advance(Duration::from_secs(61));
        assert!(mailer.send_now().await);
        assert_eq!(mailer.newest().await.attempts, 2);
    }
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_given_up() {
    let (mailer, _arrives, _folder) = mailer(Sink::RefusesForGood).await;
    mailer.queue("tenant", None, mail()).await.unwrap();

    mailer.send_now().await;

    let given_up = mailer.newest().await;
    assert_eq!((given_up.sent, given_up.next_attempt), (None, None));
    assert!(given_up.error.unwrap().contains("nobody here"));
}

#[tokio::test]
async fn an_address_gets_only_so_many_mails_an_hour() {
    let (mailer, _arrives, _folder) = mailer(Sink::Takes).await;
    let mut other = mail();
    other.to = vec!["bob@example.com".into(), "ANN@example.com".into()];

    mailer.queue("tenant", None, mail()).await.unwrap();
    mailer.queue("tenant", None, mail()).await.unwrap();

    assert!(matches!(mailer.queue("tenant", None, other.clone()).await, Err(MailError::TooMany(_))));
    // Bob has lost nothing by it, and another tenant has its own allowance.
    other.to.truncate(1);
    mailer.queue("tenant", None, other.clone()).await.unwrap();
    mailer.queue("tenant", None, other).await.unwrap();
    mailer.queue("other", None, mail()).await.unwrap();
    mailer.0.clock.advance(Duration::from_secs(3_601));
    mailer.queue("tenant", None, mail()).await.unwrap();
}
