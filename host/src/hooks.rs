//! Functions that run before documents are changed, and may change or refuse what is about to be stored: their triggers.
//!
//! `before:db_updated:tasks` is the trigger of a function that runs before any update in the collection `tasks`.

use crate::{collection, document::ChangeKind};

/// Start of these triggers, and of no other.
const PREFIX: &str = "before:";

/// What can be done to documents.
const KINDS: [ChangeKind; 3] = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted];

/// The trigger of the functions that run before such changes.
pub fn trigger(kind: ChangeKind, collection: &str) -> String {
    format!("{PREFIX}{}:{collection}", kind.message_type())
}

/// Whether functions with this trigger run before changes, and never for a message.
pub fn is_hook(trigger: &str) -> bool {
    trigger.starts_with(PREFIX)
}

/// The sentence that refuses a trigger that starts like one of these; `None` for any other, and for one that can be used.
pub fn trigger_error(trigger: &str) -> Option<String> {
    let rest = trigger.strip_prefix(PREFIX)?;
    let collection = KINDS.iter().find_map(|kind| rest.strip_prefix(kind.message_type())?.strip_prefix(':'));
    match collection {
        Some(collection) => collection::name_error(collection),
        None => Some(
            "a trigger that starts with `before:` is `before:db_created:<collection>`, `before:db_updated:<collection>` or \
             `before:db_deleted:<collection>`: the function runs before such a change, and can change or refuse it"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_of_a_kind_and_a_collection_can_be_used() {
        for kind in KINDS {
            for collection in ["tasks", "msgs_774_", "pub_x", "a.b-c"] {
                let trigger = trigger(kind, collection);
                assert_eq!((is_hook(&trigger), trigger_error(&trigger)), (true, None), "{trigger}");
            }
        }
        assert_eq!((is_hook("db_created"), trigger_error("db_created")), (false, None));
    }

    #[test]
    fn others_are_refused_in_a_sentence() {
        for trigger in ["before:", "before:create", "before:db_created", "before:db_read:x", "before:db_created_:x"] {
            assert!(trigger_error(trigger).is_some_and(|error| error.contains("`before:db_deleted:")), "{trigger}");
        }
        for trigger in
            ["before:db_created:", "before:db_updated:a b", "before:db_deleted:sb_users", "before:db_created:a:b"]
        {
            assert!(trigger_error(trigger).is_some_and(|error| error.contains("collection")), "{trigger}");
        }
    }
}
