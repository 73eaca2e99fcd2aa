//! The bodies of single and bulk events, read without copying what need not be kept.
//!
//! The outer levels are typed and borrow from the body; every value stays raw text until it is checked, so that
//! a wrong type is refused with a pointer to it. Pointers start at the event document.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::Moment;
use crate::problem::Problem;
use crate::validate;

#[derive(Deserialize)]
pub(crate) struct Document<'b, A> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Option<&'b RawValue>,
    pub(crate) attributes: Option<A>,
    pub(crate) relationships: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct Body<D> {
    pub(crate) data: Option<D>,
}

#[derive(Deserialize)]
pub(crate) struct BulkAttributes<'b> {
    #[serde(borrow, rename = "events-bulk-create")]
    pub(crate) events_bulk_create: Option<Body<Vec<Document<'b, Group<'b>>>>>,
}

#[derive(Deserialize)]
pub(crate) struct Group<'b> {
    #[serde(borrow)]
    pub(crate) profile: Option<&'b RawValue>,
    #[serde(borrow)]
    pub(crate) events: Option<Body<Vec<Document<'b, EventAttributes<'b>>>>>,
}

#[derive(Deserialize)]
pub(crate) struct EventAttributes<'b> {
    #[serde(borrow)]
    metric: Option<&'b RawValue>,
    #[serde(borrow)]
    pub(crate) profile: Option<&'b RawValue>,
    #[serde(borrow)]
    properties: Option<&'b RawValue>,
    #[serde(borrow)]
    time: Option<&'b RawValue>,
    #[serde(borrow)]
    value: Option<&'b RawValue>,
    #[serde(borrow)]
    value_currency: Option<&'b RawValue>,
    #[serde(borrow)]
    unique_id: Option<&'b RawValue>,
    #[serde(borrow)]
    backfill: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Metric<'b> {
    #[serde(borrow)]
    name: Option<&'b RawValue>,
}

/// An event that passed every check but the one against the state.
#[derive(Debug)]
pub(crate) struct EventRow<'b> {
    pub(crate) metric: Cow<'b, str>,
    /// The object as it was sent.
    pub(crate) properties: &'b str,
    pub(crate) time: Moment,
    pub(crate) value: Option<f64>,
    pub(crate) value_currency: Option<Cow<'b, str>>,
    /// The one that was sent, or the second of the event.
    pub(crate) unique_id: Cow<'b, str>,
    /// Whether it was sent.
    pub(crate) has_own_id: bool,
}

impl<A> Document<'_, A> {
    pub(crate) fn require_kind(&self, expected: &str) -> Result<(), Problem> {
        match self.kind.and_then(text) {
            Some(kind) if kind == expected => Ok(()),
            None => Err(Problem::required("/type", "type")),
            Some(_) => Err(Problem::invalid(
                "/type",
                format!("Expected the type '{expected}'."),
            )),
        }
    }
}

impl<'b> EventAttributes<'b> {
    pub(crate) fn check(&self, now: Moment) -> Result<EventRow<'b>, Problem> {
        let metric = self.metric_name()?;
        let Some(properties) = self.properties.map(RawValue::get) else {
            return Err(Problem::required("/attributes/properties", "properties"));
        };
        validate::properties(properties)
            .map_err(|detail| Problem::invalid("/attributes/properties", detail))?;
        if let Some(problem) = asked_rejection(properties) {
            return Err(problem);
        }
        let time = self.event_time(now)?;
        if self
            .backfill
            .is_some_and(|raw| !matches!(raw.get(), "true" | "false"))
        {
            return Err(Problem::invalid(
                "/attributes/backfill",
                "Not a valid boolean.",
            ));
        }
        let own_id = self.own_id()?;
        let has_own_id = own_id.is_some();
        let unique_id = own_id.unwrap_or_else(|| Cow::Owned(time.seconds().to_string()));
        let (value, value_currency) = (self.number()?, self.currency()?);
        Ok(EventRow {
            metric,
            properties,
            time,
            value,
            value_currency,
            unique_id,
            has_own_id,
        })
    }

    fn metric_name(&self) -> Result<Cow<'b, str>, Problem> {
        const POINTER: &str = "/attributes/metric/data/attributes/name";
        let Some(metric) = self.metric else {
            return Err(Problem::required("/attributes/metric", "metric"));
        };
        let metric: Body<Document<'b, Metric<'b>>> = serde_json::from_str(metric.get())
            .map_err(|_| Problem::invalid("/attributes/metric", "Expected a metric document."))?;
        let Some(data) = metric.data else {
            return Err(Problem::required("/attributes/metric/data", "data"));
        };
        data.require_kind("metric")
            .map_err(|problem| problem.under("/attributes/metric/data"))?;
        let Some(raw) = data.attributes.and_then(|attributes| attributes.name) else {
            return Err(Problem::required(POINTER, "name"));
        };
        match text(raw) {
            Some(name) if name.is_empty() => {
                Err(Problem::invalid(POINTER, "This field may not be blank."))
            }
            Some(name) if name.chars().count() < 128 => Ok(name),
            Some(_) => Err(Problem::invalid(
                POINTER,
                "A metric name has less than 128 characters.",
            )),
            None => Err(Problem::invalid(POINTER, "Not a valid string.")),
        }
    }

    fn event_time(&self, now: Moment) -> Result<Moment, Problem> {
        let Some(raw) = self.time else { return Ok(now) };
        match text(raw).as_deref().and_then(validate::time) {
            Some(time) if validate::is_event_time(time, now) => Ok(time),
            Some(_) => Err(Problem::invalid(
                "/attributes/time",
                "The time lies before 2000 or over a year ahead.",
            )),
            None => Err(Problem::invalid(
                "/attributes/time",
                "Not a valid datetime.",
            )),
        }
    }

    fn number(&self) -> Result<Option<f64>, Problem> {
        let Some(raw) = self.value else {
            return Ok(None);
        };
        match raw.get().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(Problem::invalid("/attributes/value", "Not a valid number.")),
        }
    }

    fn currency(&self) -> Result<Option<Cow<'b, str>>, Problem> {
        let Some(raw) = self.value_currency else {
            return Ok(None);
        };
        match text(raw) {
            Some(code)
                if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
            {
                Ok(Some(code))
            }
            _ => Err(Problem::invalid(
                "/attributes/value_currency",
                "Not a valid ISO 4217 currency code.",
            )),
        }
    }

    fn own_id(&self) -> Result<Option<Cow<'b, str>>, Problem> {
        let Some(raw) = self.unique_id else {
            return Ok(None);
        };
        match text(raw) {
            Some(id) if (1..=255).contains(&id.chars().count()) => Ok(Some(id)),
            Some(_) => Err(Problem::invalid(
                "/attributes/unique_id",
                "A unique_id has 1 to 255 characters.",
            )),
            None => Err(Problem::invalid(
                "/attributes/unique_id",
                "Not a valid string.",
            )),
        }
    }
}

/// Refuses an event that asks for it: `sim_reject` is `"silent"` for no pointer, any other value for one.
fn asked_rejection(properties: &str) -> Option<Problem> {
    const NAME: &str = "sim_reject";
    if !properties.contains(NAME) {
        return None;
    }
    let properties: Value = serde_json::from_str(properties).ok()?;
    match properties.get(NAME)? {
        Value::Null | Value::Bool(false) => None,
        Value::String(how) if how == "silent" => Some(Problem::of_status(400)),
        _ => Some(Problem::invalid(
            "/attributes/properties/sim_reject",
            "The event asked to be rejected.",
        )),
    }
}

/// The string in a raw value, borrowed unless it has escapes.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: impl Fn(&mut Value)) -> Result<(String, Option<f64>), Value> {
        let mut attributes = json!({
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            "properties": {"OrderId": "1001"}, "time": "2026-09-04T13:38:55Z", "value": 9.99, "unique_id": "order-1001",
        });
        change(&mut attributes);
        let text = attributes.to_string();
        let attributes: EventAttributes<'_> = serde_json::from_str(&text).unwrap();
        let now = validate::time("2026-09-05T00:00:00Z").unwrap();
        match attributes.check(now) {
            Ok(row) => Ok((row.unique_id.into_owned(), row.value)),
            Err(problem) => Err(problem.to_json()["source"]["pointer"].clone()),
        }
    }

    #[test]
    fn a_missing_unique_id_becomes_the_second_of_the_event() {
        assert_eq!(check(|_| {}), Ok(("order-1001".to_owned(), Some(9.99))));
        assert_eq!(
            check(|event| event["unique_id"] = Value::Null),
            Ok(("1788529135".to_owned(), Some(9.99)))
        );
    }

    #[test]
    fn an_event_that_asks_for_it_is_refused_with_a_pointer_or_without() {
        let asking = |how: Value| check(|event| event["properties"]["sim_reject"] = how.clone());
        assert_eq!(
            asking(json!(true)).unwrap_err(),
            "/attributes/properties/sim_reject"
        );
        assert_eq!(asking(json!("silent")).unwrap_err(), "/data/");
        assert!(asking(json!(false)).is_ok());
    }

    #[test]
    fn a_wrong_field_is_refused_with_a_pointer_to_it() {
        let refused =
            |field: &str, value: Value| check(|event| event[field] = value.clone()).unwrap_err();
        assert_eq!(refused("time", json!("yesterday")), "/attributes/time");
        assert_eq!(
            refused("time", json!("1999-01-01T00:00:00Z")),
            "/attributes/time"
        );
        assert_eq!(refused("value", json!("9.99")), "/attributes/value");
        assert_eq!(
            refused("value_currency", json!("euro")),
            "/attributes/value_currency"
        );
        assert_eq!(refused("unique_id", json!("")), "/attributes/unique_id");
        assert_eq!(
            refused("unique_id", json!("x".repeat(256))),
            "/attributes/unique_id"
        );
        assert_eq!(refused("backfill", json!("yes")), "/attributes/backfill");
        assert_eq!(refused("properties", Value::Null), "/attributes/properties");
        assert_eq!(refused("properties", json!([])), "/attributes/properties");
        assert_eq!(
            refused("metric", json!("Placed Order")),
            "/attributes/metric"
        );
        let name = |name: Value| json!({"data": {"type": "metric", "attributes": {"name": name}}});
        assert_eq!(
            refused("metric", name(json!("x".repeat(128)))),
            "/attributes/metric/data/attributes/name"
        );
    }
}
