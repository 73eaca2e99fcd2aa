//! A job as a service sees it: its payload typed and checked, its defaults filled in.
//!
//! A missing `id` is `<queue>/<first stream id>` and a missing `at` the time of that id, so that no retry ever
//! changes them.

use super::outcome::Outcome;
use crate::queue::{Backfill, QueuedJob};
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Job, decode};

/// A decoded job.
#[derive(Debug)]
pub(crate) struct Received<J> {
    pub(crate) job: J,
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) backfill: Backfill,
}

impl<J: Job> Received<J> {
    /// Decodes and checks a job.
    pub(crate) fn decode(queued: &QueuedJob, queue: &str, now: Timestamp) -> Result<Self, Outcome> {
        let envelope = Envelope::parse(&queued.payload).map_err(Outcome::Invalid)?;
        if envelope.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Outcome::Expired);
        }
        let at = envelope.at.unwrap_or_else(|| queued.sid.time());
        let job: J = decode(envelope.data).map_err(Outcome::Invalid)?;
        job.validate(at, now).map_err(Outcome::Invalid)?;
        let id = envelope
            .id
            .map_or_else(|| format!("{queue}/{}", queued.sid), String::from);
        Ok(Self {
            job,
            id,
            at,
            backfill: queued.backfill(),
        })
    }
}
