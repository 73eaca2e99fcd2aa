//! What may be read, and where it goes that was: to the line of its kind, or to the dead letters with a reason.

use super::engine::{Engine, State};
use super::entry::{Entry, QueuedJob};
use super::lines::Line;
use super::settle::{Reason, Verdict};
use super::suspects;
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Invalid};
use std::collections::HashSet;
use std::time::{Duration, Instant};

impl Engine {
    /// What is paused is not known yet: nothing is read.
    pub(super) fn forget_paused(&self) {
        *self.paused.lock().expect("no holder of this lock panics") = None;
    }

    pub(crate) fn set_paused(&self, paused: HashSet<String>) {
        let mut known = self.paused.lock().expect("no holder of this lock panics");
        if known.replace(paused) != *known {
            // Something may be read by now that could not before.
            self.has_room.notify_one();
        }
    }

    /// Whether the queue is paused, or every kind on it has a shut gate.
    pub(crate) fn is_shut(&self, queue: &str) -> bool {
        let paused = self.paused.lock().expect("no holder of this lock panics");
        if paused.as_ref().is_none_or(|it| it.contains(queue)) {
            return true;
        }
        drop(paused);
        let Some(outlook) = &self.config.outlook else {
            return false;
        };
        let mut kinds = self.config.routes.iter().filter(|it| it.queue == queue);
        kinds.all(|route| outlook.is_shut(route.kind))
    }

    /// How many jobs may be read from the stream now.
    pub(crate) fn room(&self, stream: usize) -> usize {
        self.state().flight.room(stream)
    }

    /// Takes in what was read from a stream: each job joins the line of its kind, nonsense goes to the dead letters.
    pub(crate) fn accept(&self, stream: usize, entries: Vec<Entry>, asked: Instant) {
        let now = Timestamp::now();
        let mut settled = Vec::new();
        let mut guard = self.state();
        let State { lines, flight } = &mut *guard;
        let bytes: usize = entries.iter().map(|entry| entry.job.payload.len()).sum();
        flight.measured(stream, entries.len(), bytes);
        for entry in entries {
            let Entry {
                mut job,
                has_payload,
            } = entry;
            if !flight.add(&job, asked) {
                continue;
            }
            let place = self.place(&job, has_payload, now);
            job.kind = place.as_ref().ok().map(|it| self.config.routes[*it].kind);
            match place {
                // Nobody will open a lot any more: it goes back at once.
                Ok(_) if self.is_quiet() => settled.push((job, Verdict::Snooze(Duration::ZERO))),
                Ok(line) => lines[line].push(job),
                Err(reason) => settled.push((job, Verdict::Bury(reason))),
            }
        }
        lines.iter_mut().for_each(Line::wake);
        drop(guard);
        self.settle(settled);
    }

    /// The line a job joins, or why it goes to the dead letters.
    fn place(&self, job: &QueuedJob, has_payload: bool, now: Timestamp) -> Result<usize, Reason> {
        if let Some(poison) = suspects::poison(job) {
            return Err(poison);
        }
        if !has_payload {
            return Err(Reason::from(&Invalid::no_job_field()));
        }
        let envelope = Envelope::parse(&job.payload).map_err(|invalid| Reason::from(&invalid))?;
        let line = self.line_of(job, &envelope.kind);
        let line = line.map_err(|invalid| Reason::from(&invalid))?;
        if envelope.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Reason::expired());
        }
        Ok(line)
    }

    fn line_of(&self, job: &QueuedJob, kind: &str) -> Result<usize, Invalid> {
        let queue = &self.streams[job.stream].queue;
        let mut routes = self.config.routes.iter();
        let found = routes.position(|route| {
            route.kind == kind && route.queue == *queue && (!route.internal || job.engine_wrote)
        });
        match found {
            Some(line) => Ok(line),
            None => Err(klaviyo_jobs::kind(kind)?
                .on_queue(queue)
                .err()
                .unwrap_or_else(Invalid::no_job_field)),
        }
    }
}
