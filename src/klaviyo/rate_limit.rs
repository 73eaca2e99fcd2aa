//! What response headers say about the limits: `RateLimit-*` and `Retry-After`.
//!
//! Parsed leniently, because nothing in them may stop us: what is odd is absent. The surprising
//! thing: `RateLimit-Remaining` speaks about the window whose limit leads `RateLimit-Limit`,
//! which in every observed answer was the second, not the minute (seen 2026-09-04).

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// No wait that Klaviyo asks for is believed beyond this, and nothing is closed for longer by one.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(15);

/// The `RateLimit-*` headers of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitHeaders {
    /// The limit that `remaining` and `reset` speak about.
    pub limit: Option<u32>,
    /// Every window as (limit, seconds).
    pub windows: Vec<(u32, u32)>,
    /// Calls left in that window.
    pub remaining: Option<u32>,
    /// When that window starts anew.
    pub reset: Option<Duration>,
}

impl RateLimitHeaders {
    /// Reads the headers; absent or odd ones stay empty.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut parsed = Self {
            remaining: number(headers, "ratelimit-remaining"),
            reset: number(headers, "ratelimit-reset").map(|s| Duration::from_secs(u64::from(s))),
            ..Self::default()
        };
        let Some(list) = headers
            .get("ratelimit-limit")
            .and_then(|value| value.to_str().ok())
        else {
            return parsed;
        };
        for (index, item) in list.split(',').take(8).enumerate() {
            let mut parts = item.split(';').map(str::trim);
            let Some(limit) = parts.next().and_then(|limit| limit.parse().ok()) else {
                continue;
            };
            if index == 0 {
                parsed.limit = Some(limit);
            }
            let seconds = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
            if let Some(seconds) = seconds {
                parsed.windows.push((limit, seconds));
            }
        }
        parsed
    }

    /// Returns the limit of the window of that many seconds.
    pub fn window(&self, seconds: u32) -> Option<u32> {
        self.windows
            .iter()
            .find(|(_, window)| *window == seconds)
            .map(|(limit, _)| *limit)
    }

    /// Returns how long nothing may leave: what is left of a window with no calls remaining.
    pub fn spent_for(&self) -> Option<Duration> {
        if self.remaining != Some(0) {
            return None;
        }
        // A limit of one call is always at zero after that call, and the bucket knows it.
        if self.limit == Some(1) {
            return None;
        }
        Some(self.reset.unwrap_or_default().max(Duration::from_secs(1)))
    }
}

/// Reads `Retry-After`: seconds, or a date relative to the answer's own `Date`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() || seconds < 0.0 {
            return None;
        }
        let seconds = seconds.min(RETRY_AFTER_MAX.as_secs_f64());
        return Some(Duration::from_secs_f64(seconds));
    }
    let then = date(text)?;
    let now = answered_at(headers)?;
    let seconds = u64::try_from(then.as_second() - now.as_second()).ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Reads when Klaviyo answered, by its own clock.
pub(crate) fn answered_at(headers: &HeaderMap) -> Option<Timestamp> {
    date(headers.get(DATE)?.to_str().ok()?)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn limit_header_names_its_window_and_lists_all() {
        let parsed = RateLimitHeaders::parse(&headers(&[
            ("ratelimit-limit", "1, 1;w=1, 2;w=60, 225;w=86400"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "1"),
        ]));
        assert_eq!(parsed.limit, Some(1));
        assert_eq!(parsed.windows, [(1, 1), (2, 60), (225, 86400)]);
        assert_eq!(parsed.window(60), Some(2));
        assert_eq!(parsed.reset, Some(Duration::from_secs(1)));
    }

    #[test]
    fn plain_integer_limit_works_too() {
        let parsed = RateLimitHeaders::parse(&headers(&[("ratelimit-limit", "75")]));
        assert_eq!((parsed.limit, parsed.windows.len()), (Some(75), 0));
    }

    #[test]
    fn odd_limit_headers_are_as_good_as_absent() {
        for odd in [
            "",
            ";;;",
            "-1, 5;w=",
            "99999999999999999999;w=60",
            "a;w=60, ,",
            "1;x=2",
        ] {
            let parsed = RateLimitHeaders::parse(&headers(&[
                ("ratelimit-limit", odd),
                ("ratelimit-remaining", odd),
                ("ratelimit-reset", odd),
            ]));
            assert!(parsed.windows.is_empty(), "{odd}");
            assert_eq!(parsed.spent_for(), None, "{odd}");
        }
    }

    #[test]
    fn retry_after_takes_seconds_and_dates_and_survives_nonsense() {
        let date = ("date", "Fri, 04 Sep 2026 13:38:55 GMT");
        let cases = [
            ("3", Some(3.0)),
            (" 1.5 ", Some(1.5)),
            ("0", Some(0.0)),
            ("-5", None),
            ("NaN", None),
            ("", None),
            ("soon", None),
            ("1e300", Some(900.0)),
            ("inf", Some(900.0)),
            ("99999999999999999999999999", Some(900.0)),
            ("Fri, 04 Sep 2026 13:39:55 GMT", Some(60.0)),
            ("Fri, 04 Sep 2026 13:38:00 GMT", None),
            ("Fri, 04 Sep 2099 13:38:00 GMT", Some(900.0)),
        ];
        for (text, seconds) in cases {
            let answer = retry_after(&headers(&[("retry-after", text), date]));
            assert_eq!(answer.map(|wait| wait.as_secs_f64()), seconds, "{text}");
        }
        let without_date = headers(&[("retry-after", "Fri, 04 Sep 2026 13:39:55 GMT")]);
        assert_eq!(retry_after(&without_date), None);
    }
}
