//! A gate that one bad answer closes and one good probe opens again.
//!
//! Two things hang on gates: the credentials (401 closes everything) and each operation (403,
//! 405, 410, 415). A closed gate lets one caller through per interval, to see whether a person
//! has repaired the cause meanwhile. Only a probe opens it: a good answer to a call that left
//! before the gate closed says nothing about now.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

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
}

type Settle = Box<dyn FnOnce(Option<Outcome>) + Send + Sync>;

impl Pass {
    /// Creates a pass that reports to `settle`; `None` is a call that was never made.
    pub fn new(settle: impl FnOnce(Option<Outcome>) + Send + Sync + 'static) -> Self {
        Self {
            settle: Some(Box::new(settle)),
        }
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

/// A gate and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    watches: &'static str,
    probe_every: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Open,
    Closed { next_probe: Instant, probing: bool },
}

impl Gate {
    /// Creates an open gate; `watches` names it in logs.
    pub(crate) fn new(watches: &'static str, probe_every: Duration) -> Self {
        Self {
            watches,
            probe_every,
            state: Arc::new(Mutex::new(State::Open)),
        }
    }

    /// Says whether a caller could pass, without passing.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Instant> {
        match *self.state.lock().expect(LOCKED) {
            State::Open => Ok(()),
            State::Closed {
                next_probe,
                probing,
            } => self.refusal(now, next_probe, probing),
        }
    }

    /// Passes, as a probe if the gate is closed, or says when to ask again.
    pub(crate) fn pass(&self, now: Instant) -> Result<Pass, Instant> {
        let mut state = self.state.lock().expect(LOCKED);
        let probe = match &mut *state {
            State::Open => false,
            State::Closed {
                next_probe,
                probing,
            } => {
                self.refusal(now, *next_probe, *probing)?;
                *probing = true;
                true
            }
        };
        drop(state);
        let gate = self.clone();
        Ok(Pass::new(move |outcome| {
            gate.settle(probe, outcome, Instant::now());
        }))
    }

    /// Returns until when the gate is closed for everybody.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        match *self.state.lock().expect(LOCKED) {
            State::Open => None,
            State::Closed { next_probe, .. } => Some(next_probe),
        }
    }

    fn refusal(&self, now: Instant, next_probe: Instant, probing: bool) -> Result<(), Instant> {
        if now < next_probe {
            return Err(next_probe);
        }
        if probing {
            return Err(now + self.probe_every);
        }
        Ok(())
    }

    fn settle(&self, probe: bool, outcome: Option<Outcome>, now: Instant) {
        let mut state = self.state.lock().expect(LOCKED);
        let closed = State::Closed {
            next_probe: now + self.probe_every,
            probing: false,
        };
        match (&mut *state, outcome) {
            (State::Open, Some(Outcome::Bad)) => {
                *state = closed;
                tracing::warn!(
                    gate = self.watches,
                    "closed gate: Klaviyo refuses us, a person must act"
                );
            }
            (State::Closed { .. }, Some(Outcome::Good)) if probe => {
                *state = State::Open;
                tracing::info!(gate = self.watches, "opened gate: Klaviyo accepts us again");
            }
            (State::Closed { .. }, Some(_)) if probe => *state = closed,
            (State::Closed { probing, .. }, None) if probe => *probing = false,
            (State::Open | State::Closed { .. }, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    fn closed() -> (Gate, Instant) {
        let gate = Gate::new("credentials", EVERY);
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
        let gate = Gate::new("credentials", EVERY);
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
}
