//! Discard: dead jobs are deleted for good.

use super::super::Operations;
use super::error::DeadError;
use super::select::DeadSelection;
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
        let ended = self.discard_pages(selection, stop, &mut discarded).await;
        if discarded > 0 || ended.is_ok() {
            let (target, detail) = selection.recorded();
            self.recorded("dlq.discard", &target, discarded, detail)
                .await?;
        }
        match ended {
            Ok(()) => Ok(Discarded { discarded }),
            Err(DeadError::Redis(source)) => Err(DeadError::Interrupted {
                touched: discarded,
                source,
            }),
            Err(error) => Err(error),
        }
    }

    async fn discard_pages(
        &mut self,
        selection: &DeadSelection,
        stop: &CancellationToken,
        discarded: &mut u64,
    ) -> Result<(), DeadError> {
        let mut walk = self.dead_walk(selection).await?;
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
