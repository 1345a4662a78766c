//! What documents are looked for, as it is typed.

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

/// Operators that the server knows.
const OPERATORS: [&str; 10] = ["=", "==", "!=", "<>", "<", "<=", ">", ">=", "in", "!in"];

/// Reads fields, operators and values. A value that is JSON (`true`, `42`, `["a"]`) is taken as that, any other as text.
pub fn parse(words: &[String]) -> anyhow::Result<Vec<Value>> {
    let (clauses, rest) = words.as_chunks::<3>();
    ensure!(
        rest.is_empty(),
        "a condition is a field, an operator and a value, such as `done == true`; put quotes around what the shell would \
         take for itself: \"done\" \"==\" \"true\""
    );
    clauses
        .iter()
        .map(|[field, operator, value]| {
            ensure!(
                OPERATORS.contains(&operator.as_str()),
                "there is no operator {operator:?}; there are {}",
                OPERATORS.join(" ")
            );
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
            Ok(json!([field, operator, value]))
        })
        .collect()
}

/// A JSON object as it was typed.
pub fn object(what: &str, text: &str) -> anyhow::Result<String> {
    let parsed = serde_json::from_str::<Map<String, Value>>(text);
    parsed.with_context(|| format!("the {what} must be a JSON object, such as '{{\"title\": \"x\"}}'"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> anyhow::Result<Value> {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).map(Value::from)
    }

    #[test]
    fn values_are_json_where_they_can_be() {
        let words =
            ["a", "==", "true", "b", ">", "-4.5", "c", "in", r#"["x"]"#, "d", "!=", "two words", "e", "=", "\"5\""];

        let expected =
            json!([["a", "==", true], ["b", ">", -4.5], ["c", "in", ["x"]], ["d", "!=", "two words"], ["e", "=", "5"]]);
        assert_eq!(parsed(&words).unwrap(), expected);
        assert_eq!(parsed(&[]).unwrap(), json!([]));
    }

    #[test]
    fn half_a_condition_and_unknown_operators_are_refused() {
        assert!(parsed(&["a", "=="]).unwrap_err().to_string().contains("a field, an operator and a value"));
        assert!(parsed(&["a", "like", "b"]).unwrap_err().to_string().contains("no operator \"like\""));
    }
}
