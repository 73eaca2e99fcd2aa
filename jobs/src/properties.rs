//! Free-form properties: a JSON object that is checked once and then travels as text.
//!
//! The check is one pass over the bytes without allocation, because it runs for every event. It trusts that the
//! text is JSON (serde has read it) and looks only for what Klaviyo would refuse or lose: too many properties,
//! long strings, long arrays, deep nesting, wide integers. Every limit is of 2026-07-15.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The most properties one event may have.
pub(crate) const COUNT_MAX: usize = 400;
/// The longest string, in bytes.
pub(crate) const STRING_BYTES_MAX: usize = 100_000;
/// The most items of one array.
pub(crate) const ARRAY_ITEMS_MAX: usize = 4_000;
/// The deepest nesting of objects; the properties themselves are the first level.
pub(crate) const LEVELS_MAX: usize = 10;
/// Objects and arrays together: bounds arrays of arrays, which Klaviyo's documents leave open.
const CONTAINERS_MAX: usize = 2 * LEVELS_MAX;

const NOT_OBJECT: &str = "must be an object";
const TOO_MANY: &str = "must not have more than 400 properties";
const STRING_TOO_LONG: &str = "must not hold a string longer than 100 KB";
const ARRAY_TOO_LONG: &str = "must not hold an array of more than 4,000 items";
const TOO_DEEP: &str = "must not be nested deeper than 10 levels";
const NUMBER_TOO_WIDE: &str = "must not hold a number outside 64 bits; send it as a text";
const BROKEN_ESCAPE: &str = "must not hold a broken \\u escape";

/// A JSON object within Klaviyo's limits, kept as the text that was given.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Properties(Box<RawValue>);

impl Properties {
    /// Creates properties from a map or a struct.
    ///
    /// # Errors
    /// [`crate::Invalid`] if the value is not an object or is beyond a limit.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, crate::Invalid> {
        let invalid = |rule| crate::Invalid::new(crate::invalid::code::INVALID, rule);
        let raw = serde_json::value::to_raw_value(value).map_err(|_| invalid(NOT_OBJECT))?;
        match Self::broken_rule(&raw) {
            None => Ok(Self(raw)),
            Some(rule) => Err(invalid(rule)),
        }
    }

    /// Creates properties from parts whose limits were checked before.
    pub(crate) fn trusted<T: Serialize>(value: &T) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("texts and numbers serialize"))
    }

    /// Returns the JSON text as it was given.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns the JSON text for a serializer.
    pub fn as_raw(&self) -> &RawValue {
        &self.0
    }

    /// Reads the properties into a map or a struct.
    ///
    /// # Errors
    /// If `T` does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// Returns the properties by name, each still as text.
    pub fn entries(&self) -> BTreeMap<String, &RawValue> {
        serde_json::from_str(self.0.get()).expect("checked to be an object when it was created")
    }

    pub(crate) fn broken_rule(raw: &RawValue) -> Option<&'static str> {
        check(raw.get()).err()
    }
}

/// What the check knows of an open object or array.
#[derive(Clone, Copy, Default)]
struct Container {
    is_array: bool,
    commas: usize,
}

fn check(json: &str) -> Result<(), &'static str> {
    let bytes = json.as_bytes();
    if bytes.first() != Some(&b'{') {
        return Err(NOT_OBJECT);
    }
    let mut open = [Container::default(); CONTAINERS_MAX + 1];
    let (mut depth, mut objects, mut at) = (0, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = check_string(json, at)?;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                at = check_number(json, at)?;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                objects += usize::from(byte == b'{');
                if depth > CONTAINERS_MAX || objects > LEVELS_MAX {
                    return Err(TOO_DEEP);
                }
                open[depth] = Container {
                    is_array: byte == b'[',
                    commas: 0,
                };
            }
            b'}' | b']' => {
                depth -= 1;
                objects -= usize::from(byte == b'}');
            }
            b',' => {
                let container = &mut open[depth];
                container.commas += 1;
                if container.is_array && container.commas >= ARRAY_ITEMS_MAX {
                    return Err(ARRAY_TOO_LONG);
                }
                if depth == 1 && container.commas >= COUNT_MAX {
                    return Err(TOO_MANY);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Checks the string that opens at `start` and returns where the text goes on.
fn check_string(json: &str, start: usize) -> Result<usize, &'static str> {
    let bytes = json.as_bytes();
    let (mut at, mut escaped, mut unicode) = (start + 1, false, false);
    while bytes[at] != b'"' {
        if bytes[at] == b'\\' {
            escaped = true;
            unicode |= bytes[at + 1] == b'u';
            at += 1;
        }
        at += 1;
    }
    let length = at - start - 1;
    // Escapes are rare, and only they need decoding: `\ud800` alone is no character, and escapes shorten.
    if unicode || (escaped && length > STRING_BYTES_MAX) {
        let text: String = serde_json::from_str(&json[start..=at]).map_err(|_| BROKEN_ESCAPE)?;
        if text.len() > STRING_BYTES_MAX {
            return Err(STRING_TOO_LONG);
        }
    } else if length > STRING_BYTES_MAX {
        return Err(STRING_TOO_LONG);
    }
    Ok(at + 1)
}

/// Checks the number that opens at `start` and returns where the text goes on.
fn check_number(json: &str, start: usize) -> Result<usize, &'static str> {
    let rest = &json.as_bytes()[start..];
    let part_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let end = start
        + rest
            .iter()
            .position(|byte| !part_of_number(byte))
            .unwrap_or(rest.len());
    let text = &json[start..end];
    // Up to 18 characters are certain to fit, whatever they are, but for an exponent.
    let fits = if text.contains(['e', 'E']) || (text.len() > 18 && text.contains('.')) {
        text.parse::<f64>().is_ok_and(f64::is_finite)
    } else {
        text.len() <= 18 || text.parse::<i64>().is_ok()
    };
    if fits { Ok(end) } else { Err(NUMBER_TOO_WIDE) }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Properties {}

impl fmt::Debug for Properties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Properties({} bytes)", self.as_str().len())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match Self::broken_rule(&raw) {
            None => Ok(Self(raw)),
            Some(rule) => Err(D::Error::custom(rule)),
        }
    }
}

impl JsonSchema for Properties {
    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": COUNT_MAX,
            "additionalProperties": true,
            "description": "Free-form: at most 400 properties, 100 KB a string, 4,000 items an array, 10 levels, 64-bit integers."
        })
    }
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
