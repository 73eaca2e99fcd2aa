//! One profile as it will be sent: the upserts of one identity, merged field by field in the order of their `at`.
//!
//! Absent keeps, null clears. A property that is unset and later set is set, and the other way round.

use crate::klaviyo::ProfileDocument;
use klaviyo_jobs::{Properties, UpsertProfile};
use serde_json::{Map, Value};

/// Upserts of one identity.
#[derive(Debug)]
pub(crate) struct MergedProfile {
    id: Option<String>,
    attributes: Map<String, Value>,
    append: Map<String, Value>,
    unappend: Map<String, Value>,
    unset: Vec<String>,
}

impl MergedProfile {
    pub(crate) fn of(upsert: &UpsertProfile) -> Self {
        let mut merged = Self {
            id: None,
            attributes: Map::new(),
            append: Map::new(),
            unappend: Map::new(),
            unset: Vec::new(),
        };
        merged.merge(upsert);
        merged
    }

    /// Applies a later upsert.
    pub(crate) fn merge(&mut self, upsert: &UpsertProfile) {
        let profile = &upsert.profile;
        let mut set = |name: &str, text: Option<&str>| {
            if let Some(text) = text {
                self.attributes.insert(name.to_owned(), text.into());
            }
        };
        set(
            "email",
            profile.email.as_ref().map(klaviyo_jobs::Email::as_str),
        );
        set(
            "phone_number",
            profile
                .phone_number
                .as_ref()
                .map(klaviyo_jobs::Phone::as_str),
        );
        set(
            "external_id",
            profile
                .external_id
                .as_ref()
                .map(klaviyo_jobs::ExternalId::as_str),
        );
        if let Some(id) = &profile.id {
            self.id = Some(id.to_string());
        }
        overlay(&mut self.attributes, object(&upsert.attributes));
        let properties = entries(upsert.properties.as_ref());
        self.unset.retain(|name| !properties.contains_key(name));
        for name in &upsert.unset {
            if let Some(Value::Object(known)) = self.attributes.get_mut("properties") {
                known.remove(&**name);
            }
            self.unset.push(name.to_string());
        }
        if !properties.is_empty() {
            let wrapped = Map::from_iter([("properties".to_owned(), Value::Object(properties))]);
            overlay(&mut self.attributes, wrapped);
        }
        extend(&mut self.append, entries(upsert.append.as_ref()));
        extend(&mut self.unappend, entries(upsert.unappend.as_ref()));
    }

    pub(crate) fn document(&self) -> ProfileDocument<'_> {
        ProfileDocument {
            id: self.id.as_deref(),
            attributes: &self.attributes,
            append: &self.append,
            unappend: &self.unappend,
            unset: &self.unset,
        }
    }
}

fn object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value).expect("a payload type serializes") {
        Value::Object(fields) => fields,
        other => unreachable!("the attributes of a profile are an object, not {other}"),
    }
}

fn entries(properties: Option<&Properties>) -> Map<String, Value> {
    properties
        .map(|it| {
            it.read()
                .expect("checked to be an object when it was decoded")
        })
        .unwrap_or_default()
}

/// Later fields win; `location` and `properties` are merged by their own fields.
fn overlay(into: &mut Map<String, Value>, later: Map<String, Value>) {
    for (name, value) in later {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(later))
                if name == "location" || name == "properties" =>
            {
                known.extend(later);
            }
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// Adds the values of two edits of one list.
fn extend(into: &mut Map<String, Value>, later: Map<String, Value>) {
    for (name, value) in later {
        let mut values = into.remove(&name).map_or_else(Vec::new, list);
        values.extend(list(value));
        into.insert(name, Value::Array(values));
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        one => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(upserts: &[Value]) -> Value {
        let parse = |json: &Value| serde_json::from_value::<UpsertProfile>(json.clone()).unwrap();
        let parsed: Vec<UpsertProfile> = upserts
            .iter()
            .map(|json| serde_json::from_str(&json.to_string()).unwrap_or_else(|_| parse(json)))
            .collect();
        let mut merged = MergedProfile::of(&parsed[0]);
        parsed[1..].iter().for_each(|it| merged.merge(it));
        json!({"attributes": merged.attributes, "append": merged.append, "unset": merged.unset})
    }

    #[test]
    fn two_jobs_setting_different_fields_of_one_person_both_arrive() {
        let merged = merged(&[
            json!({"profile": {"email": "a@shop.io"}, "attributes": {"first_name": "A", "location": {"city": "Rome"}}}),
            json!({"profile": {"email": "a@shop.io"}, "attributes": {"last_name": null, "location": {"zip": "1"}}}),
        ]);
        let expected = json!({"email": "a@shop.io", "first_name": "A", "last_name": null,
            "location": {"city": "Rome", "zip": "1"}});
        assert_eq!(merged["attributes"], expected);
    }

    #[test]
    fn the_later_of_set_and_unset_wins_and_list_edits_add_up() {
        let merged = merged(&[
            json!({"profile": {"external_id": "c"}, "properties": {"a": 1, "b": 1}, "unset": ["c"], "append": {"l": "x"}}),
            json!({"profile": {"external_id": "c"}, "properties": {"c": 2}, "unset": ["a"], "append": {"l": ["y"]}}),
        ]);
        assert_eq!(merged["attributes"]["properties"], json!({"b": 1, "c": 2}));
        assert_eq!(merged["unset"], json!(["a"]));
        assert_eq!(merged["append"], json!({"l": ["x", "y"]}));
    }
}
