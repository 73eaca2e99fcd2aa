//! What operators do with whole queues: look, pause, resume, purge.

use super::{Operations, queues};
use crate::queue::pause::{pause, paused, resume};
pub use crate::queue::purge::Purged;
use crate::queue::purge::purge;
use crate::queue::{Overview, RedisResult, overview};
use crate::services::FollowImport;
use jiff::Timestamp;
use klaviyo_jobs::Lane;
use serde_json::json;
use std::fmt;
use std::str::FromStr;

/// The name of a queue there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueName(&'static str);

/// There is no such queue.
#[derive(Clone, Debug, thiserror::Error)]
#[error("there is no such queue; the queues are {known}")]
pub struct UnknownQueue {
    known: String,
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
    /// Redis' own.
    pub async fn pause(&mut self, queue: QueueName) -> RedisResult<bool> {
        let name = queue.as_str();
        let paused = pause(&mut self.redis, &self.keys, name, Timestamp::now()).await?;
        if paused {
            self.record("queue.pause", name, 0, json!({})).await?;
        }
        Ok(paused)
    }

    /// Lets a paused queue be read again. False if it was not paused.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn resume(&mut self, queue: QueueName) -> RedisResult<bool> {
        let name = queue.as_str();
        let resumed = resume(&mut self.redis, &self.keys, name).await?;
        if resumed {
            self.record("queue.resume", name, 0, json!({})).await?;
        }
        Ok(resumed)
    }

    /// Deletes what waits in a queue, or in one lane of it: never what is in flight, never dead letters, and never what
    /// tells the fate of jobs that Klaviyo has accepted.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn purge(&mut self, queue: QueueName, lane: Option<Lane>) -> RedisResult<Purged> {
        let internal = [FollowImport::begin()];
        let name = queue.as_str();
        let mut purged = Purged::default();
        let redis = &mut self.redis;
        let done = purge(redis, &self.keys, name, lane, &internal, &mut purged).await;
        // Also what a purge did before Redis went away.
        let touched = purged.ready + purged.delayed;
        let detail = json!({"lane": lane.map(Lane::as_str), "purged": purged});
        self.record("queue.purge", name, touched, detail).await?;
        done?;
        Ok(purged)
    }
}
