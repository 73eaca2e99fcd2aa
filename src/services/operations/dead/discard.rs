//! Discard: dead jobs are deleted for good.

use super::super::Operations;
use super::error::DeadError;
use super::select::DeadSelection;
use super::walk::{DeadWalk, Ends};
use crate::queue::{EntryId, discard_dead};
use serde::Serialize;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// How many.
    pub discarded: u64,
}

/// What was counted: how many, and the last of them in each queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub jobs: u64,
    last: Ends,
}

impl Operations {
    /// Counts the chosen dead jobs.
    ///
    /// # Errors
    /// [`DeadError`].
    pub async fn dead_count(&mut self, selection: &DeadSelection) -> Result<Counted, DeadError> {
        let mut walk = self.dead_walk(selection).await?;
        let mut counted = Counted::default();
        while let Some(page) = walk.next_page().await? {
            counted.jobs += page.len() as u64;
            for job in page {
                counted.last.insert(job.queue, job.entry);
            }
        }
        Ok(counted)
    }

    /// Deletes the chosen dead jobs, until `stop` is cancelled; of those that were counted before, no others.
    ///
    /// # Errors
    /// [`DeadError`].
    pub async fn discard(
        &mut self,
        selection: &DeadSelection,
        counted: Option<&Counted>,
        stop: &CancellationToken,
    ) -> Result<Discarded, DeadError> {
        let mut discarded = 0;
        let walk = self.dead_walk(selection).await?;
        let walk = match counted {
            Some(counted) => walk.until(counted.last.clone()),
            None => walk,
        };
        let (target, detail) = selection.recorded();
        let begun = self.begin("dlq.discard", &target, detail).await?;
        let ended = self.discard_pages(walk, stop, &mut discarded).await;
        self.ended(begun, ended, stop, discarded, None).await?;
        Ok(Discarded { discarded })
    }

    async fn discard_pages(
        &mut self,
        mut walk: DeadWalk,
        stop: &CancellationToken,
        discarded: &mut u64,
    ) -> Result<(), DeadError> {
        while let Some(page) = walk.next_page().await? {
            if stop.is_cancelled() {
                break;
            }
            let mut by_queue: BTreeMap<&str, Vec<EntryId>> = BTreeMap::new();
            for job in &page {
                by_queue.entry(&job.queue).or_default().push(job.entry);
            }
            for (queue, entries) in by_queue {
                *discarded += discard_dead(&mut self.redis, &self.keys, queue, &entries).await?;
            }
        }
        Ok(())
    }
}
