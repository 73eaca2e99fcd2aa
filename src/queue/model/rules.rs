//! What each task of a process may do to each job, and what a process may believe.

use super::process::{Doing, LEASE, Moving, Process};
use super::reference::{Allowed, Next, Reference};
use super::snapshot::{Place, QUEUES, Record};
use super::world::Checked;
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::Verdict;
use klaviyo_jobs::{Keys, Lane};
use std::collections::BTreeSet;

/// Marks without which no job is poison: of three processes that died while it was alone.
const MARKS_MIN: u32 = 3 * 65_536;

/// Entries whose group was destroyed: two processes may believe that they hold one.
pub(super) type InDoubt = BTreeSet<(String, EntryId)>;

/// Whether a job waits where the process may read: then the doorbell must ring. Where a group was destroyed it may take
/// its time.
pub(super) fn must_ring(
    reference: &Reference,
    keys: &Keys,
    process: &Process,
    in_doubt: &InDoubt,
) -> bool {
    let jobs = reference.jobs.iter().filter_map(|job| job.record.as_ref());
    jobs.filter(|record| is_open(process, record)).any(|record| {
        matches!(record.place, Place::Ready { id } if !in_doubt.contains(&(record.stream(keys), id)))
    })
}

fn is_open(process: &Process, record: &Record) -> bool {
    !process.engine.is_quiet() && !process.engine.is_shut(QUEUES[record.queue])
}

/// What an operation may do to each job. Of one that stood still nobody knows what it saw before.
pub(super) fn allowed(
    reference: &Reference,
    keys: &Keys,
    process: &Process,
    doing: &Doing,
    resumed: bool,
) -> Allowed {
    let me = || Next::Held(process.name().to_owned());
    let lease_ms = u64::try_from(LEASE.as_millis()).expect("an hour");
    let held_by_me =
        |record: &Record| matches!(&record.place, Place::Held { by, .. } if by == process.name());
    match doing {
        Doing::Promote => {
            let mut allowed = reference.each(|record| {
                matches!(record.place, Place::Delayed { .. }).then_some(Next::Promoted)
            });
            for (job, nexts) in reference.jobs.iter().zip(&mut allowed) {
                let record = job.record.as_ref();
                if record.is_some_and(
                    |it| matches!(it.place, Place::Delayed { due_ms } if due_ms > reference.at_ms),
                ) {
                    nexts.push(Next::Stays);
                }
            }
            allowed
        }
        Doing::Read => {
            let mut allowed = reference.each(|record| {
                let is_ready = matches!(record.place, Place::Ready { .. });
                (is_ready && (resumed || is_open(process, record))).then(me)
            });
            for (job, nexts) in reference.jobs.iter().zip(&mut allowed) {
                let record = job.record.as_ref();
                if record.is_some_and(|it| is_beyond_one_read(reference, keys, process, it)) {
                    nexts.push(Next::Stays);
                }
            }
            allowed
        }
        Doing::Renew => reference.each(|record| {
            let stream = process.stream(&record.stream(keys));
            let believes = record
                .entry()
                .is_some_and(|id| process.engine.held(stream).contains(&id));
            (held_by_me(record) && (resumed || believes)).then(me)
        }),
        Doing::TakeOver => reference.each(|record| {
            let Place::Held { id, idle_ms, .. } = &record.place else {
                return None;
            };
            let knows = process
                .engine
                .knows(process.stream(&record.stream(keys)), *id);
            let is_paused = process.engine.is_paused(QUEUES[record.queue]);
            let may = resumed || (!knows && !process.engine.is_quiet() && !is_paused);
            (*idle_ms >= lease_ms && may).then(me)
        }),
        Doing::Forget | Doing::Seal => reference.all_stay(),
        Doing::Settle(moving) => reference.each(|record| {
            let id = record.entry()?;
            let stream = process.stream(&record.stream(keys));
            let moving = moving
                .iter()
                .find(|it| it.stream == stream && it.id == id)?;
            let may = moving.verdict == Verdict::Delivered
                || (held_by_me(record) && (resumed || moving.is_held));
            may.then(|| moving.next(record.attempts))
        }),
    }
}

/// Whether one read need not bring the job: there is no room for it, or other lanes of its queue go first.
fn is_beyond_one_read(
    reference: &Reference,
    keys: &Keys,
    process: &Process,
    record: &Record,
) -> bool {
    let Place::Ready { id } = record.place else {
        return false;
    };
    let room = |stream: &str| process.engine.room(process.stream(stream));
    let ready_before = |stream: &str, end: EntryId| {
        let jobs = reference.jobs.iter().filter_map(|job| job.record.as_ref());
        jobs.filter(|it| it.stream(keys) == stream)
            .filter(|it| matches!(it.place, Place::Ready { id } if id < end))
            .count()
    };
    let stream = record.stream(keys);
    let others_first = record.lane == Lane::Backfill
        && [Lane::Urgent, Lane::Live].into_iter().any(|lane| {
            let other = keys.queue(QUEUES[record.queue], lane);
            ready_before(&other, EntryId::LAST) >= room(&other)
        });
    others_first || ready_before(&stream, id) >= room(&stream)
}

pub(super) fn or_stay(allowed: &mut Allowed) {
    for nexts in allowed.iter_mut().filter(|nexts| !nexts.is_empty()) {
        nexts.push(Next::Stays);
    }
}

/// Only nonsense and poison are given up before a handler saw them.
pub(super) fn check_intake(
    reference: &Reference,
    keys: &Keys,
    process: &Process,
    new: &[Moving],
) -> Checked {
    for moving in new {
        let stream = &process.engine.streams()[moving.stream].key;
        let at =
            |record: &Record| record.entry() == Some(moving.id) && record.stream(keys) == *stream;
        let mut jobs = reference.jobs.iter();
        let job = jobs.find(|job| job.record.as_ref().is_some_and(at));
        let is_nonsense = job.is_none_or(|job| job.is_nonsense);
        let marks = reference
            .marks_max
            .get(&(stream.clone(), moving.id))
            .copied()
            .unwrap_or(0);
        let fits = match &moving.verdict {
            Verdict::Bury(reason) if reason.code == "poison" => marks >= MARKS_MIN,
            Verdict::Bury(_) => is_nonsense,
            Verdict::Snooze(delay) => process.engine.is_quiet() && delay.is_zero(),
            Verdict::Delivered | Verdict::Retry(_) => false,
        };
        if !fits {
            return Err(format!(
                "{moving:?} was decided without a handler; its marks are {marks}: {job:?}"
            ));
        }
    }
    Ok(())
}

/// Who believes to hold a job does hold it.
pub(super) fn check_beliefs(
    reference: &Reference,
    keys: &Keys,
    process: &Process,
    in_doubt: &InDoubt,
) -> Checked {
    for record in reference.jobs.iter().filter_map(|job| job.record.as_ref()) {
        let Some(id) = record.entry() else { continue };
        let stream = record.stream(keys);
        let is_mine = matches!(&record.place, Place::Held { by, .. } if by == process.name());
        let believes = process.engine.held(process.stream(&stream)).contains(&id);
        if believes && !is_mine && !in_doubt.contains(&(stream, id)) {
            return Err(format!(
                "{} believes that it holds {record:?}",
                process.name()
            ));
        }
    }
    Ok(())
}

/// What a renewal did not get back, because others delivered it or took it away, is let go: else it would be sent again.
pub(super) fn check_renewed(reference: &Reference, keys: &Keys, process: &Process) -> Checked {
    for (index, stream) in process.engine.streams().iter().enumerate() {
        for id in process.engine.held(index) {
            let is_it = |record: &Record| {
                record.entry() == Some(id)
                    && record.stream(keys) == stream.key
                    && matches!(&record.place, Place::Held { by, .. } if by == process.name())
            };
            let mut records = reference.jobs.iter().filter_map(|job| job.record.as_ref());
            if !records.any(is_it) {
                return Err(format!(
                    "{} has renewed and still believes that it holds {id} of {}",
                    process.name(),
                    stream.key
                ));
            }
        }
    }
    Ok(())
}
