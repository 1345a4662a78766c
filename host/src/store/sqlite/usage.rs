//! What functions and tenants have used.

use sqlx::SqliteConnection;

use super::Result;
use crate::{
    run::Run,
    usage::{KeptUsage, minute_and_day},
};

/// The counter ends here, so that it never overflows.
const MOST_FUEL: i64 = i64::MAX / 4;

/// Adds a run to the counters of its function and of its tenant. One that is late, of a minute or a day that is over, does not
/// count any more.
pub async fn count(db: &mut SqliteConnection, run: &Run) -> Result<()> {
    let count = "
        insert into usage (tenant, function, minute, runs, day, fuel)
        select ?1, function, ?3, 1, ?4, ?5 from (select ?2 as function union all select '') where true
        on conflict (tenant, function) do update set
            runs = case when excluded.minute > minute then 1 when excluded.minute = minute then runs + 1 else runs end,
            minute = max(minute, excluded.minute),
            fuel = case when excluded.day > day then excluded.fuel when excluded.day = day then min(fuel + excluded.fuel, ?6)
                else fuel end,
            day = max(day, excluded.day)";
    let ((minute, _), (_, day)) = (minute_and_day(run.started), minute_and_day(run.completed));
    sqlx::query(count)
        .bind(&run.tenant)
        .bind(&run.function)
        .bind(minute)
        .bind(day)
        .bind(run.fuel.min(MOST_FUEL))
        .bind(MOST_FUEL)
        .execute(db)
        .await?;
    Ok(())
}

/// The counters of functions that are there, and of all tenants.
pub async fn all(db: &mut SqliteConnection) -> Result<Vec<KeptUsage>> {
    Ok(sqlx::query_as("select * from usage").fetch_all(db).await?)
}

pub async fn forget(db: &mut SqliteConnection, tenant: &str, name: &str) -> Result<()> {
    let forget = "
        delete from usage where tenant = ?1 and function = (select id from functions where tenant = ?1 and name = ?2)";
    sqlx::query(forget).bind(tenant).bind(name).execute(db).await?;
    Ok(())
}
