//! What operators do with whole queues: look, pause, resume, purge.

use super::record::{Begun, End};
use super::{Operations, queues};
pub use crate::queue::operating::purge::Purged;
use crate::queue::operating::purge::purge;
use crate::queue::reading::pause::{pause, paused, resume};
use crate::queue::{Overview, RedisError, RedisResult, overview};
use crate::services::FollowImport;
use jiff::Timestamp;
use klaviyo_jobs::Lane;
use serde_json::json;
use std::fmt;
use std::str::FromStr;
use tokio_util::sync::CancellationToken;

/// The name of a queue there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName(&'static str);

/// There is no such queue.
#[derive(Clone, Debug, thiserror::Error)]
#[error("there is no such queue; the queues are {known}")]
pub struct UnknownQueue {
    known: String,
}

/// Why a queue was not paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// Redis failed on the way.
    #[error("stopped on the way, perhaps after it was done; run it again")]
    Interrupted(#[source] RedisError),
    /// Redis failed before anything was done.
    #[error("failed to ask Redis")]
    Redis(#[from] RedisError),
    /// It is done, but on record is only that it began.
    #[error("done, but failed to put that on record")]
    Unrecorded(#[source] RedisError),
}

/// Why a queue was not purged, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Redis failed on the way; what was deleted is deleted.
    #[error("stopped after {touched} jobs, perhaps a few more; run it again for the rest")]
    Interrupted {
        /// How many were deleted.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
    /// Redis failed before anything was done.
    #[error("failed to ask Redis")]
    Redis(#[from] RedisError),
    /// It is done, but on record is only that it began.
    #[error("deleted {touched} jobs, but failed to put that on record")]
    Unrecorded {
        /// How many were deleted.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
}

impl QueueName {
    /// Returns the name.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for QueueName {
    type Err = UnknownQueue;

    fn from_str(text: &str) -> Result<Self, UnknownQueue> {
        let found = queues().find(|queue| *queue == text);
        found.map(Self).ok_or_else(|| UnknownQueue {
            known: queues().collect::<Vec<_>>().join(", "),
        })
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Operations {
    /// Counts the jobs of every queue.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn queues(&mut self) -> RedisResult<Vec<Overview>> {
        let paused = paused(&mut self.redis, &self.keys).await?;
        let mut found = Vec::new();
        for queue in queues() {
            let is_paused = paused.contains_key(queue);
            let now = Timestamp::now();
            found.push(overview(&mut self.redis, &self.keys, queue, is_paused, now).await?);
        }
        Ok(found)
    }

    /// Stops the reading of a queue in every replica; what is in flight ends. False if it was paused already.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn pause(&mut self, queue: QueueName) -> Result<bool, PauseError> {
        let name = queue.as_str();
        let begun = self.begin("queue.pause", name, json!({})).await?;
        let paused = pause(&mut self.redis, &self.keys, name, Timestamp::now()).await;
        self.changed(begun, paused).await
    }

    /// Lets a paused queue be read again. False if it was not paused.
    ///
    /// # Errors
    /// [`PauseError`].
    pub async fn resume(&mut self, queue: QueueName) -> Result<bool, PauseError> {
        let name = queue.as_str();
        let begun = self.begin("queue.resume", name, json!({})).await?;
        let resumed = resume(&mut self.redis, &self.keys, name).await;
        self.changed(begun, resumed).await
    }

    async fn changed(
        &mut self,
        begun: Begun,
        changed: RedisResult<bool>,
    ) -> Result<bool, PauseError> {
        let (end, result) = match &changed {
            Ok(changed) => (End::Done, Some(("changed", json!(changed)))),
            Err(_) => (End::Failed, None),
        };
        let recorded = self.end(begun, end, 0, result).await;
        let changed = changed.map_err(PauseError::Interrupted)?;
        recorded.map_err(PauseError::Unrecorded)?;
        Ok(changed)
    }

    /// Deletes what waits in a queue, or in one lane of it, until `stop` is cancelled: never what is in flight, never dead
    /// letters, and never what tells the fate of jobs that Klaviyo has accepted.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub async fn purge(
        &mut self,
        queue: QueueName,
        lane: Option<Lane>,
        stop: &CancellationToken,
    ) -> Result<Purged, PurgeError> {
        let internal = [FollowImport::begin()];
        let name = queue.as_str();
        let detail = json!({"lane": lane.map(Lane::as_str)});
        let begun = self.begin("queue.purge", name, detail).await?;
        let mut purged = Purged::default();
        let redis = &mut self.redis;
        let done = purge(redis, &self.keys, name, lane, &internal, stop, &mut purged).await;
        let touched = purged.ready + purged.delayed;
        let (end, result) = (End::of(&done, stop), Some(("purged", json!(purged))));
        let recorded = self.end(begun, end, touched, result).await;
        done.map_err(|source| PurgeError::Interrupted { touched, source })?;
        recorded.map_err(|source| PurgeError::Unrecorded { touched, source })?;
        Ok(purged)
    }
}
