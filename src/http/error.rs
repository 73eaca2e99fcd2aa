//! What went wrong with a request, as `application/problem+json` (RFC 9457).

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    MethodNotAllowed,
    NotFound,
    Starting,
    TimedOut,
    Unauthorized,
}

impl Problem {
    const fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Starting | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "this route only answers GET",
            Self::NotFound => "there are /health/live, /health/ready, /health/klaviyo and /metrics",
            Self::Starting => "the daemon is starting; try again",
            Self::TimedOut => "the answer took too long; try again",
            Self::Unauthorized => {
                "send `Authorization: Bearer <token>` with the read token or the admin token"
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.detail(),
        });
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self == Self::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
