//! Which functions wait for which messages: written by the registry, read by whoever makes events, so that an event can be
//! stored together with what caused it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};

use crate::{
    function::{Delivery, Function, WEB_TRIGGER},
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
}

/// Somebody joins a channel: no message in it, so only functions with this trigger run, not those of the channel.
const JOIN: &str = "join";

impl Listeners {
    /// Notes a function as it is from now on.
    pub fn set(&self, function: &Function) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let triggers = tenants.entry(function.tenant.clone()).or_default();
        if function.trigger != WEB_TRIGGER && function.version.delivery == Delivery::AtLeastOnce {
            triggers.kept.insert(function.id.clone(), function.trigger.clone());
        } else {
            triggers.kept.remove(&function.id);
        }
        triggers.named.insert(function.name.clone(), (function.id.clone(), function.trigger.clone()));
    }

    /// Forgets a function.
    pub fn remove(&self, tenant: &str, function: &str) {
        let mut tenants = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(triggers) = tenants.get_mut(tenant) {
            triggers.kept.remove(function);
            triggers.named.retain(|_, (id, _)| id != function);
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

/// A trigger is compared with the channel and with the type, so that functions of both generations run (reference, 0.2).
pub fn matched(trigger: &str, channel: &str, kind: &str) -> Option<Matched> {
    if trigger == WEB_TRIGGER {
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
    fn a_web_function_never_listens() {
        assert_eq!(matched("web", "web", "web"), None);
    }
}
