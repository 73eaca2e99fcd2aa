//! Says what is wrong with a payload that serde refused: the cold path of [`crate::decode()`].
//!
//! It walks the payload along the kind's JSON Schema, so it names the nearest known field and the place without ever
//! repeating a value. It must not decide whether a payload is valid; serde has already said no.

use crate::invalid::{code, listed, looks_like_a_name, nearest, shown};
use crate::job::schema_of;
use crate::{Amount, Invalid, Job, Properties, value};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

pub(crate) fn diagnose<J: Job>(data: &RawValue) -> Invalid {
    let schema = schema_of::<J>().to_value();
    let walk = Walk { root: &schema };
    let fallback = || {
        Invalid::new(
            code::INVALID,
            format!("`data` does not fit the schema of `{}`", J::KIND),
        )
    };
    walk.value(&schema, data, "/data")
        .err()
        .unwrap_or_else(fallback)
}

struct Walk<'a> {
    root: &'a Value,
}

impl Walk<'_> {
    fn value(&self, schema: &Value, data: &RawValue, pointer: &str) -> Result<(), Invalid> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            check_rule(name, data, pointer)?;
            return self.value(&self.root["$defs"][name], data, pointer);
        }
        if data.get() == "null" && allows_null(schema) {
            return Ok(());
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let chosen = choices.iter().find(|choice| choice["type"] != "null");
            return chosen.map_or(Ok(()), |choice| self.value(choice, data, pointer));
        }
        check_type(schema, data, pointer)?;
        if schema["properties"].is_object() {
            self.object(schema, data, pointer)?;
        }
        if schema["items"].is_object() {
            self.array(&schema["items"], data, pointer)?;
        }
        Ok(())
    }

    fn object(&self, schema: &Value, data: &RawValue, pointer: &str) -> Result<(), Invalid> {
        let Ok(Fields(fields)) = serde_json::from_str(data.get()) else {
            return Ok(());
        };
        let known = || {
            schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
        };
        for (name, _) in &fields {
            if !known().any(|field| field == name) {
                return Err(unknown_field(name, known(), pointer));
            }
            if fields.iter().filter(|(other, _)| other == name).count() > 1 {
                return Err(Invalid::at(
                    format!("{pointer}/{name}"),
                    format!("`{name}` is given twice; give it once"),
                ));
            }
        }
        for required in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !fields.iter().any(|(name, _)| name == required) {
                let message = format!("missing field `{required}`; add it");
                return Err(Invalid::new(code::MISSING_FIELD, message)
                    .with_pointer(format!("{pointer}/{required}")));
            }
        }
        for (name, field) in &fields {
            self.value(
                &schema["properties"][name],
                field,
                &format!("{pointer}/{name}"),
            )?;
        }
        Ok(())
    }

    fn array(&self, schema: &Value, data: &RawValue, pointer: &str) -> Result<(), Invalid> {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(data.get()) else {
            return Ok(());
        };
        for (index, item) in items.into_iter().enumerate() {
            self.value(schema, item, &format!("{pointer}/{index}"))?;
        }
        Ok(())
    }
}

fn unknown_field<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    pointer: &str,
) -> Invalid {
    let advice = match nearest(name, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known fields are {}", listed(known)),
    };
    let place = if looks_like_a_name(name) {
        format!("{pointer}/{name}")
    } else {
        pointer.to_owned()
    };
    Invalid::new(
        code::UNKNOWN_FIELD,
        format!("unknown field {}; {advice}", shown(name)),
    )
    .with_pointer(place)
}

/// Checks a value that has a type of its own, by the name of that type in the schema.
fn check_rule(name: &str, data: &RawValue, pointer: &str) -> Result<(), Invalid> {
    let broken = match name {
        "Amount" => Amount::broken_rule(data),
        "Properties" => Properties::broken_rule(data),
        _ => serde_json::from_str::<String>(data.get())
            .ok()
            .and_then(|text| value::broken_rule(name, &text)),
    };
    broken.map_or(Ok(()), |rule| {
        Err(Invalid::at(
            pointer,
            format!("{} {rule}", field_of(pointer)),
        ))
    })
}

fn allows_null(schema: &Value) -> bool {
    let null_in = |list: &Value| {
        list.as_array()
            .is_some_and(|types| types.iter().any(|one| one == "null"))
    };
    let nullable = |choices: &Vec<Value>| choices.iter().any(|choice| choice["type"] == "null");
    null_in(&schema["type"]) || schema["anyOf"].as_array().is_some_and(nullable)
}

fn check_type(schema: &Value, data: &RawValue, pointer: &str) -> Result<(), Invalid> {
    let expected = match &schema["type"] {
        Value::String(one) => one.as_str(),
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .find(|one| *one != "null")
            .unwrap_or_default(),
        _ => return Ok(()),
    };
    let text = data.get();
    let (fits, noun) = match expected {
        "object" => (text.starts_with('{'), "an object"),
        "array" => (text.starts_with('['), "an array"),
        // A text with half a surrogate pair looks like one and is none.
        "string" => (serde_json::from_str::<String>(text).is_ok(), "a text"),
        "boolean" => (text == "true" || text == "false", "true or false"),
        "integer" => (text.parse::<i64>().is_ok(), "an integer"),
        "number" => (text.parse::<f64>().is_ok(), "a number"),
        _ => return Ok(()),
    };
    if fits {
        Ok(())
    } else {
        Err(Invalid::at(
            pointer,
            format!("{} must be {noun}", field_of(pointer)),
        ))
    }
}

/// Names the field a pointer leads to; items of an array by their list.
fn field_of(pointer: &str) -> String {
    let mut parts = pointer.rsplit('/');
    let last = parts.next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("item {last} of `{}`", parts.next().unwrap_or_default());
    }
    format!("`{last}`")
}

/// The fields of an object in order, repeated ones included.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Collect).map(Fields)
    }
}
