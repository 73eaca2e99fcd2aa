//! Checked texts: parsed once, when a payload is read, and valid ever after.
//!
//! Whoever holds an [`Email`] need not check it again. The rules are Klaviyo's. The texts that identify a person
//! cannot be printed with `{:?}`.

use crate::Invalid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

const EMAIL_RULE: &str =
    "must be an email address: under 100 characters, exactly one @, a dot in the domain, no spaces";
const PHONE_RULE: &str =
    "must be a phone number in E.164 form: + and 8 to 15 digits, without spaces";
const ID_RULE: &str = "must have 1 to 255 characters";
const METRIC_RULE: &str = "must have 1 to 127 characters";
const CURRENCY_RULE: &str = "must be an ISO 4217 code of three upper-case letters, such as EUR";
pub(crate) const TIME_RULE: &str =
    "must be an RFC 3339 time with an offset, such as 2026-11-24T09:00:00Z";

fn check_email(text: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte > b' ' && byte != 0x7f;
    let (local, domain) = text.split_once('@').ok_or(EMAIL_RULE)?;
    let valid = !local.is_empty()
        && !domain.contains('@')
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && text.bytes().all(plain)
        && !text.contains(char::is_whitespace)
        && text.chars().count() < 100;
    if valid { Ok(()) } else { Err(EMAIL_RULE) }
}

fn check_phone(text: &str) -> Result<(), &'static str> {
    let digits = text.strip_prefix('+').ok_or(PHONE_RULE)?;
    let valid =
        (8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid { Ok(()) } else { Err(PHONE_RULE) }
}

pub(crate) fn check_id(text: &str) -> Result<(), &'static str> {
    check_length(text, 255, ID_RULE)
}

fn check_metric(text: &str) -> Result<(), &'static str> {
    check_length(text, 127, METRIC_RULE)
}

fn check_currency(text: &str) -> Result<(), &'static str> {
    let valid = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if valid { Ok(()) } else { Err(CURRENCY_RULE) }
}

fn check_length(text: &str, max: usize, rule: &'static str) -> Result<(), &'static str> {
    // The byte length is no less than the character count, so most texts are not counted at all.
    let valid = !text.is_empty() && (text.len() <= max || text.chars().count() <= max);
    if valid { Ok(()) } else { Err(rule) }
}

/// Returns the rule that `text` breaks if the schema definition `name` is one of the checked texts.
pub(crate) fn broken_rule(name: &str, text: &str) -> Option<&'static str> {
    let check = match name {
        "Currency" => check_currency,
        "Email" => check_email,
        "ExternalId" | "UniqueId" => check_id,
        "MetricName" => check_metric,
        "Phone" => check_phone,
        "Timestamp" => check_timestamp,
        _ => return None,
    };
    check(text).err()
}

fn check_timestamp(text: &str) -> Result<(), &'static str> {
    text.parse::<jiff::Timestamp>()
        .map(|_| ())
        .map_err(|_| TIME_RULE)
}

struct Checked(fn(&str) -> Result<(), &'static str>);

impl Visitor<'_> for Checked {
    type Value = Box<str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Box<str>, E> {
        (self.0)(text).map_err(E::custom)?;
        Ok(text.into())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Box<str>, E> {
        (self.0)(&text).map_err(E::custom)?;
        Ok(text.into())
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])+ $name:ident, $check:ident, $description:expr, $keywords:tt) => {
        $(#[$doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// [`Invalid`] with the rule that is broken; the text is not repeated.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                $check(text).map_err(|rule| Invalid::new(crate::invalid::code::INVALID, rule))?;
                Ok(Self(text.into()))
            }

            /// Returns the text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Checked($check)).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($keywords);
                schema.insert("type".into(), "string".into());
                schema.insert("description".into(), $description.into());
                schema
            }
        }
    };
}

checked_text!(
    /// An email address: under 100 characters, one @, a dot in the domain, no spaces.
    Email, check_email, "An email address: under 100 characters, one @, a dot in the domain, no spaces.",
    {"format": "email", "maxLength": 99}
);
checked_text!(
    /// A phone number in E.164 form: + and 8 to 15 digits.
    Phone, check_phone, "A phone number in E.164 form: + and 8 to 15 digits.", {"pattern": "^\\+[0-9]{8,15}$"}
);
checked_text!(
    /// The application's own identifier of a person, 1 to 255 characters.
    ExternalId, check_id, "The application's own identifier of a person.", {"minLength": 1, "maxLength": 255}
);
checked_text!(
    /// What Klaviyo de-duplicates events by, per profile and metric; 1 to 255 characters.
    UniqueId, check_id, "What Klaviyo de-duplicates events by, per profile and metric.", {"minLength": 1, "maxLength": 255}
);
checked_text!(
    /// The name of a metric, Klaviyo's word for a kind of event; 1 to 127 characters.
    MetricName, check_metric, "The name of a metric, created on first use.", {"minLength": 1, "maxLength": 127}
);
checked_text!(
    /// An ISO 4217 currency code, such as `EUR`.
    Currency, check_currency, "An ISO 4217 currency code.", {"pattern": "^[A-Z]{3}$"}
);

macro_rules! debug_hides {
    ($($name:ident)+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )+};
}

debug_hides!(Email ExternalId Phone UniqueId);

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Currency({})", self.0)
    }
}

impl fmt::Debug for MetricName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MetricName({:?})", self.0)
    }
}

/// Stands for [`jiff::Timestamp`] in schemas.
pub(crate) struct TimestampSchema;

impl JsonSchema for TimestampSchema {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time", "description": "An RFC 3339 time with an offset."})
    }
}

/// Reads a time as RFC 3339 text; jiff's own reader would repeat the text in its error.
pub(crate) fn optional_timestamp<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<jiff::Timestamp>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(|_| D::Error::custom(TIME_RULE)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_at_a_dotted_domain_no_spaces_and_fewer_than_100_characters() {
        let longest = format!("{}@shop.io", "a".repeat(91));
        for good in [
            "a@shop.io",
            "a+b@mail.shop.io",
            "ü@shop.io",
            longest.as_str(),
        ] {
            assert!(Email::parse(good).is_ok(), "{good}");
        }
        let too_long = format!("{}@shop.io", "a".repeat(92));
        for bad in [
            "",
            "a",
            "@shop.io",
            "a@shop",
            "a@b@shop.io",
            "a b@shop.io",
            "a@.io",
            "a@shop.",
            "a\t@shop.io",
            &too_long,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_phone_number_is_a_plus_and_8_to_15_digits() {
        for good in ["+15005550006", "+12345678", "+123456789012345"] {
            assert!(Phone::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "15005550006",
            "+1234567",
            "+1234567890123456",
            "+1 500 555 0006",
            "+1500555000a",
            "",
        ] {
            assert!(Phone::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(MetricName::parse(&"é".repeat(127)).is_ok());
        assert!(MetricName::parse(&"é".repeat(128)).is_err());
        assert!(UniqueId::parse(&"é".repeat(255)).is_ok());
        assert!(UniqueId::parse(&"é".repeat(256)).is_err());
        assert!(ExternalId::parse("").is_err());
    }

    #[test]
    fn what_identifies_a_person_cannot_be_printed() {
        let printed = format!(
            "{:?} {:?}",
            Email::parse("a@shop.io").unwrap(),
            Phone::parse("+15005550006").unwrap()
        );
        assert_eq!(printed, "Email(..) Phone(..)");
    }
}
