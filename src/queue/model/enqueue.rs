//! How applications enqueue: raw, or through the producer with claims and delays.

use super::outside::{Request, answered};
use super::process::{Ended, KINDS, Operation};
use super::snapshot::{Place, Record};
use super::steps::How;
use super::world::World;
use crate::queue::job::entry::EntryId;
use jiff::Timestamp;
use klaviyo_jobs::keys::claim_hash;
use klaviyo_jobs::{Envelope, Lane, Message, Options, ProduceError, Producer};
use redis::cmd;
use std::time::Duration;

const CLAIMED_FOR: Duration = Duration::from_hours(24 * 365);

impl World {
    /// Begins to enqueue one job, or two equal ones.
    pub(super) fn enqueue(&mut self, queue: usize, lane: Lane, how: How) -> (Request, Operation) {
        self.tags += 1;
        let record = Record {
            queue,
            lane,
            place: Place::Ready { id: EntryId::ZERO },
            payload: payload(queue, self.tags, "new"),
            sid: None,
            attempts: 0,
            claim: String::new(),
            mark: String::new(),
            code: String::new(),
        };
        match how {
            How::Raw | How::Again | How::Nonsense(_) => self.add(record, how),
            How::Claimed(id) => self.produce(record, Some(id), None, 1),
            How::ClaimedLater(id, minutes) => self.produce(record, Some(id), Some(minutes), 1),
            How::Later(minutes) => self.produce(record, None, Some(minutes), 1),
            How::Twins(minutes) => self.produce(record, None, Some(minutes), 2),
        }
    }

    /// As an application in any language does.
    fn add(&mut self, mut record: Record, how: How) -> (Request, Operation) {
        let mut tag = self.tags;
        match (how, &self.last_raw) {
            (How::Again, Some((queue, last_tag, last))) => {
                (record.queue, tag) = (*queue, *last_tag);
                record.payload.clone_from(last);
            }
            (How::Nonsense(form), _) => record.payload = nonsense(form, record.queue, tag),
            _ => self.last_raw = Some((record.queue, tag, record.payload.clone())),
        }
        let mut redis = self.outside.redis.clone();
        let (stream, job) = (record.stream(&self.keys), record.payload.clone());
        let add = async move {
            let mut add = cmd("XADD");
            add.arg(stream).arg("*").arg("job").arg(job);
            answered(add.query_async::<String>(&mut redis).await)
        };
        let is_nonsense = matches!(how, How::Nonsense(_));
        let job = self.reference.announce(tag, is_nonsense);
        (Request::Enqueue(vec![job], record), Box::pin(add))
    }

    fn produce(
        &mut self,
        mut record: Record,
        id: Option<usize>,
        minutes: Option<u64>,
        copies: usize,
    ) -> (Request, Operation) {
        let run_at = minutes.map(|minutes| Timestamp::now() + Duration::from_mins(minutes));
        if let Some(run_at) = run_at {
            let due_ms = run_at.as_millisecond();
            record.place = Place::Delayed { due_ms };
        }
        let unique_for = id.map_or(Duration::ZERO, |_| CLAIMED_FOR);
        let options = Options {
            id: id.map(|id| format!("c-{id}")),
            run_at,
            lane: record.lane,
            unique_for: Some(unique_for),
            ..Options::default()
        };
        let message = Message::from_json(&record.payload, &options).unwrap();
        message.json().clone_into(&mut record.payload);
        if id.is_some() {
            record.claim = claim_of(&record.payload);
            let claims = &mut self.reference.claims;
            claims.entry(record.claim.clone()).or_default();
        }
        let producer = Producer::new(self.outside.redis.clone(), self.keys.clone());
        let messages = vec![message; copies];
        let produce = async move {
            for outcome in producer.enqueue_many(messages).await {
                match outcome {
                    Ok(_) => {}
                    Err(ProduceError::Redis(error)) => return Ended::Failed(error),
                    Err(ProduceError::Invalid(invalid)) => panic!("{invalid}"),
                }
            }
            Ended::Done
        };
        let jobs = (0..copies).map(|_| self.reference.announce(self.tags, false));
        let jobs = jobs.collect();
        (Request::Enqueue(jobs, record), Box::pin(produce))
    }
}

fn nonsense(form: usize, queue: usize, tag: usize) -> Vec<u8> {
    match form {
        0 => format!("~{tag}~ is not JSON").into_bytes(),
        1 => [&[0xff, 0, b':'], format!("~{tag}~:::\n").as_bytes()].concat(),
        2 => payload(1 - queue, tag, "misplaced"),
        _ => format!(r#"{{"kind": "no.such", "data": "~{tag}~"}}"#).into_bytes(),
    }
}

/// A job with everything that could be mangled on its way.
pub(super) fn payload(queue: usize, tag: usize, text: &str) -> Vec<u8> {
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
