//! A gate that one bad answer closes and one good probe opens again.
//!
//! Two things hang on gates: the credentials (401 closes everything) and each operation (403,
//! 405, 410, 415). A closed gate lets one caller of the fleet through per interval, to see whether
//! a person has repaired the cause meanwhile. Only a probe opens it: a good answer to a call that
//! left before the gate closed says nothing about now. A gate may also be unproven: until the
//! first good answer one call is tried at a time, so that a wrong key is refused once.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::fleet::{Barrier, Fleet, Heard, SOON, Shut};

pub(crate) const LOCKED: &str = "nothing panics while it holds this lock";

/// What became of a call, as seen by one gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What this gate watches is well.
    Good,
    /// What this gate watches is broken.
    Bad,
    /// The call says nothing about what this gate watches.
    Unknown,
}

/// The right to pass one gate with one call; it must learn what became of the call.
///
/// Dropped without that, the call counts as never made and a probe is free for the next caller.
pub struct Pass {
    settle: Option<Settle>,
    is_probe: bool,
}

type Settle = Box<dyn FnOnce(Option<Outcome>) + Send + Sync>;

impl Pass {
    /// Creates a pass that reports to `settle`; `None` is a call that was never made.
    pub fn new(settle: impl FnOnce(Option<Outcome>) + Send + Sync + 'static) -> Self {
        Self {
            settle: Some(Box::new(settle)),
            is_probe: false,
        }
    }

    /// Notes whether the call finds out if what was shut is well again.
    pub(crate) fn probing(mut self, is_probe: bool) -> Self {
        self.is_probe = is_probe;
        self
    }

    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Reports what became of the call.
    pub fn settle(mut self, outcome: Outcome) {
        if let Some(settle) = self.settle.take() {
            settle(Some(outcome));
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle(None);
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pass")
    }
}

/// A call that tries an unproven gate keeps the others waiting for so long at most.
const TRY_MAX: Duration = Duration::from_secs(2);

/// A gate and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    barrier: Barrier,
    probe_every: Duration,
    fleet: Arc<dyn Fleet>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Unproven { tried: Option<Instant> },
    Open,
    Closed(Shut),
}

/// How a call passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    One,
    First,
    Probe,
}

impl Gate {
    /// Creates an open gate.
    pub(crate) fn new(barrier: Barrier, probe_every: Duration, fleet: Arc<dyn Fleet>) -> Self {
        Self {
            barrier,
            probe_every,
            fleet,
            state: Arc::new(Mutex::new(State::Open)),
        }
    }

    /// Makes it unproven.
    pub(crate) fn unproven(self) -> Self {
        *self.state.lock().expect(LOCKED) = State::Unproven { tried: None };
        self
    }

    /// Says whether a caller could pass, without passing.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Instant> {
        self.admit(&mut self.state.lock().expect(LOCKED), now)
    }

    /// Passes, as a probe if the gate is closed, or says when to ask again.
    pub(crate) fn pass(&self, now: Instant) -> Result<Pass, Instant> {
        let mut state = self.state.lock().expect(LOCKED);
        self.admit(&mut state, now)?;
        let passed = match &mut *state {
            State::Open => As::One,
            State::Unproven { tried } => {
                *tried = Some(now);
                As::First
            }
            State::Closed(shut) => {
                shut.leave();
                As::Probe
            }
        };
        drop(state);
        let gate = self.clone();
        Ok(Pass::new(move |outcome| {
            gate.settle(passed, outcome, Instant::now());
        }))
    }

    /// Returns when the next probe is due, for a closed gate.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        match *self.state.lock().expect(LOCKED) {
            State::Open | State::Unproven { .. } => None,
            State::Closed(shut) => Some(shut.until),
        }
    }

    /// Returns until when nothing can pass, not even a probe.
    pub(crate) fn impassable(&self, now: Instant) -> Option<Instant> {
        match *self.state.lock().expect(LOCKED) {
            State::Open | State::Unproven { .. } => None,
            State::Closed(shut) => shut.closed(now),
        }
    }

    /// Takes in what the fleet knows.
    pub(crate) fn hear(&self, heard: Heard, now: Instant) {
        let mut state = self.state.lock().expect(LOCKED);
        match (&mut *state, heard) {
            (State::Closed(_), Heard::Open) => *state = State::Open,
            (State::Closed(shut), Heard::Shut { until }) => shut.hear_shut(until),
            (State::Closed(shut), Heard::MayProbe) => shut.hear_may_probe(now),
            (_, Heard::Shut { until }) => *state = State::Closed(Shut::new(until)),
            (_, Heard::Open | Heard::MayProbe) => {}
        }
    }

    /// Lets the next probe leave at once, if the gate is closed.
    pub(crate) fn hurry(&self, now: Instant) {
        let mut state = self.state.lock().expect(LOCKED);
        if let State::Closed(shut) = &mut *state {
            shut.hear_shut(now);
            self.fleet.hurry(self.barrier);
        }
    }

    fn admit(&self, state: &mut State, now: Instant) -> Result<(), Instant> {
        match state {
            State::Open => Ok(()),
            State::Unproven { tried } => match tried {
                Some(tried) if now < *tried + TRY_MAX => Err(now + SOON),
                _ => Ok(()),
            },
            State::Closed(shut) => shut.admit(now, self.barrier, &*self.fleet),
        }
    }

    fn settle(&self, passed: As, outcome: Option<Outcome>, now: Instant) {
        let mut state = self.state.lock().expect(LOCKED);
        let closed = State::Closed(Shut::new(now + self.probe_every));
        match (&mut *state, outcome) {
            (State::Open | State::Unproven { .. }, Some(Outcome::Bad)) => {
                *state = closed;
                self.fleet.shut(self.barrier, self.probe_every);
            }
            (State::Unproven { .. }, Some(Outcome::Good)) => *state = State::Open,
            (State::Unproven { tried }, _) if passed == As::First => *tried = None,
            (State::Closed(shut), outcome) if passed == As::Probe => {
                match outcome {
                    Some(Outcome::Good) => *state = State::Open,
                    Some(Outcome::Bad | Outcome::Unknown) => *state = closed,
                    None => shut.return_probe(),
                }
                self.fleet.probed(self.barrier, outcome, self.probe_every);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::fleet::Alone;

    const EVERY: Duration = Duration::from_secs(10);

    fn gate() -> Gate {
        Gate::new(Barrier::Credentials, EVERY, Arc::new(Alone))
    }

    fn closed() -> (Gate, Instant) {
        let gate = gate();
        gate.pass(Instant::now()).unwrap().settle(Outcome::Bad);
        let until = gate.closed_until().unwrap();
        (gate, until)
    }

    #[test]
    fn bad_answer_closes_the_gate_until_the_next_probe() {
        let (gate, until) = closed();
        assert_eq!(
            gate.pass(until - Duration::from_nanos(1)).unwrap_err(),
            until
        );
        assert!(gate.check(until).is_ok());
    }

    #[test]
    fn closed_gate_admits_one_probe_at_a_time() {
        let (gate, until) = closed();
        let probe = gate.pass(until).unwrap();
        assert!(gate.pass(until).is_err());
        assert!(gate.check(until).is_err());
        drop(probe);
        let probe = gate.pass(until).unwrap();
        probe.settle(Outcome::Good);
        assert_eq!(gate.closed_until(), None);
    }

    #[test]
    fn late_success_of_an_older_call_opens_nothing() {
        let gate = gate();
        let older = gate.pass(Instant::now()).unwrap();
        gate.pass(Instant::now()).unwrap().settle(Outcome::Bad);
        older.settle(Outcome::Good);
        assert!(gate.closed_until().is_some());
    }

    #[test]
    fn failed_and_unclear_probes_keep_the_gate_closed() {
        for outcome in [Outcome::Bad, Outcome::Unknown] {
            let (gate, until) = closed();
            gate.pass(until).unwrap().settle(outcome);
            assert!(gate.closed_until().is_some());
            assert!(gate.pass(until + EVERY).is_ok());
        }
    }

    #[test]
    fn unproven_gate_lets_one_call_at_a_time_try_until_one_is_good() {
        let gate = gate().unproven();
        let now = Instant::now();
        let first = gate.pass(now).unwrap();
        assert!(gate.pass(now).is_err());
        assert_eq!(gate.closed_until(), None);
        first.settle(Outcome::Unknown);
        let second = gate.pass(now).unwrap();
        assert!(gate.check(now).is_err());
        // Who tries and gets no answer must not keep everybody.
        assert!(gate.check(now + TRY_MAX).is_ok());
        second.settle(Outcome::Good);
        let many: Vec<_> = (0..9).map(|_| gate.pass(now).unwrap()).collect();
        assert_eq!(many.len(), 9);
    }

    #[test]
    fn what_the_fleet_says_closes_and_opens_and_only_its_probe_leaves() {
        #[derive(Debug)]
        struct Busy;
        impl Fleet for Busy {
            fn shut(&self, _: Barrier, _: Duration) {}
            fn ask_probe(&self, _: Barrier) -> bool {
                false
            }
            fn probed(&self, _: Barrier, _: Option<Outcome>, _: Duration) {}
            fn hurry(&self, _: Barrier) {}
        }
        let gate = Gate::new(Barrier::Credentials, EVERY, Arc::new(Busy));
        let now = Instant::now();
        gate.hear(Heard::Shut { until: now + EVERY }, now);
        assert_eq!(gate.pass(now).unwrap_err(), now + EVERY);
        let due = now + EVERY;
        assert_eq!(gate.impassable(now), Some(due));
        assert_eq!(gate.impassable(due), None);
        // Its time has come, and the fleet has not said yet whose the probe is.
        assert_eq!(gate.pass(due).unwrap_err(), due + SOON);
        gate.hear(Heard::MayProbe, due);
        let probe = gate.pass(due).unwrap();
        assert!(gate.pass(due).is_err());
        assert!(gate.impassable(due).is_some());
        drop(probe);
        gate.hear(Heard::Open, due);
        assert!(gate.pass(due).is_ok());
    }
}
