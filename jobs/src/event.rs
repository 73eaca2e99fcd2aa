//! `event.track`: something a customer did, to be recorded at Klaviyo.
//!
//! It only records; it changes no profile and no consent. The second run is harmless because Klaviyo de-duplicates by
//! (profile, metric, `unique_id`), and whoever delivers it falls back to the job's id.

use crate::value::{TimestampSchema, optional_timestamp};
use crate::{Amount, Currency, Invalid, Job, MetricName, ProfileRef, Properties, UniqueId};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 2000-01-01T00:00:00Z, the earliest time every Klaviyo guide allows.
const EARLIEST: Timestamp = Timestamp::constant(946_684_800, 0);
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

pub(crate) const QUEUE: &str = "event-tracking";

/// Records something a customer did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackEvent {
    /// The kind of event, created at Klaviyo on first use.
    pub metric: MetricName,
    /// Who did it.
    pub profile: ProfileRef,
    /// What is known about it. Klaviyo treats 0, null and "" as not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
    /// What it was worth, in major units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Amount>,
    /// The currency of `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_currency: Option<Currency>,
    /// When it happened; absent, the job's `at`. From 2000 to a year ahead.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_timestamp"
    )]
    #[schemars(with = "Option<TimestampSchema>")]
    pub time: Option<Timestamp>,
    /// What Klaviyo de-duplicates by; absent, the job's `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<UniqueId>,
    /// Whether to record it without starting flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill: Option<bool>,
}

impl TrackEvent {
    /// Creates an event; set the other fields as needed.
    pub fn new(metric: MetricName, profile: ProfileRef) -> Self {
        Self {
            metric,
            profile,
            properties: None,
            value: None,
            value_currency: None,
            time: None,
            unique_id: None,
            backfill: None,
        }
    }
}

impl Job for TrackEvent {
    const KIND: &'static str = "event.track";
    const QUEUE: &'static str = QUEUE;
    const UNIQUE_BY_DEFAULT: bool = true;

    fn validate(&self, at: Timestamp, now: Timestamp) -> Result<(), Invalid> {
        self.profile.validate()?;
        match self.time {
            Some(time) => validate_time(time, now, "/data/time"),
            None => validate_time(at, now, "/at"),
        }
    }

    /// One id may stand for events of several metrics. The length keeps `a:b` + `c` apart from `a` + `b:c`.
    fn claim(&self, id: &str) -> String {
        let metric = self.metric.as_str();
        format!("{}:{}:{metric}:{id}", Self::KIND, metric.len())
    }
}

pub(crate) fn validate_time(time: Timestamp, now: Timestamp, pointer: &str) -> Result<(), Invalid> {
    let latest = now.saturating_add(YEAR).unwrap_or(Timestamp::MAX);
    let field = pointer.rsplit('/').next().unwrap_or(pointer);
    if time < EARLIEST {
        return Err(Invalid::at(
            pointer,
            format!("`{field}` is before 2000; Klaviyo records no older events"),
        ));
    }
    if time > latest {
        let message =
            format!("`{field}` is more than a year ahead; Klaviyo records no later events");
        return Err(Invalid::at(pointer, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: Option<&str>) -> TrackEvent {
        let profile = serde_json::from_str(r#"{"email": "a@shop.io"}"#).unwrap();
        let mut event = TrackEvent::new(MetricName::parse("Signed Up").unwrap(), profile);
        event.time = time.map(|time| time.parse().unwrap());
        event
    }

    #[test]
    fn an_event_may_be_from_2000_to_a_year_ahead() {
        let now = "2026-11-24T09:00:00Z".parse().unwrap();
        for (time, accepted) in [
            ("2000-01-01T00:00:00Z", true),
            ("1999-12-31T23:59:59Z", false),
            ("2027-11-24T09:00:00Z", true),
            ("2027-11-24T09:00:01Z", false),
        ] {
            assert_eq!(
                event(Some(time)).validate(now, now).is_ok(),
                accepted,
                "{time}"
            );
            let by_at = event(None).validate(time.parse().unwrap(), now);
            assert_eq!(by_at.is_ok(), accepted, "{time}");
        }
    }

    #[test]
    fn claims_of_one_id_differ_by_metric() {
        let mut other = event(None);
        other.metric = MetricName::parse("Signed Up:x").unwrap();
        assert_ne!(event(None).claim("x:7"), other.claim("7"));
        assert_eq!(event(None).claim("7"), "event.track:9:Signed Up:7");
    }
}
