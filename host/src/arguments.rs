//! What `handle` receives: the reference's section 4.3, for both generations of functions.

use serde_json::{Value, json};

use crate::{
    event::{BeforeChange, EventKind, WebRequest},
    listeners::Matched,
    message::Message,
};

/// The arguments as JSON texts.
///
/// `parameters` is `handle.length`. For a message, two or more parameters receive `(channel, type, data)`, one receives the
/// message; none receives the message when the trigger was the message's type, else the three.
pub fn of(event: &EventKind, parameters: u32, matched: Matched) -> Vec<String> {
    match event {
        EventKind::Web(request) => web(request),
        EventKind::Scheduled(payload) => web(&WebRequest { body: Some(payload.clone()), ..WebRequest::default() }),
        EventKind::Message(message) => match (parameters, matched) {
            (1, _) | (0, Matched::Type) => vec![whole(message)],
            _ => three(message),
        },
        EventKind::Before(change) => before(change, parameters),
    }
}

/// `(body, query, headers)`; the body is missing when the request had none.
fn web(request: &WebRequest) -> Vec<String> {
    let object = |map: &serde_json::Map<String, Value>| serde_json::to_string(map).unwrap_or_else(|_| "{}".into());
    let mut args: Vec<String> = request.body.iter().map(Value::to_string).collect();
    args.extend([object(&request.query), object(&request.headers)]);
    args
}

/// `(document, before, change)`; a function with one parameter is given the document alone.
fn before(change: &BeforeChange, parameters: u32) -> Vec<String> {
    let BeforeChange { collection, kind, document, before, changes } = change;
    let mut args = vec![document.to_string()];
    if parameters != 1 {
        let text = |json: &Option<std::sync::Arc<str>>| json.as_deref().unwrap_or("null").to_owned();
        // Letters, digits and a few signs: neither name needs to be escaped.
        let (kind, changes) = (kind.message_type(), text(changes));
        args.push(text(before));
        args.push(format!(r#"{{"type":"{kind}","collection":"{collection}","changes":{changes}}}"#));
    }
    args
}

fn whole(message: &Message) -> String {
    let Message { sid, kind, data, channel, .. } = message;
    json!({ "sid": sid, "type": kind, "data": data, "channel": channel, "token": "" }).to_string()
}

/// Data that is not JSON is passed as the string it is: a function is never kept from running.
fn three(message: &Message) -> Vec<String> {
    let text = |text: &str| Value::from(text).to_string();
    let data = match serde_json::from_str::<serde::de::IgnoredAny>(&message.data) {
        Ok(_) => message.data.clone(),
        Err(_) => text(&message.data),
    };
    vec![text(&message.channel), text(&message.kind), data]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::ChangeKind;

    fn message(data: &str) -> EventKind {
        EventKind::Message(Message {
            sid: "s".into(),
            kind: "chan_out".into(),
            data: data.into(),
            channel: "lobby".into(),
            token: "secret".into(),
        })
    }

    const WHOLE: &str = r#"{"sid":"s","type":"chan_out","data":"{\"a\":1}","channel":"lobby","token":""}"#;

    #[test]
    fn one_parameter_receives_the_message_without_its_token() {
        assert_eq!(of(&message(r#"{"a":1}"#), 1, Matched::Channel), [WHOLE]);
    }

    #[test]
    fn two_and_more_parameters_receive_channel_type_and_data() {
        let three = [r#""lobby""#, r#""chan_out""#, r#"{"a":1}"#];

        assert_eq!(of(&message(r#"{"a":1}"#), 2, Matched::Type), three);
        assert_eq!(of(&message(r#"{"a":1}"#), 3, Matched::Channel), three);
    }

    #[test]
    fn without_parameters_the_trigger_decides() {
        assert_eq!(of(&message(r#"{"a":1}"#), 0, Matched::Type), [WHOLE]);
        assert_eq!(of(&message(r#"{"a":1}"#), 0, Matched::Channel).len(), 3);
    }

    #[test]
    fn data_that_is_not_json_is_a_string() {
        assert_eq!(of(&message("hello"), 3, Matched::Channel)[2], r#""hello""#);
        assert_eq!(of(&message(""), 3, Matched::Channel)[2], r#""""#);
    }

    #[test]
    fn a_request_without_a_body_has_two_arguments() {
        let with = WebRequest { body: Some(Value::Null), ..WebRequest::default() };

        assert_eq!(of(&EventKind::Web(WebRequest::default()), 3, Matched::Type), ["{}", "{}"]);
        assert_eq!(of(&EventKind::Web(with), 3, Matched::Type), ["null", "{}", "{}"]);
    }

    #[test]
    fn before_a_change_there_are_the_document_what_it_was_and_the_change() {
        let created = BeforeChange {
            collection: "tasks".into(),
            kind: ChangeKind::Created,
            document: r#"{"id":"1","n":1}"#.into(),
            before: None,
            changes: Some(r#"{"n":1}"#.into()),
        };
        let deleted =
            BeforeChange { kind: ChangeKind::Deleted, before: Some("{}".into()), changes: None, ..created.clone() };
        let args = |change, parameters| of(&EventKind::Before(change), parameters, Matched::Channel);

        let change = r#"{"type":"db_created","collection":"tasks","changes":{"n":1}}"#;
        assert_eq!(args(created.clone(), 3), [r#"{"id":"1","n":1}"#, "null", change]);
        assert_eq!(args(created, 1), [r#"{"id":"1","n":1}"#]);
        let change = r#"{"type":"db_deleted","collection":"tasks","changes":null}"#;
        assert_eq!(args(deleted, 0), [r#"{"id":"1","n":1}"#, "{}", change]);
    }

    #[test]
    fn a_scheduled_call_is_like_a_request_with_the_payload_as_its_body() {
        assert_eq!(of(&EventKind::Scheduled(json!([1])), 3, Matched::Type), ["[1]", "{}", "{}"]);
    }
}
