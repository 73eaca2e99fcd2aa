//! What a record of attempts needs to know of each job, once it is true in Redis.
//!
//! The payload stays here: whoever keeps the record sees the job's id and nothing else of it.

use crate::queue::engine::Engine;
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::{Reason, Verdict};
use crate::queue::settling::observe::{Fate, Observer};
use crate::queue::settling::settle::Settlement;
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
    pub(crate) payload: &'a [u8],
    pub(crate) sid: EntryId,
}

impl<'a> Attempted<'a> {
    /// Its id: its own, else its place on the queue.
    pub fn id(&self) -> Cow<'a, str> {
        let own = Envelope::id_of(self.payload);
        own.unwrap_or_else(|| format!("{}/{}", self.queue, self.sid).into())
    }
}

impl Engine {
    pub(crate) fn tell_attempted(&self, settlement: &Settlement, fates: &[Fate]) {
        let Some(observer) = self.observer() else {
            return;
        };
        let jobs = settlement.iter().zip(fates);
        let attempts: Vec<Attempted<'_>> = jobs
            .map(|((job, verdict), fate)| Attempted {
                queue: &self.streams()[job.stream].queue,
                kind: job.kind,
                fate: *fate,
                attempt: job.attempts.saturating_add(1),
                call: job.call,
                reason: match verdict {
                    Verdict::Delivered | Verdict::Snooze(_) => None,
                    Verdict::Retry(reason) | Verdict::Bury(reason) => Some(reason),
                },
                payload: &job.payload,
                sid: job.sid,
            })
            .collect();
        observer.attempted(&attempts);
    }
}

/// Several who listen.
impl Observer for Vec<Arc<dyn Observer>> {
    fn lot(&self, jobs: usize) {
        for observer in self {
            observer.lot(jobs);
        }
    }

    fn settled(&self, jobs: &[crate::queue::Settled<'_>]) {
        for observer in self {
            observer.settled(jobs);
        }
    }

    fn took_over(&self, jobs: usize) {
        for observer in self {
            observer.took_over(jobs);
        }
    }

    fn attempted(&self, attempts: &[Attempted<'_>]) {
        for observer in self {
            observer.attempted(attempts);
        }
    }
}
