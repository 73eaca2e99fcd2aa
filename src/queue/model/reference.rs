//! The reference: which jobs there are, what may become of each at a step, and what nothing may change.
//!
//! A step says for every job where it may go. After the step Redis is read, and each job must be in exactly one of the
//! places that were allowed, with everything else about it as it was. After a fault a job may also have stayed.

use super::snapshot::{Place, Record, Snapshot};
use crate::queue::job::entry::EntryId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// How far apart the same moment may be read: what the steps themselves take, and nothing of what a step lets pass.
pub(super) const SLOP_MS: u64 = 4 * 60 * 1000;

/// What a step may do to one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is enqueued: as this, at its place but for the entry.
    Appears(Record),
    /// It is refused: its claim is taken.
    Never,
    /// Nothing.
    Stays,
    /// A consumer takes it, from its stream or from another consumer, or renews its lease.
    Held(String),
    /// Its group is gone, and nobody holds it any more.
    Unheld,
    /// It waits.
    Later {
        attempts: u32,
        delay_ms: RangeInclusive<u64>,
    },
    /// Its time has come.
    Promoted,
    /// It dies.
    Dead { attempts: u32, code: &'static str },
    /// It returns from the dead.
    Replayed { without_flows: bool },
    /// It gets another payload among the dead.
    Edited(Vec<u8>),
    /// It is delivered.
    Delivered,
    /// An operator takes it away.
    Removed,
}

/// A job that somebody enqueued.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The text in its payload by which it is known; equal jobs share it.
    pub(super) tag: usize,
    /// Where it is, unless it is gone.
    pub(super) record: Option<Record>,
    /// Whether it was enqueued at all.
    pub(super) accepted: bool,
    /// Why it may be gone.
    pub(super) ended: Option<Next>,
    /// Whether no handler may ever see it.
    pub(super) is_nonsense: bool,
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub(super) jobs: Vec<Job>,
    pub(super) claims: BTreeMap<String, bool>,
    /// The most marks that each entry ever had.
    pub(super) marks_max: BTreeMap<(String, EntryId), u32>,
    pub(super) at_ms: i64,
}

/// What may become of each job, in their order. None means that it stays.
pub(super) type Allowed = Vec<Vec<Next>>;

impl Reference {
    /// Adds a job that is about to be enqueued.
    pub(super) fn announce(&mut self, tag: usize, is_nonsense: bool) -> usize {
        self.jobs.push(Job {
            tag,
            record: None,
            accepted: false,
            ended: None,
            is_nonsense,
        });
        self.jobs.len() - 1
    }

    /// Nothing happens to any job.
    pub(super) fn all_stay(&self) -> Allowed {
        vec![Vec::new(); self.jobs.len()]
    }

    /// What `next` says of every job that is somewhere.
    pub(super) fn each(&self, next: impl Fn(&Record) -> Option<Next>) -> Allowed {
        let of = |job: &Job| job.record.as_ref().and_then(&next).into_iter().collect();
        self.jobs.iter().map(of).collect()
    }

    /// Time passes for leases and for what waits.
    pub(super) fn advance(&mut self, by_ms: u64) {
        for record in self.jobs.iter_mut().filter_map(|job| job.record.as_mut()) {
            match &mut record.place {
                Place::Held { idle_ms, .. } => *idle_ms += by_ms,
                Place::Delayed { due_ms } => *due_ms -= i64::try_from(by_ms).expect("hours"),
                Place::Ready { .. } | Place::Dead { .. } => {}
            }
        }
    }

    /// Compares what Redis holds with what was allowed, and takes it over.
    pub(super) fn observe(&mut self, allowed: &Allowed, now: &Snapshot) -> Result<(), String> {
        if let Some(flaw) = now.flaws.first() {
            return Err(flaw.clone());
        }
        let mut found: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        for record in &now.records {
            let tag = tag_of(&record.payload).ok_or(format!("nobody enqueued {record:?}"))?;
            found.entry(tag).or_default().push(record);
        }
        let tags: BTreeSet<usize> = self.jobs.iter().map(|job| job.tag).collect();
        for tag in tags {
            let equal = (0..self.jobs.len()).filter(|job| self.jobs[*job].tag == tag);
            let equal: Vec<usize> = equal.collect();
            let records = found.remove(&tag).unwrap_or_default();
            self.observe_equal(&equal, records, allowed, now.at_ms)?;
        }
        if let Some(record) = found.into_values().flatten().next() {
            return Err(format!("nobody enqueued {record:?}"));
        }
        for (claim, is_taken) in &self.claims {
            if *is_taken != now.claims.contains(claim) {
                let (must, is) = if *is_taken {
                    ("stand", "gone")
                } else {
                    ("be released", "there")
                };
                return Err(format!("the claim {claim} must {must} and is {is}"));
            }
        }
        self.at_ms = now.at_ms;
        for (entry, count) in &now.marks {
            let most = self.marks_max.entry(entry.clone()).or_default();
            *most = (*most).max(*count);
        }
        Ok(())
    }

    /// Finds for each of several equal jobs one record that is allowed to it.
    fn observe_equal(
        &mut self,
        jobs: &[usize],
        records: Vec<&Record>,
        allowed: &Allowed,
        at_ms: i64,
    ) -> Result<(), String> {
        if records.len() > jobs.len() {
            return Err(format!("a job is in two places: {records:?}"));
        }
        let mut left: Vec<Option<&Record>> = records.into_iter().map(Some).collect();
        left.resize(jobs.len(), None);
        let span = (self.at_ms, at_ms);
        let Some(chosen) = self.choose(jobs, &mut left, allowed, span) else {
            let before: Vec<&Job> = jobs.iter().map(|job| &self.jobs[*job]).collect();
            let allowed: Vec<&Vec<Next>> = jobs.iter().map(|job| &allowed[*job]).collect();
            return Err(format!(
                "a job went where it may not go\nbefore: {before:?}\nallowed: {allowed:?}\nnow: {left:?}"
            ));
        };
        for (job, (next, record)) in jobs.iter().zip(chosen) {
            self.adopt(*job, next, record.cloned());
        }
        Ok(())
    }

    fn choose<'a>(
        &self,
        jobs: &[usize],
        left: &mut Vec<Option<&'a Record>>,
        allowed: &Allowed,
        span: (i64, i64),
    ) -> Option<Vec<(Next, Option<&'a Record>)>> {
        let Some((job, others)) = jobs.split_first() else {
            return Some(Vec::new());
        };
        let nexts = &allowed[*job];
        let nexts = if nexts.is_empty() {
            &[Next::Stays][..]
        } else {
            nexts
        };
        for place in 0..left.len() {
            let record = left.remove(place);
            let next = nexts
                .iter()
                .find(|next| leads_to(self.jobs[*job].record.as_ref(), next, record, span));
            if let Some(next) = next
                && let Some(mut rest) = self.choose(others, left, allowed, span)
            {
                rest.insert(0, (next.clone(), record));
                return Some(rest);
            }
            left.insert(place, record);
        }
        None
    }

    fn adopt(&mut self, index: usize, next: Next, record: Option<Record>) {
        let job = &mut self.jobs[index];
        let claim = job
            .record
            .as_ref()
            .map(|record| record.claim.clone())
            .unwrap_or_default();
        match &next {
            Next::Appears(record) => {
                job.accepted = true;
                if !record.claim.is_empty() {
                    self.claims.insert(record.claim.clone(), true);
                }
            }
            Next::Edited(_) => job.is_nonsense = false,
            Next::Dead { .. } | Next::Removed if !claim.is_empty() => {
                self.claims.insert(claim, false);
            }
            _ => {}
        }
        if matches!(next, Next::Delivered | Next::Removed) {
            job.ended = Some(next);
        }
        job.record = record;
    }

    /// Says which jobs are neither dead nor gone.
    pub(super) fn unfinished(&self) -> Vec<&Job> {
        let is_dead = |job: &&Job| {
            matches!(
                job.record,
                Some(Record {
                    place: Place::Dead { .. },
                    ..
                })
            )
        };
        let jobs = self.jobs.iter().filter(|job| job.record.is_some());
        jobs.filter(|job| !is_dead(job)).collect()
    }
}

/// Whether a job that was `before` may be `after` by `next`; everything that `next` does not name is unchanged.
fn leads_to(
    before: Option<&Record>,
    next: &Next,
    after: Option<&Record>,
    (from_ms, to_ms): (i64, i64),
) -> bool {
    let (before, after) = match (before, next, after) {
        (None, Next::Appears(expected), Some(after)) => return appears(expected, after, from_ms),
        (None, Next::Never | Next::Stays, None)
        | (Some(_), Next::Delivered | Next::Removed, None) => return true,
        (Some(before), _, Some(after)) => (before, after),
        _ => return false,
    };
    let mut expected = before.clone();
    // Only what `next` says is checked of the new place; the rest of it is what Redis chose.
    let is_there = match (&before.place, next, &after.place) {
        (
            Place::Held { id, by, idle_ms },
            Next::Stays,
            Place::Held {
                id: same,
                by: still,
                idle_ms: now,
            },
        ) => {
            // A lease that nobody renews gets older, and nothing else.
            id == same && by == still && now + 1 >= *idle_ms && *now <= idle_ms + SLOP_MS
        }
        (place, Next::Stays, same) => place == same,
        (
            Place::Ready { id } | Place::Held { id, .. },
            Next::Held(by),
            Place::Held {
                id: same,
                by: now,
                idle_ms,
            },
        ) => id == same && by == now && *idle_ms <= SLOP_MS,
        (Place::Held { id, .. } | Place::Ready { id }, Next::Unheld, Place::Ready { id: same }) => {
            id == same
        }
        (Place::Held { .. }, Next::Later { attempts, delay_ms }, Place::Delayed { due_ms }) => {
            expected.attempts = *attempts;
            let delay = |at_ms: i64| u64::try_from(due_ms - at_ms).unwrap_or(0);
            delay(from_ms) >= *delay_ms.start() && delay(to_ms) <= *delay_ms.end()
        }
        (Place::Delayed { due_ms }, Next::Promoted, Place::Ready { id }) => {
            expected.sid = before.sid.or(Some(*id));
            *due_ms <= to_ms
        }
        (Place::Held { .. }, Next::Dead { attempts, code }, Place::Dead { .. }) => {
            expected.attempts = *attempts;
            expected.claim.clear();
            (*code).clone_into(&mut expected.code);
            true
        }
        (Place::Dead { .. }, Next::Replayed { without_flows }, Place::Ready { .. }) => {
            expected.attempts = 0;
            expected.code.clear();
            expected.mark.clone_from(&after.mark);
            let times = |mark: &str| {
                mark.split('.')
                    .next()
                    .and_then(|it| it.parse().ok())
                    .unwrap_or(0_u32)
            };
            times(&after.mark) == times(&before.mark) + 1
                && after.mark.ends_with(".noflow") == *without_flows
        }
        (Place::Dead { id }, Next::Edited(payload), Place::Dead { id: new }) => {
            expected.payload.clone_from(payload);
            new > id
        }
        _ => false,
    };
    expected.place = after.place.clone();
    is_there && expected == *after
}

fn appears(expected: &Record, after: &Record, from_ms: i64) -> bool {
    let mut expected = expected.clone();
    match (&expected.place, &after.place) {
        (Place::Ready { .. }, Place::Ready { id }) => expected.sid = Some(*id),
        (Place::Delayed { due_ms }, Place::Delayed { due_ms: due }) => {
            if due.abs_diff(*due_ms) > SLOP_MS || *due < from_ms {
                return false;
            }
        }
        _ => return false,
    }
    expected.place = after.place.clone();
    expected == *after
}

/// Finds `~17~` in a payload.
pub(super) fn tag_of(payload: &[u8]) -> Option<usize> {
    let mut parts = payload.split(|byte| *byte == b'~').skip(1);
    std::str::from_utf8(parts.next()?).ok()?.parse().ok()
}
