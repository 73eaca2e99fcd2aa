//! One entry of a stream as the engine holds it.
//!
//! The fields beside `job` (`sid`, `n`, `lane`, `claim`) are written by the engine or the producer; a raw `XADD` has
//! none of them. Replies are taken apart without copying the payload.

use crate::queue::holding::deaths::Deaths;
use crate::queue::job::replayed::Replayed;
use crate::queue::settling::attempted::Call;
use jiff::Timestamp;
use klaviyo_jobs::Lane;
use redis::Value;
use std::fmt;

/// The place of an entry in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Tells entries of one millisecond apart.
    pub seq: u64,
}

impl EntryId {
    /// Before every entry.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// After every entry.
    pub const LAST: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// Returns the first place of a millisecond.
    pub fn first_at(time: Timestamp) -> Self {
        Self {
            ms: u64::try_from(time.as_millisecond()).unwrap_or(0),
            seq: 0,
        }
    }

    /// Returns the last place of a millisecond.
    pub fn last_at(time: Timestamp) -> Self {
        Self {
            seq: u64::MAX,
            ..Self::first_at(time)
        }
    }

    /// Returns the place right after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self {
                ms: self.ms.saturating_add(1),
                seq: 0,
            },
        }
    }

    /// Reads `1700000000000-0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }

    /// Returns when the entry was written, as Redis saw it.
    pub fn time(self) -> Timestamp {
        i64::try_from(self.ms)
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.ms, self.seq)
    }
}

/// A job in flight.
pub struct QueuedJob {
    /// The whole job in JSON, as it was enqueued.
    pub payload: Vec<u8>,
    /// Attempts already made.
    pub attempts: u32,
    /// The first stream id, from which the defaults of `id` and `at` come.
    pub sid: EntryId,
    /// The lane it was read from.
    pub lane: Lane,
    /// What a replay has said about it; `None` for a job that never died.
    pub replayed: Option<Replayed>,
    pub(crate) id: EntryId,
    pub(crate) stream: usize,
    /// The call that took it.
    pub(crate) call: Option<Call>,
    /// Its kind, once its line is known.
    pub(crate) kind: Option<&'static str>,
    pub(crate) claim: Box<str>,
    /// Whether the engine wrote the entry itself: a promotion, a retry, a follow-up.
    pub(crate) engine_wrote: bool,
    /// Processes that died while they ran it; absent as long as no holder has vanished. See [`crate::queue::holding::deaths`].
    pub(crate) deaths: Option<Deaths>,
}

/// Whether an event is backfill, which starts no flows: what a replay says is younger than the job, and wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backfill {
    /// A replay says so.
    Always,
    /// The job is on the backfill lane, and may say otherwise.
    UnlessAsked,
    /// Only if the job says so.
    IfAsked,
}

impl Backfill {
    /// Decides, given what the job itself asks for.
    pub fn of(self, asked: Option<bool>) -> bool {
        match self {
            Self::Always => true,
            Self::UnlessAsked => asked.unwrap_or(true),
            Self::IfAsked => asked.unwrap_or(false),
        }
    }
}

/// What one job costs in memory beside its payload.
const OVERHEAD_BYTES: usize = 200;

impl QueuedJob {
    /// Returns when its age began: at its last replay, else when it was enqueued.
    pub fn since(&self) -> Timestamp {
        self.replayed
            .map_or_else(|| self.sid.time(), |replayed| replayed.at)
    }

    /// What says, beside the job itself, whether its events are backfill, which starts no flows.
    pub fn backfill(&self) -> Backfill {
        if self.replayed.is_some_and(|replayed| replayed.without_flows) {
            Backfill::Always
        } else if self.lane == Lane::Backfill {
            Backfill::UnlessAsked
        } else {
            Backfill::IfAsked
        }
    }

    /// Returns the text of its `lane` field, which the scripts carry from place to place.
    pub(crate) fn lane_text(&self) -> String {
        self.replayed.map_or_else(
            || self.lane.as_str().to_owned(),
            |replayed| format!("{}{replayed}", self.lane.as_str()),
        )
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    #[cfg(test)]
    pub(crate) fn for_test(stream: usize, id: EntryId, bytes: usize) -> Self {
        Self {
            payload: vec![b' '; bytes],
            attempts: 0,
            sid: id,
            lane: Lane::Live,
            replayed: None,
            id,
            stream,
            call: None,
            kind: None,
            claim: Box::default(),
            engine_wrote: false,
            deaths: None,
        }
    }
}

impl fmt::Debug for QueuedJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "QueuedJob({}, {} bytes)",
            self.id,
            self.payload.len()
        )
    }
}

/// An entry and whether it has a field `job` at all.
pub(crate) struct Entry {
    pub(crate) job: QueuedJob,
    pub(crate) has_payload: bool,
}

/// Takes apart the reply of `XREADGROUP` for one stream.
pub(crate) fn entries_of_read(reply: Value, stream: usize, lane: Lane) -> Vec<Entry> {
    let Value::Array(mut streams) = reply else {
        return Vec::new();
    };
    let Some(Value::Array(mut of_stream)) = streams.pop() else {
        return Vec::new();
    };
    of_stream
        .pop()
        .map_or_else(Vec::new, |entries| entries_of_claim(entries, stream, lane))
}

/// Takes apart the reply of `XCLAIM`; entries deleted meanwhile are nil.
pub(crate) fn entries_of_claim(entries: Value, stream: usize, lane: Lane) -> Vec<Entry> {
    let Value::Array(entries) = entries else {
        return Vec::new();
    };
    entries
        .into_iter()
        .filter_map(|entry| read_entry(entry, stream, Some(lane)))
        .collect()
}

/// Takes apart a range of the dead letters, each of which tells its lane.
pub(crate) fn entries_of_dead(entries: Value) -> Vec<Entry> {
    let Value::Array(entries) = entries else {
        return Vec::new();
    };
    entries
        .into_iter()
        .filter_map(|entry| read_entry(entry, 0, None))
        .collect()
}

/// Reads the lane's name; a replay may have left its mark behind it.
pub(crate) fn lane_of(text: &str) -> Lane {
    Lane::parse(text.split('+').next().unwrap_or_default()).unwrap_or_default()
}

fn read_entry(entry: Value, stream: usize, lane: Option<Lane>) -> Option<Entry> {
    let Value::Array(mut parts) = entry else {
        return None;
    };
    let Some(Value::Array(fields)) = parts.pop() else {
        return None;
    };
    let id = EntryId::parse(&text(parts.pop()?)?)?;
    let mut job = QueuedJob {
        payload: Vec::new(),
        attempts: 0,
        sid: id,
        lane: lane.unwrap_or_default(),
        replayed: None,
        id,
        stream,
        kind: None,
        call: None,
        claim: Box::default(),
        engine_wrote: false,
        deaths: None,
    };
    let mut has_payload = false;
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else {
            continue;
        };
        match name.as_slice() {
            b"job" => {
                job.payload = value;
                has_payload = true;
            }
            b"n" => {
                job.attempts = parse(&value).unwrap_or(0);
                job.engine_wrote = true;
            }
            b"sid" => {
                job.sid = std::str::from_utf8(&value)
                    .ok()
                    .and_then(EntryId::parse)
                    .unwrap_or(id);
            }
            // The lane itself is that of the stream; dead letters of all lanes share one.
            b"lane" => {
                let text = std::str::from_utf8(&value).unwrap_or_default();
                job.replayed = Replayed::of_lane(text);
                job.lane = lane.unwrap_or_else(|| lane_of(text));
            }
            b"claim" => job.claim = String::from_utf8(value).unwrap_or_default().into(),
            _ => {}
        }
    }
    Some(Entry { job, has_payload })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
