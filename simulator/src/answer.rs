//! An answer on its way out: what is said, and how it goes wrong.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Error, Response, StatusCode};
use serde_json::Value;

use crate::document;
use crate::handlers::Reply;
use crate::hostile::HostileBody;
use crate::ledger::Outcome;
use crate::problem::{Problem, Refusal};
use crate::query::Query;
use crate::windows::Standing;

/// An answer on its way out.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) body: Option<Value>,
    pub(crate) html: bool,
    pub(crate) retry_after: Option<String>,
    pub(crate) standing: Option<Standing>,
    /// Where the connection breaks off.
    pub(crate) cut_after_bytes: Option<u64>,
    /// The answer never comes.
    pub(crate) silent: bool,
    /// What is sent in place of the body.
    pub(crate) hostile: Option<HostileBody>,
}

impl From<u16> for Outcome {
    fn from(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

impl Answer {
    pub(crate) fn given(reply: Reply, query: &Query) -> Self {
        let mut body = reply.body;
        if let Some(body) = &mut body {
            document::keep_asked_fields(body, query);
        }
        let outcome = Outcome {
            status: reply.status,
            rows: reply.rows,
            ..Outcome::default()
        };
        Self {
            outcome,
            body,
            ..Self::default()
        }
    }

    pub(crate) fn refused(refusal: &Refusal) -> Self {
        Self {
            outcome: refusal.status().into(),
            body: Some(refusal.document()),
            ..Self::default()
        }
    }

    pub(crate) fn rate_limited(retry_after_s: i64) -> Self {
        let mut answer = Self::refused(&Problem::throttled(retry_after_s).into());
        answer.outcome.is_rate_limited = true;
        answer.retry_after = Some(retry_after_s.to_string());
        answer
    }

    /// Makes it an HTTP response.
    pub(crate) fn into_response(self) -> Response<Body> {
        let status =
            StatusCode::from_u16(self.outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::builder().status(status);
        if let Some(standing) = self.standing {
            response = response
                .header("RateLimit-Limit", standing.limit)
                .header("RateLimit-Remaining", standing.remaining)
                .header("RateLimit-Reset", standing.reset_s);
        }
        if let Some(retry_after) = self.retry_after {
            response = response.header(RETRY_AFTER, retry_after);
        }
        if let Some(hostile) = self.hostile {
            return hostile.answer(response).unwrap_or_else(no_header_value);
        }
        let response = match self.body {
            _ if self.html => {
                let page = format!("<html><body><h1>{status}</h1></body></html>");
                response
                    .header(CONTENT_TYPE, "text/html")
                    .body(Body::from(page))
            }
            Some(body) => response
                .header(CONTENT_TYPE, "application/vnd.api+json")
                .body(Body::from(body.to_string())),
            None => response.body(Body::empty()),
        };
        response.unwrap_or_else(no_header_value)
    }
}

/// A scripted `Retry-After` that no header can carry.
fn no_header_value(_: Error) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
