//! Klaviyo's error documents.
//!
//! A [`Problem`] found deep in a body carries a pointer relative to where it was found; the caller puts its own
//! place in front with [`Problem::under`].

use rand::Rng;
use serde_json::{Map, Value, json};

#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    code: &'static str,
    title: &'static str,
    pub(crate) detail: String,
    source: Source,
    meta: Map<String, Value>,
}

#[derive(Debug)]
enum Source {
    Pointer(String),
    Parameter(&'static str),
    None,
}

/// One or more problems that refuse a whole request; the first one gives the status.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Vec<Problem>);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Refusal {
    pub(crate) fn status(&self) -> u16 {
        self.0.first().map_or(400, |problem| problem.status)
    }

    pub(crate) fn document(&self) -> Value {
        json!({ "errors": self.0.iter().map(Problem::to_json).collect::<Vec<_>>() })
    }
}

impl Problem {
    fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            source: Source::None,
            meta: Map::new(),
        }
    }

    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let source = Source::Pointer(pointer.into());
        Self {
            source,
            ..Self::new(400, "invalid", "Invalid input.", detail)
        }
    }

    pub(crate) fn required(pointer: impl Into<String>, field: &str) -> Self {
        Self::invalid(pointer, format!("'{field}' is a required field."))
    }

    pub(crate) fn unknown_field(pointer: impl Into<String>, field: &str, resource: &str) -> Self {
        Self::invalid(
            pointer,
            format!("'{field}' is not a valid field for the resource '{resource}'."),
        )
    }

    pub(crate) fn parameter(parameter: &'static str, detail: impl Into<String>) -> Self {
        let source = Source::Parameter(parameter);
        Self {
            source,
            ..Self::new(400, "invalid", "Invalid input.", detail)
        }
    }

    pub(crate) fn duplicate_profile(profile_id: &str) -> Self {
        let mut meta = Map::new();
        meta.insert("duplicate_profile_id".to_owned(), Value::from(profile_id));
        let title = "Conflict.";
        let detail = "A profile already exists with one of these identifiers.";
        Self {
            meta,
            source: Source::Pointer("/data/attributes".to_owned()),
            ..Self::new(409, "duplicate_profile", title, detail)
        }
    }

    pub(crate) fn throttled(retry_after_s: i64) -> Self {
        let unit = if retry_after_s == 1 {
            "second"
        } else {
            "seconds"
        };
        let detail =
            format!("Request was throttled. Expected available in {retry_after_s} {unit}.");
        Self::new(429, "throttled", "Request was throttled.", detail)
    }

    pub(crate) fn not_found(resource: &str, id: &str) -> Self {
        Self::new(
            404,
            "not_found",
            "Not found.",
            format!("A {resource} with id {id} does not exist."),
        )
    }

    /// The document that goes with a bare status.
    pub(crate) fn of_status(status: u16) -> Self {
        let (code, title, detail) = match status {
            401 => (
                "authentication_failed",
                "Authentication failed.",
                "Incorrect authentication credentials.",
            ),
            403 => (
                "permission_denied",
                "Permission denied.",
                "The key lacks a scope for this operation.",
            ),
            404 => (
                "not_found",
                "Not found.",
                "The requested resource was not found.",
            ),
            405 => (
                "method_not_allowed",
                "Method not allowed.",
                "This method is not allowed here.",
            ),
            409 => (
                "conflict",
                "Conflict.",
                "The request conflicts with the current state.",
            ),
            410 => ("gone", "Gone.", "This revision is retired."),
            413 => (
                "payload_too_large",
                "Payload too large.",
                "The request body is larger than allowed.",
            ),
            415 => (
                "unsupported_media_type",
                "Unsupported media type.",
                "Send application/vnd.api+json.",
            ),
            429 => (
                "throttled",
                "Request was throttled.",
                "Request was throttled. Expected available in 1 second.",
            ),
            500..=599 => (
                "error",
                "A server error occurred.",
                "Internal error, try again later.",
            ),
            _ => ("invalid", "Invalid input.", "The request was not accepted."),
        };
        Self::new(status, code, title, detail)
    }

    pub(crate) fn detailed(self, detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            ..self
        }
    }

    /// Puts the place of the surrounding document in front of the pointer.
    pub(crate) fn under(mut self, place: &str) -> Self {
        if let Source::Pointer(pointer) = &mut self.source {
            pointer.insert_str(0, place);
        }
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let source = match &self.source {
            Source::Pointer(pointer) => json!({ "pointer": pointer }),
            Source::Parameter(parameter) => json!({ "parameter": parameter }),
            Source::None => json!({ "pointer": "/data/" }),
        };
        json!({
            "id": uuid(), "status": self.status, "code": self.code, "title": self.title, "detail": self.detail,
            "source": source, "links": {}, "meta": self.meta,
        })
    }
}

fn uuid() -> String {
    let bits: u128 = rand::rng().random();
    format_uuid(bits)
}

/// Formats 128 bits as a version 4 UUID.
pub(crate) fn format_uuid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
