//! What applications and operators do: each a request with faults of its own, and what it may do to each job.

use super::enqueue::payload;
use super::process::{Ended, Operation};
use super::reference::{Allowed, Next, tag_of};
use super::snapshot::{Place, QUEUES, Record};
use super::steps::Outside;
use super::world::World;
use crate::queue::connection::Connection;
use crate::queue::dead::{MoveBack, discard_dead, edit_dead, replay_dead};
use crate::queue::job::entry::EntryId;
use crate::queue::operating::cancel::{cancel_delayed, cancel_ready};
use crate::queue::operating::find::{Wanted, find_delayed, find_on_stream};
use crate::queue::operating::purge::{Purged, purge};
use crate::queue::reading::pause::{pause, resume};
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Keys, Lane};
use redis::RedisResult;
use tokio_util::sync::CancellationToken;

/// What was asked for.
pub(super) enum Request {
    /// The numbers of the jobs, which are equal, and how each will stand in Redis.
    Enqueue(Vec<usize>, Record),
    Cancel(usize, String),
    Purge(usize, Option<Lane>),
    Pause,
    Replay(usize, Vec<EntryId>, bool),
    Edit(usize, EntryId, Vec<u8>),
    Discard(usize, EntryId),
}

impl World {
    /// Begins a request; `None` if there is nothing to ask for.
    pub(super) fn request(&mut self, outside: &Outside) -> Option<(Request, Operation)> {
        let keys = self.keys.clone();
        let mut redis = self.outside.redis.clone();
        let begun: (Request, Operation) = match outside {
            Outside::Enqueue { queue, lane, how } => self.enqueue(*queue, *lane, *how),
            Outside::Cancel(number) => {
                let jobs = self
                    .reference
                    .jobs
                    .iter()
                    .filter_map(|job| job.record.as_ref());
                let jobs: Vec<&Record> = jobs.collect();
                let record = jobs.get(number % jobs.len().max(1))?;
                let (queue, text) = (record.queue, name(record)?);
                let cancel = cancel(redis, keys, queue, text.clone());
                (
                    Request::Cancel(queue, text),
                    Box::pin(async move { answered(cancel.await) }),
                )
            }
            Outside::Purge(queue, lane) => {
                let (queue, lane, mut purged) = (*queue, *lane, Purged::default());
                let purge = async move {
                    let (queue, never) = (QUEUES[queue], CancellationToken::new());
                    answered(purge(&mut redis, &keys, queue, lane, &[], &never, &mut purged).await)
                };
                (Request::Purge(queue, lane), Box::pin(purge))
            }
            Outside::Pause(queue) => {
                let queue = QUEUES[*queue];
                let pause = async move {
                    answered(pause(&mut redis, &keys, queue, Timestamp::now()).await)
                };
                (Request::Pause, Box::pin(pause))
            }
            Outside::Resume(queue) => {
                let queue = QUEUES[*queue];
                let resume = async move { answered(resume(&mut redis, &keys, queue).await) };
                (Request::Pause, Box::pin(resume))
            }
            Outside::Replay {
                dead,
                all,
                without_flows,
            } => {
                let (queue, entry, _) = self.dead(*dead)?;
                let entries = if *all {
                    self.all_dead(queue)
                } else {
                    vec![entry]
                };
                let without_flows = *without_flows;
                let jobs: Vec<MoveBack> = entries
                    .iter()
                    .map(|entry| MoveBack {
                        entry: *entry,
                        without_flows,
                    })
                    .collect();
                let replay = async move {
                    let queue = QUEUES[queue];
                    answered(replay_dead(&mut redis, &keys, queue, queue, &jobs).await)
                };
                (
                    Request::Replay(queue, entries, without_flows),
                    Box::pin(replay),
                )
            }
            Outside::Edit(dead) => {
                let (queue, entry, tag) = self.dead(*dead)?;
                let payload = payload(queue, tag, "edited");
                let new = payload.clone();
                let edit = async move {
                    answered(edit_dead(&mut redis, &keys, QUEUES[queue], entry, &new).await)
                };
                (Request::Edit(queue, entry, payload), Box::pin(edit))
            }
            Outside::Discard(dead) => {
                let (queue, entry, _) = self.dead(*dead)?;
                let discard = async move {
                    answered(discard_dead(&mut redis, &keys, QUEUES[queue], &[entry]).await)
                };
                (Request::Discard(queue, entry), Box::pin(discard))
            }
        };
        Some(begun)
    }

    /// What a request may do to each job.
    pub(super) fn allowed_outside(&self, request: &Request, resumed: bool) -> Allowed {
        let waits =
            |record: &Record| matches!(record.place, Place::Ready { .. } | Place::Delayed { .. });
        let is_dead = |record: &Record, queue: usize, entries: &[EntryId]| {
            record.queue == queue
                && matches!(&record.place, Place::Dead { id } if entries.contains(id))
        };
        match request {
            Request::Enqueue(jobs, record) => {
                let mut allowed = self.reference.all_stay();
                let is_taken = self.reference.claims.get(&record.claim) == Some(&true);
                let appears = Next::Appears(record.clone());
                let next = match (resumed, is_taken) {
                    (true, _) => vec![appears, Next::Never],
                    (false, true) => vec![Next::Never],
                    (false, false) => vec![appears],
                };
                // What was written before the request stood still is not written once more.
                for job in jobs
                    .iter()
                    .filter(|job| !self.reference.jobs[**job].accepted)
                {
                    allowed[*job].clone_from(&next);
                }
                allowed
            }
            Request::Cancel(queue, text) => self.reference.each(|record| {
                let is_it = record.queue == *queue && answers_to(record, text);
                (is_it && waits(record)).then_some(Next::Removed)
            }),
            Request::Purge(queue, lane) => self.reference.each(|record| {
                let is_it = record.queue == *queue && lane.is_none_or(|lane| lane == record.lane);
                (is_it && waits(record)).then_some(Next::Removed)
            }),
            Request::Pause => self.reference.all_stay(),
            Request::Replay(queue, entries, without_flows) => self.reference.each(|record| {
                let without_flows = *without_flows;
                is_dead(record, *queue, entries).then_some(Next::Replayed { without_flows })
            }),
            Request::Edit(queue, entry, payload) => self.reference.each(|record| {
                is_dead(record, *queue, &[*entry]).then(|| Next::Edited(payload.clone()))
            }),
            Request::Discard(queue, entry) => {
                let is_it = |record: &Record| is_dead(record, *queue, &[*entry]);
                self.reference
                    .each(|record| is_it(record).then_some(Next::Removed))
            }
        }
    }

    /// The queue, the entry and the tag of a dead letter.
    fn dead(&self, number: usize) -> Option<(usize, EntryId, usize)> {
        let jobs = self
            .reference
            .jobs
            .iter()
            .filter_map(|job| job.record.as_ref());
        let dead = jobs.filter_map(|record| match record.place {
            Place::Dead { id } => Some((record.queue, id, tag_of(&record.payload)?)),
            _ => None,
        });
        let dead: Vec<_> = dead.collect();
        dead.get(number % dead.len().max(1)).copied()
    }

    fn all_dead(&self, queue: usize) -> Vec<EntryId> {
        let jobs = self
            .reference
            .jobs
            .iter()
            .filter_map(|job| job.record.as_ref());
        let dead = jobs.filter_map(|record| match record.place {
            Place::Dead { id } if record.queue == queue => Some(id),
            _ => None,
        });
        dead.collect()
    }
}

async fn cancel(mut redis: Connection, keys: Keys, queue: usize, text: String) -> RedisResult<()> {
    let (redis, queue, wanted) = (&mut redis, QUEUES[queue], Wanted::new(&text));
    for lane in Lane::ALL {
        let stream = keys.queue(queue, lane);
        for job in find_on_stream(redis, &stream, queue, Some(lane), &wanted, usize::MAX)
            .await?
            .jobs
        {
            cancel_ready(redis, &keys, &stream, &job).await?;
        }
    }
    for job in find_delayed(redis, &keys, queue, &wanted, usize::MAX)
        .await?
        .jobs
    {
        cancel_delayed(redis, &keys, queue, &job).await?;
    }
    Ok(())
}

pub(super) fn answered<T>(result: RedisResult<T>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(error) => Ended::Failed(error),
    }
}

/// What an operator calls a job: its id, else its stream id.
fn name(record: &Record) -> Option<String> {
    let envelope = Envelope::parse(&record.payload).ok();
    let id = envelope.and_then(|envelope| envelope.id.map(String::from));
    id.or_else(|| record.sid.map(|sid| sid.to_string()))
}

fn answers_to(record: &Record, text: &str) -> bool {
    let ids = [record.sid, record.entry()].map(|id| id.map(|id| id.to_string()));
    name(record).as_deref() == Some(text) || ids.iter().flatten().any(|id| id == text)
}
