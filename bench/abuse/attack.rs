//! Those who call hostile functions, by request and by message.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Arguments,
    server::{Server, Tenant},
};

/// Hostile functions, in place and ready to be called.
pub struct Attack {
    tenants: Vec<Tenant>,
    functions: Arc<Vec<String>>,
    callers: usize,
}

/// How the hostile calls were answered.
#[derive(Default)]
pub struct Sent(Mutex<BTreeMap<u16, usize>>);

/// One caller in so many sends messages instead of requests.
const MESSENGERS: usize = 8;

impl Attack {
    /// Uploads every function, once for requests and once for messages.
    pub async fn prepare(server: &Server, arguments: &Arguments) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/abuse/functions");
        let mut sources: Vec<(String, String)> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
            .filter(|(name, _)| name.contains(&arguments.only))
            .collect();
        sources.sort();
        let mut tenants = Vec::new();
        for n in 0..arguments.tenants {
            let tenant = server.tenant(&format!("hostile-{n}")).await;
            for (name, code) in &sources {
                tenant.add(name, "web", code).await;
                tenant.add(&format!("{name}-told"), &format!("tell-{name}"), code).await;
            }
            tenants.push(tenant);
        }
        let functions = Arc::new(sources.into_iter().map(|(name, _)| name).collect());
        Self { tenants, functions, callers: arguments.callers }
    }

    /// How many functions there are.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Calls until it is told to stop, and waits for the last answers.
    pub async fn go(&self, stop: CancellationToken) -> Arc<Sent> {
        let (sent, next, callers) = (Arc::new(Sent::default()), Arc::new(AtomicUsize::new(0)), TaskTracker::new());
        for caller in 0..self.callers {
            let (tenant, functions) = (self.tenants[caller % self.tenants.len()].clone(), self.functions.clone());
            let (sent, next, stop) = (sent.clone(), next.clone(), stop.clone());
            callers.spawn(async move {
                while !stop.is_cancelled() {
                    let name = &functions[next.fetch_add(1, Ordering::Relaxed) % functions.len()];
                    let status = match caller % MESSENGERS {
                        0 => tell(&tenant, name, &stop).await,
                        _ => call(&tenant, name).await,
                    };
                    sent.add(status);
                }
            });
        }
        callers.close();
        callers.wait().await;
        sent
    }
}

async fn call(tenant: &Tenant, name: &str) -> u16 {
    match tenant.post(&format!("/fn/sudoexec/{name}"), &json!({})).await {
        Ok((503 | 429, _)) => {
            // As a client that has read `Retry-After`, if an impatient one.
            tokio::time::sleep(Duration::from_millis(100)).await;
            503
        }
        Ok((status, _)) => status,
        Err(_) => 0,
    }
}

/// Sends a message and waits until the function has run: what waits afterwards should end with the attack.
async fn tell(tenant: &Tenant, name: &str, stop: &CancellationToken) -> u16 {
    let message = json!({ "channel": "attack", "type": format!("tell-{name}"), "data": "{}" });
    let Ok((status, _)) = tenant.post("/publish", &message).await else { return 0 };
    loop {
        let usage = tenant.info(&format!("{name}-told"), 1).await["usage"].clone();
        if (usage["running"] == 0 && usage["waiting"] == 0) || stop.is_cancelled() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Sent {
    fn add(&self, status: u16) {
        *self.0.lock().unwrap().entry(status).or_default() += 1;
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (status, count) in self.0.lock().unwrap().iter() {
            match status {
                0 => write!(f, "{count} without an answer  ")?,
                status => write!(f, "{count} with {status}  ")?,
            }
        }
        Ok(())
    }
}
