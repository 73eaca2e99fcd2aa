//! Klaviyo's rules for single values: addresses, numbers, times, and how large and deep properties may be.

use std::cell::Cell;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::clock::Moment;

pub(crate) const STRING_BYTES_MAX: usize = 100_000;
const ARRAY_ITEMS_MAX: usize = 4_000;
const DEPTH_MAX: usize = 10;
const PROPERTIES_MAX: usize = 400;
const EARLIEST_S: i64 = 946_684_800; // 2000-01-01
const YEAR_S: i64 = 366 * 86_400;

/// Mail domains whose events Klaviyo accepts and drops.
const DROPPED_DOMAINS: [&str; 2] = ["@example.com", "@test.com"];

pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_byte = |byte: u8| byte.is_ascii_graphic() && !b"@,;:<>()[]\\\"".contains(&byte);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() < 100
        && (1..=64).contains(&local.len())
        && local.bytes().all(local_byte)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// E.164: a plus, then 8 to 15 digits, the first of them not 0.
pub(crate) fn is_phone_number(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else {
        return false;
    };
    (8..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn is_dropped_address(email: &str) -> bool {
    let email = email.to_ascii_lowercase();
    DROPPED_DOMAINS.iter().any(|domain| email.ends_with(domain))
}

/// Parses RFC 3339, or a time without offset as UTC.
pub(crate) fn time(text: &str) -> Option<Moment> {
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<DateTime>().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(Moment(timestamp.as_millisecond()))
}

pub(crate) fn is_event_time(time: Moment, now: Moment) -> bool {
    (EARLIEST_S..=now.seconds() + YEAR_S).contains(&time.seconds())
}

/// Walks through the properties of an event without building them.
pub(crate) fn properties(json: &str) -> Result<(), &'static str> {
    let violation = Cell::new("Expected a JSON object.");
    if !json.starts_with('{') {
        return Err(violation.get());
    }
    let walk = Walk {
        depth: 0,
        violation: &violation,
    };
    match walk.deserialize(&mut serde_json::Deserializer::from_str(json)) {
        Ok(()) => Ok(()),
        Err(_) => Err(violation.get()),
    }
}

#[derive(Clone, Copy)]
struct Walk<'v> {
    depth: usize,
    violation: &'v Cell<&'static str>,
}

impl Walk<'_> {
    fn refuse<T, E: serde::de::Error>(self, violation: &'static str) -> Result<T, E> {
        self.violation.set(violation);
        Err(E::custom(violation))
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return self.refuse("Objects may be nested 10 levels deep.");
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        if i64::try_from(value).is_err() {
            return self.refuse("Integers are limited to 64 bits.");
        }
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.len() > STRING_BYTES_MAX {
            return self.refuse("Strings are limited to 100 KB.");
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        while items.next_element_seed(self)?.is_some() {
            count += 1;
            if count > ARRAY_ITEMS_MAX {
                return self.refuse("Arrays are limited to 4,000 items.");
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let deeper = self.deeper::<A::Error>()?;
        let mut count = 0;
        while entries.next_key::<IgnoredAny>()?.is_some() {
            entries.next_value_seed(deeper)?;
            count += 1;
            if self.depth == 0 && count > PROPERTIES_MAX {
                return self.refuse("An event has at most 400 properties.");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_as_klaviyo_does() {
        for good in ["a@shop.io", "a+b.c@sub.shop.io", "customer-0001@mail.test"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@",
            "@shop.io",
            "a@shop",
            "a b@shop.io",
            "a@shop..io",
            "a@@shop.io",
            ".a@shop.io",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(!is_email(&format!("{}@shop.io", "a".repeat(95))));
    }

    #[test]
    fn phone_numbers_are_e164() {
        assert!(is_phone_number("+15005550006"));
        for bad in [
            "15005550006",
            "+0500555000",
            "+1500",
            "+1 5005550006",
            "+1234567890123456",
        ] {
            assert!(!is_phone_number(bad), "{bad}");
        }
    }

    #[test]
    fn properties_have_limits_in_number_size_and_depth() {
        assert_eq!(properties(r#"{"a":[1,"b",{"c":null}]}"#), Ok(()));
        assert!(properties("[]").is_err());
        let many: Vec<_> = (0..401).map(|n| format!("\"k{n}\":1")).collect();
        assert_eq!(
            properties(&format!("{{{}}}", many.join(","))),
            Err("An event has at most 400 properties.")
        );
        assert_eq!(
            properties(&format!("{{{}}}", many[..400].join(","))),
            Ok(())
        );
        let long = "x".repeat(100_001);
        assert_eq!(
            properties(&format!("{{\"a\":\"{long}\"}}")),
            Err("Strings are limited to 100 KB.")
        );
        let items = vec!["1"; 4001].join(",");
        assert_eq!(
            properties(&format!("{{\"a\":[{items}]}}")),
            Err("Arrays are limited to 4,000 items.")
        );
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert_eq!(properties(&nested(10)), Ok(()));
        assert_eq!(
            properties(&nested(11)),
            Err("Objects may be nested 10 levels deep.")
        );
    }

    #[test]
    fn times_with_and_without_offset_are_understood() {
        assert_eq!(
            time("2026-09-04T13:38:55Z"),
            time("2026-09-04T15:38:55+02:00")
        );
        assert_eq!(time("2026-09-04T13:38:55"), time("2026-09-04T13:38:55Z"));
        assert_eq!(time("yesterday"), None);
        let now = time("2026-09-04T13:38:55Z").unwrap();
        assert!(is_event_time(now, now));
        assert!(!is_event_time(time("1999-12-31T23:59:59Z").unwrap(), now));
        assert!(!is_event_time(time("2028-09-04T00:00:00Z").unwrap(), now));
    }
}
