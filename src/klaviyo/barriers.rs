//! Everything that can keep a call from leaving, together: credentials, the operation's gate, the group's breaker.
//!
//! All of them belong to one [`Fleet`], so that what one daemon learns all of them heed.

use std::sync::Arc;

use tokio::time::Instant;

use super::breaker::{Breaker, Tripped};
use super::client::Client;
use super::error::{ErrorKind, GateName};
use super::fleet::{Barrier, Fleet, Heard};
use super::gate::{Gate, Pass};
use super::operation::Operation;
use super::settings::Settings;

/// What keeps calls of an operation from leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedBy {
    /// Klaviyo refuses the private key.
    Credentials,
    /// Klaviyo refuses the operation.
    Operation,
    /// The operation's part of Klaviyo is down.
    Breaker,
    /// Klaviyo asked to wait.
    RetryAfter,
}

impl Client {
    /// Takes in what the fleet knows about a barrier.
    pub fn hear(&self, barrier: Barrier, heard: Heard) {
        let (barriers, now) = (&self.barriers, Instant::now());
        match barrier {
            Barrier::Credentials => barriers.credentials.hear(heard, now),
            Barrier::Group(group) => barriers.breaker.hear(group, heard, now),
            Barrier::Operation(operation) => {
                barriers.operations[operation.index()].hear(heard, now);
            }
        }
    }

    /// Returns until when nothing of an operation can leave, and what keeps it; the longest first.
    ///
    /// Nothing is returned while a call may leave as a probe. Costs a few locks and asks nobody.
    pub fn closed(&self, operation: Operation) -> Option<(ClosedBy, Instant)> {
        let (barriers, now) = (&self.barriers, Instant::now());
        let own = &barriers.operations[operation.index()];
        let found = [
            (ClosedBy::Credentials, barriers.credentials.impassable(now)),
            (ClosedBy::Operation, own.impassable(now)),
            (
                ClosedBy::Breaker,
                barriers.breaker.impassable(operation.group(), now),
            ),
            (
                ClosedBy::RetryAfter,
                self.budget.status(operation).closed_until,
            ),
        ];
        let shut = found
            .into_iter()
            .filter_map(|(by, until)| Some((by, until?)));
        // The first of equals: a person must act before anything else can help.
        shut.rev().max_by_key(|(_, until)| *until)
    }
}

/// Which gates a call passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// All of them.
    Gates,
    /// All but the operation's own.
    PastOwnGate,
}

/// Gates and breaker, all of one fleet.
#[derive(Debug)]
pub(crate) struct Barriers {
    pub(super) breaker: Breaker,
    pub(super) credentials: Gate,
    pub(super) operations: [Gate; Operation::ALL.len()],
}

impl Barriers {
    pub(crate) fn new(settings: &Settings, fleet: &Arc<dyn Fleet>) -> Self {
        let every = settings.credentials_probe_every;
        let credentials = Gate::new(Barrier::Credentials, every, Arc::clone(fleet));
        let every = settings.operation_probe_every;
        let gate = |it| Gate::new(Barrier::Operation(it), every, Arc::clone(fleet));
        Self {
            breaker: Breaker::new(fleet),
            credentials: credentials.unproven(),
            operations: Operation::ALL.map(gate),
        }
    }

    /// Says whether a call could pass, without passing.
    pub(crate) fn check(&self, operation: Operation, way: Way) -> Result<(), ErrorKind> {
        let now = Instant::now();
        self.credentials
            .check(now)
            .map_err(closed(GateName::Credentials))?;
        if way == Way::Gates {
            self.operations[operation.index()]
                .check(now)
                .map_err(closed(GateName::Operation))?;
        }
        self.breaker.check(operation.group()).map_err(tripped)
    }

    /// Passes all gates, in the order of [`outcomes`](super::status::outcomes); what was passed is dropped on a refusal.
    pub(crate) fn passes(&self, operation: Operation, way: Way) -> Result<Vec<Pass>, ErrorKind> {
        let now = Instant::now();
        let credentials = self
            .credentials
            .pass(now)
            .map_err(closed(GateName::Credentials))?;
        let own = match way {
            Way::Gates => self.operations[operation.index()]
                .pass(now)
                .map_err(closed(GateName::Operation))?,
            Way::PastOwnGate => Pass::new(drop),
        };
        let breaker = self.breaker.pass(operation.group()).map_err(tripped)?;
        Ok(vec![credentials, own, breaker])
    }
}

fn closed(gate: GateName) -> impl Fn(Instant) -> ErrorKind {
    move |until| ErrorKind::GateClosed { gate, until }
}

fn tripped(tripped: Tripped) -> ErrorKind {
    ErrorKind::BreakerOpen {
        until: tripped.until,
    }
}
