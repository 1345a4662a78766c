//! What a request is answered with when it is not answered: the one place that chooses statuses.
//!
//! Bodies are text and end in a newline, as the clients of the reference expect. Causes that the caller cannot mend are logged
//! here, once, and never sent.

use std::time::Duration;

use axum::{
    extract::rejection::{BytesRejection, FormRejection, PathRejection, QueryRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};

use crate::{
    accounts::AccountError,
    channels::ChannelError,
    edge::{json_shape::Monstrous, paced_body::BodyError},
    hub::Full,
    mailer::MailError,
    store::StoreError,
};

/// How long to wait before asking a busy server again.
const BUSY: Duration = Duration::from_secs(1);

/// How long to wait before trying again to have one connection more.
const CONNECTED: Duration = Duration::from_secs(10);

/// Why a request was refused or failed; the text is for whoever made it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// It names nobody, or somebody who may not.
    #[error("{0}")]
    Unauthorized(String),
    /// The caller may not do that.
    #[error("{0}")]
    Forbidden(String),
    /// It is not there, or the caller may not know of it.
    #[error("{0}")]
    NotFound(String),
    /// The address is there, but not for this method.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// What is there stands against it.
    #[error("{0}")]
    Conflict(String),
    /// A function that runs before the write refused it, with a status of its own, or did not end well.
    #[error("{message}")]
    Vetoed {
        /// As it is answered.
        status: u16,
        /// What the function says.
        message: String,
    },
    /// It is larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// It is in a form that is not read here.
    #[error("{0}")]
    UnsupportedType(String),
    /// It does not arrive.
    #[error("{0}")]
    TooSlow(String),
    /// It comes too often.
    #[error("{message}")]
    TooMany {
        /// When it can be tried again.
        retry_after: Duration,
        /// Which limit was met.
        message: String,
    },
    /// It can be tried again soon.
    #[error("the server is busy: try again in a moment")]
    Unavailable,
    /// The database is away; it can be tried again soon.
    #[error("{0}")]
    DatabaseAway(String),
    /// Too many of its kind wait already.
    #[error("{message}")]
    Busy {
        /// When it can be tried again.
        retry_after: Duration,
        /// What waits.
        message: String,
    },
    /// There is no room to store it.
    #[error("{0}")]
    StorageFull(String),
    /// Nothing the caller can mend: the cause is logged, never sent.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Vetoed { status, .. } => StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST),
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::DatabaseAway(_) | Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::StorageFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after, .. } | Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::Unavailable | Self::DatabaseAway(_) => Some(BUSY),
            // Every 429 says when to come back.
            Self::Vetoed { status: 429, .. } => Some(BUSY),
            Self::Vetoed { .. }
            | Self::BadRequest(_)
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::Conflict(_)
            | Self::TooLarge(_)
            | Self::UnsupportedType(_)
            | Self::TooSlow(_)
            | Self::StorageFull(_)
            | Self::Internal(_) => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            tracing::error!(error = format!("{cause:#}"), "a request failed");
        }
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        let mut response = (self.status(), headers, format!("{self}\n")).into_response();
        if let Some(time) = self.retry_after() {
            // Whole seconds, and never so few that asking again then is still too early.
            let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
        }
        if matches!(self, Self::TooLarge(_)) {
            // What was not read of the request still comes: the connection is of no use any more.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::EmailTaken | StoreError::TenantTaken | StoreError::NameTaken(_) | StoreError::TaskTaken(_) => {
                Self::Conflict(text)
            }
            StoreError::Conflict => Self::Conflict(text),
            StoreError::Forbidden => Self::Forbidden(text),
            StoreError::Invalid(_) => Self::BadRequest(text),
            StoreError::TooLarge(_) => Self::TooLarge(text),
            StoreError::Full | StoreError::Quota(_) => Self::StorageFull(text),
            StoreError::Unavailable(_) => Self::DatabaseAway(text),
            StoreError::ClaimLost | StoreError::OutOfTurn | StoreError::Unusable(_) | StoreError::Database(_) => {
                Self::Internal(error.into())
            }
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let text = error.to_string();
        match error {
            AccountError::InvalidToken
            | AccountError::InvalidRootToken
            | AccountError::InvalidOperatorToken
            | AccountError::NotEnoughPermission
            | AccountError::InvalidEmail
            | AccountError::EmailInUse
            | AccountError::InvalidPassword(_)
            | AccountError::InvalidRole => Self::BadRequest(text),
            AccountError::NotDev
            | AccountError::SignUpClosed
            | AccountError::WrongPassword
            | AccountError::RoleTooLow
            | AccountError::NotRoot => Self::Unauthorized(text),
            AccountError::UnknownUser | AccountError::UnknownAccount => Self::NotFound(text),
            AccountError::EmailTaken | AccountError::TenantEmailTaken | AccountError::FirstRoot => Self::Conflict(text),
            AccountError::TooManyAttempts(retry_after) => Self::TooMany { retry_after, message: text },
            AccountError::Busy => Self::Unavailable,
            AccountError::Store(error) => error.into(),
            AccountError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<ChannelError> for ApiError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Invalid(text) => Self::BadRequest(text),
            ChannelError::Forbidden(text) => Self::Forbidden(text),
            ChannelError::Unavailable => Self::Unavailable,
            ChannelError::Store(error) => error.into(),
        }
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        tracing::debug!("a client was refused: {full}");
        match full {
            Full::Server(_) => Self::Unavailable,
            Full::Tenant(_) | Full::Address(_) => Self::TooMany { retry_after: CONNECTED, message: full.to_string() },
        }
    }
}

impl From<MailError> for ApiError {
    fn from(error: MailError) -> Self {
        match error {
            MailError::Invalid(text) => Self::BadRequest(text),
            MailError::TooLarge(text) => Self::TooLarge(text),
            MailError::TooMany(message) => Self::TooMany { retry_after: Duration::from_secs(3_600), message },
            MailError::Store(error) => error.into(),
        }
    }
}

impl From<&BodyError> for ApiError {
    fn from(error: &BodyError) -> Self {
        let text = error.to_string();
        match error {
            BodyError::TooSlow => Self::TooSlow(text),
            BodyError::NoRoom(_) => Self::Unavailable,
            BodyError::Unreadable(_) => Self::BadRequest(text),
        }
    }
}

impl From<Monstrous> for ApiError {
    fn from(error: Monstrous) -> Self {
        match error {
            Monstrous::TooDeep => Self::BadRequest(error.to_string()),
            Monstrous::TooMany => Self::TooLarge(error.to_string()),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match (BodyError::among(&rejection), rejection.status()) {
            (Some(error), _) => error.into(),
            (None, StatusCode::PAYLOAD_TOO_LARGE) => {
                Self::TooLarge("the body of the request is larger than allowed".into())
            }
            (None, _) => Self::BadRequest("the body of the request could not be read".into()),
        }
    }
}

impl From<FormRejection> for ApiError {
    fn from(rejection: FormRejection) -> Self {
        match rejection {
            FormRejection::BytesRejection(rejection) => rejection.into(),
            rejection => Self::BadRequest(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        Self::BadRequest("the path of the URL is not valid".into())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn answer(error: impl Into<ApiError>) -> (StatusCode, Option<String>, String) {
        let response = error.into().into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, retry_after, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn causes_are_never_sent() {
        let secret = StoreError::Database(sqlx::Error::Protocol("table users is broken".into()));

        let (status, _, body) = answer(secret).await;

        assert_eq!((status, body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"));
    }

    #[tokio::test]
    async fn a_limit_says_when_to_come_back() {
        let (status, retry_after, body) = answer(AccountError::TooManyAttempts(Duration::from_millis(61_200))).await;

        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(retry_after.as_deref(), Some("62"));
        assert!(body.starts_with("too many failed attempts"), "{body}");
        let (status, retry_after, _) = answer(StoreError::from(sqlx::Error::PoolTimedOut)).await;
        assert_eq!((status, retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    }

    #[tokio::test]
    async fn texts_of_the_reference_are_kept() {
        let cases = [
            (AccountError::InvalidRootToken, 400, "invalid root token\n"),
            (AccountError::NotDev, 401, "not in dev mode\n"),
            (AccountError::WrongPassword, 401, "invalid email/password\n"),
            (AccountError::EmailTaken, 409, "invalid email\n"),
            (AccountError::EmailInUse, 400, "email already in use\n"),
            (AccountError::RoleTooLow, 401, "permission level not high enough\n"),
        ];
        for (error, expected, text) in cases {
            let (status, _, body) = answer(error).await;
            assert_eq!((status.as_u16(), body.as_str()), (expected, text));
        }
    }
}
