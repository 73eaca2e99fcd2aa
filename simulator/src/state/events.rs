//! Events and the metrics they are of.
//!
//! All events are counted, but only the newest are kept. Repeats are recognised by a 64-bit hash of the `unique_id`
//! per profile and metric: among a hundred million events of one profile and metric one false repeat is unlikely.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use serde_json::{Map, Value, json};

use super::profiles::{ProfileKey, Profiles};
use super::short_id;
use crate::clock::Moment;
use crate::event_body::EventRow;
use crate::problem::format_uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MetricKey(u32);

#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Moment,
    /// Once a metric had a value, events without one are read as 0.
    had_value: bool,
    profiles: HashSet<ProfileKey>,
}

#[derive(Debug)]
pub(crate) struct Event {
    sequence: u64,
    pub(crate) profile: ProfileKey,
    pub(crate) metric: MetricKey,
    pub(crate) time: Moment,
    unique_id: Box<str>,
    value: Option<f64>,
    value_currency: Option<Box<str>>,
    properties: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Events {
    kept_max: usize,
    kept: VecDeque<Event>,
    seen: HashSet<(ProfileKey, MetricKey, u64)>,
    profiles: HashSet<ProfileKey>,
    metrics: Vec<Metric>,
    metrics_by_name: HashMap<String, MetricKey>,
    hasher: RandomState,
    pub(crate) accepted: u64,
    pub(crate) dropped: u64,
    value_cents: i64,
}

impl Events {
    pub(crate) fn new(kept_max: usize) -> Self {
        Self {
            kept_max,
            kept: VecDeque::new(),
            seen: HashSet::new(),
            profiles: HashSet::new(),
            metrics: Vec::new(),
            metrics_by_name: HashMap::new(),
            hasher: RandomState::new(),
            accepted: 0,
            dropped: 0,
            value_cents: 0,
        }
    }

    pub(crate) fn record(&mut self, profile: ProfileKey, row: &EventRow<'_>, now: Moment) {
        self.accepted += 1;
        let metric = self.metric(&row.metric, now);
        let unique_id = self.hasher.hash_one(row.unique_id.as_bytes());
        if !self.seen.insert((profile, metric, unique_id)) {
            return;
        }
        let metric_row = &mut self.metrics[metric.0 as usize];
        metric_row.had_value |= row.value.is_some();
        if metric_row.profiles.insert(profile) {
            self.profiles.insert(profile);
        }
        self.value_cents += row.value.map_or(0, cents);
        self.keep(profile, metric, row);
    }

    fn keep(&mut self, profile: ProfileKey, metric: MetricKey, row: &EventRow<'_>) {
        if self.kept_max == 0 {
            return;
        }
        if self.kept.len() == self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(Event {
            sequence: self.seen.len() as u64,
            profile,
            metric,
            time: Moment(row.time.seconds() * 1000),
            unique_id: row.unique_id.as_ref().into(),
            value: row.value,
            value_currency: row.value_currency.as_deref().map(Into::into),
            properties: row.properties.into(),
        });
    }

    fn metric(&mut self, name: &str, now: Moment) -> MetricKey {
        if let Some(key) = self.metrics_by_name.get(name) {
            return *key;
        }
        let key = MetricKey(u32::try_from(self.metrics.len()).unwrap_or(u32::MAX));
        self.metrics_by_name.insert(name.to_owned(), key);
        self.metrics.push(Metric {
            id: short_id(),
            name: name.to_owned(),
            created: now,
            had_value: false,
            profiles: HashSet::new(),
        });
        key
    }

    pub(crate) fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(crate) fn profiles(&self) -> u64 {
        self.profiles.len() as u64
    }

    #[expect(clippy::cast_precision_loss, reason = "cents are exact below 2^53")]
    pub(crate) fn value(&self) -> f64 {
        self.value_cents as f64 / 100.0
    }

    pub(crate) fn has_metric(&self, profile: ProfileKey, metric: &str) -> bool {
        let key = self.metrics_by_name.get(metric);
        key.is_some_and(|key| self.metrics[key.0 as usize].profiles.contains(&profile))
    }

    pub(crate) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    pub(crate) fn metric_of(&self, event: &Event) -> &Metric {
        &self.metrics[event.metric.0 as usize]
    }

    /// The kept events, oldest first by arrival.
    pub(crate) fn kept(&self) -> &VecDeque<Event> {
        &self.kept
    }
}

impl Event {
    /// Eleven letters and digits that follow from the order of arrival.
    pub(crate) fn id(&self) -> String {
        format!("{:x}", self.mixed())[..11].to_owned()
    }

    fn mixed(&self) -> u128 {
        // Odd multipliers spread the sequence over all digits; the highest one is never 0.
        let high = self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x1000_0000_0000_0000;
        (u128::from(high) << 64) | u128::from(self.sequence.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub(crate) fn document(&self, profiles: &Profiles, events: &Events, base_url: &str) -> Value {
        let metric = events.metric_of(self);
        let id = self.id();
        json!({
            "type": "event",
            "attributes": {
                "timestamp": self.time.seconds(),
                "datetime": self.time.rfc3339(),
                "uuid": format_uuid(self.mixed()),
                "event_properties": self.read_properties(metric),
            },
            "relationships": {
                "profile": {"data": {"type": "profile", "id": profiles.get(self.profile).id}},
                "metric": {"data": {"type": "metric", "id": metric.id}},
            },
            "links": {"self": format!("{base_url}/api/events/{id}")},
            "id": id,
        })
    }

    /// The properties under the names they are read by; 0, null and "" count as not set.
    fn read_properties(&self, metric: &Metric) -> Map<String, Value> {
        let mut properties: Map<String, Value> =
            serde_json::from_str(&self.properties).unwrap_or_default();
        properties.retain(|_, value| !is_unset(value));
        properties.insert("$event_id".to_owned(), Value::from(&*self.unique_id));
        if let Some(value) = self.value.or(metric.had_value.then_some(0.0)) {
            properties.insert("$value".to_owned(), Value::from(value));
        }
        if let Some(currency) = &self.value_currency {
            properties.insert("$value_currency".to_owned(), Value::from(&**currency));
        }
        properties
    }
}

impl Metric {
    pub(crate) fn document(&self, base_url: &str) -> Value {
        json!({
            "type": "metric",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "created": self.created.rfc3339(),
                "updated": self.created.rfc3339(),
                "integration": {"object": "integration", "id": "0rG4eQ", "key": "api", "name": "API", "category": "API"},
            },
            "relationships": {"flow-triggers": {"data": []}},
            "links": {"self": format!("{base_url}/api/metrics/{}", self.id)},
        })
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a value beyond 2^63 cents saturates"
)]
fn cents(value: f64) -> i64 {
    (value * 100.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unique_id: &str, value: f64) -> EventRow<'_> {
        EventRow {
            metric: "Placed Order".into(),
            properties: "{}",
            time: Moment(1_000),
            value: Some(value),
            value_currency: None,
            unique_id: unique_id.into(),
            has_own_id: true,
        }
    }

    #[test]
    fn a_repeat_is_accepted_and_counts_neither_as_distinct_nor_in_the_sum() {
        let mut events = Events::new(10);
        events.record(ProfileKey(0), &row("1", 0.1), Moment(0));
        events.record(ProfileKey(0), &row("1", 0.1), Moment(0));
        events.record(ProfileKey(1), &row("1", 0.2), Moment(0));
        assert_eq!(
            (events.accepted, events.distinct(), events.profiles()),
            (3, 2, 2)
        );
        assert_eq!(events.value().to_string(), "0.3");
    }

    #[test]
    fn only_the_newest_events_are_kept_and_their_ids_differ() {
        let mut events = Events::new(3);
        for order in 0..10 {
            events.record(ProfileKey(0), &row(&order.to_string(), 1.0), Moment(0));
        }
        let ids: HashSet<String> = events.kept().iter().map(Event::id).collect();
        assert_eq!((ids.len(), events.distinct()), (3, 10));
        assert!(events.kept().iter().any(|event| &*event.unique_id == "9"));
    }
}
