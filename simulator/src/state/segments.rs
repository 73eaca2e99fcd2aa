//! Segments: a name and a rule, fixed when the simulator starts.
//!
//! Members are computed at every read; Klaviyo's lag is not modelled.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::profiles::ProfileKey;
use super::{State, short_id};
use crate::clock::Moment;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentConfig {
    pub name: String,
    pub rule: Rule,
}

/// Who is in a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Rule {
    Everyone,
    /// Who has at least one event of the metric with this name.
    HasEvent {
        metric: String,
    },
    /// Whose property has exactly this value.
    Property {
        name: String,
        value: Value,
    },
}

impl SegmentConfig {
    /// Everyone, and everyone who placed an order.
    pub fn defaults() -> Vec<Self> {
        let segment = |name: &str, rule| Self {
            name: name.to_owned(),
            rule,
        };
        let metric = "Placed Order".to_owned();
        vec![
            segment("Everyone", Rule::Everyone),
            segment("Buyers", Rule::HasEvent { metric }),
        ]
    }
}

#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) rows: Vec<Segment>,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: String,
    pub(crate) name: String,
    rule: Rule,
    created: Moment,
}

impl Segments {
    pub(crate) fn new(configs: &[SegmentConfig], now: Moment) -> Self {
        let row = |config: &SegmentConfig| Segment {
            id: short_id(),
            name: config.name.clone(),
            rule: config.rule.clone(),
            created: now,
        };
        Self {
            rows: configs.iter().map(row).collect(),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Segment> {
        self.rows.iter().find(|segment| segment.id == id)
    }
}

impl Segment {
    pub(crate) fn has(&self, profile: ProfileKey, state: &State) -> bool {
        match &self.rule {
            Rule::Everyone => true,
            Rule::HasEvent { metric } => state.events.has_metric(profile, metric),
            Rule::Property { name, value } => {
                state.profiles.get(profile).properties.get(name) == Some(value)
            }
        }
    }

    pub(crate) fn document(&self, profile_count: Option<usize>, base_url: &str) -> Value {
        let mut document = json!({
            "type": "segment",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "definition": null,
                "created": self.created.rfc3339(),
                "updated": self.created.rfc3339(),
                "is_active": true,
                "is_processing": false,
                "is_starred": false,
            },
            "relationships": {"profiles": {"links": {
                "self": format!("{base_url}/api/segments/{}/relationships/profiles", self.id),
                "related": format!("{base_url}/api/segments/{}/profiles", self.id),
            }}},
            "links": {"self": format!("{base_url}/api/segments/{}", self.id)},
        });
        if let Some(count) = profile_count {
            document["attributes"]["profile_count"] = Value::from(count);
        }
        document
    }
}
