//! Which functions wait for which messages: written by the registry, read by whoever makes events, so that an event can be
//! stored together with what caused it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use crate::{
    document::ChangeKind,
    function::{Delivery, Function, WEB_TRIGGER},
    hooks,
    message::Message,
};

/// How a function's trigger fits a message; it decides what a `handle` without parameters receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matched {
    /// The trigger is the message's channel.
    Channel,
    /// The trigger is the message's type.
    Type,
}

/// A function that an event is kept for until it has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Id of the function.
    pub function: String,
    /// How its trigger fits.
    pub matched: Matched,
}

/// The triggers of all functions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Listeners(Arc<RwLock<HashMap<String, Triggers>>>);

/// Triggers of one tenant's functions.
#[derive(Default)]
struct Triggers {
    /// Of those whose events are kept, by id.
    kept: HashMap<String, String>,
    /// Id and trigger of each function, by name.
    named: HashMap<String, (String, String)>,
    /// Of those that run before changes: names, in their order, and ids by trigger.
    hooks: HashMap<String, BTreeMap<String, String>>,
}

/// Somebody joins a channel: no message in it, so only functions with this trigger run, not those of the channel.
const JOIN: &str = "join";

impl Listeners {
    /// Notes a function as it is from now on.
    pub fn set(&self, function: &Function) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let triggers = tenants.entry(function.tenant.clone()).or_default();
        triggers.remove(&function.id);
        if hooks::is_hook(&function.trigger) {
            let hooks = triggers.hooks.entry(function.trigger.clone()).or_default();
            hooks.insert(function.name.clone(), function.id.clone());
        } else if function.trigger != WEB_TRIGGER && function.version.delivery == Delivery::AtLeastOnce {
            triggers.kept.insert(function.id.clone(), function.trigger.clone());
        }
        triggers.named.insert(function.name.clone(), (function.id.clone(), function.trigger.clone()));
    }

    /// Forgets a function.
    pub fn remove(&self, tenant: &str, function: &str) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(triggers) = tenants.get_mut(tenant) {
            triggers.remove(function);
        }
    }

    /// The names of the functions that run before such a change, in their order.
    pub fn hooks(&self, tenant: &str, kind: ChangeKind, collection: &str) -> Vec<String> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match tenants.get(tenant) {
            Some(triggers) if !triggers.hooks.is_empty() => {
                let hooks = triggers.hooks.get(&hooks::trigger(kind, collection));
                hooks.map(|hooks| hooks.keys().cloned().collect()).unwrap_or_default()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// The trigger of the function of that name; `None` when there is none.
    pub fn trigger(&self, tenant: &str, name: &str) -> Option<String> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant)?.named.get(name).map(|(_, trigger)| trigger.clone())
    }

    /// The functions that a message of this type in this channel is kept for.
    pub fn of(&self, tenant: &str, channel: &str, kind: &str) -> Vec<Listener> {
        let tenants = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(triggers) = tenants.get(tenant) else { return Vec::new() };
        let listening = triggers.kept.iter().filter_map(|(function, trigger)| {
            Some(Listener { function: function.clone(), matched: matched(trigger, channel, kind)? })
        });
        listening.collect()
    }

    /// The functions that a message is kept for.
    pub fn of_message(&self, tenant: &str, message: &Message) -> Vec<Listener> {
        self.of(tenant, &message.channel, &message.kind)
    }
}

impl Triggers {
    fn remove(&mut self, function: &str) {
        self.kept.remove(function);
        self.named.retain(|_, (id, _)| id != function);
        self.hooks.retain(|_, hooks| {
            hooks.retain(|_, id| id != function);
            !hooks.is_empty()
        });
    }
}

/// A trigger is compared with the channel and with the type, so that functions of both generations run (reference, 0.2).
pub fn matched(trigger: &str, channel: &str, kind: &str) -> Option<Matched> {
    if trigger == WEB_TRIGGER || hooks::is_hook(trigger) {
        None
    } else if trigger == channel && kind != JOIN {
        Some(Matched::Channel)
    } else {
        (trigger == kind).then_some(Matched::Type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{Code, Version};

    #[test]
    fn a_trigger_fits_the_channel_or_the_type() {
        assert_eq!(matched("lobby", "lobby", "chan_out"), Some(Matched::Channel));
        assert_eq!(matched("chan_out", "lobby", "chan_out"), Some(Matched::Type));
        assert_eq!(matched("db-tasks", "db-tasks", "db_created"), Some(Matched::Channel));
        assert_eq!(matched("other", "lobby", "chan_out"), None);
    }

    #[test]
    fn joining_a_channel_is_no_message_in_it() {
        assert_eq!(matched("lobby", "lobby", "join"), None);
        assert_eq!(matched("join", "lobby", "join"), Some(Matched::Type));
    }

    #[test]
    fn a_web_function_never_listens_nor_does_one_that_runs_before_changes() {
        let hook = "before:db_created:tasks";

        assert_eq!(matched("web", "web", "web"), None);
        assert_eq!(matched(hook, hook, hook), None);
    }

    #[test]
    fn functions_that_run_before_a_change_are_known_by_it_in_the_order_of_their_names() {
        let (listeners, hook) = (Listeners::default(), hooks::trigger(ChangeKind::Created, "tasks"));
        for (id, name) in [("1", "b"), ("2", "a"), ("3", "c")] {
            listeners.set(&function(id, name, &hook));
        }
        listeners.set(&function("4", "d", "db_created"));
        let of = |tenant, kind, collection| listeners.hooks(tenant, kind, collection);

        assert_eq!(of("tenant", ChangeKind::Created, "tasks"), ["a", "b", "c"]);
        assert_eq!(of("tenant", ChangeKind::Updated, "tasks").len(), 0);
        assert_eq!(of("tenant", ChangeKind::Created, "task").len(), 0);
        assert_eq!(of("other", ChangeKind::Created, "tasks").len(), 0);
        assert_eq!(listeners.of("tenant", "db-tasks", "db_created").len(), 1);

        listeners.set(&function("1", "b", "db_created"));
        listeners.remove("tenant", "3");
        assert_eq!(of("tenant", ChangeKind::Created, "tasks"), ["a"]);
        assert_eq!(listeners.of("tenant", "db-tasks", "db_created").len(), 2);
    }

    fn function(id: &str, name: &str, trigger: &str) -> Function {
        let version = Version {
            number: 1,
            code: Code::Component,
            bytes: 0,
            hash: String::new(),
            limits: Default::default(),
            delivery: Delivery::AtLeastOnce,
            created: Default::default(),
        };
        Function {
            id: id.into(),
            tenant: "tenant".into(),
            name: name.into(),
            trigger: trigger.into(),
            version,
            created: Default::default(),
            last_run: None,
        }
    }
}
