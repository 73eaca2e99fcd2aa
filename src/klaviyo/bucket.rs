//! One operation's windows: a token bucket for the second and the minute, a log for the day.
//!
//! Every function takes the time: governor runs on a clock that we set, and keeps its state where
//! a call that never left can be taken off again, exactly.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::direct::NotKeyed;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::budget::{Wait, WaitReason};
use super::operation::Limits;
use super::shape::Shape;

const DAY: Duration = Duration::from_hours(24);

/// The windows of one operation.
#[derive(Debug)]
pub(crate) struct Bucket {
    limiter: RateLimiter<NotKeyed, SpentUntil, SetClock, NoOpMiddleware<Nanos>>,
    spent_until: SpentUntil,
    epoch: Instant,
    shape: Shape,
    day: Option<Day>,
}

impl Bucket {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let shape = Shape::of(limits);
        let spent_until = SpentUntil::default();
        let quota = Quota::with_period(shape.interval)
            .expect("an interval is never zero")
            .allow_burst(shape.capacity);
        Self {
            limiter: RateLimiter::new(quota, spent_until.clone(), SetClock::default()),
            spent_until,
            epoch: now,
            shape,
            day: limits.daily.map(Day::new),
        }
    }

    /// Takes one call, or says when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Wait> {
        if let Some(until) = self.day.as_mut().and_then(|day| day.full_until(now)) {
            return Err(Wait {
                until,
                reason: WaitReason::Day,
            });
        }
        let elapsed = self.elapsed(now);
        self.limiter
            .clock()
            .0
            .store(elapsed.as_u64(), Ordering::Relaxed);
        if let Err(not_until) = self.limiter.check() {
            let until = now + not_until.wait_time_from(elapsed);
            return Err(Wait {
                until,
                reason: WaitReason::Minute,
            });
        }
        if let Some(day) = &mut self.day {
            day.calls.push_back(now);
        }
        Ok(())
    }

    /// Takes back one call that never left.
    pub(crate) fn give_back(&mut self) {
        let interval = nanos(self.shape.interval);
        let earlier = |spent: u64| Some(spent.saturating_sub(interval));
        let _ = self
            .spent_until
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
        if let Some(day) = &mut self.day {
            day.calls.pop_back();
        }
    }

    /// Returns how many calls could leave at `now`.
    pub(crate) fn available(&self, now: Instant) -> u32 {
        let spent_until = self.spent_until.0.load(Ordering::Relaxed);
        let owed = spent_until.saturating_sub(self.elapsed(now).as_u64());
        let taken = owed.div_ceil(nanos(self.shape.interval));
        self.shape
            .capacity
            .get()
            .saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// Returns when the next call could leave.
    pub(crate) fn next_free(&self, now: Instant) -> Instant {
        let interval = nanos(self.shape.interval);
        let tolerance = interval * u64::from(self.shape.capacity.get() - 1);
        let spent_until = self.spent_until.0.load(Ordering::Relaxed);
        let owed = spent_until
            .saturating_sub(tolerance)
            .saturating_sub(self.elapsed(now).as_u64());
        now + Duration::from_nanos(owed)
    }

    pub(crate) fn interval(&self) -> Duration {
        self.shape.interval
    }

    pub(crate) fn used_day(&self, now: Instant) -> Option<u32> {
        let day = self.day.as_ref()?;
        let recent = day.calls.iter().filter(|call| **call + DAY > now).count();
        Some(u32::try_from(recent).unwrap_or(u32::MAX))
    }

    fn elapsed(&self, now: Instant) -> Nanos {
        now.saturating_duration_since(self.epoch).into()
    }
}

/// The calls of the last 24 hours. Klaviyo's daily limits are small (at most 225).
#[derive(Debug)]
struct Day {
    limit: usize,
    calls: VecDeque<Instant>,
}

impl Day {
    fn new(limit: u32) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            calls: VecDeque::new(),
        }
    }

    fn full_until(&mut self, now: Instant) -> Option<Instant> {
        while self.calls.front().is_some_and(|call| *call + DAY <= now) {
            self.calls.pop_front();
        }
        if self.calls.len() < self.limit {
            return None;
        }
        self.calls.front().map(|call| *call + DAY)
    }
}

/// Governor's state: the time until which what was taken is spent, since the bucket's epoch.
#[derive(Clone, Debug, Default)]
struct SpentUntil(Arc<AtomicU64>);

impl StateStore for SpentUntil {
    type Key = NotKeyed;

    // The bucket is behind its owner's lock, so nobody else writes between the two steps.
    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(nanos.into()),
        };
        let (outcome, after) = f(before)?;
        self.0.store(after.as_u64(), Ordering::Relaxed);
        Ok(outcome)
    }
}

/// A clock that stands where it was last set.
#[derive(Debug, Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

fn nanos(duration: Duration) -> u64 {
    Nanos::from(duration).as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::Operation;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn limits(burst: u32, steady: u32, daily: Option<u32>) -> Limits {
        Limits {
            burst,
            steady,
            daily,
        }
    }

    /// The most calls of any half-open window of that length.
    fn worst(calls: &[Duration], window: Duration) -> usize {
        let mut start = 0;
        let mut most = 0;
        for (end, call) in calls.iter().enumerate() {
            while call.saturating_sub(calls[start]) >= window {
                start += 1;
            }
            most = most.max(end + 1 - start);
        }
        most
    }

    /// Calls as often as possible, pausing by the schedule, and returns when calls left.
    fn play(limits: Limits, schedule: &[(u16, u16)]) -> Vec<Duration> {
        let epoch = Instant::now();
        let mut bucket = Bucket::new(limits, epoch);
        let mut now = epoch;
        let mut calls = Vec::new();
        for (wanted, pause_ms) in schedule {
            for _ in 0..*wanted {
                match bucket.take(now) {
                    Ok(()) => calls.push(now - epoch),
                    Err(wait) => {
                        assert!(wait.until > now);
                        assert_eq!(wait.until, bucket.next_free(now));
                        now = wait.until;
                    }
                }
            }
            now += Duration::from_millis(u64::from(*pause_ms));
        }
        calls
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_schedule_ever_breaks_a_window(
            tier in prop::sample::select(vec![(1, 15), (3, 60), (10, 150), (75, 750), (350, 3500), (1, 2), (1, 1), (2, 900)]),
            schedule in prop::collection::vec((0_u16..600, 0_u16..20_000), 1..12),
        ) {
            let (burst, steady) = tier;
            let calls = play(limits(burst, steady, None), &schedule);
            prop_assert!(worst(&calls, Duration::from_secs(1)) <= burst as usize);
            prop_assert!(worst(&calls, MINUTE) <= steady as usize);
        }
    }

    #[test]
    fn a_saturated_operation_gets_nearly_all_of_its_minute() {
        for operation in Operation::ALL {
            let limits = operation.limits();
            let schedule = [(u16::try_from(limits.steady * 6).unwrap(), 0)];
            let calls = play(limits, &schedule);
            let third_minute = calls
                .iter()
                .filter(|call| call.as_secs() >= 120 && call.as_secs() < 180)
                .count();
            let steady = limits.steady as usize;
            assert!(
                third_minute * 100 >= steady * 93,
                "{operation}: {third_minute} of {steady}"
            );
        }
    }

    #[test]
    fn a_daily_limit_holds_for_any_24_hours() {
        let epoch = Instant::now();
        let mut bucket = Bucket::new(limits(1, 2, Some(3)), epoch);
        let mut now = epoch;
        let mut taken = 0;
        let until = loop {
            match bucket.take(now) {
                Ok(()) => taken += 1,
                Err(Wait {
                    until,
                    reason: WaitReason::Day,
                }) => break until,
                Err(wait) => now = wait.until,
            }
        };
        assert_eq!(taken, 3);
        assert_eq!(until, epoch + DAY);
        assert_eq!(bucket.used_day(now), Some(3));
        assert_eq!(bucket.take(until), Ok(()));
    }

    #[test]
    fn a_call_given_back_can_be_taken_again_at_once() {
        let now = Instant::now();
        let mut bucket = Bucket::new(limits(10, 150, Some(150)), now);
        assert_eq!(bucket.available(now), 1);
        bucket.take(now).unwrap();
        assert_eq!(bucket.available(now), 0);
        assert!(bucket.take(now).is_err());
        bucket.give_back();
        assert_eq!(bucket.available(now), 1);
        assert_eq!(bucket.used_day(now), Some(0));
        bucket.take(now).unwrap();
        assert!(bucket.take(now).is_err());
    }
}
