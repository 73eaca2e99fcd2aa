//! Keeps calls from a part of Klaviyo that is down.
//!
//! Failsafe's policies decide when a group trips and for how long; the states are ours, because
//! failsafe alone admits everybody half-open and recovers on one late success. While tripped
//! nothing leaves; then one probe at a time; after a good one a ramp doubles what may be in
//! flight. Only answers 5xx, timeouts and connection errors are failures here.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failsafe::FailurePolicy;
use failsafe::backoff::equal_jittered;
use failsafe::failure_policy::{consecutive_failures, success_rate_over_time_window};
use tokio::time::Instant;

use super::gate::{LOCKED, Outcome, Pass};
use super::operation::Group;

const CONSECUTIVE_FAILURES: u32 = 5;
const SUCCESS_RATE_MIN: f64 = 0.5;
const SUCCESS_RATE_CALLS_MIN: u32 = 20;
const SUCCESS_RATE_WINDOW: Duration = Duration::from_secs(30);
const TRIPPED_MIN: Duration = Duration::from_secs(2);
const TRIPPED_MAX: Duration = Duration::from_mins(2);
/// Calls in flight right after recovery, doubling up to the second number.
const RAMP: (u32, u32) = (2, 64);
/// How soon to ask again while the ramp, or a probe, is busy.
const BUSY: Duration = Duration::from_millis(50);

/// Decides whether a group of operations is well enough to be called.
///
/// A fleet's breaker answers from what it last heard and spreads what it learns by itself.
pub trait Breaker: Send + Sync + fmt::Debug {
    /// Says whether a call could pass, without passing.
    ///
    /// # Errors
    /// [`Tripped`] until the group may be asked again.
    fn check(&self, group: Group) -> Result<(), Tripped>;

    /// Passes, or says when to ask again; the pass must learn what became of the call.
    ///
    /// # Errors
    /// [`Tripped`] until the group may be asked again.
    fn pass(&self, group: Group) -> Result<Pass, Tripped>;

    /// Says whether the group is given up, and until when; also while a probe may leave.
    fn tripped(&self, group: Group) -> Option<Tripped>;
}

/// A group is not called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// When to ask again.
    pub until: Instant,
}

/// A [`Breaker`] for one process.
#[derive(Debug)]
pub struct LocalBreaker {
    groups: [Fuse; Group::ALL.len()],
}

impl LocalBreaker {
    /// Creates a breaker with every group recovered.
    pub fn new() -> Self {
        Self {
            groups: Group::ALL.map(Fuse::new),
        }
    }
}

impl Default for LocalBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker for LocalBreaker {
    fn check(&self, group: Group) -> Result<(), Tripped> {
        self.groups[group as usize].check(Instant::now())
    }

    fn pass(&self, group: Group) -> Result<Pass, Tripped> {
        self.groups[group as usize].pass(Instant::now())
    }

    fn tripped(&self, group: Group) -> Option<Tripped> {
        match self.groups[group as usize]
            .inner
            .lock()
            .expect(LOCKED)
            .state
        {
            State::Tripped { until, .. } => Some(Tripped { until }),
            State::Recovered | State::Ramp { .. } => None,
        }
    }
}

/// The breaker of one group.
#[derive(Clone)]
struct Fuse {
    group: Group,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    policy: Box<dyn FailurePolicy + Send>,
    state: State,
    /// Counts trips, so that calls from before one say nothing after it.
    trips: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Recovered,
    Tripped {
        until: Instant,
        delay: Duration,
        probing: bool,
    },
    Ramp {
        in_flight_max: u32,
        in_flight: u32,
        delay: Duration,
    },
}

impl Fuse {
    fn new(group: Group) -> Self {
        let delays = equal_jittered(TRIPPED_MIN, TRIPPED_MAX);
        let rate = success_rate_over_time_window(
            SUCCESS_RATE_MIN,
            SUCCESS_RATE_CALLS_MIN,
            SUCCESS_RATE_WINDOW,
            delays.clone(),
        );
        let policy = consecutive_failures(CONSECUTIVE_FAILURES, delays).or_else(rate);
        let inner = Inner {
            policy: Box::new(policy),
            state: State::Recovered,
            trips: 0,
        };
        Self {
            group,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn check(&self, now: Instant) -> Result<(), Tripped> {
        self.inner.lock().expect(LOCKED).state.check(now)
    }

    fn pass(&self, now: Instant) -> Result<Pass, Tripped> {
        let mut inner = self.inner.lock().expect(LOCKED);
        inner.state.check(now)?;
        match &mut inner.state {
            State::Recovered => {}
            State::Tripped { probing, .. } => *probing = true,
            State::Ramp { in_flight, .. } => *in_flight += 1,
        }
        let trips = inner.trips;
        drop(inner);
        let fuse = self.clone();
        Ok(Pass::new(move |outcome| {
            fuse.settle(trips, outcome, Instant::now());
        }))
    }

    fn settle(&self, trips: u64, outcome: Option<Outcome>, now: Instant) {
        let mut inner = self.inner.lock().expect(LOCKED);
        if inner.trips != trips {
            return;
        }
        match outcome {
            Some(Outcome::Good) => self.succeed(&mut inner),
            Some(Outcome::Bad) => self.fail(&mut inner, now),
            Some(Outcome::Unknown) | None => inner.state.leave(),
        }
    }

    fn succeed(&self, inner: &mut Inner) {
        inner.policy.record_success();
        match inner.state {
            State::Recovered => {}
            State::Tripped { delay, probing, .. } => {
                if probing {
                    inner.state = State::Ramp {
                        in_flight_max: RAMP.0,
                        in_flight: 0,
                        delay,
                    };
                    tracing::info!(
                        group = self.group.name(),
                        "probe succeeded: calling Klaviyo more and more"
                    );
                }
            }
            State::Ramp {
                in_flight_max,
                in_flight,
                delay,
            } => {
                let in_flight_max = in_flight_max * 2;
                if in_flight_max > RAMP.1 {
                    inner.state = State::Recovered;
                    inner.policy.revived();
                    tracing::info!(
                        group = self.group.name(),
                        "recovered: Klaviyo answers again"
                    );
                } else {
                    let in_flight = in_flight.saturating_sub(1);
                    inner.state = State::Ramp {
                        in_flight_max,
                        in_flight,
                        delay,
                    };
                }
            }
        }
    }

    fn fail(&self, inner: &mut Inner, now: Instant) {
        let policy = inner.policy.mark_dead_on_failure();
        let delay = match inner.state {
            State::Recovered => policy,
            State::Tripped { delay, .. } | State::Ramp { delay, .. } => {
                Some(policy.unwrap_or_else(|| (delay * 2).min(TRIPPED_MAX)))
            }
        };
        let Some(delay) = delay else { return };
        let until = now + delay;
        inner.trips += 1;
        inner.state = State::Tripped {
            until,
            delay,
            probing: false,
        };
        tracing::warn!(
            group = self.group.name(),
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "tripped: Klaviyo does not answer, or with 5xx"
        );
    }
}

impl State {
    fn check(&self, now: Instant) -> Result<(), Tripped> {
        match *self {
            Self::Tripped { until, .. } if now < until => Err(Tripped { until }),
            Self::Tripped { probing: true, .. } => Err(Tripped {
                until: now + BUSY * 20,
            }),
            Self::Ramp {
                in_flight_max,
                in_flight,
                ..
            } if in_flight >= in_flight_max => Err(Tripped { until: now + BUSY }),
            Self::Recovered | Self::Tripped { .. } | Self::Ramp { .. } => Ok(()),
        }
    }

    fn leave(&mut self) {
        match self {
            Self::Recovered => {}
            Self::Tripped { probing, .. } => *probing = false,
            Self::Ramp { in_flight, .. } => *in_flight = in_flight.saturating_sub(1),
        }
    }
}

impl fmt::Debug for Fuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.lock().expect(LOCKED).state;
        formatter
            .debug_struct("Fuse")
            .field("group", &self.group)
            .field("state", &state)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tripped() -> (Fuse, Instant) {
        let fuse = Fuse::new(Group::Events);
        for _ in 0..CONSECUTIVE_FAILURES {
            fuse.pass(Instant::now()).unwrap().settle(Outcome::Bad);
        }
        let until = fuse.check(Instant::now()).unwrap_err().until;
        (fuse, until)
    }

    #[test]
    fn failures_in_a_row_trip_the_group_and_nothing_leaves() {
        let (fuse, until) = tripped();
        assert!(fuse.pass(Instant::now()).is_err());
        assert_eq!(
            fuse.pass(until - Duration::from_nanos(1))
                .unwrap_err()
                .until,
            until
        );
    }

    #[test]
    fn one_success_in_between_keeps_the_group_going() {
        let fuse = Fuse::new(Group::Events);
        for _ in 0..4 * CONSECUTIVE_FAILURES {
            fuse.pass(Instant::now()).unwrap().settle(Outcome::Bad);
            fuse.pass(Instant::now()).unwrap().settle(Outcome::Good);
        }
        assert!(fuse.pass(Instant::now()).is_ok());
    }

    #[test]
    fn half_open_admits_one_probe_at_a_time() {
        let (fuse, until) = tripped();
        let probe = fuse.pass(until).unwrap();
        assert!(fuse.pass(until).is_err());
        drop(probe);
        let probe = fuse.pass(until).unwrap();
        assert!(fuse.pass(until).is_err());
        probe.settle(Outcome::Unknown);
        assert!(fuse.check(until).is_ok());
    }

    #[test]
    fn failed_probe_trips_again() {
        let (fuse, until) = tripped();
        fuse.pass(until).unwrap().settle(Outcome::Bad);
        assert!(fuse.check(Instant::now()).is_err());
    }

    #[test]
    fn late_success_from_before_the_trip_recovers_nothing() {
        let fuse = Fuse::new(Group::Events);
        let older = fuse.pass(Instant::now()).unwrap();
        for _ in 0..CONSECUTIVE_FAILURES {
            fuse.pass(Instant::now()).unwrap().settle(Outcome::Bad);
        }
        older.settle(Outcome::Good);
        assert!(fuse.check(Instant::now()).is_err());
    }

    #[test]
    fn recovery_ramps_up_by_doubling() {
        let (fuse, until) = tripped();
        fuse.pass(until).unwrap().settle(Outcome::Good);
        let first = fuse.pass(until).unwrap();
        let second = fuse.pass(until).unwrap();
        assert!(fuse.pass(until).is_err());
        first.settle(Outcome::Good);
        second.settle(Outcome::Good);
        let more: Vec<Pass> = std::iter::from_fn(|| fuse.pass(until).ok())
            .take(100)
            .collect();
        assert_eq!(more.len(), 8);
        for pass in more {
            pass.settle(Outcome::Good);
        }
        let all: Vec<Pass> = std::iter::from_fn(|| fuse.pass(until).ok())
            .take(100)
            .collect();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn failure_during_the_ramp_trips_at_once() {
        let (fuse, until) = tripped();
        fuse.pass(until).unwrap().settle(Outcome::Good);
        fuse.pass(until).unwrap().settle(Outcome::Bad);
        assert!(fuse.check(Instant::now()).is_err());
    }

    #[test]
    fn groups_fail_one_at_a_time() {
        let breaker = LocalBreaker::new();
        for _ in 0..CONSECUTIVE_FAILURES {
            breaker.pass(Group::Events).unwrap().settle(Outcome::Bad);
        }
        assert!(breaker.check(Group::Events).is_err());
        assert!(breaker.check(Group::Profiles).is_ok());
    }
}
