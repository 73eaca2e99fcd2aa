//! What becomes of a job, why, and how often it is tried.

use jiff::Timestamp;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// How often and how long a job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// A job that needs more attempts than this is dead.
    pub attempts_max: u32,
    /// A job older than this is dead.
    pub age_max: Duration,
    /// The interval from which the first wait is drawn; it doubles with each attempt.
    pub backoff_first: Duration,
    /// The longest such interval.
    pub backoff_max: Duration,
}

impl Retries {
    /// Returns the defaults of a queue: a campaign soon comes too late, and consent must arrive.
    pub const fn of_queue(queue: &str) -> Self {
        let age_max = match queue.as_bytes() {
            b"campaigns" => Duration::from_hours(1),
            b"consent" => Duration::from_hours(30 * 24),
            _ => Duration::from_hours(7 * 24),
        };
        Self {
            attempts_max: 20,
            age_max,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_mins(15),
        }
    }

    /// Age counts only when an attempt fails: whatever waits for its turn dies of nothing.
    pub(crate) fn are_used_up(self, attempts: u32, since: Timestamp, now: Timestamp) -> bool {
        let age = now.duration_since(since);
        attempts >= self.attempts_max || Duration::try_from(age).is_ok_and(|age| age > self.age_max)
    }

    /// Full jitter: a random part of an interval that doubles with each attempt. It begins after the first interval,
    /// so that no retry falls into the second that its failure was counted in.
    pub(crate) fn backoff_ms(self, attempts: u32) -> u64 {
        let first = self.backoff_first.min(self.backoff_max);
        let doubled = self.backoff_first.saturating_mul(1 << attempts.min(20));
        // The interval is capped, not what is drawn from it: else long waits would all be the same.
        let interval = doubled.min(self.backoff_max.saturating_sub(first));
        millis(first).saturating_add(rand::rng().random_range(0..=millis(interval)))
    }
}

/// Why a job is not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The stable code, such as `klaviyo.invalid`.
    pub code: &'static str,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What is wrong and what to do.
    pub detail: Arc<str>,
    /// Where in the job.
    pub pointer: Option<Arc<str>>,
}

impl Reason {
    /// Its time was over.
    pub(crate) fn expired() -> Self {
        Self {
            code: "job.expired",
            status: None,
            detail: "its time was over before it could be delivered; enqueue it again if it still matters".into(),
            pointer: None,
        }
    }

    /// The handler ended without a verdict.
    pub(crate) fn abandoned() -> Self {
        Self {
            code: "worker.abandoned",
            status: None,
            detail: "the handler ended without a verdict; see the log".into(),
            pointer: None,
        }
    }
}

impl From<&klaviyo_jobs::Invalid> for Reason {
    fn from(invalid: &klaviyo_jobs::Invalid) -> Self {
        Self {
            code: invalid.code(),
            status: None,
            detail: invalid.to_string().into(),
            pointer: invalid.pointer().map(Into::into),
        }
    }
}

/// What becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Klaviyo accepted it: it is deleted.
    Delivered,
    /// The attempt counts; again after a random part of 1 s, 2 s, 4 s .. 15 min.
    Retry(Reason),
    /// Again after the delay; costs no attempt.
    Snooze(Duration),
    /// It goes to the dead letters.
    Bury(Reason),
}

pub(crate) fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn backoff_stays_within_the_doubling_interval_and_below_fifteen_minutes() {
        let retries = Retries::of_queue("event-tracking");
        for attempts in 0..40 {
            let most = (1000 + (1000_u64 << attempts.min(20))).min(900_000);
            assert!(
                (1000..=most).contains(&retries.backoff_ms(attempts)),
                "{attempts}"
            );
        }
    }

    #[test]
    fn late_retries_are_spread_as_widely_as_early_ones() {
        let retries = Retries::of_queue("event-tracking");
        for attempts in [1, 12, 19] {
            let waits: HashSet<u64> = (0..100).map(|_| retries.backoff_ms(attempts)).collect();
            assert!(waits.len() > 50, "after {attempts}: {waits:?}");
        }
    }

    #[test]
    fn attempts_and_age_end_a_job_that_fails() {
        let retries = Retries::of_queue("campaigns");
        let now = Timestamp::now();
        let fresh = now - Duration::from_secs(1);
        let old = now - Duration::from_mins(61);
        assert!(!retries.are_used_up(19, fresh, now) && retries.are_used_up(20, fresh, now));
        assert!(retries.are_used_up(1, old, now));
        assert!(!Retries::of_queue("consent").are_used_up(1, old, now));
    }
}
