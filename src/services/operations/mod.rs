//! What operators and the edges may do with queues: the one way in for the command line.

mod audit;
mod dead;
mod jobs;
mod limits;
mod next;
mod queues;
mod record;
pub mod remedies;
mod search;

pub use crate::queue::operating::find::ENTRIES_MAX as JOBS_AHEAD_MAX;
pub use dead::{
    Counted, DeadEdit, DeadError, DeadFilter, DeadGroup, DeadSelection, DeadWalk, Discarded, Flows,
    REPLAYS_MAX, Replay, ReplayReport,
};
pub use jobs::{CancelError, Cancelled, Explanation, JobState, LocatedJob};
pub use limits::{BarrierState, OperationLimits};
pub use queues::{PauseError, PurgeError, Purged, QueueName, UnknownQueue};
pub use search::Searched;

use crate::klaviyo::BudgetScale;
use crate::queue::{Connection, Retries};
use klaviyo_jobs::{Keys, kinds};
use std::collections::BTreeMap;

/// Looks at the queues of one account.
#[derive(Clone, Debug)]
pub struct Operations {
    redis: Connection,
    keys: Keys,
    limits: (BudgetScale, f64),
    retries: BTreeMap<&'static str, Retries>,
    audit: Option<audit::AuditPlace>,
}

impl Operations {
    /// Creates the operations of an account.
    pub fn new(redis: Connection, keys: Keys) -> Self {
        Self {
            redis,
            keys,
            limits: (BudgetScale::Real, 0.0),
            retries: BTreeMap::new(),
            audit: None,
        }
    }

    /// Says how often and how long jobs are tried where it is not as usual.
    #[must_use]
    pub fn with_retries(mut self, retries: BTreeMap<&'static str, Retries>) -> Self {
        self.retries = retries;
        self
    }

    fn retries(&self, queue: &str) -> Retries {
        let configured = self.retries.get(queue).copied();
        configured.unwrap_or_else(|| Retries::of_queue(queue))
    }
}

fn queues() -> impl Iterator<Item = &'static str> {
    let mut queues: Vec<&str> = kinds().iter().map(|kind| kind.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    queues.into_iter()
}
