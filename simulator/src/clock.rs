//! The only place that asks what time it is.
//!
//! Everything else takes a [`Moment`] as an argument, so that windows, due jobs and time limits can be tested
//! without waiting.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl Moment {
    pub(crate) fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub(crate) fn plus(self, delay: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The way Klaviyo writes times: whole seconds and a numeric offset.
    pub(crate) fn rfc3339(self) -> String {
        Timestamp::from_millisecond(self.0)
            .unwrap_or_default()
            .strftime("%Y-%m-%dT%H:%M:%S+00:00")
            .to_string()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Moment,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at: Moment(Timestamp::now().as_millisecond()),
        }
    }

    pub(crate) fn now(self) -> Moment {
        let now = self
            .started_at
            .0
            .saturating_add(i64::try_from(self.since_start().as_millis()).unwrap_or(i64::MAX));
        Moment(now)
    }

    pub(crate) fn since_start(self) -> Duration {
        self.started.elapsed()
    }
}
