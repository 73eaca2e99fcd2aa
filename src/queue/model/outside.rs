//! What applications and operators do: each a request with faults of its own, and what it may do to each job.

use super::process::{Ended, KINDS, Operation};
use super::reference::{Allowed, Next, tag_of};
use super::snapshot::{Place, QUEUES, Record};
use super::steps::{How, Outside};
use super::world::World;
use crate::queue::cancel::{cancel_delayed, cancel_ready};
use crate::queue::connection::Connection;
use crate::queue::dead::{MoveBack, discard_dead, edit_dead, replay_dead};
use crate::queue::entry::EntryId;
use crate::queue::find::{Wanted, find_delayed, find_on_stream};
use crate::queue::pause::{pause, resume};
use crate::queue::purge::{Purged, purge};
use jiff::Timestamp;
use klaviyo_jobs::keys::claim_hash;
use klaviyo_jobs::{Envelope, Keys, Lane, Message, Options, ProduceError, Producer};
use redis::{RedisResult, cmd};
use std::time::Duration;

const CLAIMED_FOR: Duration = Duration::from_hours(24 * 365);

/// What was asked for.
pub(super) enum Request {
    /// The number of the job, and how it will stand in Redis.
    Enqueue(usize, Record),
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
                    answered(purge(&mut redis, &keys, QUEUES[queue], lane, &[], &mut purged).await)
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
            Request::Enqueue(job, record) => {
                let mut allowed = self.reference.all_stay();
                let is_taken = self.reference.claims.get(&record.claim) == Some(&true);
                let appears = Next::Appears(record.clone());
                allowed[*job] = match (resumed, is_taken) {
                    // What was written before it stood still is no longer to be written.
                    _ if self.reference.jobs[*job].accepted => Vec::new(),
                    (true, _) => vec![appears, Next::Never],
                    (false, true) => vec![Next::Never],
                    (false, false) => vec![appears],
                };
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

    fn enqueue(&mut self, queue: usize, lane: Lane, how: How) -> (Request, Operation) {
        let keys = self.keys.clone();
        let mut redis = self.outside.redis.clone();
        let mut record = Record {
            queue,
            lane,
            place: Place::Ready { id: EntryId::ZERO },
            payload: Vec::new(),
            sid: None,
            attempts: 0,
            claim: String::new(),
            mark: String::new(),
            code: String::new(),
        };
        self.tags += 1;
        let mut tag = self.tags;
        let (id, delay) = match how {
            How::Raw | How::Again | How::Nonsense(_) => (None, None),
            How::Claimed(id) => (Some(format!("c-{id}")), None),
            How::ClaimedLater(id, minutes) => (Some(format!("c-{id}")), Some(minutes)),
            How::Later(minutes) => (None, Some(minutes)),
        };
        let operation: Operation = if id.is_some() || delay.is_some() {
            let run_at = delay.map(|minutes| Timestamp::now() + Duration::from_mins(minutes));
            if let Some(run_at) = run_at {
                record.place = Place::Delayed {
                    due_ms: run_at.as_millisecond(),
                };
            }
            let unique_for = Some(id.as_ref().map_or(Duration::ZERO, |_| CLAIMED_FOR));
            let options = Options {
                id,
                run_at,
                lane,
                unique_for,
                ..Options::default()
            };
            let message = Message::from_json(&payload(queue, tag, "new"), &options).unwrap();
            message.json().clone_into(&mut record.payload);
            if options.id.is_some() {
                record.claim = claim_of(&record.payload);
                self.reference
                    .claims
                    .entry(record.claim.clone())
                    .or_default();
            }
            let producer = Producer::new(redis, keys);
            Box::pin(async move {
                match producer.enqueue_many([message]).await.remove(0) {
                    Ok(_) => Ended::Done,
                    Err(ProduceError::Redis(error)) => Ended::Failed(error),
                    Err(ProduceError::Invalid(invalid)) => panic!("{invalid}"),
                }
            })
        } else {
            record.payload = match (how, &self.last_raw) {
                (How::Again, Some((last_queue, last_tag, last))) => {
                    (record.queue, tag) = (*last_queue, *last_tag);
                    last.clone()
                }
                (How::Nonsense(0), _) => format!("~{tag}~ is not JSON").into_bytes(),
                (How::Nonsense(1), _) => {
                    [&[0xff, 0, b':'], format!("~{tag}~:::\n").as_bytes()].concat()
                }
                (How::Nonsense(2), _) => payload(1 - queue, tag, "misplaced"),
                (How::Nonsense(_), _) => {
                    format!(r#"{{"kind": "no.such", "data": "~{tag}~"}}"#).into_bytes()
                }
                _ => payload(queue, tag, "new"),
            };
            if !matches!(how, How::Nonsense(_)) {
                self.last_raw = Some((record.queue, tag, record.payload.clone()));
            }
            let stream = record.stream(&keys);
            let job = record.payload.clone();
            Box::pin(async move {
                let mut add = cmd("XADD");
                add.arg(stream).arg("*").arg("job").arg(job);
                answered(add.query_async::<String>(&mut redis).await)
            })
        };
        let job = self
            .reference
            .announce(tag, matches!(how, How::Nonsense(_)));
        (Request::Enqueue(job, record), operation)
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
        for job in find_on_stream(redis, &stream, queue, lane, &wanted)
            .await?
            .jobs
        {
            cancel_ready(redis, &keys, &stream, &job).await?;
        }
    }
    for job in find_delayed(redis, &keys, queue, &wanted).await?.jobs {
        cancel_delayed(redis, &keys, queue, &job).await?;
    }
    Ok(())
}

fn answered<T>(result: RedisResult<T>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(error) => Ended::Failed(error),
    }
}

/// A job with everything that could be mangled on its way.
fn payload(queue: usize, tag: usize, text: &str) -> Vec<u8> {
    let kind = KINDS[queue].kind;
    let metric = if queue == 0 { r#""metric": "M", "# } else { "" };
    format!(
        r#"{{"kind": "{kind}", "id": "m-{tag}", "data": {{{metric}"profile": {{"external_id": "c:1"}}, "properties": {{"tag": "~{tag}~", "text": "{text}: \"ü\\n'::%s", "large": 123456789012345678}}}}}}"#
    )
    .into_bytes()
}

fn claim_of(payload: &[u8]) -> String {
    let envelope = Envelope::parse(payload).unwrap();
    let check = klaviyo_jobs::kind(&envelope.kind).unwrap().check;
    let claim = check(&envelope, Timestamp::now()).unwrap().claim;
    claim_hash(&claim.unwrap())
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
