//! What operators do with whole queues: look, pause, resume.

use super::{Operations, queues};
use crate::queue::pause::{pause, paused, resume};
use crate::queue::{Overview, RedisResult, overview};
use jiff::Timestamp;
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
            let mut seen = overview(&mut self.redis, &self.keys, queue, Timestamp::now()).await?;
            seen.paused = paused.contains_key(queue);
            found.push(seen);
        }
        Ok(found)
    }

    /// Stops the reading of a queue in every replica; what is in flight ends. False if it was paused already.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn pause(&mut self, queue: QueueName) -> RedisResult<bool> {
        pause(
            &mut self.redis,
            &self.keys,
            queue.as_str(),
            Timestamp::now(),
        )
        .await
    }

    /// Lets a paused queue be read again. False if it was not paused.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn resume(&mut self, queue: QueueName) -> RedisResult<bool> {
        resume(&mut self.redis, &self.keys, queue.as_str()).await
    }
}
