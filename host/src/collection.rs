//! How collections may be named.

/// Start of the names that the platform keeps for itself.
const RESERVED_PREFIX: &str = "sb_";

/// At most this many characters.
const MAX_NAME: usize = 128;

/// The sentence that refuses a collection's name, or `None` for one that can be used.
pub fn name_error(collection: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if collection.is_empty() || collection.len() > MAX_NAME || !collection.chars().all(allowed) {
        return Some(format!("a collection's name has 1 to {MAX_NAME} letters (a to z), digits, `_`, `-` or `.`"));
    }
    collection
        .starts_with(RESERVED_PREFIX)
        .then(|| format!("names of collections that start with `{RESERVED_PREFIX}` are reserved; choose another name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_letters_digits_and_a_few_signs_can_be_used() {
        let longest = "x".repeat(MAX_NAME);
        for name in ["tasks", "msgs_774_", "pub_x", "a-b.c", "Sb_x", "1", &longest] {
            assert_eq!(name_error(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_refused_in_a_sentence() {
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "a b", "a/b", "täsk", "a\"b", "a;drop table x", "a\0", "💥", &long] {
            assert!(name_error(name).is_some_and(|error| error.contains("1 to 128")), "{name}");
        }
    }

    #[test]
    fn names_of_the_platform_are_reserved() {
        for name in ["sb_", "sb_accounts", "sb_tokens"] {
            assert!(name_error(name).is_some_and(|error| error.contains("reserved")), "{name}");
        }
    }
}
