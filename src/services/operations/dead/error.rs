//! Why something was not done with dead letters.

use super::super::record::{Begun, End};
use super::super::{Operations, QueueName};
use crate::queue::{EntryId, RedisError};
use klaviyo_jobs::Invalid;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Why something was not done with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// Several queues have this entry.
    #[error(
        "the queues {} have an entry {entry} each; say which one with --queue",
        names(.queues)
    )]
    Ambiguous {
        /// The entry.
        entry: EntryId,
        /// The queues.
        queues: Vec<QueueName>,
    },
    /// Redis failed on the way; what was done so far is done. On record is that it began, and if Redis could be reached
    /// again, how far it came.
    #[error("stopped after {touched} jobs, perhaps a few more; run it again for the rest")]
    Interrupted {
        /// How many were done.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
    /// The edited job breaks a rule; nothing was changed.
    #[error("the edited job is not acceptable, nothing was changed: {0}")]
    Invalid(Invalid),
    /// Nothing is there any more.
    #[error("no dead job has the entry {0}; `klaviyod dlq list` shows those there are")]
    NoSuchEntry(EntryId),
    /// The job is no JSON object, so no part of it can be replaced.
    #[error(
        "the job is no JSON object, so it has no `data` to replace; give a whole job with --job"
    )]
    NotAnObject,
    /// The new `data` is no JSON.
    #[error("the new `data` is not JSON, nothing was changed")]
    NotJson,
    /// Redis failed before anything was done.
    #[error("failed to ask Redis")]
    Redis(#[from] RedisError),
    /// It is done, but not on record.
    #[error("done for {touched} jobs, but failed to put that on record")]
    Unrecorded {
        /// How many were done.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
}

impl Operations {
    /// Puts on record what is done already.
    pub(super) async fn recorded(
        &mut self,
        action: &str,
        target: &str,
        touched: u64,
        detail: Value,
    ) -> Result<(), DeadError> {
        let recorded = self.record(action, target, touched, detail).await;
        recorded.map_err(|source| DeadError::Unrecorded { touched, source })
    }

    /// Completes the record of what was begun, and returns how it ended.
    pub(super) async fn ended(
        &mut self,
        begun: Begun,
        ended: Result<(), DeadError>,
        stop: &CancellationToken,
        touched: u64,
        result: Option<(&str, Value)>,
    ) -> Result<(), DeadError> {
        let end = End::of(&ended, stop);
        let recorded = self.end(begun, end, touched, result).await;
        match ended {
            Err(DeadError::Redis(source)) => Err(DeadError::Interrupted { touched, source }),
            Err(error) => Err(error),
            Ok(()) => recorded.map_err(|source| DeadError::Unrecorded { touched, source }),
        }
    }
}

fn names(queues: &[QueueName]) -> String {
    let names: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
    names.join(" and ")
}
