//! Who listens to the queue: counters, for example. Declared here so that the queue need not know them.
//!
//! Everything is told once it is true in Redis, a whole settlement at a time, and never with a payload.

use crate::queue::engine::Engine;
use crate::queue::job::entry::EntryId;
use crate::queue::settling::attempted::Attempted;
use crate::queue::settling::settle::Settlement;
use std::fmt;

/// Hears what becomes of jobs. It runs within the engine's tasks and must not wait.
pub trait Observer: Send + Sync + fmt::Debug {
    /// So many jobs were sealed into one lot.
    fn lot(&self, jobs: usize);

    /// These jobs moved on.
    fn settled(&self, jobs: &[Settled<'_>]);

    /// So many jobs of a vanished consumer are ours now.
    fn took_over(&self, jobs: usize);

    /// These jobs moved on: the same as [`Self::settled`], with what a record needs.
    fn attempted(&self, _attempts: &[Attempted<'_>]) {}
}

/// A job that moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// Its queue.
    pub queue: &'a str,
    /// Its kind; absent when nobody could tell.
    pub kind: Option<&'static str>,
    /// Where it went.
    pub fate: Fate,
    /// When it was enqueued, as Redis saw it.
    pub enqueued: EntryId,
}

/// Where a job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Away: Klaviyo has it.
    Delivered,
    /// Back, with one attempt less.
    Retried,
    /// Back, free of charge.
    Snoozed,
    /// To the dead letters, with this code.
    Buried(&'static str),
}

impl Engine {
    pub(crate) fn tell_settled(&self, settlement: &Settlement, fates: &[Fate]) {
        let Some(observer) = self.observer() else {
            return;
        };
        let settled: Vec<Settled<'_>> = settlement
            .iter()
            .zip(fates)
            .map(|((job, _), fate)| Settled {
                queue: &self.streams()[job.stream].queue,
                kind: job.kind,
                fate: *fate,
                enqueued: job.sid,
            })
            .collect();
        observer.settled(&settled);
    }

    pub(crate) fn tell_lot(&self, jobs: usize) {
        if let Some(observer) = self.observer().filter(|_| jobs > 0) {
            observer.lot(jobs);
        }
    }

    pub(crate) fn tell_took_over(&self, jobs: usize) {
        if let Some(observer) = self.observer().filter(|_| jobs > 0) {
            observer.took_over(jobs);
        }
    }
}
