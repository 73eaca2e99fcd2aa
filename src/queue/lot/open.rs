//! An open lot: the work of one call, not yet chosen.
//!
//! Await the permit first, seal second: what arrives between the two rides along, so a call that waits for budget
//! leaves full and an idle job leaves at once. Dropping the last handle settles the lot.

use crate::queue::engine::Engine;
use crate::queue::holding::deaths::Deaths;
use crate::queue::holding::isolation::Access;
use crate::queue::job::entry::QueuedJob;
use crate::queue::job::verdict::{Reason, Verdict};
use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a sealed lot may run. It costs no attempt: what was not decided by then is queued again.
const DEADLINE: Duration = Duration::from_mins(10);
/// The same for suspects, for whom everything else waits.
const DEADLINE_ALONE: Duration = Duration::from_mins(1);
/// How long before its deadline a lot begins no call any more: the last may take half a minute, and all that was
/// decided is lost if it does not end in time.
const SPARE: Duration = Duration::from_mins(1);
/// The same for suspects.
const SPARE_ALONE: Duration = Duration::from_secs(30);

/// Work for one call of one kind.
#[derive(Clone, Debug)]
pub struct Lot(Arc<Slot>);

impl Lot {
    pub(crate) fn open(engine: Arc<Engine>, line: usize) -> Self {
        Self(Arc::new(Slot {
            engine,
            line,
            sealed: OnceLock::new(),
            overdue: AtomicBool::new(false),
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

    /// Waits until it makes sense to ask for a permit: suspects that could not be alone let others end first.
    pub async fn turn(&self) {
        self.0.engine.turn(self.0.line).await;
    }

    /// Takes what has arrived, in order; the first call that may run decides. May be empty: a lease can lapse while
    /// a permit is awaited, and suspects may not come to be alone.
    pub async fn seal(&self, jobs_max: usize, bytes_max: usize) -> &[QueuedJob] {
        let slot = &*self.0;
        if slot.sealed.get().is_none() {
            let Some(access) = slot.engine.enter(slot.line).await else {
                return &[];
            };
            // Nothing is awaited between taking the jobs and having them here: a cancelled handler loses none.
            let seal = || slot.engine.seal(slot.line, access, jobs_max, bytes_max);
            slot.engine.mark(slot.sealed.get_or_init(seal)).await;
        }
        slot.sealed.get().map_or(&[], |sealed| &sealed.jobs)
    }

    /// Waits until there is no reason to go on waiting: nothing new is taken any more, and this lot has taken nothing.
    pub(crate) async fn needless(&self) {
        self.0.engine.quieted().await;
        if self.0.sealed.get().is_some() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the lot has run for too long since it was sealed.
    pub(crate) async fn overdue(&self) {
        let mut left = DEADLINE_ALONE;
        loop {
            tokio::time::sleep(left).await;
            match self.0.sealed.get() {
                None => left = DEADLINE_ALONE,
                Some(sealed) => match sealed.deadline().checked_sub(sealed.since.elapsed()) {
                    Some(rest) if !rest.is_zero() => left = rest,
                    _ => return self.0.overdue.store(true, Ordering::Relaxed),
                },
            }
        }
    }

    /// When the lot begins no call any more; now, if it has taken nothing.
    pub fn end_by(&self) -> tokio::time::Instant {
        let sealed = self.0.sealed.get();
        sealed.map_or_else(tokio::time::Instant::now, |it| it.end_by().into())
    }

    /// The queue the lot was read from.
    pub fn queue(&self) -> &str {
        self.0.engine.queue_of_line(self.0.line)
    }

    #[cfg(test)]
    pub(crate) fn sealed_jobs(&self) -> &[QueuedJob] {
        self.0.sealed.get().map_or(&[], |sealed| &sealed.jobs)
    }

    #[cfg(test)]
    pub(crate) fn is_alone(&self) -> bool {
        let sealed = self.0.sealed.get();
        sealed.is_some_and(|sealed| sealed.access.is_alone())
    }

    pub(crate) fn decide(&self, verdicts: Vec<Verdict>) {
        // A second decision cannot come: the layer that calls this runs once per task.
        self.0.verdicts.set(verdicts).unwrap_or(());
    }
}

/// The jobs of a lot, and the right to run them.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) jobs: Vec<QueuedJob>,
    pub(crate) access: Access,
    pub(crate) since: Instant,
}

impl Sealed {
    fn deadline(&self) -> Duration {
        if self.access.is_alone() {
            DEADLINE_ALONE
        } else {
            DEADLINE
        }
    }

    fn end_by(&self) -> Instant {
        let spare = if self.access.is_alone() {
            SPARE_ALONE
        } else {
            SPARE
        };
        self.since + self.deadline().saturating_sub(spare)
    }
}

#[derive(Debug)]
struct Slot {
    engine: Arc<Engine>,
    line: usize,
    sealed: OnceLock<Sealed>,
    overdue: AtomicBool,
    verdicts: OnceLock<Vec<Verdict>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(Sealed {
            mut jobs, access, ..
        }) = self.sealed.take()
        else {
            return self.engine.reopen(self.line);
        };
        self.engine.tell_lot(jobs.len());
        // Jobs without a verdict: the handler failed, panicked or was cancelled.
        let decided = self.verdicts.take().unwrap_or_default();
        // At the stop and after the deadline they did nothing wrong: no attempt is spent.
        let interrupted = self.engine.is_quiet() || self.overdue.load(Ordering::Relaxed);
        let undecided = if interrupted {
            Verdict::Snooze(Duration::ZERO)
        } else if jobs.len() > 1 {
            // One of them is to blame, and nobody knows which: they run apart until it is alone, and only that counts.
            let undecided = jobs.split_off(decided.len().min(jobs.len()));
            self.engine.set_apart(self.line, undecided);
            Verdict::Snooze(Duration::ZERO)
        } else {
            Verdict::Retry(Reason::abandoned())
        };
        let verdicts = decided.into_iter().chain(iter::repeat(undecided));
        self.engine.settle(jobs.into_iter().zip(verdicts).collect());
        drop(access);
    }
}

impl Engine {
    /// Puts jobs that this process still holds back into their line, as suspects.
    fn set_apart(&self, line: usize, jobs: Vec<QueuedJob>) {
        let mut state = self.state();
        let line = &mut state.lines[line];
        for mut job in jobs {
            let deaths = job.deaths.unwrap_or(Deaths::NONE);
            job.deaths = Some(deaths.one_more());
            line.push(job);
        }
        line.wake();
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
