//! Money and quantities, kept as the text the application wrote.
//!
//! Parsing to a float and printing again may change the text (`9.90` becomes `9.9`, and a fast parser may be one
//! bit off), so the digits travel untouched. Products of two amounts are computed in decimal for the same reason.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

const RULE: &str = "must be a finite number, written as a JSON number and not as a text";
const DIGITS_MAX: usize = 64;

/// A finite number in major units (9.99, not 999), exactly as it was written.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Amount(Box<RawValue>);

impl Amount {
    /// Creates an amount from a float, or `None` if it is not finite.
    pub fn new(number: f64) -> Option<Self> {
        if number.is_finite() {
            Self::from_text(serde_json::to_string(&number).ok()?)
        } else {
            None
        }
    }

    /// Returns the digits as they were written.
    pub fn as_raw(&self) -> &RawValue {
        &self.0
    }

    /// Returns the number as JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns the nearest float.
    pub fn as_f64(&self) -> f64 {
        self.0.get().parse().expect("checked when it was created")
    }

    pub(crate) fn broken_rule(raw: &RawValue) -> Option<&'static str> {
        let text = raw.get();
        let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
            && text.len() <= DIGITS_MAX
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        if number { None } else { Some(RULE) }
    }

    /// Multiplies two amounts, exactly when both are plain decimals.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let exact = || {
            let (left, left_scale) = decimal(self.as_str())?;
            let (right, right_scale) = decimal(other.as_str())?;
            Self::from_text(decimal_text(left * right, left_scale + right_scale))
        };
        // Products of finite floats can overflow; the price alone is then the least wrong answer.
        exact()
            .or_else(|| Self::new(self.as_f64() * other.as_f64()))
            .unwrap_or_else(|| self.clone())
    }

    fn from_text(text: String) -> Option<Self> {
        let raw = RawValue::from_string(text).ok()?;
        if Self::broken_rule(&raw).is_none() {
            Some(Self(raw))
        } else {
            None
        }
    }
}

impl From<u32> for Amount {
    fn from(number: u32) -> Self {
        Self::from_text(number.to_string()).expect("an integer is a number")
    }
}

/// Splits `-12.50` into -1250 and 2 places. Exponents and more than 18 digits are left to floats.
fn decimal(text: &str) -> Option<(i128, usize)> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() + places.len() > 18 || places.contains(['e', 'E']) {
        return None;
    }
    format!("{whole}{places}")
        .parse()
        .ok()
        .map(|mantissa| (mantissa, places.len()))
}

fn decimal_text(mantissa: i128, scale: usize) -> String {
    let sign = if mantissa < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
    let (whole, places) = digits.split_at(digits.len() - scale);
    match places.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        places => format!("{sign}{whole}.{places}"),
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Amount {}

impl fmt::Debug for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Amount({})", self.as_str())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match Self::broken_rule(&raw) {
            None => Ok(Self(raw)),
            Some(rule) => Err(D::Error::custom(rule)),
        }
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "description": "A number, kept as written; money in major units: 9.99, not 999."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn digits_come_back_as_they_were_written() {
        for text in [
            "9.99",
            "9.90",
            "0.1",
            "1e3",
            "-5",
            "0.30000000000000004",
            "123456789012345678901234567890",
        ] {
            assert_eq!(serde_json::to_string(&amount(text)).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_a_finite_number_is_refused() {
        for text in ["\"9.99\"", "1e999", "true", "[1]", "{}"] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text}");
        }
        assert!(Amount::new(f64::NAN).is_none());
    }

    #[test]
    fn three_times_9_99_is_29_97() {
        assert_eq!(amount("9.99").times(&amount("3")).as_str(), "29.97");
        assert_eq!(amount("-0.05").times(&amount("2")).as_str(), "-0.1");
        assert_eq!(
            amount("1e2").times(&amount("3")).as_f64().to_string(),
            "300"
        );
        assert_eq!(amount("1e300").times(&amount("1e300")).as_str(), "1e300");
    }
}
