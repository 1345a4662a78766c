//! The forms in which a function is uploaded: a JSON object with its code, the fields of a form with a file, or a component
//! as it is, with the rest in the URL.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Multipart, Request, multipart::MultipartError},
    http::{StatusCode, header::CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    error::ApiError,
    extract::{Query, RawBody, object},
};
use crate::{
    edge::paced_body::BodyError,
    function::{Delivery, Upload},
};

/// How every WebAssembly binary begins.
const MAGIC: &[u8] = b"\0asm";

/// Bytes of the fields of a form, and of what stands between them, besides the code.
pub const AROUND: usize = 64 << 10;

/// Fields of a form that are read, those that nobody asked for included.
const FIELDS: usize = 32;

/// A function as it is uploaded. The fields of the reference's function object that clients send besides are ignored.
#[derive(Debug, Default)]
pub struct Uploaded {
    /// Of the function that is updated.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it runs for.
    pub trigger: String,
    /// What it is to run; `None` when only the rest is to change.
    pub code: Option<Upload>,
    /// Limits narrower than the operator's; without them an update keeps those there are.
    pub limits: Map<String, Value>,
    /// `at-least-once` or `at-most-once`; without it an update keeps what there is.
    pub delivery: Option<Delivery>,
}

/// What stands in a JSON body or in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    id: String,
    name: String,
    trigger: String,
    code: String,
    limits: Map<String, Value>,
    delivery: String,
}

/// The same in a URL, where the limits are the text of a JSON object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    id: String,
    name: String,
    trigger: String,
    limits: String,
    delivery: String,
}

impl<S: Send + Sync> FromRequest<S> for Uploaded {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media_type == "multipart/form-data" {
            let form = Multipart::from_request(request, state).await;
            return from_form(form.map_err(|error| ApiError::BadRequest(error.body_text()))?).await;
        }
        let (mut parts, body) = request.into_parts();
        let query = Query::<Parameters>::from_request_parts(&mut parts, state).await;
        let RawBody(body) = RawBody::from_request(Request::from_parts(parts, body), state).await?;
        if media_type == "application/wasm" || body.starts_with(MAGIC) {
            let Query(Parameters { id, name, trigger, limits, delivery }) = query?;
            let (limits, delivery) = (parse_limits(&limits)?, parse_delivery(&delivery)?);
            return Ok(Self { id, name, trigger, code: Some(Upload::Component(body)), limits, delivery });
        }
        let Fields { id, name, trigger, code, limits, delivery } = object(&body)?;
        let code = (!code.is_empty()).then_some(Upload::JavaScript(code));
        Ok(Self { id, name, trigger, code, limits, delivery: parse_delivery(&delivery)? })
    }
}

/// Reads the fields `id`, `name`, `trigger`, `limits`, `delivery` and the file `code`, which is a component or JavaScript.
async fn from_form(mut form: Multipart) -> Result<Uploaded, ApiError> {
    let mut uploaded = Uploaded::default();
    let mut fields = 0;
    while let Some(field) = form.next_field().await.map_err(of_form)? {
        fields += 1;
        if fields > FIELDS {
            return Err(ApiError::BadRequest(format!("the form has more than {FIELDS} fields")));
        }
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "id" => uploaded.id = field.text().await.map_err(of_form)?,
            "name" => uploaded.name = field.text().await.map_err(of_form)?,
            "trigger" => uploaded.trigger = field.text().await.map_err(of_form)?,
            "limits" => uploaded.limits = parse_limits(&field.text().await.map_err(of_form)?)?,
            "delivery" => uploaded.delivery = parse_delivery(&field.text().await.map_err(of_form)?)?,
            "code" => {
                let is_wasm = field.content_type() == Some("application/wasm");
                uploaded.code = code(is_wasm, field.bytes().await.map_err(of_form)?)?;
            }
            // As in the other forms.
            _ => {}
        }
    }
    Ok(uploaded)
}

/// What a file holds.
fn code(is_wasm: bool, bytes: Bytes) -> Result<Option<Upload>, ApiError> {
    if is_wasm || bytes.starts_with(MAGIC) {
        return Ok(Some(Upload::Component(bytes)));
    }
    let source = String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ApiError::BadRequest(format!(
            "the code is neither a WebAssembly component, which begins with `\\0asm`, nor JavaScript in UTF-8: byte {at} cannot be read"
        ))
    })?;
    Ok((!source.is_empty()).then_some(Upload::JavaScript(source)))
}

fn parse_limits(text: &str) -> Result<Map<String, Value>, ApiError> {
    match text {
        "" => Ok(Map::new()),
        text => serde_json::from_str(text)
            .map_err(|error| ApiError::BadRequest(format!("`limits` is not the text of a JSON object: {error}"))),
    }
}

fn parse_delivery(text: &str) -> Result<Option<Delivery>, ApiError> {
    match text {
        "" => Ok(None),
        text => Delivery::parse(text).map(Some).ok_or_else(|| {
            ApiError::BadRequest(format!("`delivery` is `{text}`: give `at-least-once` or `at-most-once`"))
        }),
    }
}

fn of_form(error: MultipartError) -> ApiError {
    match (BodyError::among(&error), error.status()) {
        (Some(error), _) => error.into(),
        (None, StatusCode::PAYLOAD_TOO_LARGE) => {
            ApiError::TooLarge("the body of the request is larger than allowed".into())
        }
        (None, _) => ApiError::BadRequest(format!("the form cannot be read: {}", error.body_text())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn read(media_type: &str, uri: &str, body: &[u8]) -> Result<Uploaded, String> {
        let request = Request::builder().uri(uri).header(CONTENT_TYPE, media_type);
        let read = Uploaded::from_request(request.body(Body::from(body.to_vec())).unwrap(), &()).await;
        read.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_json_object_holds_javascript() {
        let body = br#"{"name":"f","trigger":"web","code":"x","limits":{"fuel":1},"accountId":"ignored"}"#;
        let read = read("application/json", "/", body).await.unwrap();

        assert_eq!((read.name.as_str(), read.trigger.as_str()), ("f", "web"));
        assert_eq!(read.code, Some(Upload::JavaScript("x".into())));
        assert_eq!(read.limits["fuel"], 1);
    }

    #[tokio::test]
    async fn a_component_comes_with_its_name_in_the_url() {
        let uri = "/?name=f&trigger=a%20b&limits=%7B%22fuel%22%3A1%7D";
        for (media_type, body) in [("application/wasm", &b"anything"[..]), ("text/plain", b"\0asm")] {
            let read = read(media_type, uri, body).await.unwrap();

            assert_eq!((read.name.as_str(), read.trigger.as_str()), ("f", "a b"));
            assert_eq!(read.code, Some(Upload::Component(Bytes::copy_from_slice(body))));
            assert_eq!(read.limits["fuel"], 1);
        }
        let refused = read("application/wasm", "/?name=f&limits=1", b"\0asm").await.unwrap_err();
        assert!(refused.contains("`limits` is not the text of a JSON object"), "{refused}");
    }

    #[tokio::test]
    async fn a_form_holds_either() {
        let form = |file: &[u8]| {
            let mut body = b"--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nf\r\n\
                --b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nf\r\n\
                --b\r\nContent-Disposition: form-data; name=\"code\"; filename=\"fn\"\r\n\r\n"
                .to_vec();
            body.extend_from_slice(file);
            body.extend_from_slice(b"\r\n--b--\r\n");
            body
        };
        let media_type = "multipart/form-data; boundary=b";

        for (file, expected) in [
            (&b"\0asm1234"[..], Upload::Component(Bytes::from_static(b"\0asm1234"))),
            (b"let a;", Upload::JavaScript("let a;".into())),
        ] {
            let read = read(media_type, "/", &form(file)).await.unwrap();
            assert_eq!((read.name.as_str(), read.code), ("f", Some(expected)));
        }
        let refused = read(media_type, "/", &form(b"abc\xff")).await.unwrap_err();
        assert!(refused.contains("byte 3 cannot be read"), "{refused}");
        let many = b"--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\r\n".repeat(FIELDS + 1);
        let refused = read(media_type, "/", &many).await.unwrap_err();
        assert!(refused.contains("more than 32 fields"), "{refused}");
        let refused = read(media_type, "/", b"--b\r\nContent-").await.unwrap_err();
        assert!(refused.contains("the form cannot be read"), "{refused}");
    }
}
