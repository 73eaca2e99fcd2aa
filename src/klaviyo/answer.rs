//! What answers say: a verdict by the status, and the few fields we read.
//!
//! The status comes first; `code` is only a refinement, for Klaviyo publishes no list of codes.
//! Bodies are not trusted: they may be a gateway's HTML, empty, or nested without end. What cannot
//! be read is left out of an error, and makes a success a [`ErrorKind::BadAnswer`].

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ErrorDetail, ErrorKind};
use super::gate::Outcome;
use super::rate_limit::retry_after;
use super::transport::Response;

/// A profile after an upsert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upserted {
    /// Klaviyo's id of the profile.
    pub id: String,
    /// Whether it is new.
    pub created: bool,
}

/// A bulk import, as Klaviyo keeps it for seven days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportJob {
    /// Klaviyo's id of the import.
    pub id: String,
    /// `queued`, `processing`, `complete` or `cancelled`. Complete does not mean that every row
    /// worked.
    pub status: String,
    /// Rows sent.
    pub total_count: u64,
    /// Rows done; may stay 0 while processing.
    pub completed_count: u64,
    /// Rows refused.
    pub failed_count: u64,
}

/// One page of refused rows.
#[derive(Clone, Debug)]
pub struct ImportErrors {
    /// The rows.
    pub rows: Vec<ImportError>,
    /// What to ask for the next page with.
    pub next: Option<String>,
}

/// A refused row of a bulk import.
#[derive(Clone, Default)]
pub struct ImportError {
    /// Klaviyo's code.
    pub code: Option<String>,
    /// A short title.
    pub title: Option<String>,
    /// A sentence for people. May quote personal data: never to be logged.
    pub detail: Option<String>,
    /// Where in the row, as a JSON pointer.
    pub pointer: Option<String>,
    /// The row as it was sent. Personal data: never to be logged.
    pub original_payload: Option<Value>,
}

impl std::fmt::Debug for ImportError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ImportError")
            .finish_non_exhaustive()
    }
}

/// The account that the key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Klaviyo's id of the account.
    pub id: String,
    /// Whether it is a test account; nothing else tells them apart.
    pub test_account: bool,
    /// Its time zone.
    pub timezone: Option<String>,
    /// Its currency.
    pub preferred_currency: Option<String>,
}

/// Says what an answer that is not 2xx means.
pub(crate) fn classify(response: &Response) -> Result<(), ErrorKind> {
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

pub(crate) fn upserted(response: &Response) -> Option<Upserted> {
    let document: Document<Identified> = read(response)?;
    let created = response.status.as_u16() == 201;
    Some(Upserted {
        id: document.data.id,
        created,
    })
}

pub(crate) fn import_job(response: &Response) -> Option<ImportJob> {
    let Resource { id, attributes } = read::<Document<Resource<ImportAttributes>>>(response)?.data;
    Some(ImportJob {
        id,
        status: attributes.status,
        total_count: attributes.total_count.unwrap_or(0),
        completed_count: attributes.completed_count.unwrap_or(0),
        failed_count: attributes.failed_count.unwrap_or(0),
    })
}

pub(crate) fn import_errors(response: &Response) -> Option<ImportErrors> {
    let page: Page<Value> = read(response)?;
    let rows = page.data.into_iter().map(import_error).collect();
    Some(ImportErrors {
        rows,
        next: page.links.and_then(|links| links.next),
    })
}

pub(crate) fn account(response: &Response) -> Option<Account> {
    let page: Page<Resource<AccountAttributes>> = read(response)?;
    let Resource { id, attributes } = page.data.into_iter().next()?;
    Some(Account {
        id,
        test_account: attributes.test_account.unwrap_or(false),
        timezone: attributes.timezone,
        preferred_currency: attributes.preferred_currency,
    })
}

#[derive(Deserialize)]
struct Document<T> {
    data: T,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

#[derive(Deserialize)]
struct Resource<T> {
    id: String,
    attributes: T,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Links {
    next: Option<String>,
}

#[derive(Deserialize)]
struct ImportAttributes {
    status: String,
    total_count: Option<u64>,
    completed_count: Option<u64>,
    failed_count: Option<u64>,
}

#[derive(Deserialize)]
struct AccountAttributes {
    test_account: Option<bool>,
    timezone: Option<String>,
    preferred_currency: Option<String>,
}

fn read<T: DeserializeOwned>(response: &Response) -> Option<T> {
    serde_json::from_slice(&response.body).ok()
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

fn import_error(mut row: Value) -> ImportError {
    // The fields are attributes of a resource in the reference; some clients saw them bare.
    let attributes = match row.get_mut("attributes") {
        Some(attributes) => attributes.take(),
        None => row,
    };
    ImportError {
        code: text(&attributes["code"]),
        title: text(&attributes["title"]),
        detail: text(&attributes["detail"]),
        pointer: text(&attributes["source"]["pointer"]),
        original_payload: attributes
            .get("original_payload")
            .filter(|p| !p.is_null())
            .cloned(),
    }
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
            (301, "unexpected", Recovery::Retry),
            (400, "invalid", Recovery::Never),
            (401, "unauthorized", Recovery::Operator),
            (403, "forbidden", Recovery::Operator),
            (404, "not_found", Recovery::Never),
            (405, "refused", Recovery::Operator),
            (408, "unavailable", three),
            (409, "conflict", Recovery::Never),
            (410, "refused", Recovery::Operator),
            (413, "too_large", Recovery::Never),
            (415, "refused", Recovery::Operator),
            (418, "unexpected", Recovery::Retry),
            (429, "rate_limited", three),
            (500, "unavailable", three),
            (503, "unavailable", three),
            (524, "unavailable", three),
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
        let deep = "[".repeat(200_000);
        let deep_errors = format!("{{\"errors\":{deep}");
        let bodies = [
            "",
            "<html><body>502 Bad Gateway</body></html>",
            "null",
            "[]",
            "7",
            "\"x\"",
            "{",
            "{}",
            "\u{0}",
            r#"{"errors":{}}"#,
            r#"{"errors":[]}"#,
            r#"{"errors":[null,1,[],{}]}"#,
            r#"{"errors":[{"id":1,"code":{},"detail":[],"source":"x","meta":7}]}"#,
            r#"{"data":null}"#,
            r#"{"data":[]}"#,
            r#"{"data":{"id":7}}"#,
            r#"{"data":{"id":"x","attributes":{"status":1}}}"#,
            r#"{"data":{"id":"x","attributes":{"status":"complete","failed_count":-1}}}"#,
            r#"{"data":[1],"links":"x"}"#,
            deep.as_str(),
            deep_errors.as_str(),
        ];
        for body in bodies {
            for status in [400, 404, 409, 500] {
                assert!(classify(&response(status, body)).is_err());
            }
            let success = response(200, body);
            assert_eq!(upserted(&success), None);
            assert_eq!(import_job(&success), None);
            assert_eq!(account(&success), None);
            let _ = import_errors(&success);
        }
    }

    #[test]
    fn unknown_members_of_an_answer_are_ignored() {
        let body = r#"{"data":{"type":"profile-bulk-import-job","id":"j","attributes":{"status":"complete",
            "total_count":3,"completed_count":2,"failed_count":1,"new":{}},"x":1},"meta":{"agent_hints":[]}}"#;
        let job = import_job(&response(202, body)).unwrap();
        assert_eq!(
            (job.id.as_str(), job.status.as_str(), job.failed_count),
            ("j", "complete", 1)
        );
    }

    #[test]
    fn import_errors_are_read_as_resources() {
        let body = r#"{"data":[{"type":"import-error","id":"e","attributes":{"code":"invalid","title":"t","detail":"d",
            "source":{"pointer":"/data/attributes/email"},"original_payload":{"id":"x"}}}],"links":{"next":"https://a/?page%5Bcursor%5D=c"}}"#;
        let page = import_errors(&response(200, body)).unwrap();
        assert_eq!(
            page.rows[0].pointer.as_deref(),
            Some("/data/attributes/email")
        );
        assert!(page.rows[0].original_payload.is_some());
        assert_eq!(page.next.as_deref(), Some("https://a/?page%5Bcursor%5D=c"));
    }
}
