//! What operators and the edges may do with queues: the one way in for the command line.

mod dead;
mod jobs;
mod queues;
mod record;
mod search;

pub use crate::queue::find::ENTRIES_MAX as JOBS_AHEAD_MAX;
pub use dead::DeadFilter;
pub use jobs::{Cancelled, Explanation, JobState, LocatedJob};
pub use queues::{Purged, QueueName, UnknownQueue};
pub use search::Searched;

use crate::queue::Connection;
use klaviyo_jobs::{Keys, kinds};

/// Looks at the queues of one account.
#[derive(Clone, Debug)]
pub struct Operations {
    redis: Connection,
    keys: Keys,
}

impl Operations {
    /// Creates the operations of an account.
    pub fn new(redis: Connection, keys: Keys) -> Self {
        Self { redis, keys }
    }
}

fn queues() -> impl Iterator<Item = &'static str> {
    let mut queues: Vec<&str> = kinds().iter().map(|kind| kind.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    queues.into_iter()
}
