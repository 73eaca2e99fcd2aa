//! The few fields of answers that we read.
//!
//! Unknown members are ignored: Klaviyo adds some without a new revision. A success whose body
//! cannot be read becomes [`BadAnswer`](super::ErrorKind::BadAnswer), never a panic.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rate_limit::answered_at;
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
    /// The name of the organization.
    pub name: Option<String>,
    /// Klaviyo's clock when it answered, to the second.
    pub answered_at: Option<Timestamp>,
    /// Whether it is a test account; nothing else tells them apart.
    pub test_account: bool,
    /// Its time zone.
    pub timezone: Option<String>,
    /// Its currency.
    pub preferred_currency: Option<String>,
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
        name: attributes
            .contact_information
            .and_then(|it| it.organization_name),
        answered_at: answered_at(&response.headers),
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
    contact_information: Option<ContactInformation>,
    test_account: Option<bool>,
    timezone: Option<String>,
    preferred_currency: Option<String>,
}

#[derive(Deserialize)]
struct ContactInformation {
    organization_name: Option<String>,
}

fn read<T: DeserializeOwned>(response: &Response) -> Option<T> {
    serde_json::from_slice(&response.body).ok()
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
    use crate::klaviyo::memory::Answer;

    fn response(status: u16, body: &str) -> Response {
        match Answer::new(status, body.to_owned()) {
            Answer::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn success_with_a_hostile_body_is_unreadable_and_never_a_panic() {
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
            let success = response(200, body);
            let _ = upserted(&success);
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
