//! What Redis holds at one moment, read with plain commands and taken apart without the code that is under test.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::streams::{StreamId, StreamInfoGroupsReply, StreamRangeReply};
use redis::{FromRedisValue, RedisResult, Value, from_redis_value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// The queues of the model.
pub(super) const QUEUES: [&str; 2] = ["event-tracking", "profile-sync"];
const PENDING_MAX: usize = 10_000;

/// One job, as it stands in one place.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) queue: usize,
    pub(super) lane: Lane,
    pub(super) place: Place,
    pub(super) payload: Vec<u8>,
    /// Unknown as long as it never stood on a stream.
    pub(super) sid: Option<EntryId>,
    pub(super) attempts: u32,
    pub(super) claim: String,
    /// What a replay wrote behind its lane.
    pub(super) mark: String,
    pub(super) code: String,
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On its stream, not read yet.
    Ready { id: EntryId },
    /// On its stream, held.
    Held {
        id: EntryId,
        by: String,
        idle_ms: u64,
    },
    /// Waiting for its time, in Redis' milliseconds.
    Delayed { due_ms: i64 },
    /// Among the dead letters.
    Dead { id: EntryId },
}

/// Everything of one account.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) at_ms: i64,
    pub(super) records: Vec<Record>,
    /// How many processes ended while they ran a job, by stream and entry.
    pub(super) marks: BTreeMap<(String, EntryId), u32>,
    pub(super) claims: BTreeSet<String>,
    /// What no job may be: on a stream, and nobody will ever read it.
    pub(super) flaws: Vec<String>,
}

impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("queue", &QUEUES[self.queue])
            .field("lane", &self.lane)
            .field("place", &self.place)
            .field("payload", &String::from_utf8_lossy(&self.payload))
            .field("sid", &self.sid)
            .field("attempts", &self.attempts)
            .field("claim", &self.claim)
            .field("mark", &self.mark)
            .field("code", &self.code)
            .finish()
    }
}

impl Record {
    /// Its entry, if it stands on a stream of its queue.
    pub(super) fn entry(&self) -> Option<EntryId> {
        match self.place {
            Place::Ready { id } | Place::Held { id, .. } => Some(id),
            Place::Delayed { .. } | Place::Dead { .. } => None,
        }
    }

    pub(super) fn stream(&self, keys: &Keys) -> String {
        keys.queue(QUEUES[self.queue], self.lane)
    }
}

/// Reads everything of the account, and which of the claims exist.
pub(super) async fn snapshot(
    redis: &mut Connection,
    keys: &Keys,
    claims: &[String],
) -> RedisResult<Snapshot> {
    let mut pipe = redis::pipe();
    pipe.ignore_errors().cmd("TIME");
    for queue in QUEUES {
        for lane in Lane::ALL {
            let key = keys.queue(queue, lane);
            pipe.cmd("XRANGE").arg(&key).arg("-").arg("+");
            let pending = pipe.cmd("XPENDING").arg(&key).arg(GROUP);
            pending.arg("-").arg("+").arg(PENDING_MAX);
            pipe.cmd("XINFO").arg("GROUPS").arg(&key);
        }
        let delayed = pipe.cmd("ZRANGE").arg(keys.delayed(queue));
        delayed.arg(0).arg(-1).arg("WITHSCORES");
        pipe.cmd("XRANGE").arg(keys.dead(queue)).arg("-").arg("+");
    }
    let marks = format!("{}:deaths", keys.base());
    pipe.cmd("HGETALL").arg(marks);
    for claim in claims {
        pipe.cmd("EXISTS").arg(keys.claim_of_hash(claim));
    }
    let answers: Vec<RedisResult<Value>> = pipe.query_async(redis).await?;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().expect("one answer for each command");

    let mut found = Snapshot::default();
    let (seconds, micros): (i64, i64) = from_redis_value(next()?)?;
    found.at_ms = seconds * 1000 + micros / 1000;
    for queue in 0..QUEUES.len() {
        for lane in Lane::ALL {
            let (entries, pending, groups) = (next()?, next(), next());
            found.add_stream(queue, lane, entries, pending, groups)?;
        }
        let delayed: Vec<(Vec<u8>, f64)> = from_redis_value(next()?)?;
        for (member, due) in delayed {
            found.add_delayed(queue, &member, due);
        }
        let dead: StreamRangeReply = from_redis_value(next()?)?;
        for entry in dead.ids {
            let id = EntryId::parse(&entry.id).expect("an id of Redis");
            let record = record(queue, None, Place::Dead { id }, &entry);
            found.records.push(record);
        }
    }
    let marks: HashMap<String, u32> = from_redis_value(next()?)?;
    for (field, count) in marks {
        let (stream, id) = field.rsplit_once('|').expect("stream and id");
        let id = EntryId::parse(id).expect("an id of Redis");
        found.marks.insert((stream.to_owned(), id), count);
    }
    for claim in claims {
        if from_redis_value::<bool>(next()?)? {
            found.claims.insert(claim.clone());
        }
    }
    Ok(found)
}

impl Snapshot {
    fn add_stream(
        &mut self,
        queue: usize,
        lane: Lane,
        entries: Value,
        pending: RedisResult<Value>,
        groups: RedisResult<Value>,
    ) -> RedisResult<()> {
        let entries: StreamRangeReply = from_redis_value(entries)?;
        // Without a group, or without the stream, both are errors, and nobody holds anything.
        let held = pending.map_or_else(|_| Ok(Vec::new()), from_redis_value)?;
        let held: Vec<(String, String, u64, u64)> = held;
        let mut held: HashMap<String, (String, u64)> = held
            .into_iter()
            .map(|(id, by, idle_ms, _)| (id, (by, idle_ms)))
            .collect();
        let groups = groups.map_or_else(
            |_| Ok(StreamInfoGroupsReply::default()),
            StreamInfoGroupsReply::from_redis_value,
        )?;
        let group = groups.groups.iter().find(|group| group.name == GROUP);
        let read_until = group.and_then(|group| EntryId::parse(&group.last_delivered_id));
        for entry in entries.ids {
            let id = EntryId::parse(&entry.id).expect("an id of Redis");
            let place = match held.remove(&entry.id) {
                Some((by, idle_ms)) => Place::Held { id, by, idle_ms },
                None => Place::Ready { id },
            };
            if matches!(place, Place::Ready { .. }) && read_until.is_some_and(|it| id <= it) {
                self.flaws.push(format!(
                    "{id} stands on {}/{lane:?} for ever: nobody holds it and nobody will read it",
                    QUEUES[queue]
                ));
            }
            let said = entry.get::<String>("lane");
            if said.is_some_and(|said| read_lane(&said).0 != lane) {
                self.flaws
                    .push(format!("{id} stands on the lane {lane:?} and says another"));
            }
            self.records.push(record(queue, Some(lane), place, &entry));
        }
        let ghosts = held.keys();
        self.flaws
            .extend(ghosts.map(|id| format!("{id} is held, but there is no such entry")));
        Ok(())
    }

    fn add_delayed(&mut self, queue: usize, member: &[u8], due: f64) {
        let parts: Vec<&[u8]> = member.splitn(6, |byte| *byte == b':').collect();
        let text = |part: usize| String::from_utf8_lossy(parts[part]).into_owned();
        let (lane, mark) = read_lane(&text(2));
        #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds")]
        let due_ms = due as i64;
        self.records.push(Record {
            queue,
            lane,
            place: Place::Delayed { due_ms },
            payload: parts[5].to_vec(),
            sid: EntryId::parse(&text(4)),
            attempts: text(1).parse().expect("attempts are a number"),
            claim: text(3),
            mark,
            code: String::new(),
        });
    }
}

fn record(queue: usize, stream_lane: Option<Lane>, place: Place, entry: &StreamId) -> Record {
    let text = |field: &str| entry.get::<String>(field).unwrap_or_default();
    let (lane, mark) = read_lane(&text("lane"));
    let id = match place {
        Place::Ready { id } | Place::Held { id, .. } | Place::Dead { id } => id,
        Place::Delayed { .. } => EntryId::ZERO,
    };
    Record {
        queue,
        lane: stream_lane.unwrap_or(lane),
        place,
        payload: entry.get("job").unwrap_or_default(),
        sid: Some(EntryId::parse(&text("sid")).unwrap_or(id)),
        attempts: text("n").parse().unwrap_or(0),
        claim: text("claim"),
        mark,
        code: text("code"),
    }
}

fn read_lane(text: &str) -> (Lane, String) {
    let (name, mark) = text.split_once('+').unwrap_or((text, ""));
    (Lane::parse(name).unwrap_or_default(), mark.to_owned())
}
