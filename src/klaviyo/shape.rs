//! The shape of a bucket that keeps a second's and a minute's window: how many calls at once, and one every how long.
//!
//! A bucket of capacity C and refill r keeps both windows only if `C + r <= burst` and
//! `C + 60 r <= steady`. C is 1 % of the minute, at least 1, so that a saturated operation gets
//! nearly all of it. What is granted in one place and leaves from another arrives late: a fleet's
//! bucket counts what may be held meanwhile inside C and leaves a little of the minute unused.

use std::num::NonZeroU32;
use std::time::Duration;

use super::operation::Limits;

const MINUTE: Duration = Duration::from_mins(1);
/// Operations with no more calls a second are granted one by one.
const ONE_BY_ONE: u32 = 10;
/// A fleet leaves one call in so many to delays on the way.
const SLACK: u32 = 200;

/// Capacity, and the time one call takes to grow back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Calls that may leave at once.
    pub capacity: NonZeroU32,
    /// One more call grows back in this time.
    pub interval: Duration,
    /// The most calls that one grant holds.
    pub block: u32,
}

impl Shape {
    /// Computes the shape of a bucket in one process, from which calls leave at once.
    pub fn of(limits: Limits) -> Self {
        let capacity = capacity(limits);
        Self::with(limits, capacity, limits.steady)
    }

    /// Computes the shape of a bucket that a fleet shares; a grant may be held for `hold`.
    pub fn shared(limits: Limits, hold: Duration) -> Self {
        let capacity = capacity(limits);
        let slack = if limits.steady < 100 {
            0
        } else {
            limits.steady.div_ceil(SLACK)
        };
        let shape = Self::with(limits, capacity, limits.steady - slack);
        if limits.burst <= ONE_BY_ONE {
            return shape;
        }
        let held = nanos(hold).div_ceil(nanos(shape.interval).max(1));
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let capacity = capacity.saturating_sub(held).max(1);
        Self {
            capacity: NonZeroU32::new(capacity).expect("at least one"),
            interval: shape.interval,
            block: (capacity / 2).max(1),
        }
    }

    fn with(limits: Limits, capacity: u32, steady: u32) -> Self {
        // One call a minute leaves no refill by the formula. Two calls a little more than a
        // minute apart never share a window.
        let for_the_minute = match steady.saturating_sub(capacity) {
            0 => MINUTE + Duration::from_secs(1),
            refill => divide_up(MINUTE, refill),
        };
        let for_the_second = match limits.burst.saturating_sub(capacity) {
            0 => Duration::from_millis(1001),
            refill => divide_up(Duration::from_secs(1), refill),
        };
        Self {
            capacity: NonZeroU32::new(capacity).expect("at least one"),
            interval: for_the_minute.max(for_the_second),
            block: 1,
        }
    }
}

fn capacity(limits: Limits) -> u32 {
    (limits.steady / 100).clamp(1, limits.burst.max(1))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn divide_up(duration: Duration, by: u32) -> Duration {
    Duration::from_nanos(nanos(duration).div_ceil(u64::from(by)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::Operation;

    #[test]
    fn a_fleet_uses_at_least_97_of_100_calls_of_every_minute_and_keeps_both_windows() {
        let hold = Duration::from_millis(250);
        for operation in Operation::ALL {
            let limits = operation.limits();
            let shape = Shape::shared(limits, hold);
            let in_ = |window: Duration| {
                let refill = window.as_secs_f64() / shape.interval.as_secs_f64();
                f64::from(shape.capacity.get()) + refill.floor()
            };
            if limits.steady >= 150 {
                let refill = in_(MINUTE) - f64::from(shape.capacity.get());
                assert!(refill >= 0.98 * f64::from(limits.steady), "{operation}");
            }
            // What was granted before the window may still arrive in it.
            let steady = f64::from(limits.steady);
            assert!(in_(MINUTE + hold) <= steady, "{operation}: {shape:?}");
            let burst = f64::from(limits.burst);
            // One call a second is kept by the distance of any two.
            let apart = shape.interval > Duration::from_secs(1) + hold;
            assert!(
                in_(Duration::from_secs(1) + hold) <= burst || apart,
                "{operation}"
            );
        }
    }
}
