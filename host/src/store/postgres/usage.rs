//! What functions and tenants have used.

use sqlx::PgConnection;

use super::Result;
use crate::{
    run::Run,
    usage::{KeptUsage, minute_and_day},
};

/// The counter ends here, so that it never overflows.
const MOST_FUEL: i64 = i64::MAX / 4;

/// Adds a run to the counters of its function and of its tenant. One that is late, of a minute or a day that is over, does not
/// count any more. Returns both counters.
pub async fn count(db: &mut PgConnection, run: &Run) -> Result<Vec<KeptUsage>> {
    let count = "
        insert into usage (tenant, function, minute, runs, day, fuel) values ($1, $2, $3, 1, $4, $5)
        on conflict (tenant, function) do update set
            runs = case when excluded.minute > usage.minute then 1
                when excluded.minute = usage.minute then usage.runs + 1 else usage.runs end,
            minute = greatest(usage.minute, excluded.minute),
            fuel = case when excluded.day > usage.day then excluded.fuel
                when excluded.day = usage.day then least(usage.fuel + excluded.fuel, $6) else usage.fuel end,
            day = greatest(usage.day, excluded.day)
        returning *";
    let ((minute, _), (_, day)) = (minute_and_day(run.started), minute_and_day(run.completed));
    let mut usage = Vec::with_capacity(2);
    for function in [run.function.as_str(), ""] {
        let used = sqlx::query_as(count)
            .bind(&run.tenant)
            .bind(function)
            .bind(minute)
            .bind(day)
            .bind(run.fuel.min(MOST_FUEL))
            .bind(MOST_FUEL)
            .fetch_one(&mut *db)
            .await?;
        usage.push(used);
    }
    Ok(usage)
}

/// The counters of functions that are there, and of all tenants.
pub async fn all(db: &mut PgConnection) -> Result<Vec<KeptUsage>> {
    Ok(sqlx::query_as("select * from usage").fetch_all(db).await?)
}

pub async fn forget(db: &mut PgConnection, tenant: &str, function: &str) -> Result<()> {
    let forget = "delete from usage where tenant = $1 and function = $2";
    sqlx::query(forget).bind(tenant).bind(function).execute(db).await?;
    Ok(())
}
