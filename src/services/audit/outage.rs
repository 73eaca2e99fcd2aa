//! Says once that the database is away, and once that it is back.

use crate::store::Error;
use std::error::Error as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Whether the database is away.
#[derive(Debug, Default)]
pub struct Outage {
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// How long it has been away, if it is.
    pub fn away_for(&self) -> Option<Duration> {
        let since = self.since.lock().expect("nobody panics while holding it");
        since.map(|began| began.elapsed())
    }

    pub(crate) fn failed(&self, error: &Error) {
        let mut since = self.since.lock().expect("nobody panics while holding it");
        if since.is_none() {
            *since = Some(Instant::now());
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "the database is away; delivery goes on, and the audit waits in memory");
        }
    }

    pub(crate) fn worked(&self) {
        let mut since = self.since.lock().expect("nobody panics while holding it");
        if let Some(began) = since.take() {
            let away_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(away_ms, "the database is back");
        }
    }
}
