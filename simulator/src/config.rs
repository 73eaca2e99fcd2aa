//! What a simulator can be told before it starts.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::state::segments::SegmentConfig;

/// How strictly the rate limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limits {
    /// The published numbers.
    Real,
    /// No limits and no `RateLimit-*` headers; the peaks are still counted.
    Off,
    /// The published numbers times this factor, at least 1 a window.
    Factor(f64),
}

impl FromStr for Limits {
    type Err = LimitsError;

    fn from_str(text: &str) -> Result<Self, LimitsError> {
        match text {
            "real" => Ok(Self::Real),
            "off" => Ok(Self::Off),
            number => match number.parse::<f64>() {
                Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Self::Factor(factor)),
                _ => Err(LimitsError),
            },
        }
    }
}

/// The text is neither `real`, `off` nor a positive number.
#[derive(Debug)]
pub struct LimitsError;

impl fmt::Display for LimitsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("limits are real, off or a positive factor such as 2.5")
    }
}

impl Error for LimitsError {}

#[derive(Clone, Debug)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub limits: Limits,
    /// From queued to complete of an import job.
    pub import_delay: Duration,
    /// Keeps the JSON bodies of recorded requests.
    pub record_bodies: bool,
    /// Answers 401 to every other key; `None` takes any key.
    pub api_key: Option<String>,
    /// How many of the newest events can be read back.
    pub events_kept: usize,
    pub segments: Vec<SegmentConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            limits: Limits::Real,
            import_delay: Duration::from_secs(1),
            record_bodies: false,
            api_key: None,
            events_kept: 10_000,
            segments: SegmentConfig::defaults(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_a_word_or_a_factor() {
        assert_eq!("real".parse::<Limits>().unwrap(), Limits::Real);
        assert_eq!("off".parse::<Limits>().unwrap(), Limits::Off);
        assert_eq!("2.5".parse::<Limits>().unwrap(), Limits::Factor(2.5));
        for wrong in ["", "0", "-1", "NaN", "inf", "on"] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
    }
}
