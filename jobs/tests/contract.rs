//! What was written yesterday is still read, the published schemas are those of the types, and a refusal says what to
//! change without repeating what was sent. Frozen payloads are added, never edited.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;
use klaviyo_jobs::{
    Change, Envelope, Invalid, Job, PlaceOrder, TrackEvent, UpsertProfile, decode, kind, kinds,
};
use std::fs;
use std::path::{Path, PathBuf};

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn frozen() -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(crate_dir().join("tests/wire")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

fn wire(name: &str) -> Vec<u8> {
    fs::read(crate_dir().join("tests/wire").join(name)).unwrap()
}

fn refusal<J: Job>(data: &str) -> Invalid {
    let raw = serde_json::from_str(data).unwrap();
    let now = Timestamp::now();
    decode::<J>(raw)
        .and_then(|job| job.validate(now, now))
        .unwrap_err()
}

#[test]
fn every_frozen_payload_is_accepted_on_its_queue() {
    let now = Timestamp::now();
    for (path, json) in frozen() {
        let checked = Envelope::parse(&json)
            .and_then(|envelope| (kind(&envelope.kind)?.check)(&envelope, now));
        assert!(checked.is_ok(), "{}: {checked:?}", path.display());
    }
}

#[test]
fn a_damaged_job_is_refused_or_read_but_never_a_panic() {
    let now = Timestamp::now();
    let read = |json: &[u8]| {
        let _ = Envelope::parse(json)
            .and_then(|envelope| (kind(&envelope.kind)?.check)(&envelope, now));
    };
    for (_, json) in frozen() {
        for place in 0..json.len() {
            read(&json[..place]);
            for byte in *b"\"\\{[]},:0-e.u\xff" {
                let mut damaged = json.clone();
                damaged[place] = byte;
                read(&damaged);
            }
        }
    }
}

#[test]
fn every_kind_has_a_frozen_payload() {
    for info in kinds() {
        let envelope = wire(&format!("{}.v1.json", info.kind));
        assert_eq!(Envelope::parse(&envelope).unwrap().kind, info.kind);
    }
}

#[test]
fn a_payload_that_is_written_again_says_the_same() {
    fn again<J: Job>(name: &str) {
        let json = wire(name);
        let data = Envelope::parse(&json).unwrap().data;
        let job: J = decode(data).unwrap();
        let written: serde_json::Value = serde_json::to_value(&job).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(data.get()).unwrap();
        if let Some(time) = expected.get_mut("time") {
            *time = "2026-11-24T09:00:00Z".into();
        }
        assert_eq!(written, expected, "{name}");
    }
    again::<TrackEvent>("event.track.v1.json");
    again::<TrackEvent>("event.track.minimal.v1.json");
    again::<PlaceOrder>("order.placed.v1.json");
    again::<UpsertProfile>("profile.upsert.v1.json");
}

#[test]
fn an_amount_keeps_the_digits_that_were_sent() {
    let json = wire("event.track.v1.json");
    let event: TrackEvent = decode(Envelope::parse(&json).unwrap().data).unwrap();
    assert_eq!(event.value.unwrap().as_str(), "9.990");
}

#[test]
fn an_upsert_tells_keep_from_clear() {
    let json = wire("profile.upsert.v1.json");
    let job: UpsertProfile = decode(Envelope::parse(&json).unwrap().data).unwrap();
    assert_eq!(job.attributes.title, Change::Clear);
    assert_eq!(job.attributes.location.zip, Change::Set("75001".into()));
}

#[test]
fn published_schemas_are_those_of_the_types() {
    for info in kinds() {
        let path = crate_dir()
            .join("schema")
            .join(format!("{}.json", info.kind));
        let generated = serde_json::to_string_pretty(&(info.schema)()).unwrap() + "\n";
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == generated,
            "the schema of {} differs; regenerate with: cargo run -p klaviyo-jobs --example schema",
            info.kind
        );
    }
}

#[test]
fn schemas_are_closed_titled_and_described() {
    for info in kinds() {
        let schema = (info.schema)();
        assert_eq!(schema.get("title").unwrap(), info.kind);
        assert_eq!(schema.get("additionalProperties").unwrap(), false);
        let properties = schema.get("properties").unwrap().as_object().unwrap();
        assert!(
            properties
                .values()
                .all(|property| property["description"].is_string()),
            "{}",
            info.kind
        );
    }
}

#[test]
fn a_mistake_is_named_with_its_place_and_without_its_value() {
    type Refuse = fn(&str) -> Invalid;
    let event: Refuse = refusal::<TrackEvent>;
    let order: Refuse = refusal::<PlaceOrder>;
    let upsert: Refuse = refusal::<UpsertProfile>;
    let cases: [(Refuse, &str, &str, &str, &str); 22] = [
        (
            event,
            r#"{"metric": "M", "profile": {"emial": "secret@shop.io"}}"#,
            "job.unknown_field",
            "/data/profile/emial",
            "unknown field `emial`; did you mean `email`?",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"secret@shop.io": 1}}"#,
            "job.unknown_field",
            "/data/profile",
            "known fields are",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"+15005550006": 1}}"#,
            "job.unknown_field",
            "/data/profile",
            "known fields are",
        ),
        (
            event,
            r#"{"metric": "M"}"#,
            "job.missing_field",
            "/data/profile",
            "missing field `profile`",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {}}"#,
            "job.invalid",
            "/data/profile",
            "names nobody",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"email": "secret shop"}}"#,
            "job.invalid",
            "/data/profile/email",
            "email address",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"phone_number": "0500 5550006"}}"#,
            "job.invalid",
            "/data/profile/phone_number",
            "E.164",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"email": 15005550006}}"#,
            "job.invalid",
            "/data/profile/email",
            "must be a text",
        ),
        (
            event,
            r#"{"metric": "", "profile": {"id": "1"}}"#,
            "job.invalid",
            "/data/metric",
            "1 to 127",
        ),
        (
            event,
            r#"{"metric": null, "profile": {"id": "1"}}"#,
            "job.invalid",
            "/data/metric",
            "must be a text",
        ),
        (
            event,
            r#"{"metric": "M", "metric": "M", "profile": {"id": "1"}}"#,
            "job.invalid",
            "/data/metric",
            "twice",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "value": "secret"}"#,
            "job.invalid",
            "/data/value",
            "JSON number",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "value_currency": "eur"}"#,
            "job.invalid",
            "/data/value_currency",
            "ISO 4217",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "time": "secret"}"#,
            "job.invalid",
            "/data/time",
            "RFC 3339",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "time": "1999-01-01T00:00:00Z"}"#,
            "job.invalid",
            "/data/time",
            "before 2000",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "properties": ["secret"]}"#,
            "job.invalid",
            "/data/properties",
            "an object",
        ),
        (
            event,
            r#"{"metric": "M", "profile": {"id": "1"}, "backfill": "secret"}"#,
            "job.invalid",
            "/data/backfill",
            "true or false",
        ),
        (
            event,
            r#""secret""#,
            "job.invalid",
            "/data",
            "must be an object",
        ),
        (
            order,
            r#"{"order_id": "1", "profile": {"id": "1"}, "value": 1, "items": [{"sku": "s", "name": "n", "quantity": 1, "prise": 1}]}"#,
            "job.unknown_field",
            "/data/items/0/prise",
            "did you mean `price`?",
        ),
        (
            order,
            r#"{"order_id": "1", "profile": {"id": "1"}, "value": 1, "items": [["secret"]]}"#,
            "job.invalid",
            "/data/items/0",
            "item 0 of `items`",
        ),
        (
            upsert,
            r#"{"profile": {"id": "1"}, "attributes": {"location": {"town": "secret"}}}"#,
            "job.unknown_field",
            "/data/attributes/location/town",
            "unknown field `town`",
        ),
        (
            upsert,
            r#"{"profile": {"id": "1"}, "attributes": {"location": {"latitude": "secret"}}}"#,
            "job.invalid",
            "/data/attributes/location/latitude",
            "JSON number",
        ),
    ];
    for (refuse, data, code, pointer, text) in cases {
        let invalid = refuse(data);
        let message = invalid.to_string();
        assert_eq!(
            (invalid.code(), invalid.pointer()),
            (code, Some(pointer)),
            "{data}: {message}"
        );
        assert!(message.contains(text), "{data}: {message}");
        let everything = format!("{invalid:?}");
        assert!(
            !["secret", "5550006", "@shop"]
                .iter()
                .any(|value| everything.contains(value)),
            "{everything}"
        );
    }
}
