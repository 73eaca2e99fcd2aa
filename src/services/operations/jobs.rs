//! What operators do with one job: see where it is and what happens next, and cancel it.

use super::next::Outlook;
use super::record::End;
use super::remedies::remedy;
use super::search::{Copy, Place, Search, Searched};
use super::{Operations, queues};
use crate::queue::operating::cancel::{cancel_delayed, cancel_ready};
use crate::queue::operating::find::Wanted;
use crate::queue::operating::place::ahead;
use crate::queue::{EntryId, QueuedJob, RedisError, RedisResult, dead_job};
use crate::store::Attempt;
use jiff::Timestamp;
use klaviyo_jobs::Envelope;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Copies of one job that are explained; of more only the number is told.
const EXPLAINED_MAX: usize = 20;
/// Copies of one job that are cancelled at once.
const CANCELLED_MAX: usize = 1_000;
/// How the audit names an attempt that ended well.
const DELIVERED: &str = "delivered";

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits to be read.
    Ready,
    /// A daemon holds it.
    InFlight,
    /// It waits for its time.
    Delayed,
    /// It is a dead letter.
    Dead,
}

/// One copy of a job. What does not apply to its state is absent.
#[derive(Clone, Debug, Serialize)]
pub struct LocatedJob {
    /// Where it is.
    pub state: JobState,
    /// Its queue.
    pub queue: String,
    /// Its lane.
    pub lane: &'static str,
    /// Its kind, where it has one.
    pub kind: Option<String>,
    /// Its identifier.
    pub id: Option<String>,
    /// Its place in the stream or in the dead letters.
    pub entry: Option<String>,
    /// When it was enqueued; unknown for a job that was enqueued with a delay and has not been due.
    pub enqueued_at: Option<Timestamp>,
    /// Attempts made.
    pub attempts: u32,
    /// How many are read before it, at most 100,000; told of the first that waits only.
    pub ahead: Option<usize>,
    /// Who holds it.
    pub consumer: Option<String>,
    /// How long ago its holder renewed the lease.
    pub renewed_ms: Option<u64>,
    /// How often it was handed to a daemon.
    pub times_taken: Option<u64>,
    /// When it is due.
    pub due_at: Option<Timestamp>,
    /// Why it died.
    pub code: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
    /// When it died.
    pub died_at: Option<Timestamp>,
    /// What happens next and why.
    pub next: String,
    /// The job itself, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Whether it is the follow-up of an accepted import, which is never cancelled.
    #[serde(skip)]
    pub is_follow_up: bool,
}

/// What is known about a job.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The account.
    pub account: String,
    /// What was looked for.
    pub id: String,
    /// The copies, at most 20, those first that leave first.
    pub found: Vec<LocatedJob>,
    /// How many more there are.
    pub more: usize,
    /// What names each of the jobs, if a stream id found several; else nothing.
    #[serde(skip)]
    pub ambiguous: Vec<String>,
    /// Every attempt that the audit knows, oldest first.
    pub attempts: Vec<Attempt>,
    /// When Klaviyo accepted it, according to the audit.
    pub delivered_at: Option<Timestamp>,
    /// Where it was looked for.
    pub searched: Vec<Searched>,
    /// Where it was not.
    pub not_searched: Vec<String>,
}

/// What a cancellation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// Jobs taken off the queue.
    pub cancelled: u64,
    /// Jobs that a daemon has taken meanwhile.
    pub in_flight: u64,
    /// Copies that were too many for one time.
    pub more: usize,
}

/// Why nothing was cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// A stream id is unique within its stream only.
    #[error("several jobs have this stream id, so nothing was cancelled; name one of {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Redis failed on the way; what was cancelled is cancelled.
    #[error("stopped after {touched} jobs, perhaps one more; run it again for the rest")]
    Interrupted {
        /// How many were cancelled.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
    /// Redis failed before anything was done.
    #[error("failed to ask Redis")]
    Redis(#[from] RedisError),
    /// It is done, but on record is only that it began.
    #[error("cancelled {touched} jobs, but failed to put that on record for the last")]
    Unrecorded {
        /// How many were cancelled.
        touched: u64,
        /// Redis' own.
        #[source]
        source: RedisError,
    },
}

impl Operations {
    /// Says where a job is and what happens next. The payload, which is people's data, only where it is asked for.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn explain(&mut self, id: &str, with_payload: bool) -> RedisResult<Explanation> {
        let search = self.search(id, EXPLAINED_MAX).await?;
        let mut not_searched = search.not_searched();
        let ambiguous = search.ambiguous();
        let Search {
            copies,
            more,
            searched,
        } = search;
        let mut outlooks = BTreeMap::new();
        let mut found = Vec::new();
        for copy in copies {
            let outlook = match outlooks.entry(copy.queue) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.outlook(copy.queue).await?),
            };
            let is_ready = |it: &LocatedJob| it.state == JobState::Ready;
            let ahead = match &copy.place {
                Place::Ready(job) if !found.iter().any(is_ready) => {
                    let stream = self.keys.queue(copy.queue, job.lane);
                    Some(ahead(&mut self.redis, &stream, job.id).await?)
                }
                _ => None,
            };
            let located = self.locate(copy, outlook, with_payload).await?;
            found.push(LocatedJob { ahead, ..located });
        }
        let audited = self.audited(&ids_of(id, &found)).await;
        not_searched.extend(audited.not_searched);
        let delivered = audited.attempts.iter().filter(|it| it.outcome == DELIVERED);
        Ok(Explanation {
            delivered_at: delivered.map(|it| it.ended_at).next_back(),
            attempts: audited.attempts,
            account: self.keys.account().to_owned(),
            id: id.to_owned(),
            found,
            more,
            ambiguous,
            searched,
            not_searched,
        })
    }

    /// Takes the waiting and delayed jobs of this id off the queue, at most 1,000 at once. What a daemon holds stays, and
    /// so do the follow-ups of accepted imports.
    ///
    /// # Errors
    /// [`CancelError`].
    pub async fn cancel(&mut self, id: &str) -> Result<Cancelled, CancelError> {
        let search = self.search(id, CANCELLED_MAX).await?;
        let ambiguous = search.ambiguous();
        if !ambiguous.is_empty() {
            return Err(CancelError::Ambiguous(ambiguous));
        }
        let (mut cancelled, mut in_flight) = (0, 0);
        let may_go = search.copies.into_iter().filter(|it| !it.is_follow_up());
        for Copy { queue, place, .. } in may_go {
            let target = match &place {
                Place::Ready(job) => format!("{queue}:{}/{}", job.lane.as_str(), job.id),
                Place::Delayed(_) => format!("{queue}:delayed"),
                Place::InFlight(..) => {
                    in_flight += 1;
                    continue;
                }
                Place::Dead(_) => continue,
            };
            let interrupted = |source| match cancelled {
                0 => CancelError::Redis(source),
                touched => CancelError::Interrupted { touched, source },
            };
            let begun = self.begin("job.cancel", &target, json!({})).await;
            let begun = begun.map_err(interrupted)?;
            let done = self.cancel_copy(queue, &place).await;
            let end = done.as_ref().map_or(End::Failed, |_| End::Done);
            let touched = u64::from(*done.as_ref().unwrap_or(&false));
            let recorded = self.end(begun, end, touched, None).await;
            let done = done.map_err(|source| CancelError::Interrupted {
                touched: cancelled,
                source,
            })?;
            cancelled += touched;
            in_flight += u64::from(!done);
            recorded.map_err(|source| CancelError::Unrecorded {
                touched: cancelled,
                source,
            })?;
        }
        Ok(Cancelled {
            cancelled,
            in_flight,
            more: search.more,
        })
    }

    /// Takes a copy off its queue; false if a daemon has taken it, or if it is gone.
    async fn cancel_copy(&mut self, queue: &str, place: &Place) -> RedisResult<bool> {
        let redis = &mut self.redis;
        match place {
            Place::Ready(job) => {
                let stream = self.keys.queue(queue, job.lane);
                cancel_ready(redis, &self.keys, &stream, job).await
            }
            Place::Delayed(job) => cancel_delayed(redis, &self.keys, queue, job).await,
            Place::InFlight(..) | Place::Dead(_) => Ok(false),
        }
    }

    async fn locate(
        &mut self,
        copy: Copy,
        outlook: &Outlook,
        with_payload: bool,
    ) -> RedisResult<LocatedJob> {
        let shown = |payload: &[u8]| with_payload.then(|| shown(payload));
        let is_follow_up = copy.is_follow_up();
        let Copy { queue, place, .. } = copy;
        let located = match place {
            Place::Ready(job) => {
                let located = on_stream(JobState::Ready, queue, &job);
                LocatedJob {
                    next: outlook.of_ready(queue, located.kind.as_deref()),
                    payload: shown(&job.payload),
                    ..located
                }
            }
            Place::InFlight(job, holder) => {
                let located = on_stream(JobState::InFlight, queue, &job);
                LocatedJob {
                    next: outlook.of_held(located.kind.as_deref()),
                    payload: shown(&job.payload),
                    renewed_ms: Some(holder.renewed_ms),
                    times_taken: Some(holder.times_taken),
                    consumer: Some(holder.consumer),
                    ..located
                }
            }
            Place::Delayed(job) => {
                let due = Timestamp::from_millisecond(job.due_ms).ok();
                LocatedJob {
                    entry: None,
                    due_at: due,
                    enqueued_at: job.sid.map(EntryId::time),
                    next: outlook.of_delayed(queue, due, Timestamp::now()),
                    payload: shown(job.payload()),
                    ..located(
                        JobState::Delayed,
                        queue,
                        job.lane.as_str(),
                        job.payload(),
                        job.sid,
                        job.attempts,
                    )
                }
            }
            Place::Dead(job) => {
                let dead = dead_job(&mut self.redis, &self.keys, queue, job.id).await?;
                let remedy = dead.as_ref().map_or("", |it| remedy(&it.code));
                LocatedJob {
                    died_at: Some(dead.as_ref().map_or(job.id.time(), |it| it.died_at)),
                    code: dead.as_ref().map(|it| it.code.clone()),
                    detail: dead.map(|it| it.detail),
                    next: format!(
                        "nothing, until somebody replays or discards it (`klaviyod dlq show {}`). {remedy}",
                        job.id
                    ),
                    payload: shown(&job.payload),
                    ..on_stream(JobState::Dead, queue, &job)
                }
            }
        };
        Ok(LocatedJob {
            is_follow_up,
            ..located
        })
    }
}

/// Under which ids the audit may know a job: an own id, or the name of its place, which a person may shorten.
fn ids_of(id: &str, found: &[LocatedJob]) -> Vec<String> {
    let mut ids = vec![id.to_owned()];
    ids.extend(found.iter().filter_map(|job| job.id.clone()));
    ids.extend(Wanted::new(id).default_id());
    // Which queue is meant is not known of a job that is nowhere any more.
    if found.is_empty() && EntryId::parse(id).is_some() {
        ids.extend(queues().map(|queue| format!("{queue}/{id}")));
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn on_stream(state: JobState, queue: &str, job: &QueuedJob) -> LocatedJob {
    let lane = job.lane.as_str();
    LocatedJob {
        entry: Some(job.id.to_string()),
        ..located(
            state,
            queue,
            lane,
            &job.payload,
            Some(job.sid),
            job.attempts,
        )
    }
}

fn located(
    state: JobState,
    queue: &str,
    lane: &'static str,
    payload: &[u8],
    sid: Option<EntryId>,
    attempts: u32,
) -> LocatedJob {
    let envelope = Envelope::parse(payload).ok();
    let own_id = envelope.as_ref().and_then(|it| it.id.as_deref());
    let default_id = || sid.map(|sid| format!("{queue}/{sid}"));
    LocatedJob {
        state,
        queue: queue.to_owned(),
        lane,
        kind: envelope.as_ref().map(|it| it.kind.to_string()),
        id: own_id.map(str::to_owned).or_else(default_id),
        entry: None,
        enqueued_at: sid.map(EntryId::time),
        attempts,
        ahead: None,
        consumer: None,
        renewed_ms: None,
        times_taken: None,
        due_at: None,
        code: None,
        detail: None,
        died_at: None,
        next: String::new(),
        payload: None,
        is_follow_up: false,
    }
}

/// The parsed job, or the raw text when it is not JSON.
fn shown(payload: &[u8]) -> Value {
    let parsed = serde_json::from_slice(payload);
    parsed.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()))
}
