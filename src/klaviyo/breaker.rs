//! Keeps calls from a part of Klaviyo that is down.
//!
//! Failsafe's policies decide when a group trips and for how long; the states are ours, because
//! failsafe alone admits everybody half-open and recovers on one late success. While tripped
//! nothing leaves; then one probe of the fleet at a time; after a good one a ramp doubles what may
//! be in flight, in each process. Only answers 5xx, timeouts and connection errors are failures here.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use failsafe::FailurePolicy;
use failsafe::backoff::equal_jittered;
use failsafe::failure_policy::{consecutive_failures, success_rate_over_time_window};
use tokio::time::Instant;

use super::fleet::{Barrier, Fleet, Heard, SOON, Shut};
use super::gate::{LOCKED, Outcome, Pass};
use super::operation::Group;

const CONSECUTIVE_FAILURES: u32 = 5;
const SUCCESS_RATE_MIN: f64 = 0.5;
const SUCCESS_RATE_CALLS_MIN: u32 = 20;
const SUCCESS_RATE_WINDOW: Duration = Duration::from_secs(30);
/// Between two probes; short, because the fleet makes one at a time and recovers with the first good one.
const TRIPPED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
const PROBE_EVERY_MIN: Duration = Duration::from_secs(1);
/// Calls in flight right after recovery, doubling up to the second number.
const RAMP: (u32, u32) = (2, 64);

/// A group is not called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// When to ask again.
    pub(crate) until: Instant,
}

/// Decides whether a group of operations is well enough to be called.
#[derive(Debug)]
pub(crate) struct Breaker {
    groups: [Fuse; Group::ALL.len()],
}

impl Breaker {
    /// Creates a breaker with every group recovered.
    pub(crate) fn new(fleet: &Arc<dyn Fleet>) -> Self {
        Self {
            groups: Group::ALL.map(|group| Fuse::new(group, Arc::clone(fleet))),
        }
    }

    /// Says whether a call could pass, without passing.
    pub(crate) fn check(&self, group: Group) -> Result<(), Tripped> {
        self.groups[group as usize].check(Instant::now())
    }

    /// Passes, or says when to ask again; the pass must learn what became of the call.
    pub(crate) fn pass(&self, group: Group) -> Result<Pass, Tripped> {
        self.groups[group as usize].pass(Instant::now())
    }

    /// Says whether the group is given up, and until when; also while a probe may leave.
    pub(crate) fn tripped(&self, group: Group) -> Option<Tripped> {
        match self.groups[group as usize].lock().state {
            State::Tripped { shut, .. } => Some(Tripped { until: shut.until }),
            State::Recovered | State::Ramp { .. } => None,
        }
    }

    /// Returns when to ask again after a probe that was not good.
    pub(crate) fn next_probe(&self, group: Group, now: Instant) -> Instant {
        let until = self.tripped(group).map_or(now, |tripped| tripped.until);
        until.max(now + PROBE_EVERY_MIN)
    }

    /// Returns until when nothing can pass, not even a probe.
    pub(crate) fn impassable(&self, group: Group, now: Instant) -> Option<Instant> {
        match self.groups[group as usize].lock().state {
            State::Tripped { shut, .. } => shut.closed(now),
            State::Recovered | State::Ramp { .. } => None,
        }
    }

    /// Takes in what the fleet knows.
    pub(crate) fn hear(&self, group: Group, heard: Heard, now: Instant) {
        self.groups[group as usize].hear(heard, now);
    }
}

/// The breaker of one group.
#[derive(Clone)]
struct Fuse {
    group: Group,
    fleet: Arc<dyn Fleet>,
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
        shut: Shut,
        delay: Duration,
    },
    Ramp {
        in_flight_max: u32,
        in_flight: u32,
        delay: Duration,
    },
}

impl Fuse {
    fn new(group: Group, fleet: Arc<dyn Fleet>) -> Self {
        let delays = equal_jittered(TRIPPED.0, TRIPPED.1);
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
            fleet,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect(LOCKED)
    }

    fn check(&self, now: Instant) -> Result<(), Tripped> {
        self.admit(&mut self.lock().state, now)
    }

    fn pass(&self, now: Instant) -> Result<Pass, Tripped> {
        let mut inner = self.lock();
        self.admit(&mut inner.state, now)?;
        let is_probe = match &mut inner.state {
            State::Recovered => false,
            State::Tripped { shut, .. } => {
                shut.leave();
                true
            }
            State::Ramp { in_flight, .. } => {
                *in_flight += 1;
                false
            }
        };
        let trips = inner.trips;
        drop(inner);
        let fuse = self.clone();
        let pass = Pass::new(move |outcome| {
            fuse.settle(trips, is_probe, outcome, Instant::now());
        });
        Ok(pass.probing(is_probe))
    }

    fn admit(&self, state: &mut State, now: Instant) -> Result<(), Tripped> {
        match state {
            State::Tripped { shut, .. } => shut
                .admit(now, Barrier::Group(self.group), &*self.fleet)
                .map_err(|until| Tripped { until }),
            State::Ramp {
                in_flight_max,
                in_flight,
                ..
            } if *in_flight >= *in_flight_max => Err(Tripped { until: now + SOON }),
            State::Recovered | State::Ramp { .. } => Ok(()),
        }
    }

    fn hear(&self, heard: Heard, now: Instant) {
        let mut inner = self.lock();
        match (&mut inner.state, heard) {
            (State::Tripped { delay, .. }, Heard::Open) => {
                inner.state = State::ramp(*delay);
            }
            (State::Tripped { shut, .. }, Heard::Shut { until }) => shut.hear_shut(until),
            (State::Tripped { shut, .. }, Heard::MayProbe) => shut.hear_may_probe(now),
            (State::Recovered | State::Ramp { .. }, Heard::Shut { until }) => {
                inner.trips += 1;
                inner.state = State::Tripped {
                    shut: Shut::new(until),
                    delay: TRIPPED.0,
                };
            }
            (State::Recovered | State::Ramp { .. }, Heard::Open | Heard::MayProbe) => {}
        }
    }

    fn settle(&self, trips: u64, is_probe: bool, outcome: Option<Outcome>, now: Instant) {
        let mut inner = self.lock();
        if inner.trips != trips {
            return;
        }
        match outcome {
            Some(Outcome::Good) => self.succeed(&mut inner, is_probe),
            Some(Outcome::Bad) => self.fail(&mut inner, is_probe, now),
            Some(Outcome::Unknown) | None => {
                inner.state.leave(is_probe);
                if is_probe {
                    // An answer that tells nothing must not be asked for without a pause.
                    self.fleet
                        .probed(Barrier::Group(self.group), outcome, PROBE_EVERY_MIN);
                }
            }
        }
    }

    fn succeed(&self, inner: &mut Inner, is_probe: bool) {
        inner.policy.record_success();
        match inner.state {
            State::Recovered => {}
            State::Tripped { delay, .. } => {
                if is_probe {
                    inner.state = State::ramp(delay);
                    self.fleet
                        .probed(Barrier::Group(self.group), Some(Outcome::Good), delay);
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
                    tracing::debug!(group = self.group.name(), "calls without a ramp again");
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

    fn fail(&self, inner: &mut Inner, is_probe: bool, now: Instant) {
        let policy = inner.policy.mark_dead_on_failure();
        let delay = match inner.state {
            State::Recovered => policy,
            State::Tripped { delay, .. } | State::Ramp { delay, .. } => {
                Some(policy.unwrap_or_else(|| (delay * 2).min(TRIPPED.1)))
            }
        };
        let Some(delay) = delay else { return };
        let delay = delay.max(PROBE_EVERY_MIN);
        inner.trips += 1;
        inner.state = State::Tripped {
            shut: Shut::new(now + delay),
            delay,
        };
        let barrier = Barrier::Group(self.group);
        if is_probe {
            self.fleet.probed(barrier, Some(Outcome::Bad), delay);
        } else {
            self.fleet.shut(barrier, delay);
        }
    }
}

impl State {
    fn ramp(delay: Duration) -> Self {
        Self::Ramp {
            in_flight_max: RAMP.0,
            in_flight: 0,
            delay,
        }
    }

    fn leave(&mut self, is_probe: bool) {
        match self {
            Self::Tripped { shut, .. } if is_probe => shut.return_probe(),
            Self::Recovered | Self::Tripped { .. } => {}
            Self::Ramp { in_flight, .. } => *in_flight = in_flight.saturating_sub(1),
        }
    }
}

impl fmt::Debug for Fuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock().state;
        formatter
            .debug_struct("Fuse")
            .field("group", &self.group)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::fleet::Alone;

    fn fuse() -> Fuse {
        Fuse::new(Group::Events, Arc::new(Alone))
    }

    fn tripped() -> (Fuse, Instant) {
        let fuse = fuse();
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
        let fuse = fuse();
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
        assert!(probe.is_probe());
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
        let fuse = fuse();
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
        assert!(!first.is_probe());
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
        let breaker = Breaker::new(&(Arc::new(Alone) as Arc<dyn Fleet>));
        for _ in 0..CONSECUTIVE_FAILURES {
            breaker.pass(Group::Events).unwrap().settle(Outcome::Bad);
        }
        assert!(breaker.check(Group::Events).is_err());
        assert!(breaker.check(Group::Profiles).is_ok());
    }

    #[test]
    fn what_the_fleet_says_trips_a_group_and_recovers_it_over_a_ramp() {
        let fuse = fuse();
        let now = Instant::now();
        let older = fuse.pass(now).unwrap();
        let until = now + Duration::from_secs(3);
        fuse.hear(Heard::Shut { until }, now);
        assert_eq!(fuse.check(now), Err(Tripped { until }));
        older.settle(Outcome::Good);
        assert!(fuse.check(now).is_err());
        fuse.hear(Heard::Open, now);
        let passed = std::iter::from_fn(|| fuse.pass(now).ok());
        assert_eq!(passed.take(100).collect::<Vec<_>>().len(), 2);
    }

    #[test]
    fn probes_are_at_least_a_second_apart_and_at_most_four() {
        let (fuse, mut until) = tripped();
        for _ in 0..20 {
            let asked = Instant::now();
            fuse.pass(until).unwrap().settle(Outcome::Bad);
            until = fuse.check(Instant::now()).unwrap_err().until;
            let pause = until - asked;
            assert!(pause >= PROBE_EVERY_MIN, "{pause:?}");
            assert!(pause < TRIPPED.1 + Duration::from_secs(1), "{pause:?}");
        }
    }
}
