//! Somebody whose function is called at a steady rate, and how long it takes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::server::{Server, Tenant};

/// A tenant with a good function.
pub struct Victim {
    tenant: Tenant,
    pace: Duration,
}

/// What came of its calls.
pub struct Seen {
    /// From the moment at which the call was due to its answer.
    pub calls: Latencies,
    /// What the latest thousand runs waited for a slot, as the server says …
    pub queued: Latencies,
    /// … and took.
    pub run: Latencies,
    /// Calls that were not answered right.
    pub failed: usize,
    /// The first of them.
    pub failure: String,
}

/// Times in ascending order.
pub struct Latencies(Vec<Duration>);

const NAME: &str = "victim";

/// A little of everything: it computes, logs, and reads a document.
const CODE: &str = r#"function handle(body) {
    let sum = 0;
    for (let i = 0; i < 1000; i++) sum += i;
    log("called " + body.n);
    list("things", { size: 1 });
    return sum;
}"#;

impl Victim {
    /// With a function, to be called so many times in a second.
    pub async fn new(server: &Server, rate: u32) -> Self {
        let tenant = server.tenant(NAME).await;
        tenant.add(NAME, "web", CODE).await;
        Self { tenant, pace: Duration::from_secs(1) / rate }
    }

    /// Calls at a steady rate, whether or not earlier calls are answered.
    pub async fn called_for(&self, time: Duration) -> Seen {
        let (times, failures) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let calls = TaskTracker::new();
        let end = Instant::now() + time;
        let mut due = Instant::now();
        for n in 0.. {
            tokio::time::sleep_until(due.into()).await;
            if due >= end {
                break;
            }
            let (tenant, times, failures) = (self.tenant.clone(), times.clone(), failures.clone());
            calls.spawn(async move {
                let answer = tenant.post("/fn/sudoexec/victim", &json!({ "n": n })).await;
                let took = due.elapsed();
                match answer {
                    Ok((200, body)) if body == b"499500" => times.lock().unwrap().push(took),
                    other => failures.lock().unwrap().push(format!("{other:?}")),
                }
            });
            due += self.pace;
        }
        calls.close();
        calls.wait().await;

        let info = self.tenant.info(NAME, 1_000).await;
        let of_runs = |name: &str| {
            let runs = info["history"].as_array().unwrap().iter();
            Latencies::of(
                runs.map(|run: &Value| Duration::from_secs_f64(run[name].as_f64().unwrap() / 1_000.0)).collect(),
            )
        };
        let failures = std::mem::take(&mut *failures.lock().unwrap());
        Seen {
            calls: Latencies::of(std::mem::take(&mut *times.lock().unwrap())),
            queued: of_runs("queuedMs"),
            run: of_runs("durationMs"),
            failed: failures.len(),
            failure: failures.first().cloned().unwrap_or_default(),
        }
    }
}

impl Latencies {
    /// In any order.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What half of them were not above.
    pub fn p50(&self) -> Duration {
        self.part(50)
    }

    /// What 99 of a hundred were not above.
    pub fn p99(&self) -> Duration {
        self.part(99)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    fn part(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}
