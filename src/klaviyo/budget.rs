//! What a budget is: who may call Klaviyo now, and who waits until when.
//!
//! The trait is declared here so that a fleet can share one budget without this module knowing
//! how. A budget only hands out [`Permit`]s; whether Klaviyo is well is the gates' business.
//! A permit that is dropped unused gives back what it took.

use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::gate::Pass;
use super::operation::{Limits, Operation};
use super::rate_limit::RateLimitHeaders;

/// Decides when a call may leave.
pub trait Budget: Send + Sync + fmt::Debug {
    /// Waits until a call of `operation` may leave; dropping the future takes nothing.
    ///
    /// # Errors
    /// [`Wait`] at once when that would take longer than `deadline`.
    fn take(&self, operation: Operation, deadline: Instant) -> BoxFuture<'_, Result<Permit, Wait>>;

    /// Takes a permit only if one is free right now.
    fn try_take(&self, operation: Operation) -> Option<Permit> {
        self.take(operation, Instant::now()).now_or_never()?.ok()
    }

    /// Closes `operation` for as long as Klaviyo asked with `Retry-After`.
    fn close(&self, operation: Operation, for_: Duration);

    /// Corrects the budget by what an answer said about the windows.
    fn observe(&self, operation: Operation, headers: &RateLimitHeaders);

    /// Returns the state of `operation`, for people.
    fn status(&self, operation: Operation) -> BudgetStatus;
}

/// How the published limits apply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum BudgetScale {
    /// As published.
    #[default]
    Real,
    /// No windows at all; `Retry-After` still closes. For a local Klaviyo only.
    Off,
    /// Every window times a factor. For a local Klaviyo only.
    Factor(f64),
}

impl BudgetScale {
    /// Returns the limits of an operation, if it has any.
    pub fn limits(self, operation: Operation) -> Option<Limits> {
        match self {
            Self::Real => Some(operation.limits()),
            Self::Factor(factor) => Some(operation.limits().scaled(factor)),
            Self::Off => None,
        }
    }
}

/// The right to make one call of one operation.
///
/// Dropped unused, it returns what it took: the call to the budget, the probe to its gate.
pub struct Permit {
    operation: Operation,
    passes: Vec<Pass>,
    give_back: Option<GiveBack>,
}

type GiveBack = Box<dyn FnOnce() + Send + Sync>;

impl Permit {
    /// Creates a permit that has nothing to give back.
    pub fn new(operation: Operation) -> Self {
        Self {
            operation,
            passes: Vec::new(),
            give_back: None,
        }
    }

    /// Creates a permit that runs `give_back` if it is dropped unused.
    pub fn returning(
        operation: Operation,
        give_back: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self {
            operation,
            passes: Vec::new(),
            give_back: Some(Box::new(give_back)),
        }
    }

    /// Returns the operation this permit is for.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    pub(crate) fn with_passes(mut self, passes: Vec<Pass>) -> Self {
        self.passes = passes;
        self
    }

    /// Uses the permit up: the budget keeps the call, the passes await its outcome.
    pub(crate) fn spend(mut self) -> Vec<Pass> {
        self.give_back = None;
        std::mem::take(&mut self.passes)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Permit")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

/// There is no permit before the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The earliest time at which asking again makes sense.
    pub until: Instant,
    /// What is used up.
    pub reason: WaitReason,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Klaviyo asked with `Retry-After`, or said that nothing remains.
    Closed,
    /// The second's or the minute's calls are made, or promised to those who asked before.
    Minute,
    /// The day's calls are made.
    Day,
}

/// The state of one operation's budget.
#[derive(Clone, Debug)]
pub struct BudgetStatus {
    /// The limits in effect, after scale and reserve; absent when the budget is off.
    pub limits: Option<Limits>,
    /// Calls that could leave right now.
    pub available: u32,
    /// Calls that left in the last 60 seconds.
    pub used_minute: u32,
    /// Calls that left in the last 24 hours, for operations with a daily limit.
    pub used_day: Option<u32>,
    /// When the next call may leave.
    pub next_free: Instant,
    /// Until when `Retry-After` keeps the operation closed.
    pub closed_until: Option<Instant>,
}
