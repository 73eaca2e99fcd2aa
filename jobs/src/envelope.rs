//! What surrounds the payload of every job, read without copying.
//!
//! Only the envelope is parsed here; `data` stays text until its kind is known. Unknown fields are ignored, so that
//! an older daemon reads what a newer producer wrote. The surprising thing: the readable error is made by reading
//! the job a second time, because serde's own errors may repeat values.

use crate::invalid::{Invalid, code};
use crate::value::{TIME_RULE, check_id};
use jiff::Timestamp;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// The largest job in bytes: Klaviyo takes no larger body.
pub const JOB_BYTES_MAX: usize = 5_000_000;

/// A job as it stands on the queue.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// The stable name of the kind, such as `event.track`.
    pub kind: Cow<'a, str>,
    /// The job's identifier, 1 to 255 characters; absent, the reader uses `<queue>/<stream id>`.
    pub id: Option<Cow<'a, str>>,
    /// When it happened; absent, the reader uses the time of the stream id.
    pub at: Option<Timestamp>,
    /// The W3C `traceparent` of whoever enqueued it.
    pub trace: Option<Cow<'a, str>>,
    /// After this the job is not worth delivering.
    pub expires_at: Option<Timestamp>,
    /// The payload, not yet read.
    pub data: &'a RawValue,
}

/// A text that borrows when it holds no escapes. Serde does this for a plain `Cow`, but not inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    at: Option<Text<'a>>,
    #[serde(borrow)]
    trace: Option<Text<'a>>,
    #[serde(borrow)]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Parses a job, leaving its `data` as text.
    ///
    /// # Errors
    /// [`Invalid`] with `job.too_large`, `job.not_json`, `job.missing_field` or `job.invalid`.
    pub fn parse(json: &'a [u8]) -> Result<Self, Invalid> {
        if json.len() > JOB_BYTES_MAX {
            return Err(Invalid::new(
                code::TOO_LARGE,
                "the job is larger than 5 MB; send less in one job",
            ));
        }
        let text = std::str::from_utf8(json)
            .map_err(|_| Invalid::new(code::NOT_JSON, "the job is not UTF-8 text"))?;
        let read: Read<'a> = serde_json::from_str(text).map_err(|_| why_unreadable(text))?;
        let kind = read.kind.ok_or_else(|| missing("kind"))?.0;
        let data = read.data.ok_or_else(|| missing("data"))?;
        if let Some(Text(id)) = &read.id {
            check_id(id).map_err(|rule| Invalid::at("/id", format!("`id` {rule}")))?;
        }
        Ok(Self {
            kind,
            id: read.id.map(|text| text.0),
            at: time(read.at, "at")?,
            trace: read.trace.map(|text| text.0),
            expires_at: time(read.expires_at, "expires_at")?,
            data,
        })
    }

    /// Returns the `id` of a job that was parsed before, reading no further than it must.
    pub fn id_of(json: &'a [u8]) -> Option<Cow<'a, str>> {
        let mut id = None;
        let text = std::str::from_utf8(json).ok()?;
        let mut reader = serde_json::Deserializer::from_str(text);
        // Whoever ends before the last field gets an error: the id was found all the same.
        drop(reader.deserialize_map(FindId(&mut id)));
        id
    }
}

/// Reads fields until the one that is the id.
struct FindId<'b, 'a>(&'b mut Option<Cow<'a, str>>);

impl<'a> Visitor<'a> for FindId<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a job")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut fields: M) -> Result<(), M::Error> {
        while let Some(Text(name)) = fields.next_key()? {
            if name == "id" {
                let id: Option<Text<'a>> = fields.next_value()?;
                *self.0 = id.map(|text| text.0);
                break;
            }
            fields.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

fn missing(field: &str) -> Invalid {
    Invalid::new(
        code::MISSING_FIELD,
        format!("the job has no `{field}`; add it"),
    )
    .with_pointer(format!("/{field}"))
}

fn time(text: Option<Text<'_>>, field: &str) -> Result<Option<Timestamp>, Invalid> {
    let parse = |Text(text): Text<'_>| {
        text.parse()
            .map_err(|_| Invalid::at(format!("/{field}"), format!("`{field}` {TIME_RULE}")))
    };
    text.map(parse).transpose()
}

/// Reads the job again, field by field, to say what is wrong with it.
fn why_unreadable(text: &str) -> Invalid {
    let Ok(value) = serde_json::from_str::<&RawValue>(text) else {
        return Invalid::new(
            code::NOT_JSON,
            "the job is not JSON; write one object such as {\"kind\": …, \"data\": …}",
        );
    };
    let Ok(fields) = serde_json::from_str::<HashMap<String, &RawValue>>(value.get()) else {
        return Invalid::new(
            code::NOT_JSON,
            "the job is not a JSON object; write one such as {\"kind\": …, \"data\": …}",
        );
    };
    for field in ["kind", "id", "at", "trace", "expires_at"] {
        let readable = |raw: &&RawValue| serde_json::from_str::<Option<String>>(raw.get()).is_ok();
        if !fields.get(field).is_none_or(readable) {
            return Invalid::at(format!("/{field}"), format!("`{field}` must be a text"));
        }
    }
    Invalid::new(code::INVALID, "the job names a field twice; name each once")
}

/// The envelope as producers write it. Fields that say nothing are left out.
#[derive(Serialize)]
pub(crate) struct Written<'a, D: ?Sized> {
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    pub(crate) at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) data: &'a D,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> (&'static str, String) {
        let invalid = Envelope::parse(json.as_bytes()).unwrap_err();
        (invalid.code(), invalid.to_string())
    }

    #[test]
    fn an_envelope_borrows_and_ignores_what_it_does_not_know() {
        let json = br#"{"kind": "event.track", "id": "order-1001", "at": "2026-11-24T09:00:00Z", "trace": null,
            "expires_at": null, "tenant": {"x": [1]}, "data": {"a" : 1}}"#;
        let envelope = Envelope::parse(json).unwrap();
        assert!(matches!(envelope.kind, Cow::Borrowed("event.track")));
        assert!(matches!(envelope.id, Some(Cow::Borrowed("order-1001"))));
        assert_eq!(envelope.at.unwrap().to_string(), "2026-11-24T09:00:00Z");
        assert_eq!((envelope.trace, envelope.expires_at), (None, None));
        assert_eq!(envelope.data.get(), r#"{"a" : 1}"#);
    }

    #[test]
    fn the_id_alone_is_found_wherever_it_stands() {
        let id = |json: &'static str| Envelope::id_of(json.as_bytes());
        assert!(matches!(
            id(r#"{"kind":"k","id":"a-1","data":{}}"#),
            Some(Cow::Borrowed("a-1"))
        ));
        assert_eq!(id(r#"{"data":{"id":"no"},"id":"a\u00e9"}"#).unwrap(), "aé");
        for without in [
            r#"{"data":{"id":"no"}}"#,
            r#"{"id":null}"#,
            r#"{"id":1}"#,
            "[1]",
            "{",
        ] {
            assert_eq!(id(without), None, "{without}");
        }
    }

    #[test]
    fn each_mistake_is_named_without_repeating_the_value() {
        let long = "x".repeat(256);
        for (json, code, text) in [
            ("{", "job.not_json", "not JSON"),
            ("[]", "job.not_json", "not a JSON object"),
            ("\"a@shop.io\"", "job.not_json", "not a JSON object"),
            (r#"{"data": {}}"#, "job.missing_field", "no `kind`"),
            (
                r#"{"kind": "event.track"}"#,
                "job.missing_field",
                "no `data`",
            ),
            (
                r#"{"kind": "event.track", "data": null}"#,
                "job.missing_field",
                "no `data`",
            ),
            (
                r#"{"kind": 7, "data": {}}"#,
                "job.invalid",
                "`kind` must be a text",
            ),
            (
                r#"{"kind": "k", "id": 1001, "data": {}}"#,
                "job.invalid",
                "`id` must be a text",
            ),
            (
                r#"{"kind": "k", "id": "", "data": {}}"#,
                "job.invalid",
                "1 to 255",
            ),
            (
                &format!(r#"{{"kind": "k", "id": "{long}", "data": {{}}}}"#),
                "job.invalid",
                "1 to 255",
            ),
            (
                r#"{"kind": "k", "at": "yesterday", "data": {}}"#,
                "job.invalid",
                "`at` must be an RFC 3339",
            ),
            (
                r#"{"kind": "k", "expires_at": "2026-13-01T00:00:00Z", "data": {}}"#,
                "job.invalid",
                "`expires_at`",
            ),
            (
                r#"{"kind": "k", "kind": "k", "data": {}}"#,
                "job.invalid",
                "twice",
            ),
        ] {
            let (seen_code, seen_text) = refused(json);
            assert_eq!(seen_code, code, "{json}");
            assert!(seen_text.contains(text), "{json}: {seen_text}");
            assert!(
                !seen_text.contains("yesterday") && !seen_text.contains('@'),
                "{seen_text}"
            );
        }
    }

    #[test]
    fn a_job_above_5_mb_is_refused_before_it_is_read() {
        let json = vec![b' '; JOB_BYTES_MAX + 1];
        assert_eq!(Envelope::parse(&json).unwrap_err().code(), "job.too_large");
    }
}
