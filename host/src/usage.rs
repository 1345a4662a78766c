//! What functions and tenants have used: runs of this minute and fuel of this day.
//!
//! Counted in memory, so that asking costs nothing; each recorded run brings the store's counters up to date, and from there
//! they are read when the server starts. With several nodes recording a run also tells what the others have counted: a node
//! knows as much of them as when it last recorded a run of the function or the tenant, so all together may exceed a quota by
//! what each of them has running at the same time. Minutes and days are those of UTC.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    clock::Clock,
    function::Function,
    quota::{FunctionQuota, OwnQuota, TenantQuota},
    run::Run,
    store::{Store, StoreError},
};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 3_600;

/// What one function, or a tenant in all, has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The minute that `runs` are of, counted from the Unix epoch.
    pub minute: i64,
    /// Runs that started in it.
    pub runs: u64,
    /// Runs that were refused in it. In memory only.
    pub refused: u64,
    /// The day that `fuel` is of, counted from the Unix epoch.
    pub day: i64,
    /// Fuel of the runs that ended in it.
    pub fuel: u64,
}

/// A counter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptUsage {
    /// Public key of the tenant.
    pub tenant: String,
    /// Id of the function; empty for the tenant in all.
    pub function: String,
    /// The counter.
    pub used: Used,
}

/// A run that may not start now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Which quota is used up, and who raises it.
    pub message: String,
    /// When there is more of it.
    pub retry_after: Duration,
    /// Whether more comes within a minute: an event can wait for that.
    pub is_rate: bool,
    /// Whether it is the first of this minute: one of them stands in the history, not thousands.
    pub is_first: bool,
}

/// The counters of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Usage(Arc<Inner>);

struct Inner {
    clock: Arc<Clock>,
    function: FunctionQuota,
    tenant: TenantQuota,
    tenants: Mutex<HashMap<String, TenantUsage>>,
}

#[derive(Default)]
struct TenantUsage {
    own: OwnQuota,
    all: Counter,
    functions: HashMap<String, Counter>,
}

/// What has been counted.
#[derive(Clone, Copy, Default)]
struct Counter {
    /// By this process.
    here: Used,
    /// Of that, what it has recorded, or is about to.
    recorded: Used,
    /// By other processes: earlier ones, and other nodes.
    elsewhere: Used,
}

impl Usage {
    /// Nothing has been used yet.
    pub fn new(clock: Arc<Clock>, function: FunctionQuota, tenant: TenantQuota) -> Self {
        Self(Arc::new(Inner { clock, function, tenant, tenants: Mutex::default() }))
    }

    /// Reads the counters and the tenants' own quotas.
    pub async fn load(
        store: &dyn Store,
        clock: Arc<Clock>,
        function: FunctionQuota,
        tenant: TenantQuota,
    ) -> Result<Self, StoreError> {
        let usage = Self::new(clock, function, tenant);
        let mut tenants: HashMap<String, TenantUsage> = HashMap::new();
        for tenant in store.tenants().await? {
            tenants.entry(tenant.id).or_default().own = tenant.quota;
        }
        for KeptUsage { tenant, function, used } in store.usage().await? {
            let tenant = tenants.entry(tenant).or_default();
            match function.as_str() {
                "" => tenant.all.elsewhere = used,
                _ => tenant.functions.entry(function).or_default().elsewhere = used,
            }
        }
        *usage.lock() = tenants;
        Ok(usage)
    }

    /// The quota of a function, with its owner's limits.
    pub fn of_function(&self, function: &Function) -> FunctionQuota {
        function.version.limits.of_function(&self.0.function)
    }

    /// The quota of functions that the operator set.
    pub fn functions(&self) -> &FunctionQuota {
        &self.0.function
    }

    /// The quota of a tenant, with what the operator changed for it.
    pub fn of_tenant(&self, tenant: &str) -> TenantQuota {
        let own = self.lock().get(tenant).map(|tenant| tenant.own).unwrap_or_default();
        self.0.tenant.with(&own)
    }

    /// What the operator changed for a tenant, from now on.
    pub fn set_own(&self, tenant: &str, own: OwnQuota) {
        self.lock().entry(tenant.to_owned()).or_default().own = own;
    }

    /// What a function has used in this minute and on this day.
    pub fn used(&self, function: &Function) -> Used {
        let now = self.0.clock.now();
        let tenants = self.lock();
        let used = tenants.get(&function.tenant).and_then(|tenant| tenant.functions.get(&function.id));
        used.copied().unwrap_or_default().used(now)
    }

    /// What a tenant has used in this minute and on this day.
    pub fn used_by(&self, tenant: &str) -> Used {
        let now = self.0.clock.now();
        self.lock().get(tenant).map(|tenant| tenant.all).unwrap_or_default().used(now)
    }

    /// Counts a run that is about to start, unless a quota is used up.
    pub fn begin(&self, function: &Function) -> Result<(), Refused> {
        let now = self.0.clock.now();
        let quota = self.of_function(function);
        let mut tenants = self.lock();
        let of_tenant = tenants.entry(function.tenant.clone()).or_default();
        let all = self.0.tenant.with(&of_tenant.own);
        let counter = of_tenant.functions.entry(function.id.clone()).or_default();
        let (own, together) = (counter.used(now), of_tenant.all.used(now));

        let the_function = format!("the function `{}`", function.name);
        let is_own_rate = function.version.limits.rate.is_some_and(|rate| rate == quota.rate);
        let is_own_fuel = function.version.limits.fuel_per_day.is_some_and(|fuel| fuel == quota.fuel_per_day);
        let raise = |own: bool, flag: &str, setting: &str| match own {
            true => format!("its own limit is raised with `thimble function update … {flag}`"),
            false => format!("the operator raises the limit with `{setting}`"),
        };
        let refusal = if own.runs >= quota.rate {
            let raise = raise(is_own_rate, "--rate", "function.rate");
            Some(too_often(&the_function, quota.rate, &raise, now))
        } else if together.runs >= all.rate {
            Some(too_often("this app", all.rate, &raise(false, "", "tenant.rate"), now))
        } else if own.fuel >= quota.fuel_per_day {
            let raise = raise(is_own_fuel, "--fuel-per-day", "function.fuel_per_day");
            Some(too_much(&the_function, quota.fuel_per_day, &raise, now))
        } else if together.fuel >= all.fuel_per_day {
            Some(too_much("this app", all.fuel_per_day, &raise(false, "", "tenant.fuel_per_day"), now))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let here = counter.here(now);
            here.refused += 1;
            return Err(Refused { is_first: here.refused == 1, ..refusal });
        }
        counter.here(now).runs += 1;
        of_tenant.all.here(now).runs += 1;
        Ok(())
    }

    /// Takes back a run that was counted and then not started, and counts it as refused; whether it is the first of this minute.
    pub fn not_started(&self, function: &Function) -> bool {
        let now = self.0.clock.now();
        let mut tenants = self.lock();
        let tenant = tenants.entry(function.tenant.clone()).or_default();
        let own = tenant.functions.entry(function.id.clone()).or_default().here(now);
        for used in [tenant.all.here(now), &mut *own] {
            used.runs = used.runs.saturating_sub(1);
        }
        own.refused += 1;
        own.refused == 1
    }

    /// Counts the fuel of a run that has ended.
    pub fn end(&self, function: &Function, fuel: u64) {
        let now = self.0.clock.now();
        let mut tenants = self.lock();
        let Some(tenant) = tenants.get_mut(&function.tenant) else { return };
        for counter in [Some(&mut tenant.all), tenant.functions.get_mut(&function.id)].into_iter().flatten() {
            let here = counter.here(now);
            here.fuel = here.fuel.saturating_add(fuel);
        }
    }

    /// Notes that a run is about to be recorded: what the store says afterwards includes it. To be called before
    /// [`Self::learn`].
    pub fn records(&self, run: &Run) {
        self.change_recorded(run, u64::saturating_add);
    }

    /// Takes it back: the run was not recorded.
    pub fn not_recorded(&self, run: &Run) {
        self.change_recorded(run, u64::saturating_sub);
    }

    fn change_recorded(&self, run: &Run, change: fn(u64, u64) -> u64) {
        let ((minute, _), (_, day)) = (minute_and_day(run.started), minute_and_day(run.completed));
        let fuel = u64::try_from(run.fuel).unwrap_or_default();
        let mut tenants = self.lock();
        let Some(tenant) = tenants.get_mut(&run.tenant) else { return };
        for counter in [Some(&mut tenant.all), tenant.functions.get_mut(&run.function)].into_iter().flatten() {
            let recorded = &mut counter.recorded;
            // As the store does it: what is late does not count any more.
            recorded.turn_to(minute.max(recorded.minute), day.max(recorded.day));
            if recorded.minute == minute {
                recorded.runs = change(recorded.runs, 1);
            }
            if recorded.day == day {
                recorded.fuel = change(recorded.fuel, fuel);
            }
        }
    }

    /// Takes over what the store's counters say of other nodes, after a run was recorded.
    pub fn learn(&self, counters: &[KeptUsage]) {
        let mut tenants = self.lock();
        for KeptUsage { tenant, function, used } in counters {
            let Some(tenant) = tenants.get_mut(tenant) else { continue };
            let counter = match function.as_str() {
                "" => Some(&mut tenant.all),
                function => tenant.functions.get_mut(function),
            };
            if let Some(counter) = counter {
                counter.learn(used);
            }
        }
    }

    /// Tenants and ids of the functions that have run so many times in this minute.
    pub fn often(&self, times: u64) -> Vec<(String, String)> {
        let (minute, _) = minute_and_day(self.0.clock.now());
        let is_often = |counter: &Counter| counter.here.minute == minute && counter.here.runs >= times;
        let tenants = self.lock();
        let all =
            tenants.iter().flat_map(|(tenant, usage)| usage.functions.iter().map(move |counter| (tenant, counter)));
        all.filter(|(_, (_, counter))| is_often(counter))
            .map(|(tenant, (id, _))| (tenant.clone(), id.clone()))
            .collect()
    }

    /// Forgets a function that was deleted. What it used stays with its tenant.
    pub fn forget(&self, tenant: &str, function: &str) {
        if let Some(tenant) = self.lock().get_mut(tenant) {
            tenant.functions.remove(function);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TenantUsage>> {
        self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    /// What has been counted in the minute and on the day of a time.
    fn used(mut self, now: DateTime<Utc>) -> Used {
        self.elsewhere.turn(now);
        let Used { runs, fuel, .. } = self.elsewhere;
        let here = self.here(now);
        Used { runs: here.runs + runs, fuel: here.fuel.saturating_add(fuel), ..*here }
    }

    fn here(&mut self, now: DateTime<Utc>) -> &mut Used {
        self.here.turn(now);
        &mut self.here
    }

    /// What the store has counted and this process has not recorded is of others. Within a minute or a day it only grows: what
    /// is under way here may be in the one number and not yet in the other.
    fn learn(&mut self, all: &Used) {
        let others = |all: u64, recorded: u64| all.saturating_sub(recorded);
        let Self { recorded, elsewhere, .. } = self;
        if all.minute >= elsewhere.minute {
            let runs = others(all.runs, if recorded.minute == all.minute { recorded.runs } else { 0 });
            let known = if elsewhere.minute == all.minute { elsewhere.runs } else { 0 };
            (elsewhere.minute, elsewhere.runs) = (all.minute, runs.max(known));
        }
        if all.day >= elsewhere.day {
            let fuel = others(all.fuel, if recorded.day == all.day { recorded.fuel } else { 0 });
            let known = if elsewhere.day == all.day { elsewhere.fuel } else { 0 };
            (elsewhere.day, elsewhere.fuel) = (all.day, fuel.max(known));
        }
    }
}

impl Used {
    /// Begins anew what is of an earlier minute or day.
    fn turn(&mut self, now: DateTime<Utc>) {
        let (minute, day) = minute_and_day(now);
        self.turn_to(minute, day);
    }

    fn turn_to(&mut self, minute: i64, day: i64) {
        if self.minute != minute {
            (self.minute, self.runs, self.refused) = (minute, 0, 0);
        }
        if self.day != day {
            (self.day, self.fuel) = (day, 0);
        }
    }
}

/// The minute and the day of a time, counted from the Unix epoch.
pub fn minute_and_day(time: DateTime<Utc>) -> (i64, i64) {
    (time.timestamp().div_euclid(MINUTE), time.timestamp().div_euclid(DAY))
}

fn too_often(who: &str, rate: u64, raise: &str, now: DateTime<Utc>) -> Refused {
    Refused {
        message: format!("not started: {who} may run {rate} times in a minute; {raise}"),
        retry_after: until_next(MINUTE, now),
        is_rate: true,
        is_first: false,
    }
}

fn too_much(who: &str, fuel: u64, raise: &str, now: DateTime<Utc>) -> Refused {
    Refused {
        message: format!("not started: {who} has used up its fuel of this day ({fuel}, until midnight UTC); {raise}"),
        retry_after: until_next(DAY, now),
        is_rate: false,
        is_first: false,
    }
}

fn until_next(period: i64, now: DateTime<Utc>) -> Duration {
    let left = period - now.timestamp().rem_euclid(period);
    Duration::from_secs(u64::try_from(left).unwrap_or(1))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;

    /// For tests of parts that need quotas and do not come to use them up.
    pub fn unlimited() -> Usage {
        let config = Config::from_toml("thimble.toml", "").unwrap();
        Usage::new(Arc::default(), config.function, config.tenant)
    }

    fn counted(runs: u64, fuel: u64) -> Used {
        Used { minute: 5, runs, refused: 0, day: 1, fuel }
    }

    #[test]
    fn what_others_have_counted_is_what_the_store_says_without_ones_own() {
        let mut counter = Counter { recorded: counted(2, 20), ..Counter::default() };

        counter.learn(&counted(7, 120));
        assert_eq!((counter.elsewhere.runs, counter.elsewhere.fuel), (5, 100));
        // An answer that was overtaken says less.
        counter.learn(&counted(6, 110));
        assert_eq!((counter.elsewhere.runs, counter.elsewhere.fuel), (5, 100));
        counter.recorded = counted(3, 30);
        counter.learn(&counted(10, 150));
        assert_eq!((counter.elsewhere.runs, counter.elsewhere.fuel), (7, 120));
    }

    #[test]
    fn each_minute_and_each_day_begins_anew() {
        let mut counter = Counter { recorded: counted(2, 20), ..Counter::default() };
        counter.learn(&counted(7, 120));

        counter.learn(&Used { minute: 6, ..counted(1, 121) });
        assert_eq!(
            (counter.elsewhere.runs, counter.elsewhere.fuel),
            (1, 101),
            "nothing of this minute is recorded here"
        );
        counter.learn(&Used { day: 2, minute: 7, ..counted(0, 3) });
        assert_eq!((counter.elsewhere.runs, counter.elsewhere.fuel), (0, 3));
        counter.learn(&counted(100, 1_000));
        assert_eq!((counter.elsewhere.runs, counter.elsewhere.fuel), (0, 3), "late");
    }

    #[test]
    fn others_runs_count_until_their_minute_is_over() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let mut counter = Counter::default();
        counter.here(at(300)).runs = 3;
        counter.learn(&counted(4, 0));

        assert_eq!(counter.used(at(359)).runs, 7);
        assert_eq!(counter.used(at(360)).runs, 0);
    }
}
