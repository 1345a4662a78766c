//! The queue of mails.

use super::*;
use crate::mail::{Mail, MailMessage, QueuedMail};

fn mail(id: &str, tenant: &str, seconds: i64) -> Mail {
    let message = MailMessage {
        to: vec!["a@example.com".into(), "b@example.com".into()],
        subject: "Grüße".into(),
        text_body: "line\nline".into(),
        ..MailMessage::default()
    };
    Mail { id: id.into(), tenant: tenant.into(), run: Some("run".into()), message, created: at(seconds) }
}

fn ids(mails: &[QueuedMail]) -> Vec<&str> {
    mails.iter().map(|queued| queued.mail.id.as_str()).collect()
}

on_every_store! {
    async fn a_queued_mail_is_due_at_once_and_gone_when_sent(store) {
        root(&*store, "one").await;
        store.queue_mail(&mail("1", "one", 0)).await.unwrap();

        let due = store.due_mails(at(0), 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.mail.clone()).collect::<Vec<_>>(), [mail("1", "one", 0)]);
        assert_eq!((due[0].attempts, due[0].sent, due[0].next_attempt), (0, None, Some(at(0))));
        let kept = mail("1", "one", 0).message.without_content();
        store.mail_sent("1", at(5), &kept).await.unwrap();

        assert_eq!(store.due_mails(at(1_000), 10).await.unwrap(), []);
        let sent = store.mails("one", 10).await.unwrap();
        assert_eq!((sent[0].attempts, sent[0].sent, sent[0].next_attempt), (1, Some(at(5)), None));
        assert_eq!((sent[0].mail.message.subject.as_str(), sent[0].mail.message.text_body.as_str()), ("Grüße", ""));
    }

    async fn a_failed_mail_is_tried_again_until_it_is_given_up(store) {
        root(&*store, "one").await;
        store.queue_mail(&mail("1", "one", 0)).await.unwrap();

        store.mail_failed("1", "no route", at(60)).await.unwrap();
        assert_eq!(store.due_mails(at(59), 10).await.unwrap(), []);
        assert_eq!(ids(&store.due_mails(at(60), 10).await.unwrap()), ["1"]);
        let kept = mail("1", "one", 0).message.without_content();
        store.mail_given_up("1", "still none", &kept).await.unwrap();

        assert_eq!(store.due_mails(at(1_000), 10).await.unwrap(), []);
        let failed = store.mails("one", 10).await.unwrap();
        assert_eq!((failed[0].attempts, failed[0].error.as_deref()), (2, Some("still none")));
        assert_eq!((failed[0].sent, failed[0].next_attempt), (None, None));
        assert_eq!(failed[0].mail.message, kept);
    }

    async fn mails_that_are_done_are_forgotten_when_they_are_old(store) {
        root(&*store, "one").await;
        for (id, seconds) in [("sent", 0), ("given up", 0), ("waits", 0), ("young", 60)] {
            store.queue_mail(&mail(id, "one", seconds)).await.unwrap();
        }
        let kept = mail("", "one", 0).message.without_content();
        store.mail_sent("sent", at(5), &kept).await.unwrap();
        store.mail_given_up("given up", "no route", &kept).await.unwrap();
        store.mail_sent("young", at(65), &kept).await.unwrap();

        assert_eq!(store.prune_runs(at(30), 10).await.unwrap(), 2);

        assert_eq!(ids(&store.mails("one", 10).await.unwrap()), ["young", "waits"]);
    }

    async fn the_oldest_is_sent_first_and_the_newest_listed_first(store) {
        root(&*store, "one").await;
        root(&*store, "two").await;
        for (id, tenant, seconds) in [("b", "one", 1), ("a", "one", 0), ("c", "two", 2)] {
            store.queue_mail(&mail(id, tenant, seconds)).await.unwrap();
        }

        assert_eq!(ids(&store.due_mails(at(9), 10).await.unwrap()), ["a", "b", "c"]);
        assert_eq!(ids(&store.due_mails(at(9), 1).await.unwrap()), ["a"]);
        assert_eq!(ids(&store.mails("one", 10).await.unwrap()), ["b", "a"]);
        assert_eq!(ids(&store.mails("one", 1).await.unwrap()), ["b"]);
    }
}
