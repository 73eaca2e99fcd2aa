//! What a record of attempts needs to know of each job, once it is true in Redis.
//!
//! The payload stays here: whoever keeps the record sees the job's id and nothing else of it.

use super::engine::Engine;
use super::entry::QueuedJob;
use super::observe::{Fate, Observer};
use super::settle::{Reason, Settlement, Verdict};
use jiff::Timestamp;
use klaviyo_jobs::Envelope;
use std::borrow::Cow;
use std::sync::Arc;

/// The call that took a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// A random number that the jobs of one lot share.
    pub id: u64,
    /// When it took them.
    pub at: Timestamp,
}

impl Call {
    pub(crate) fn now() -> Self {
        Self {
            id: rand::random(),
            at: Timestamp::now(),
        }
    }
}

/// A job that moved on, as a record wants it.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// Its queue.
    pub queue: &'a str,
    /// Its kind; absent when nobody could tell.
    pub kind: Option<&'static str>,
    /// Where it went.
    pub fate: Fate,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The call that took it; absent if none did.
    pub call: Option<Call>,
    /// What went wrong.
    pub reason: Option<&'a Reason>,
    job: &'a QueuedJob,
}

impl<'a> Attempted<'a> {
    /// Its id: its own, else its place on the queue.
    pub fn id(&self) -> Cow<'a, str> {
        let own = Envelope::id_of(&self.job.payload);
        own.unwrap_or_else(|| format!("{}/{}", self.queue, self.job.sid).into())
    }
}

/// The jobs of one settlement, to be looked at as often as one likes.
#[derive(Debug)]
pub struct Attempts<'a> {
    engine: &'a Engine,
    settlement: &'a Settlement,
    fates: &'a [Fate],
}

impl<'a> Attempts<'a> {
    /// Every job, in the order of its lot.
    pub fn jobs(&self) -> impl Iterator<Item = Attempted<'a>> {
        let engine = self.engine;
        let jobs = self.settlement.iter().zip(self.fates);
        jobs.map(|((job, verdict), fate)| Attempted {
            queue: &engine.streams()[job.stream].queue,
            kind: job.kind,
            fate: *fate,
            attempt: job.attempts.saturating_add(1),
            call: job.call,
            reason: match verdict {
                Verdict::Delivered | Verdict::Snooze(_) => None,
                Verdict::Retry(reason) | Verdict::Bury(reason) => Some(reason),
            },
            job,
        })
    }
}

impl Engine {
    pub(crate) fn tell_attempted(&self, settlement: &Settlement, fates: &[Fate]) {
        if let Some(observer) = self.observer() {
            observer.attempted(&Attempts {
                engine: self,
                settlement,
                fates,
            });
        }
    }
}

/// Several who listen.
impl Observer for Vec<Arc<dyn Observer>> {
    fn lot(&self, jobs: usize) {
        for observer in self {
            observer.lot(jobs);
        }
    }

    fn settled(&self, jobs: &[super::Settled<'_>]) {
        for observer in self {
            observer.settled(jobs);
        }
    }

    fn took_over(&self, jobs: usize) {
        for observer in self {
            observer.took_over(jobs);
        }
    }

    fn attempted(&self, attempts: &Attempts<'_>) {
        for observer in self {
            observer.attempted(attempts);
        }
    }
}
