//! The documents of events, single and bulk.
//!
//! Klaviyo fills a missing `unique_id` with the second of the event, so two orders in one second
//! would become one: here it is not optional. Bulk documents group events by profile; Klaviyo's
//! limit of 1,000 counts events over all groups, and 5 MB the whole document.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::document::{Data, Identifiers, Resource, write};

/// Something a customer did.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The metric's name, under 128 characters; made on first use.
    pub metric: &'a str,
    /// Who did it.
    pub profile: Identifiers<'a>,
    /// Properties, a JSON object; absent is an empty one.
    pub properties: Option<&'a RawValue>,
    /// When it happened; Klaviyo keeps whole seconds.
    pub time: Timestamp,
    /// Its worth in major units: a JSON number, written with the digits it came with.
    pub value: Option<&'a RawValue>,
    /// The currency of `value`, ISO 4217.
    pub value_currency: Option<&'a str>,
    /// What makes it one event per profile and metric, however often it is sent.
    pub unique_id: &'a str,
    /// Recorded without triggering flows.
    pub backfill: bool,
}

/// Events of one profile in a bulk document. What an event itself says about its profile and
/// backfill is not looked at.
#[derive(Clone, Debug)]
pub struct EventGroup<'a> {
    /// Who did it all.
    pub profile: Identifiers<'a>,
    /// Recorded without triggering flows.
    pub backfill: bool,
    /// What they did.
    pub events: Vec<Event<'a>>,
}

/// A written bulk document.
#[derive(Clone)]
pub struct BulkEvents(Bytes);

impl BulkEvents {
    /// Returns the document.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::fmt::Debug for BulkEvents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "BulkEvents({} bytes)", self.0.len())
    }
}

/// Writes the document of [`CreateEvent`](super::Operation::CreateEvent).
pub fn event_document(event: &Event<'_>) -> Bytes {
    let attributes = Attributes {
        profile: Some((&event.profile).into()),
        backfill: Some(event.backfill),
        ..Attributes::of(event)
    };
    let document = Data {
        data: Resource {
            r#type: "event",
            id: None,
            attributes,
        },
    };
    write(
        &document,
        512 + event
            .properties
            .map_or(0, |properties| properties.get().len()),
    )
}

/// Writes the document of [`BulkCreateEvents`](super::Operation::BulkCreateEvents).
pub fn bulk_events_document(groups: &[EventGroup<'_>]) -> BulkEvents {
    let mut bytes_about = 128;
    for group in groups {
        bytes_about += 256;
        for event in &group.events {
            bytes_about += 288
                + event
                    .properties
                    .map_or(2, |properties| properties.get().len());
        }
    }
    let attributes = BulkAttributes {
        events_bulk_create: Data {
            data: Groups(groups),
        },
    };
    let document = Data {
        data: Resource {
            r#type: "event-bulk-create-job",
            id: None,
            attributes,
        },
    };
    BulkEvents(write(&document, bytes_about))
}

#[derive(Serialize)]
struct Attributes<'a> {
    metric: Data<Resource<'a, MetricAttributes<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Data<Resource<'a, Identifiers<'a>>>>,
    properties: Properties<'a>,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_currency: Option<&'a str>,
    unique_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<bool>,
}

#[derive(Serialize)]
struct MetricAttributes<'a> {
    name: &'a str,
}

impl<'a> Attributes<'a> {
    fn of(event: &Event<'a>) -> Self {
        let metric = Resource {
            r#type: "metric",
            id: None,
            attributes: MetricAttributes { name: event.metric },
        };
        Self {
            metric: Data { data: metric },
            profile: None,
            properties: Properties(event.properties),
            time: event.time,
            value: event.value,
            value_currency: event.value_currency,
            unique_id: event.unique_id,
            backfill: None,
        }
    }
}

#[derive(Serialize)]
struct BulkAttributes<'a> {
    #[serde(rename = "events-bulk-create")]
    events_bulk_create: Data<Groups<'a>>,
}

#[derive(Serialize)]
struct GroupAttributes<'a> {
    profile: Data<Resource<'a, Identifiers<'a>>>,
    backfill: bool,
    events: Data<Events<'a>>,
}

struct Groups<'a>(&'a [EventGroup<'a>]);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|group| Resource {
            r#type: "event-bulk-create",
            id: None,
            attributes: GroupAttributes {
                profile: (&group.profile).into(),
                backfill: group.backfill,
                events: Data {
                    data: Events(&group.events),
                },
            },
        }))
    }
}

struct Events<'a>(&'a [Event<'a>]);

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|event| Resource {
            r#type: "event",
            id: None,
            attributes: Attributes::of(event),
        }))
    }
}

/// Properties are required; an event without any has an empty object.
struct Properties<'a>(Option<&'a RawValue>);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(properties) => properties.serialize(serializer),
            None => serializer.collect_map(std::iter::empty::<((), ())>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event<'a>(properties: Option<&'a RawValue>, value: Option<&'a RawValue>) -> Event<'a> {
        Event {
            metric: "Placed Order",
            profile: Identifiers {
                email: Some("a@shop.io"),
                ..Identifiers::default()
            },
            properties,
            time: "2026-09-04T13:38:55Z".parse().unwrap(),
            value,
            value_currency: value.map(|_| "EUR"),
            unique_id: "order-1001",
            backfill: false,
        }
    }

    #[test]
    fn single_event_is_written_as_the_reference_shows_it() {
        let properties = RawValue::from_string(r#"{"OrderId":"1001"}"#.to_owned()).unwrap();
        let value = RawValue::from_string("9.99".to_owned()).unwrap();
        let written = event_document(&event(Some(&properties), Some(&value)));
        let written: Value = serde_json::from_slice(&written).unwrap();
        let expected = json!({"data": {"type": "event", "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            "profile": {"data": {"type": "profile", "attributes": {"email": "a@shop.io"}}},
            "properties": {"OrderId": "1001"},
            "time": "2026-09-04T13:38:55Z",
            "value": 9.99, "value_currency": "EUR",
            "unique_id": "order-1001", "backfill": false,
        }}});
        assert_eq!(written, expected);
    }

    #[test]
    fn bulk_events_are_written_by_group_and_absent_properties_as_an_empty_object() {
        let profile = Identifiers {
            id: Some("01G"),
            ..Identifiers::default()
        };
        let group = EventGroup {
            profile,
            backfill: true,
            events: vec![event(None, None)],
        };
        let written = bulk_events_document(&[group]);
        let written: Value = serde_json::from_slice(written.as_bytes()).unwrap();
        let expected = json!({"data": {"type": "event-bulk-create-job", "attributes": {
            "events-bulk-create": {"data": [{"type": "event-bulk-create", "attributes": {
                "profile": {"data": {"type": "profile", "id": "01G", "attributes": {}}},
                "backfill": true,
                "events": {"data": [{"type": "event", "attributes": {
                    "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
                    "properties": {}, "time": "2026-09-04T13:38:55Z", "unique_id": "order-1001",
                }}]},
            }}]},
        }}});
        assert_eq!(written, expected);
    }
}
