//! Dead letters, as operators deal with them.

use super::{Operations, queues};
use crate::queue::{DeadJob, RedisResult, dead_jobs};

/// Which dead jobs to show.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only with this code.
    pub code: Option<String>,
}

const PAGE: usize = 500;

impl Operations {
    /// Returns dead jobs, oldest first within a queue.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn dead(&mut self, filter: &DeadFilter, limit: usize) -> RedisResult<Vec<DeadJob>> {
        let mut found = Vec::new();
        for queue in queues().filter(|queue| {
            filter
                .queue
                .as_deref()
                .is_none_or(|wanted| wanted == *queue)
        }) {
            let mut after: Option<String> = None;
            loop {
                let page =
                    dead_jobs(&mut self.redis, &self.keys, queue, after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.entry.clone());
                found.extend(page.into_iter().filter(|job| filter.matches(job)));
                if found.len() >= limit {
                    found.truncate(limit);
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// Returns one dead job by its entry or its id.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn dead_job(&mut self, wanted: &str) -> RedisResult<Option<DeadJob>> {
        let all = self.dead(&DeadFilter::default(), usize::MAX).await?;
        Ok(all
            .into_iter()
            .find(|job| job.entry == wanted || job.id == wanted))
    }
}

impl DeadFilter {
    fn matches(&self, job: &DeadJob) -> bool {
        self.kind
            .as_ref()
            .is_none_or(|kind| job.kind.as_ref() == Some(kind))
            && self.code.as_ref().is_none_or(|code| job.code == *code)
    }
}
