//! Whether all promises were kept. What waits is given time, since a server that is gone is believed to live for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    clients::{BATCH, order_text},
    ledger::Ledger,
    site::Site,
};
use crate::harness::{Tenant, text};

/// How long everything may take that waits: leases of nodes that are gone, pauses of jobs that were interrupted again and again.
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn all(site: &Site, ledger: &Ledger) {
    let tenant = site.tenant();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waiting(&tenant, ledger).await {
            Ok(()) => break,
            Err(what) => assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    assert_eq!(ledger.entries().surprises, Vec::<String>::new());
    batches(&tenant, ledger).await;
    counts(&tenant, ledger).await;
    for (collection, who, told) in told(ledger) {
        messages(&tenant, collection, who, &told).await;
    }
    ticks(&tenant).await;
    site.assert_well();
}

/// What each of them told, in its order.
type ByTeller = BTreeMap<u64, Vec<u64>>;

/// What was told and said: the collection of those who heard it, who told it, and what.
fn told(ledger: &Ledger) -> [(&'static str, &'static str, ByTeller); 2] {
    let entries = ledger.entries();
    [("heard", "writer", entries.news.clone()), ("said", "member", entries.said.clone())]
}

/// All documents of a collection, the oldest first.
async fn documents(tenant: &Tenant, collection: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for page in 1.. {
        let listed = tenant.root.get(&format!("/db/{collection}?page={page}&size=1000")).await.ok();
        let Some(found) = listed["results"].as_array() else { break };
        all.extend(found.iter().cloned());
    }
    all
}

/// Says what has not run yet. Nothing may run more often than once, or run that failed.
async fn waiting(tenant: &Tenant, ledger: &Ledger) -> Result<(), String> {
    let orders = documents(tenant, "orders").await;
    let mut marked = BTreeSet::new();
    let mut unmarked = BTreeSet::new();
    for order in &orders {
        let (writer, n) = (order["writer"].as_u64().unwrap(), order["n"].as_u64().unwrap());
        assert_eq!(order["text"], order_text(writer, n).as_str(), "an order is not whole");
        if order["fails"] == true { &mut marked } else { &mut unmarked }.insert(text(&order["id"]));
    }
    for id in &ledger.entries().orders {
        assert!(marked.contains(id) || unmarked.contains(id), "the order {id} was acknowledged, and is lost");
    }

    for collection in ["seen", "seen_too"] {
        let seen: Vec<String> = documents(tenant, collection).await.iter().map(|seen| text(&seen["of"])).collect();
        let once: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(seen.len(), once.len(), "the function ran to its end twice for an order ({collection})");
        let not_there: Vec<_> = once.difference(&unmarked).collect();
        assert!(not_there.is_empty(), "{collection} for orders that are marked or not there: {not_there:?}");
        let missing: Vec<_> = unmarked.difference(&once).collect();
        if !missing.is_empty() {
            return Err(format!("{} orders are not in {collection}, such as {}", missing.len(), missing[0]));
        }
    }
    let letters = tenant.root.get("/fn/dead/orders").await.ok();
    let dead: BTreeSet<String> = letters
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| text(&serde_json::from_str::<Value>(letter["data"].as_str().unwrap()).unwrap()["id"]))
        .collect();
    let innocent: Vec<_> = dead.difference(&marked).collect();
    assert!(innocent.is_empty(), "dead letters of orders that do not fail: {innocent:?} in {letters}");
    for other in ["counters", "news", "lobby"] {
        let letters = tenant.root.get(&format!("/fn/dead/{other}")).await.ok();
        assert_eq!(letters, serde_json::json!([]), "dead letters of {other}, which does not fail");
    }
    if dead.len() < marked.len() {
        return Err(format!("of {} marked orders {} are dead letters", marked.len(), dead.len()));
    }

    let count = count(tenant).await;
    let counted = documents(tenant, "counted").await.len() as u64;
    if counted < count {
        return Err(format!("of {count} counts {counted} have run"));
    }
    for (collection, who, told) in told(ledger) {
        let heard = heard(tenant, collection, who).await;
        for (number, told) in &told {
            let heard: BTreeSet<u64> = heard.get(number).into_iter().flatten().copied().collect();
            if let Some(missing) = told.iter().find(|n| !heard.contains(n)) {
                return Err(format!("{who} {number} has told {missing}, which is not in {collection}"));
            }
        }
    }
    jobs(tenant, ledger).await
}

async fn jobs(tenant: &Tenant, ledger: &Ledger) -> Result<(), String> {
    let done: BTreeSet<String> = documents(tenant, "done").await.iter().map(|done| text(&done["job"])).collect();
    let jobs = ledger.entries().jobs.clone();
    if let Some((id, number)) = jobs.iter().find(|(_, number)| !done.contains(*number)) {
        let job = tenant.root.get(&format!("/schedule/{id}")).await.text();
        return Err(format!("the job {number} has not run: {job}"));
    }
    Ok(())
}

/// All of a batch, or nothing of it.
async fn batches(tenant: &Tenant, ledger: &Ledger) {
    let mut parts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for document in documents(tenant, "batches").await {
        parts.entry(text(&document["batch"])).or_default().push(document["part"].as_u64().unwrap());
    }
    for (batch, parts) in &parts {
        assert_eq!(parts, &(0..BATCH).collect::<Vec<_>>(), "the batch {batch} is not whole");
    }
    for batch in &ledger.entries().batches {
        assert!(parts.contains_key(batch), "the batch {batch} was acknowledged, and is lost");
    }
}

async fn count(tenant: &Tenant) -> u64 {
    documents(tenant, "counters").await[0]["n"].as_u64().unwrap()
}

/// Each count happened once, and its function saw them in their order.
async fn counts(tenant: &Tenant, ledger: &Ledger) {
    let (asked, acknowledged) = ledger.entries().counts;
    let count = count(tenant).await;
    assert!((acknowledged..=asked).contains(&count), "{count} of {acknowledged} to {asked}");
    let counted: Vec<u64> =
        documents(tenant, "counted").await.iter().map(|counted| counted["n"].as_u64().unwrap()).collect();
    assert_eq!(counted, (1..=count).collect::<Vec<_>>(), "in the order of the document's changes, each once");
}

/// What a function has kept of what each has told.
async fn heard(tenant: &Tenant, collection: &str, who: &str) -> BTreeMap<u64, Vec<u64>> {
    let mut heard: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for document in documents(tenant, collection).await {
        heard.entry(document[who].as_u64().unwrap()).or_default().push(document["n"].as_u64().unwrap());
    }
    heard
}

/// Each message ran once, and those that were acknowledged in their order.
async fn messages(tenant: &Tenant, collection: &str, who: &str, told: &BTreeMap<u64, Vec<u64>>) {
    for (number, heard) in heard(tenant, collection, who).await {
        let once: BTreeSet<u64> = heard.iter().copied().collect();
        assert_eq!(once.len(), heard.len(), "{who} {number} was heard twice in {collection}: {heard:?}");
        let told: BTreeSet<u64> = told.get(&number).into_iter().flatten().copied().collect();
        let acknowledged: Vec<u64> = heard.into_iter().filter(|n| told.contains(n)).collect();
        assert!(acknowledged.is_sorted(), "{who} {number} was heard out of order in {collection}: {acknowledged:?}");
    }
}

/// Each tick happened at most once, and none runs for ever.
async fn ticks(tenant: &Tenant) {
    let history = tenant.root.get("/task/tick/history?limit=1000").await.ok();
    let history = history.as_array().unwrap();
    let due: BTreeSet<String> = history.iter().map(|entry| text(&entry["due"])).collect();
    assert_eq!(due.len(), history.len(), "a tick happened twice: {history:?}");
    assert!(history.iter().any(|entry| entry["outcome"] == "ok"), "{history:?}");
    let running = history.iter().filter(|entry| entry["outcome"] == "running").count();
    assert!(running <= 1, "{running} ticks are running at once: {history:?}");
}
