//! Discard: dead jobs are deleted for good.

use super::super::Operations;
use super::error::DeadError;
use super::select::DeadSelection;
use super::walk::DeadWalk;
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

impl Operations {
    /// Counts the chosen dead jobs.
    ///
    /// # Errors
    /// [`DeadError`].
    pub async fn dead_count(&mut self, selection: &DeadSelection) -> Result<u64, DeadError> {
        let mut walk = self.dead_walk(selection).await?;
        let mut count = 0;
        while let Some(page) = walk.next_page().await? {
            count += page.len() as u64;
        }
        Ok(count)
    }

    /// Deletes the chosen dead jobs, until `stop` is cancelled.
    ///
    /// # Errors
    /// [`DeadError`].
    pub async fn discard(
        &mut self,
        selection: &DeadSelection,
        stop: &CancellationToken,
    ) -> Result<Discarded, DeadError> {
        let mut discarded = 0;
        let walk = self.dead_walk(selection).await?;
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
