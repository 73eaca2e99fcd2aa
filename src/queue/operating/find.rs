//! Finds a job by its id: on the streams, among the delayed, among the dead.
//!
//! Redis looks for a text that the payload must contain, and only what contains it comes here to be parsed. A stream id
//! is looked up directly. Everything goes in pages of a script that ends after [`ENTRIES_PER_CALL`] entries or
//! [`BYTES_PER_CALL`]: Redis serves others in between. The surprising thing: JSON may write a letter in several ways, so
//! the text is the longest part of the id that has only one.

use crate::queue::connection::Connection;
use crate::queue::job::entry::{EntryId, QueuedJob, entries_of_claim, entries_of_dead, lane_of};
use klaviyo_jobs::{Envelope, Keys, Lane};
use redis::{RedisResult, Script, Value};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Entries of one stream or set that are looked at.
pub const ENTRIES_MAX: usize = 100_000;
const ENTRIES_PER_CALL: usize = 500;
const BYTES_PER_CALL: usize = 4 << 20;

static FIND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("find.lua")));
static FIND_DELAYED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("find_delayed.lua")));

/// What a job is looked for by.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    text: String,
    /// The queue, where the text is `<queue>/<stream id>` or `<queue>:<lane>/<stream id>`.
    queue: Option<String>,
    /// The lane, where it is named too.
    lane: Option<Lane>,
    /// The stream id, where the text holds one.
    sid: Option<EntryId>,
}

/// A delayed job.
#[derive(Debug)]
pub(crate) struct DelayedJob {
    /// The whole member, by which it is removed.
    pub(crate) member: Vec<u8>,
    /// When it is due, in milliseconds since 1970.
    pub(crate) due_ms: i64,
    pub(crate) attempts: u32,
    pub(crate) lane: Lane,
    pub(crate) claim: String,
    /// The first stream id; a job that was enqueued with a delay has none yet.
    pub(crate) sid: Option<EntryId>,
    payload_at: usize,
}

/// What was found in one place, and how much of the place was looked at.
#[derive(Debug)]
pub(crate) struct Found<T> {
    /// Those that leave first come first.
    pub(crate) jobs: Vec<T>,
    /// How many more there are.
    pub(crate) more: usize,
    /// Entries looked at.
    pub(crate) searched: usize,
    /// Whether there were more.
    pub(crate) has_more: bool,
}

impl Wanted {
    /// Understands what a person wrote: an id, a stream id, or one with its queue and perhaps its lane before it.
    pub(crate) fn new(text: &str) -> Self {
        let (queue, place) = match text.rsplit_once('/') {
            Some((queue, place)) => (Some(queue), place),
            None => (None, text),
        };
        let with_lane = queue.and_then(|queue| queue.rsplit_once(':'));
        let with_lane = with_lane.and_then(|(queue, lane)| Some((queue, Lane::parse(lane)?)));
        let sid = EntryId::parse(place);
        let queue = with_lane.map(|(queue, _)| queue).or(queue);
        Self {
            text: text.to_owned(),
            queue: queue.filter(|_| sid.is_some()).map(str::to_owned),
            lane: with_lane.map(|(_, lane)| lane),
            sid,
        }
    }

    /// The id of a job without one of its own at the named place, which does not tell its lane.
    pub(crate) fn default_id(&self) -> Option<String> {
        Some(format!("{}/{}", self.queue.as_deref()?, self.sid?))
    }

    /// Whether the text is the job's own id, and not only its place.
    pub(crate) fn is_own_id(&self, payload: &[u8]) -> bool {
        let envelope = Envelope::parse(payload);
        envelope.is_ok_and(|it| it.id.as_deref() == Some(self.text.as_str()))
    }

    /// The longest part that JSON can write in one way only, without quotes, slashes and letters beyond ASCII.
    fn needle(&self) -> &str {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@#$ ".contains(c);
        let parts = self.text.split(|c| !plain(c));
        parts.max_by_key(|part| part.len()).unwrap_or_default()
    }

    fn sid_in(&self, queue: &str) -> Option<EntryId> {
        let is_here = self.queue.as_deref().is_none_or(|named| named == queue);
        self.sid.filter(|_| is_here)
    }

    /// Whether a job of the queue is the one.
    fn is(&self, queue: &str, lane: Lane, ids: &[EntryId], payload: &[u8]) -> bool {
        let is_here = self.lane.is_none_or(|named| named == lane);
        let sid = self.sid_in(queue).filter(|_| is_here);
        sid.is_some_and(|sid| ids.contains(&sid)) || self.is_own_id(payload)
    }
}

impl DelayedJob {
    /// The whole job in JSON.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.member[self.payload_at..]
    }

    /// Takes apart `<unique>:<attempts>:<lane>:<claim>:<first stream id>:<job>`.
    fn parse(member: Vec<u8>, due_ms: i64) -> Self {
        let mut parts = member.splitn(6, |byte| *byte == b':').skip(1);
        let mut text = || {
            let part = parts.next().unwrap_or_default();
            String::from_utf8_lossy(part).into_owned()
        };
        let (attempts, lane, claim, sid) = (text(), text(), text(), text());
        let payload_len = parts.next().map_or(member.len(), <[u8]>::len);
        Self {
            due_ms,
            attempts: attempts.parse().unwrap_or(0),
            lane: lane_of(&lane),
            claim,
            sid: EntryId::parse(&sid),
            payload_at: member.len() - payload_len,
            member,
        }
    }
}

/// Looks through the newest entries of a stream of the queue: of a lane, or without one its dead letters. At most
/// `copies_max` are kept, the oldest.
pub(crate) async fn find_on_stream(
    redis: &mut Connection,
    stream: &str,
    queue: &str,
    lane: Option<Lane>,
    wanted: &Wanted,
    copies_max: usize,
) -> RedisResult<Found<QueuedJob>> {
    let sid = wanted.sid_in(queue).map(|sid| sid.to_string());
    let sid = sid.unwrap_or_default();
    let mut kept = VecDeque::new();
    let mut found = Found {
        jobs: Vec::new(),
        more: 0,
        searched: 0,
        has_more: false,
    };
    let mut to = "+".to_owned();
    loop {
        let mut call = FIND.key(stream);
        call.arg(&to)
            .arg(wanted.needle())
            .arg(&sid)
            .arg(ENTRIES_PER_CALL.min(ENTRIES_MAX - found.searched))
            .arg(BYTES_PER_CALL);
        let (seen, last, entries): (usize, String, Value) = call.invoke_async(redis).await?;
        let jobs = jobs_of(entries, lane);
        for job in jobs.filter(|job| wanted.is(queue, job.lane, &[job.id, job.sid], &job.payload)) {
            kept.push_back(job);
            if kept.len() > copies_max {
                kept.pop_front();
                found.more += 1;
            }
        }
        found.searched += seen;
        if last.is_empty() {
            break;
        }
        if found.searched >= ENTRIES_MAX {
            found.has_more = true;
            break;
        }
        to = format!("({last}");
    }
    // Only the newest were looked at; a stream id is found wherever it is.
    if found.has_more && !sid.is_empty() && kept.iter().all(|job| job.id.to_string() != sid) {
        let mut range = redis::cmd("XRANGE");
        let entries: Value = range
            .arg(stream)
            .arg(&sid)
            .arg(&sid)
            .query_async(redis)
            .await?;
        let jobs = jobs_of(entries, lane);
        kept.extend(jobs.filter(|job| wanted.is(queue, job.lane, &[job.id], &job.payload)));
    }
    found.jobs = kept.into_iter().rev().collect();
    Ok(found)
}

/// Looks through the delayed jobs of a queue, the latest first. At most `copies_max` are kept, those due first.
pub(crate) async fn find_delayed(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    wanted: &Wanted,
    copies_max: usize,
) -> RedisResult<Found<DelayedJob>> {
    let sid = wanted.sid_in(queue).map(|sid| sid.to_string());
    let mut kept: VecDeque<DelayedJob> = VecDeque::new();
    let mut found = Found {
        jobs: Vec::new(),
        more: 0,
        searched: 0,
        has_more: false,
    };
    // Counted from the latest, because jobs come due at the other end.
    loop {
        let mut call = FIND_DELAYED.key(keys.delayed(queue));
        call.arg(found.searched)
            .arg(wanted.needle())
            .arg(sid.as_deref().unwrap_or_default())
            .arg(ENTRIES_PER_CALL.min(ENTRIES_MAX - found.searched))
            .arg(BYTES_PER_CALL);
        let (seen, at_end, members): (usize, bool, Vec<(Vec<u8>, f64)>) =
            call.invoke_async(redis).await?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a score is whole milliseconds"
        )]
        let jobs = members
            .into_iter()
            .map(|(member, due)| DelayedJob::parse(member, due as i64));
        let is = |job: &DelayedJob| wanted.is(queue, job.lane, job.sid.as_slice(), job.payload());
        for job in jobs.filter(is) {
            // One that is delayed meanwhile moves those before it down, where they are met again.
            if kept.iter().any(|known| known.member == job.member) {
                continue;
            }
            kept.push_back(job);
            if kept.len() > copies_max {
                kept.pop_front();
                found.more += 1;
            }
        }
        found.searched += seen;
        if at_end {
            break;
        }
        if found.searched >= ENTRIES_MAX {
            found.has_more = true;
            break;
        }
    }
    found.jobs = kept.into_iter().rev().collect();
    Ok(found)
}

fn jobs_of(entries: Value, lane: Option<Lane>) -> impl Iterator<Item = QueuedJob> {
    let entries = match lane {
        Some(lane) => entries_of_claim(entries, 0, lane),
        None => entries_of_dead(entries),
    };
    entries.into_iter().map(|entry| entry.job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_looks_for_is_written_in_one_way_only() {
        assert_eq!(Wanted::new("order-1001").needle(), "order-1001");
        assert_eq!(Wanted::new("shop/order-1001").needle(), "order-1001");
        assert_eq!(Wanted::new("Größe-7").needle(), "e-7");
        assert_eq!(Wanted::new("ü/ö").needle(), "");
    }

    #[test]
    fn a_stream_id_counts_in_the_queue_that_is_named_with_it() {
        let id = EntryId { ms: 17, seq: 0 };
        let payload = br#"{"kind": "k", "data": {}}"#;
        let is = |text: &str, lane| Wanted::new(text).is("lists", lane, &[id], payload);
        assert!(is("17-0", Lane::Live));
        assert!(is("lists/17-0", Lane::Backfill));
        assert!(is("lists:live/17-0", Lane::Live));
        assert!(!is("lists:live/17-0", Lane::Backfill));
        assert!(!is("consent/17-0", Lane::Live));
        assert!(!is("17", Lane::Live));
    }

    #[test]
    fn an_id_is_the_job_s_own_and_no_text_within_its_payload() {
        let wanted = Wanted::new("o/1");
        let is = |json: &str| wanted.is("lists", Lane::Live, &[], json.as_bytes());
        assert!(is(r#"{"kind": "k", "id": "o\/1", "data": {}}"#));
        assert!(!is(
            r#"{"kind": "k", "id": "o/12", "data": {"order": "o/1"}}"#
        ));
    }

    #[test]
    fn a_delayed_job_may_hold_colons() {
        let job = DelayedJob::parse(
            br#"u:3:urgent+1.1700000000000:c0:17-4:{"kind":"k:l"}"#.to_vec(),
            5,
        );
        assert_eq!(job.payload(), br#"{"kind":"k:l"}"#);
        let seen = (job.attempts, job.lane, job.claim.as_str(), job.sid);
        assert_eq!(
            seen,
            (3, Lane::Urgent, "c0", Some(EntryId { ms: 17, seq: 4 }))
        );
        let never_on_a_stream = DelayedJob::parse(b"u:0:live:::{}".to_vec(), 5);
        assert_eq!(never_on_a_stream.sid, None);
        assert_eq!(never_on_a_stream.payload(), b"{}");
    }
}
