//! A limit as an argument: a number, or `none` for what holds without it.

use std::str::FromStr;

use serde::Serialize;

/// JSON's `null` stands for `none`, as in the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Limit(Option<u64>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text.parse().map(|number| Self(Some(number))).map_err(|_| "give a whole number, or `none`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!("7".parse().map(|limit: Limit| json!(limit)), Ok(json!(7)));
        assert_eq!("none".parse().map(|limit: Limit| json!(limit)), Ok(json!(null)));
        for text in ["", "-1", "1.5", "None", "99999999999999999999"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
