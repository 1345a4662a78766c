//! What nodes tell each other: notices by `NOTIFY`, with tables for what is too large for one or was missed.
//!
//! Transactions that notify take a lock of the whole database while they commit. So changes of documents do not: what is
//! relayed has transactions of its own, one at a time for each node, with everything in it that has come together meanwhile.
//! They write to tables without a log, and so do not wait for the disk.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time;

use super::{Result, outbox};
use crate::store::{
    StoreError,
    exchange::{Beat, Exchange, IsWhole, News, Notice, Outline, Place, Relayed},
};

/// The one channel of Postgres that all nodes listen on.
const CHANNEL: &str = "thimble";

/// Postgres takes notices of less than 8,000 bytes.
pub const MAX_NOTICE: usize = 7_999;

/// What stands before a batch in a notice: a letter, the node's id, a number, and spaces.
const HEADER: usize = 1 + 36 + 1 + 20 + 1;

/// What was relayed is kept this long, for nodes whose connection was lost meanwhile.
const KEPT: &str = "60 seconds";

/// After this time a notice should have come.
const LATE: &str = "2 seconds";

/// Changes that are polled for: longer ago than any node is without having looked.
const LATELY: &str = "10 minutes";

/// Batches that are read at once.
const BATCHES: i64 = 256;

/// See the module.
pub struct PgExchange {
    pool: PgPool,
    /// For the connection that listens: it is not one of those that requests wait for.
    options: PgConnectOptions,
    node: String,
    /// When this node began to listen, by the database's clock.
    since: OnceLock<String>,
    is_alone: AtomicBool,
    /// How long one call may take.
    patience: Duration,
}

impl PgExchange {
    /// The exchange of `node`.
    pub fn new(pool: PgPool, node: String, patience: Duration) -> Arc<Self> {
        let options = pool.connect_options().as_ref().clone();
        let (since, is_alone) = (OnceLock::new(), AtomicBool::new(true));
        Arc::new(Self { pool, options, node, since, is_alone, patience })
    }

    /// Says that this node lives, and gives back what processes had in hand that do not: how many deliveries.
    pub async fn beat(&self) -> Result<(Beat, u64)> {
        let mut db = self.pool.begin().await?;
        let (is_new, released) = outbox::beat(&mut db, &self.node).await?;
        let others = "select id from nodes where id <> $1 and lease >= now()";
        let others: Vec<String> = sqlx::query_scalar(others).bind(&self.node).fetch_all(&mut *db).await?;
        if is_new {
            notify(&mut db, &["n".into()]).await?;
        }
        db.commit().await?;
        self.is_alone.store(others.is_empty(), Ordering::Relaxed);
        Ok((Beat { others, is_new }, released))
    }

    /// Lets others take everything that this node has in hand: it ends.
    pub async fn leave(&self) -> Result<()> {
        let mut db = self.pool.begin().await?;
        for leave in [
            "delete from members where node = $1",
            // Remembered: a transaction of its own may still be on its way. Whoever beats next gives back what it had.
            "update nodes set lease = now() - interval '1 second', listed = false where id = $1",
        ] {
            sqlx::query(leave).bind(&self.node).execute(&mut *db).await?;
        }
        notify(&mut db, &["n".into()]).await?;
        Ok(db.commit().await?)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let done = time::timeout(self.patience, work).await;
        done.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))
    }
}

/// Counts a change of what other nodes hold in memory of a tenant, and tells them when it is committed.
pub async fn changed(db: &mut PgConnection, tenant: &str) -> Result<()> {
    let count = "
        insert into changes (tenant, version, at) values ($1, 1, clock_timestamp())
        on conflict (tenant) do update set version = changes.version + 1, at = clock_timestamp()";
    sqlx::query(count).bind(tenant).execute(&mut *db).await?;
    notify(db, &[format!("c{tenant}")]).await
}

async fn notify(db: &mut PgConnection, notices: &[String]) -> Result<()> {
    let notify = "select pg_notify($1, notice) from unnest($2::text[]) as notice";
    sqlx::query(notify).bind(CHANNEL).bind(notices).execute(db).await?;
    Ok(())
}

/// Reads what [`notify`] was given; `None` for what this node said itself, or what a later version says.
fn read(notice: &str, node: &str) -> Option<Notice> {
    let (kind, rest) = notice.split_at_checked(1)?;
    match kind {
        "n" => Some(Notice::Nodes),
        "c" => Some(Notice::Changed(rest.into())),
        "m" => {
            let (sender, rest) = rest.split_once(' ')?;
            let (number, batch) = match rest.split_once(' ') {
                Some((number, batch)) => (number, Some(batch)),
                None => (rest, None),
            };
            let whole = if batch.is_some() { IsWhole::Yes } else { IsWhole::No };
            let (batch, number) = (batch.unwrap_or_default().into(), number.parse().ok()?);
            (sender != node).then(|| Notice::Relayed(Relayed { node: sender.into(), number, batch }, whole))
        }
        _ => None,
    }
}

/// Two columns, as Postgres takes a list of channels.
fn columns<'a>(places: impl Iterator<Item = &'a Place>) -> (Vec<&'a str>, Vec<Cow<'a, str>>) {
    places.map(|(tenant, channel)| (&**tenant, storable(channel))).unzip()
}

/// A channel's name without the character U+0000, which Postgres cannot keep; another name for each.
fn storable(channel: &str) -> Cow<'_, str> {
    match channel.contains(['\0', '\u{1}']) {
        true => channel.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0").into(),
        false => channel.into(),
    }
}

async fn insert_members(db: &mut PgConnection, node: &str, members: &[(Place, usize)]) -> Result<()> {
    let (tenants, channels) = columns(members.iter().map(|(place, _)| place));
    let counts: Vec<i64> = members.iter().map(|(_, count)| *count as i64).collect();
    let gone = "
        delete from members using unnest($1::text[], $2::text[], $3::bigint[]) as now (tenant, channel, members)
        where members.node = $4 and members.tenant = now.tenant and members.channel = now.channel and now.members = 0";
    sqlx::query(gone).bind(&tenants).bind(&channels).bind(&counts).bind(node).execute(&mut *db).await?;
    let set = "
        insert into members (tenant, channel, node, members)
        select tenant, channel, $4, members
        from unnest($1::text[], $2::text[], $3::bigint[]) as now (tenant, channel, members) where members > 0
        on conflict (tenant, channel, node) do update set members = excluded.members";
    sqlx::query(set).bind(tenants).bind(channels).bind(counts).bind(node).execute(db).await?;
    Ok(())
}

#[async_trait]
impl Exchange for PgExchange {
    fn node(&self) -> &str {
        &self.node
    }

    fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    async fn listen(&self) -> Result<Box<dyn News>> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.patience)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.options.clone());
        let listener = self.within(async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        });
        let listener = listener.await?;
        if self.since.get().is_none() {
            let now = self
                .within(async { Ok(sqlx::query_scalar("select now()::text").fetch_one(&self.pool).await?) })
                .await?;
            let _ = self.since.set(now);
        }
        Ok(Box::new(PgNews { listener, node: self.node.clone() }))
    }

    async fn relay(&self, first: i64, batches: &[String]) -> Result<()> {
        let numbers: Vec<i64> = (first..).take(batches.len()).collect();
        let notices: Vec<String> =
            numbers.iter().zip(batches).map(|(number, batch)| self.notice(*number, batch)).collect();
        // One statement, so that the lock of notifying transactions is held as shortly as can be. The numbers make each notice
        // another one: of equal ones Postgres delivers the first.
        let relay = "
            with kept as (
                insert into relayed (node, number, batch)
                select $1, number, batch from unnest($2::bigint[], $3::text[]) as new (number, batch)
                on conflict (node, number) do nothing)
            select pg_notify($4, notice) from unnest($5::text[]) as notice";
        let relay = sqlx::query(relay).bind(&self.node).bind(numbers).bind(batches).bind(CHANNEL).bind(notices);
        self.within(async { Ok(relay.execute(&self.pool).await.map(drop)?) }).await
    }

    async fn relayed(&self, known: &HashMap<String, i64>, late: bool) -> Result<Vec<Relayed>> {
        let Some(since) = self.since.get() else { return Ok(Vec::new()) };
        let (nodes, numbers): (Vec<&str>, Vec<i64>) =
            known.iter().map(|(node, number)| (node.as_str(), *number)).unzip();
        let relayed = format!(
            "select relayed.node, relayed.number, relayed.batch
            from relayed left join unnest($1::text[], $2::bigint[]) as known (node, number) on known.node = relayed.node
            where relayed.node <> $3 and relayed.number > coalesce(known.number, 0) and relayed.created >= $4::timestamptz
                and (not $5 or relayed.created < now() - interval '{LATE}')
            order by relayed.node, relayed.number limit $6"
        );
        let relayed = sqlx::query_as(&relayed).bind(nodes).bind(numbers).bind(&self.node).bind(since).bind(late);
        let rows: Vec<(String, i64, String)> =
            self.within(async { Ok(relayed.bind(BATCHES).fetch_all(&self.pool).await?) }).await?;
        Ok(rows.into_iter().map(|(node, number, batch)| Relayed { node, number, batch }).collect())
    }

    async fn forget_relayed(&self) -> Result<()> {
        let forget = format!("delete from relayed where created < now() - interval '{KEPT}'");
        self.within(async { Ok(sqlx::query(&forget).execute(&self.pool).await.map(drop)?) }).await
    }

    async fn heard(&self, asked: &[Place]) -> Result<Vec<bool>> {
        let (tenants, channels) = columns(asked.iter());
        let heard = "
            with others as (select id, listed from nodes where id <> $3 and lease >= now())
            select exists (select 1 from others where not listed)
                or exists (
                    select 1 from members join others on others.id = members.node
                    where members.tenant = asked.tenant and members.channel = asked.channel)
            from unnest($1::text[], $2::text[]) with ordinality as asked (tenant, channel, place) order by place";
        let heard = sqlx::query_scalar(heard).bind(tenants).bind(channels).bind(&self.node);
        self.within(async { Ok(heard.fetch_all(&self.pool).await?) }).await
    }

    async fn set_members(&self, members: &[(Place, usize)]) -> Result<()> {
        self.within(async {
            let mut db = self.pool.begin().await?;
            insert_members(&mut db, &self.node, members).await?;
            Ok(db.commit().await?)
        })
        .await
    }

    async fn list_members(&self, members: Option<&[(Place, usize)]>) -> Result<()> {
        self.within(async {
            let mut db = self.pool.begin().await?;
            sqlx::query("delete from members where node = $1").bind(&self.node).execute(&mut *db).await?;
            insert_members(&mut db, &self.node, members.unwrap_or_default()).await?;
            let listed = "update nodes set listed = $1 where id = $2";
            sqlx::query(listed).bind(members.is_some()).bind(&self.node).execute(&mut *db).await?;
            Ok(db.commit().await?)
        })
        .await
    }

    async fn members(&self, tenant: &str, channel: &str) -> Result<usize> {
        let members = "
            select coalesce(sum(members.members), 0)::bigint from members join nodes on nodes.id = members.node
            where members.tenant = $1 and members.channel = $2 and members.node <> $3 and nodes.lease >= now()";
        let members = sqlx::query_scalar(members).bind(tenant).bind(storable(channel)).bind(&self.node);
        let members: i64 = self.within(async { Ok(members.fetch_one(&self.pool).await?) }).await?;
        Ok(usize::try_from(members).unwrap_or_default())
    }

    async fn changes(&self, lately: bool) -> Result<Vec<(String, i64)>> {
        let changes = format!("select tenant, version from changes where not $1 or at > now() - interval '{LATELY}'");
        self.within(async { Ok(sqlx::query_as(&changes).bind(lately).fetch_all(&self.pool).await?) }).await
    }

    async fn outlines(&self, tenant: &str) -> Result<Vec<Outline>> {
        let outlines = r#"select id, name, "trigger", version from functions where tenant = $1"#;
        let outlines = sqlx::query_as(outlines).bind(tenant);
        let rows: Vec<(String, String, String, i64)> =
            self.within(async { Ok(outlines.fetch_all(&self.pool).await?) }).await?;
        Ok(rows.into_iter().map(|(id, name, trigger, version)| Outline { id, name, trigger, version }).collect())
    }
}

impl PgExchange {
    fn notice(&self, number: i64, batch: &str) -> String {
        match batch.len() + HEADER <= MAX_NOTICE {
            true => format!("m{} {number} {batch}", self.node),
            false => format!("m{} {number}", self.node),
        }
    }
}

struct PgNews {
    listener: PgListener,
    node: String,
}

#[async_trait]
impl News for PgNews {
    async fn next(&mut self) -> Result<Notice> {
        loop {
            let Some(notice) = self.listener.try_recv().await? else {
                return Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed));
            };
            if let Some(notice) = read(notice.payload(), &self.node) {
                return Ok(notice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_channel_can_be_kept_and_stays_another_one() {
        let names = ["a\0", "a\u{1}0", "a\u{1}1", "a\u{1}", "a0", "a"];

        let kept: std::collections::HashSet<_> = names.map(storable).into_iter().collect();

        assert_eq!(kept.len(), names.len());
        assert!(!kept.iter().any(|name| name.contains('\0')));
    }

    #[test]
    fn notices_are_read_as_they_were_meant() {
        let relayed = |number, batch: &str, whole| {
            Some(Notice::Relayed(Relayed { node: "two".into(), number, batch: batch.into() }, whole))
        };
        for (notice, meaning) in [
            ("n", Some(Notice::Nodes)),
            ("capp", Some(Notice::Changed("app".into()))),
            ("mtwo 7 a b\nc", relayed(7, "a b\nc", IsWhole::Yes)),
            ("mtwo 8", relayed(8, "", IsWhole::No)),
            ("mone 9 own", None),
            ("mtwo x y", None),
            ("m", None),
            ("", None),
            ("é", None),
            ("zlater", None),
        ] {
            assert_eq!(read(notice, "one"), meaning, "{notice:?}");
        }
    }
}
