//! What a status means: to the caller, and to the gates.
//!
//! The status comes first; `code` is only a refinement, for Klaviyo publishes no list of codes.
//! Bodies are not trusted: they may be a gateway's HTML, empty, or nested without end. What cannot
//! be read is left out of the error.

use serde_json::Value;

use super::error::{ErrorDetail, ErrorKind};
use super::gate::Outcome;
use super::rate_limit::retry_after;
use super::transport::Response;

/// Says what an answer that is not 2xx means.
///
/// # Errors
/// What it means.
pub fn classify(response: &Response) -> Result<(), ErrorKind> {
    let status = response.status.as_u16();
    let kind = match status {
        200..=299 => return Ok(()),
        400 | 422 => ErrorKind::Invalid {
            status,
            errors: errors(&response.body).0,
        },
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound {
            errors: errors(&response.body).0,
        },
        405 | 410 | 415 => ErrorKind::Refused { status },
        409 => {
            let (errors, duplicate_profile_id) = errors(&response.body);
            ErrorKind::Conflict {
                duplicate_profile_id,
                errors,
            }
        }
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited {
            retry_after: retry_after(&response.headers),
        },
        408 | 500.. => ErrorKind::Unavailable {
            status,
            retry_after: retry_after(&response.headers),
        },
        _ => ErrorKind::Unexpected { status },
    };
    Err(kind)
}

/// Says what an answer means to the gates: credentials, operation, breaker, in this order.
pub(crate) fn outcomes(status: Option<u16>) -> [Outcome; 3] {
    use Outcome::{Bad, Good, Unknown};
    match status {
        Some(200..=299 | 400 | 404 | 409 | 413 | 422) => [Good, Good, Good],
        Some(401) => [Bad, Unknown, Good],
        Some(403 | 405 | 410 | 415) => [Good, Bad, Good],
        None | Some(500..) => [Unknown, Unknown, Bad],
        Some(429) => [Unknown, Unknown, Good],
        Some(_) => [Unknown, Unknown, Unknown],
    }
}

/// Reads Klaviyo's errors, and the profile of a conflict; nothing of a body that has none.
fn errors(body: &[u8]) -> (Vec<ErrorDetail>, Option<String>) {
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        return (Vec::new(), None);
    };
    let Some(errors) = document["errors"].as_array() else {
        return (Vec::new(), None);
    };
    let duplicate = errors
        .iter()
        .find_map(|error| text(&error["meta"]["duplicate_profile_id"]));
    let details = errors
        .iter()
        .filter(|error| error.is_object())
        .map(|error| ErrorDetail {
            id: text(&error["id"]),
            code: text(&error["code"]),
            detail: text(&error["detail"]),
            pointer: text(&error["source"]["pointer"]),
            parameter: text(&error["source"]["parameter"]),
        });
    (details.collect(), duplicate)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::error::{Error, Recovery};
    use crate::klaviyo::memory::Answer;
    use crate::klaviyo::operation::Operation;
    use std::time::Duration;

    fn response(status: u16, body: &str) -> Response {
        with_retry_after(status, "3", body)
    }

    fn with_retry_after(status: u16, after: &'static str, body: &str) -> Response {
        match Answer::with_headers(status, &[("retry-after", after)], body.to_owned()) {
            Answer::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn error(response: &Response) -> Error {
        Error::new(Operation::CreateEvent, classify(response).unwrap_err())
    }

    #[test]
    fn every_status_has_its_recovery() {
        let three = Recovery::RetryAfter(Duration::from_secs(3));
        let cases = [
            (301, "klaviyo.unexpected", Recovery::Retry),
            (400, "klaviyo.invalid", Recovery::Never),
            (401, "klaviyo.unauthorized", Recovery::Operator),
            (403, "klaviyo.forbidden", Recovery::Operator),
            (404, "klaviyo.not_found", Recovery::Never),
            (405, "klaviyo.refused", Recovery::Operator),
            (408, "klaviyo.unavailable", three),
            (409, "klaviyo.conflict", Recovery::Never),
            (410, "klaviyo.refused", Recovery::Operator),
            (413, "klaviyo.too_large", Recovery::Never),
            (415, "klaviyo.refused", Recovery::Operator),
            (418, "klaviyo.unexpected", Recovery::Retry),
            (429, "klaviyo.rate_limited", three),
            (500, "klaviyo.unavailable", three),
            (503, "klaviyo.unavailable", three),
            (524, "klaviyo.unavailable", three),
        ];
        for (status, reason, recovery) in cases {
            let error = error(&response(status, ""));
            assert_eq!(
                (error.reason(), error.recovery()),
                (reason, recovery),
                "{status}"
            );
        }
        let without = error(&with_retry_after(500, "never", ""));
        assert_eq!(without.recovery(), Recovery::Retry);
    }

    #[test]
    fn error_bodies_are_read_for_pointer_code_and_duplicate() {
        let body = r#"{"errors":[{"id":"2c","code":"duplicate_profile","title":"t","detail":"a@shop.io exists",
            "source":{"pointer":"/data/attributes/email"},"meta":{"duplicate_profile_id":"01G"}}]}"#;
        let error = error(&response(409, body));
        let detail = &error.details()[0];
        assert_eq!(detail.pointer.as_deref(), Some("/data/attributes/email"));
        assert_eq!(detail.code.as_deref(), Some("duplicate_profile"));
        assert!(
            matches!(error.kind(), ErrorKind::Conflict { duplicate_profile_id: Some(id), .. } if id == "01G")
        );
    }

    #[test]
    fn what_klaviyo_quotes_about_people_is_never_printed() {
        let body = r#"{"errors":[{"id":"a@shop.io","code":"a@shop.io","detail":"a@shop.io",
            "source":{"pointer":"a@shop.io","parameter":"a@shop.io"},"meta":{"duplicate_profile_id":"a@shop.io"}}]}"#;
        for status in [400, 401, 403, 404, 409, 413, 429, 500] {
            let error = error(&response(status, body));
            let source = std::error::Error::source(&error).unwrap();
            let printed = format!(
                "{error} {error:?} {source} {source:?} {:?}",
                error.details()
            );
            assert!(!printed.contains("shop.io"), "{printed}");
        }
    }

    #[test]
    fn hostile_bodies_never_panic() {
        let deep = format!("{{\"errors\":{}", "[".repeat(200_000));
        let bodies = [
            "",
            "<html><body>502 Bad Gateway</body></html>",
            "null",
            "[]",
            "\"x\"",
            "{",
            "\u{0}",
            r#"{"errors":{}}"#,
            r#"{"errors":[null,1,[],{}]}"#,
            r#"{"errors":[{"id":1,"code":{},"detail":[],"source":"x","meta":7}]}"#,
            deep.as_str(),
        ];
        for body in bodies {
            for status in [400, 404, 409, 500] {
                let error = error(&response(status, body));
                assert!(
                    error
                        .details()
                        .iter()
                        .all(|detail| detail.pointer.is_none()),
                    "{body}"
                );
            }
        }
    }
}
