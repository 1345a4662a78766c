//! What functions and tenants may use: quotas that the operator sets, and the narrower limits of a function's owner.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    runtime::limits::{Limits, Setting},
    store::Stored,
};

/// What one function may use; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionQuota {
    /// Runs at the same time.
    pub concurrency: u32,
    /// Runs in a minute.
    pub rate: u64,
    /// Fuel of all runs in a day (UTC).
    pub fuel_per_day: u64,
    /// Versions that are kept, the newest ones.
    pub versions: u32,
}

/// What one tenant may use; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantQuota {
    /// Runs at the same time; besides, no tenant has more than a quarter of the slots while others wait.
    pub concurrency: u32,
    /// Runs in a minute.
    pub rate: u64,
    /// Fuel of all runs in a day (UTC).
    pub fuel_per_day: u64,
    /// Documents that are kept.
    pub documents: u64,
    /// Bytes of all documents that are kept.
    pub document_bytes: u64,
    /// Events that wait for functions, and dead letters.
    pub events: u64,
    /// Functions.
    pub functions: usize,
    /// Milliseconds in a minute in which uploads are compiled.
    pub compile_ms: u64,
    /// Tasks that are kept.
    pub tasks: u64,
    /// Jobs that wait or run.
    pub jobs: u64,
    /// Indexes of fields.
    pub indexes: u64,
}

/// The settings of a [`TenantQuota`] that the operator changed for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OwnQuota {
    /// See [`TenantQuota::concurrency`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// See [`TenantQuota::rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// See [`TenantQuota::fuel_per_day`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_day: Option<u64>,
    /// See [`TenantQuota::documents`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// See [`TenantQuota::document_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_bytes: Option<u64>,
    /// See [`TenantQuota::events`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// See [`TenantQuota::functions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<usize>,
    /// See [`TenantQuota::compile_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// See [`TenantQuota::tasks`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// See [`TenantQuota::jobs`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// See [`TenantQuota::indexes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexes: Option<u64>,
}

impl TenantQuota {
    /// With what the operator changed for one tenant.
    pub fn with(&self, own: &OwnQuota) -> Self {
        Self {
            concurrency: own.concurrency.unwrap_or(self.concurrency),
            rate: own.rate.unwrap_or(self.rate),
            fuel_per_day: own.fuel_per_day.unwrap_or(self.fuel_per_day),
            documents: own.documents.unwrap_or(self.documents),
            document_bytes: own.document_bytes.unwrap_or(self.document_bytes),
            events: own.events.unwrap_or(self.events),
            functions: own.functions.unwrap_or(self.functions),
            compile_ms: own.compile_ms.unwrap_or(self.compile_ms),
            tasks: own.tasks.unwrap_or(self.tasks),
            jobs: own.jobs.unwrap_or(self.jobs),
            indexes: own.indexes.unwrap_or(self.indexes),
        }
    }

    /// What may be kept.
    pub fn stored(&self) -> Stored {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Stored { documents: number(self.documents), bytes: number(self.document_bytes), events: number(self.events) }
    }
}

/// Limits that the owner of a function made narrower than the operator's, kept with each version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OwnLimits {
    /// Fuel of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Bytes of memory of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Milliseconds of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Runs at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Runs in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Fuel of all runs in a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_day: Option<u64>,
}

/// Names of the limits in an upload, with those of the operator's settings that bound them.
const OWN: [(&str, &str); 6] = [
    ("fuel", "limits.fuel"),
    ("memory", "limits.memory"),
    ("timeout", "limits.wall_ms"),
    ("concurrency", "function.concurrency"),
    ("rate", "function.rate"),
    ("fuelPerDay", "function.fuel_per_day"),
];

/// The engine's own image needs this many bytes of memory.
pub const LEAST_MEMORY: u64 = 8 << 20;

impl OwnLimits {
    /// These with `changes`: a number sets a limit, `null` gives it up for the operator's.
    ///
    /// # Errors
    ///
    /// A sentence for whoever uploads: an unknown name, what is not a number, or more than the operator allows.
    pub fn changed(
        mut self,
        changes: &Map<String, Value>,
        limits: &Limits,
        function: &FunctionQuota,
    ) -> Result<Self, String> {
        for (name, value) in changes {
            let Some((name, setting)) = OWN.into_iter().find(|(known, _)| known == name) else {
                let known = OWN.map(|(name, _)| format!("`{name}`")).join(", ");
                return Err(format!("there is no limit `{name}`; there are {known}"));
            };
            let (place, most) = self.place(name, limits, function);
            let least = if name == "memory" { LEAST_MEMORY } else { 1 };
            *place = match value {
                Value::Null => None,
                value => match value.as_u64() {
                    Some(number) if (least..=most).contains(&number) => Some(number),
                    Some(number) if number > most => {
                        return Err(format!(
                            "the limit `{name}` is {number}: at most {most} are possible, because the operator set `{setting}`"
                        ));
                    }
                    _ => {
                        return Err(format!(
                            "the limit `{name}` is {value}: give a number from {least} to {most}, or null"
                        ));
                    }
                },
            };
        }
        Ok(self)
    }

    fn place(&mut self, name: &str, limits: &Limits, function: &FunctionQuota) -> (&mut Option<u64>, u64) {
        match name {
            "fuel" => (&mut self.fuel, limits.fuel),
            "memory" => (&mut self.memory, limits.memory as u64),
            "timeout" => (&mut self.timeout, limits.wall_ms),
            "concurrency" => (&mut self.concurrency, u64::from(function.concurrency)),
            "rate" => (&mut self.rate, function.rate),
            _ => (&mut self.fuel_per_day, function.fuel_per_day),
        }
    }

    /// The limits of a run: the narrower of these and the operator's.
    pub fn of_run(&self, operator: &Arc<Limits>) -> Arc<Limits> {
        if (self.fuel, self.memory, self.timeout) == (None, None, None) {
            return operator.clone();
        }
        let mut limits = Limits::clone(operator);
        let own = &mut limits.own;
        let mut narrow = |setting: Setting, limit: &mut u64, wanted: Option<u64>| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted < *limit) {
                *limit = wanted;
                own.push(setting);
            }
        };
        let mut memory = limits.memory as u64;
        narrow(Setting::Fuel, &mut limits.fuel, self.fuel);
        narrow(Setting::Timeout, &mut limits.wall_ms, self.timeout);
        narrow(Setting::Memory, &mut memory, self.memory);
        limits.memory = memory as usize;
        Arc::new(limits)
    }

    /// The quota of the function: the narrower of these and the operator's.
    pub fn of_function(&self, operator: &FunctionQuota) -> FunctionQuota {
        let narrower = |own: Option<u64>, operator: u64| own.map_or(operator, |own| own.min(operator));
        let concurrency = narrower(self.concurrency, u64::from(operator.concurrency));
        FunctionQuota {
            concurrency: u32::try_from(concurrency).unwrap_or(operator.concurrency),
            rate: narrower(self.rate, operator.rate),
            fuel_per_day: narrower(self.fuel_per_day, operator.fuel_per_day),
            versions: operator.versions,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    const QUOTA: FunctionQuota = FunctionQuota { concurrency: 16, rate: 600, fuel_per_day: 1_000_000, versions: 9 };

    fn limits() -> Arc<Limits> {
        Arc::new(Limits { fuel: 1_000, memory: 64 << 20, wall_ms: 5_000, ..Limits::unlimited() })
    }

    fn changed(own: OwnLimits, changes: Value) -> Result<OwnLimits, String> {
        own.changed(changes.as_object().unwrap(), &limits(), &QUOTA)
    }

    #[test]
    fn limits_are_set_kept_and_given_up_one_by_one() {
        let own = changed(OwnLimits::default(), json!({ "fuel": 10, "rate": 5 })).unwrap();
        let own = changed(own, json!({ "fuel": null, "memory": LEAST_MEMORY })).unwrap();

        assert_eq!(own, OwnLimits { rate: Some(5), memory: Some(LEAST_MEMORY), ..OwnLimits::default() });
        assert_eq!(serde_json::to_value(own).unwrap(), json!({ "memory": LEAST_MEMORY, "rate": 5 }));
    }

    #[test]
    fn nobody_sets_more_than_the_operator_or_what_is_no_limit() {
        for (changes, words) in [
            (json!({ "fuel": 1_001 }), "at most 1000 are possible, because the operator set `limits.fuel`"),
            (json!({ "concurrency": 17 }), "`function.concurrency`"),
            (json!({ "timeout": 0 }), "a number from 1 to 5000"),
            (json!({ "memory": 1 }), "a number from 8388608"),
            (json!({ "rate": "5" }), "is \"5\": give a number"),
            (json!({ "rate": -5 }), "is -5: give a number"),
            (json!({ "rate": 1.5 }), "is 1.5: give a number"),
            (json!({ "speed": 1 }), "there is no limit `speed`; there are `fuel`, `memory`"),
        ] {
            let error = changed(OwnLimits::default(), changes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_operator_may_narrow_later() {
        let own = OwnLimits { fuel: Some(2_000), timeout: Some(10), rate: Some(9_999), ..OwnLimits::default() };

        let run = own.of_run(&limits());

        assert_eq!((run.fuel, run.wall_ms, run.own.as_slice()), (1_000, 10, &[Setting::Timeout][..]));
        assert_eq!(own.of_function(&QUOTA), QUOTA);
    }
}
