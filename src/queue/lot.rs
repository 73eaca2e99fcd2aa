//! An open lot: the work of one call, not yet chosen.
//!
//! Await the permit first, seal second: what arrives between the two rides along, so a call that waits for budget
//! leaves full and an idle job leaves at once. Dropping the last handle settles the lot.

use super::engine::Engine;
use super::entry::QueuedJob;
use super::settle::{Reason, Verdict};
use std::iter;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Work for one call of one kind.
#[derive(Clone, Debug)]
pub struct Lot(Arc<Slot>);

impl Lot {
    pub(crate) fn open(engine: Arc<Engine>, line: usize) -> Self {
        Self(Arc::new(Slot {
            engine,
            line,
            jobs: OnceLock::new(),
            verdicts: OnceLock::new(),
        }))
    }

    /// How many jobs a seal could take now.
    pub fn waiting(&self) -> usize {
        self.0.engine.waiting(self.0.line)
    }

    /// Waits, for a moment at most, until `jobs_max` jobs wait or all that Redis has.
    pub async fn fill(&self, jobs_max: usize) {
        self.0.engine.fill(self.0.line, jobs_max).await;
    }

    /// Takes what has arrived, in order; the first call decides. May be empty: a lease can lapse while a permit is
    /// awaited.
    pub fn seal(&self, jobs_max: usize, bytes_max: usize) -> &[QueuedJob] {
        self.0
            .jobs
            .get_or_init(|| self.0.engine.seal(self.0.line, jobs_max, bytes_max))
    }

    /// The queue the lot was read from.
    pub fn queue(&self) -> &str {
        self.0.engine.queue_of_line(self.0.line)
    }

    pub(crate) fn decide(&self, verdicts: Vec<Verdict>) {
        // A second decision cannot come: the layer that calls this runs once per task.
        self.0.verdicts.set(verdicts).unwrap_or(());
    }
}

#[derive(Debug)]
struct Slot {
    engine: Arc<Engine>,
    line: usize,
    jobs: OnceLock<Vec<QueuedJob>>,
    verdicts: OnceLock<Vec<Verdict>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(jobs) = self.jobs.take() else {
            return self.engine.reopen(self.line);
        };
        self.engine.tell_lot(jobs.len());
        // Jobs without a verdict: the handler failed, panicked or was cancelled.
        let decided = self.verdicts.take().unwrap_or_default();
        // At the stop they did nothing wrong: no attempt is spent.
        let stopping = self.engine.is_quiet();
        let undecided = iter::repeat_with(|| {
            if stopping {
                Verdict::Snooze(Duration::ZERO)
            } else {
                Verdict::Retry(Reason::abandoned())
            }
        });
        self.engine.settle(
            jobs.into_iter()
                .zip(decided.into_iter().chain(undecided))
                .collect(),
        );
    }
}
