//! How often somebody may be wrong before they have to wait: guessing passwords must not pay.
//!
//! Counted in memory, for five minutes from the first attempt, by what is guessed and by who guesses. An attempt counts from
//! its start, so that a thousand at once are no way around it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{clock::Clock, edge::client_address::neighbourhood};

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// How long an attempt waits for those that are under way.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);

/// At most so many subjects are remembered, those that are asked for most.
const SUBJECTS: u64 = 100_000;

/// Counts the attempts of all callers.
pub struct Attempts {
    clock: Arc<Clock>,
    gates: Cache<String, Arc<Gate>>,
}

/// What attempts are counted by.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Passwords of one user, who may not exist.
    Password {
        /// Public key of the tenant.
        tenant: &'a str,
        /// Address of the user.
        email: &'a str,
    },
    /// Registrations with one address.
    Registration {
        /// Public key of the tenant.
        tenant: &'a str,
        /// Address of the user.
        email: &'a str,
    },
    /// Both, by one caller.
    Caller(IpAddr),
    /// Apps that one caller creates where everybody may.
    SignUp(IpAddr),
}

/// One attempt that is under way. It counts as wrong unless [`end`](Self::end) says otherwise: a caller who goes away before
/// the answer has still tried.
#[must_use]
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    passed: Vec<(String, Arc<Gate>, OwnedSemaphorePermit)>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was right: what is guessed starts anew.
    Right,
    /// It counts.
    Wrong,
    /// It failed for a reason that says nothing about the guess.
    Undecided,
}

/// Why an attempt may not be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many were wrong; after this time they are forgotten.
    TooMany(Duration),
    /// Too many are under way.
    Busy,
}

/// One permit for each attempt that may still be wrong; closed when there are none.
struct Gate {
    opened: DateTime<Utc>,
    limit: usize,
    /// Whether one right attempt makes up for the wrong ones.
    forgives: bool,
    failures: AtomicUsize,
    permits: Arc<Semaphore>,
}

impl Attempts {
    /// Nothing is counted yet.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, gates: Cache::builder().max_capacity(SUBJECTS).time_to_live(WINDOW).build() }
    }

    /// Begins an attempt. When the outcome of others decides whether it may be made, it waits for them.
    pub async fn begin(&self, subjects: &[Subject<'_>]) -> Result<Attempt<'_>, Refused> {
        let mut attempt = Attempt { attempts: self, passed: Vec::new() };
        for &subject in subjects {
            let key = subject.key();
            let gate = self.gate(&key, subject);
            match timeout(WAIT_FOR_OTHERS, gate.permits.clone().acquire_owned()).await {
                Ok(Ok(permit)) => attempt.passed.push((key, gate, permit)),
                refused => {
                    attempt.end(Verdict::Undecided);
                    return Err(match refused {
                        Err(_) => Refused::Busy,
                        Ok(_) => Refused::TooMany(gate.remaining(self.clock.now())),
                    });
                }
            }
        }
        Ok(attempt)
    }

    fn gate(&self, key: &str, subject: Subject<'_>) -> Arc<Gate> {
        let now = self.clock.now();
        let new = || Arc::new(Gate::new(subject, now));
        let is_over = |gate: &Arc<Gate>| gate.remaining(now).is_zero();
        self.gates.entry_by_ref(key).or_insert_with_if(new, is_over).into_value()
    }
}

impl Subject<'_> {
    /// E-mail addresses have no line breaks, so that no two subjects share a key.
    fn key(self) -> String {
        match self {
            Self::Password { tenant, email } => format!("password\n{tenant}\n{email}"),
            Self::Registration { tenant, email } => format!("registration\n{tenant}\n{email}"),
            Self::Caller(address) => format!("caller\n{}", neighbourhood(address)),
            Self::SignUp(address) => format!("sign-up\n{}", neighbourhood(address)),
        }
    }
}

impl Attempt<'_> {
    /// Notes what came of it.
    pub fn end(mut self, verdict: Verdict) {
        self.note(verdict);
    }

    fn note(&mut self, verdict: Verdict) {
        for (key, gate, permit) in self.passed.drain(..) {
            match verdict {
                Verdict::Wrong => gate.fail(permit),
                Verdict::Right if gate.forgives => self.attempts.gates.invalidate(&key),
                Verdict::Right | Verdict::Undecided => drop(permit),
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.note(Verdict::Wrong);
    }
}

impl Gate {
    fn new(subject: Subject<'_>, now: DateTime<Utc>) -> Self {
        let limit = match subject {
            Subject::Password { .. } | Subject::Registration { .. } | Subject::SignUp(_) => 10,
            Subject::Caller(_) => 30,
        };
        // That a caller was right about one user says nothing about the guesses at others.
        let forgives = matches!(subject, Subject::Password { .. } | Subject::Registration { .. });
        let permits = Arc::new(Semaphore::new(limit));
        Self { opened: now, limit, forgives, failures: AtomicUsize::new(0), permits }
    }

    fn fail(&self, permit: OwnedSemaphorePermit) {
        permit.forget();
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.limit {
            self.permits.close();
        }
    }

    fn remaining(&self, now: DateTime<Utc>) -> Duration {
        // Negative when the clock was set back.
        let age = (now - self.opened).to_std().unwrap_or_default();
        WINDOW.saturating_sub(age)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    const ANNA: Subject<'_> = Subject::Password { tenant: "a", email: "anna@example.com" };

    fn caller(address: &str) -> Subject<'static> {
        Subject::Caller(address.parse().unwrap())
    }

    async fn fail(attempts: &Attempts, subjects: &[Subject<'_>], times: usize) {
        for _ in 0..times {
            attempts.begin(subjects).await.unwrap().end(Verdict::Wrong);
        }
    }

    #[tokio::test]
    async fn after_ten_failures_an_account_waits_five_minutes() {
        let clock = Arc::new(Clock::default());
        let attempts = Attempts::new(clock.clone());
        fail(&attempts, &[ANNA], 10).await;

        let refused = attempts.begin(&[ANNA]).await.err().unwrap();
        assert!(matches!(refused, Refused::TooMany(time) if time > Duration::from_secs(295) && time <= WINDOW));
        let other_tenant = Subject::Password { tenant: "b", email: "anna@example.com" };
        assert!(attempts.begin(&[other_tenant]).await.is_ok());

        clock.advance(WINDOW);
        fail(&attempts, &[ANNA], 10).await;
        assert!(attempts.begin(&[ANNA]).await.is_err());
    }

    #[tokio::test]
    async fn being_right_forgets_the_failures_of_the_account_but_not_of_the_caller() {
        let attempts = Attempts::new(Arc::default());
        let subjects = [caller("192.0.2.1"), ANNA];

        for _ in 0..3 {
            fail(&attempts, &subjects, 9).await;
            attempts.begin(&subjects).await.unwrap().end(Verdict::Right);
        }

        fail(&attempts, &subjects, 3).await;
        assert!(attempts.begin(&[ANNA]).await.is_ok());
        assert!(attempts.begin(&subjects).await.is_err());
    }

    #[tokio::test]
    async fn many_right_attempts_at_once_are_all_let_through() {
        let attempts = Arc::new(Attempts::new(Arc::default()));

        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let attempts = attempts.clone();
                tokio::spawn(async move {
                    let attempt = attempts.begin(&[ANNA]).await.unwrap();
                    tokio::task::yield_now().await;
                    attempt.end(Verdict::Undecided);
                })
            })
            .collect();

        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_many_wrong_attempts_at_once_only_ten_are_made() {
        let attempts = Arc::new(Attempts::new(Arc::default()));

        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let attempts = attempts.clone();
                tokio::spawn(async move {
                    let Ok(attempt) = attempts.begin(&[ANNA]).await else { return 0 };
                    tokio::task::yield_now().await;
                    attempt.end(Verdict::Wrong);
                    1
                })
            })
            .collect();

        let mut made = 0;
        for task in tasks {
            made += task.await.unwrap();
        }
        assert_eq!(made, 10);
    }

    #[tokio::test]
    async fn an_attempt_whose_caller_goes_away_counts() {
        let attempts = Attempts::new(Arc::default());

        for _ in 0..10 {
            drop(attempts.begin(&[ANNA]).await.unwrap());
        }

        assert!(attempts.begin(&[ANNA]).await.is_err());
    }

    #[tokio::test]
    async fn an_attempt_that_one_subject_refuses_does_not_count_for_the_other() {
        let attempts = Attempts::new(Arc::default());
        fail(&attempts, &[ANNA], 10).await;

        for _ in 0..50 {
            assert!(attempts.begin(&[caller("192.0.2.1"), ANNA]).await.is_err());
        }

        assert!(attempts.begin(&[caller("192.0.2.1")]).await.is_ok());
    }

    #[tokio::test]
    async fn neighbours_in_an_ipv6_network_are_one_caller() {
        let attempts = Attempts::new(Arc::default());
        fail(&attempts, &[caller("2001:db8::1")], 30).await;

        assert!(attempts.begin(&[caller("2001:db8::ffff:1")]).await.is_err());
        assert!(attempts.begin(&[caller("2001:db8:0:1::1")]).await.is_ok());
        assert!(attempts.begin(&[caller("::ffff:192.0.2.1")]).await.is_ok());
    }
}
