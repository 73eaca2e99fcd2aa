//! How fast a queue drained in the last minute.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(1);
/// Samples closer to each other than this are one.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Counts what is done and remembers how much it was a minute ago.
#[derive(Debug, Default)]
pub(super) struct Pace {
    done: AtomicU64,
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Pace {
    pub(super) fn count(&self, jobs: u64) {
        self.done.fetch_add(jobs, Ordering::Relaxed);
    }

    /// Remembers how much is done by now.
    pub(super) fn sample(&self, now: Instant) {
        let mut samples = self.samples.lock().expect("no holder of this lock panics");
        if samples
            .back()
            .is_some_and(|(at, _)| now - *at < SAMPLE_EVERY)
        {
            return;
        }
        samples.push_back((now, self.done.load(Ordering::Relaxed)));
        while samples.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            samples.pop_front();
        }
    }

    /// Says how many seconds so many jobs take at the pace of the last minute; infinitely many while nothing is done.
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    pub(super) fn seconds_for(&self, jobs: u64, now: Instant) -> f64 {
        if jobs == 0 {
            return 0.0;
        }
        let first = {
            let samples = self.samples.lock().expect("no holder of this lock panics");
            samples.front().copied()
        };
        let Some((at, before)) = first else {
            return f64::INFINITY;
        };
        let done = self.done.load(Ordering::Relaxed) - before;
        if done == 0 {
            return f64::INFINITY;
        }
        jobs as f64 * (now - at).as_secs_f64() / done as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_drain_follows_the_last_minute() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.sample(start);
        let is = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(is(pace.seconds_for(0, start), 0.0));
        let later = start + Duration::from_secs(10);
        assert!(pace.seconds_for(5, later).is_infinite());
        pace.count(100);
        assert!(is(pace.seconds_for(50, later), 5.0));
        let much_later = start + Duration::from_secs(200);
        pace.sample(much_later);
        let long_after = much_later + Duration::from_secs(1);
        assert!(pace.seconds_for(50, long_after).is_infinite());
    }
}
