//! Reading: a doorbell that claims nothing, then reads as large as there is room.
//!
//! An `XREADGROUP` in flight is never cancelled: its reply may already be in our pending list. After an empty read
//! the doorbell's last seen id becomes the group's place, else other consumers' reads would ring it again and again.

use crate::queue::connection::{Connection, says};
use crate::queue::engine::Engine;
use crate::queue::holding::clock;
use crate::queue::job::entry::{EntryId, entries_of_read};
use klaviyo_jobs::Lane;
use klaviyo_jobs::keys::GROUP;
use redis::streams::StreamInfoGroupsReply;
use redis::{RedisError, RedisResult, Script, Value};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const DOORBELL_MS: u64 = 500;
/// How long the bell waits while some queue is full: that is how late new room in it is noticed.
const DOORBELL_WHILE_FULL_MS: u64 = 50;
/// A bell that was silent for so long is not believed: a group that was deleted begins at 0 again, and what stands before
/// the last seen id rings no bell.
const BELL_BELIEVED: Duration = Duration::from_secs(10);
const ROOM_PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

// From 0, never from $: what waited before the group existed is work too. The first write needs no memory: without groups
// a full Redis would never be emptied.
static CREATE_GROUP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('XDEL', KEYS[1], '0-1') redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')",
    )
});

/// Reads until the engine is quiet.
pub(crate) async fn read(engine: Arc<Engine>, mut doorbell: Connection, mut redis: Connection) {
    let mut reader = Reader::new(&engine);
    while !engine.is_quiet() {
        if (0..engine.streams().len()).all(|stream| room(&engine, stream) == 0) {
            // The time limit bounds how late a stop is noticed, and a gate that opens.
            engine.set_behind(false);
            drop(timeout(ROOM_PATIENCE, engine.has_room.notified()).await);
            continue;
        }
        match reader.read_once(&engine, &mut doorbell, &mut redis).await {
            Ok(()) => {}
            Err(error) if is_missing_group(&error) => {
                create_groups(&engine, &mut redis).await;
                reader.more = true;
            }
            Err(error) => {
                redis.health().complain("read", &error);
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// How many jobs may be read from the stream now: none of what could not leave.
fn room(engine: &Engine, stream: usize) -> usize {
    if engine.is_shut(&engine.streams()[stream].queue) {
        0
    } else {
        engine.room(stream)
    }
}

pub(crate) async fn create_groups(engine: &Engine, redis: &mut Connection) {
    for stream in engine.streams() {
        match CREATE_GROUP
            .key(&stream.key)
            .arg(GROUP)
            .invoke_async::<()>(redis)
            .await
        {
            Ok(()) => {}
            Err(error) if says(&error, "BUSYGROUP") => {}
            Err(error) => {
                redis.health().complain("create a consumer group", &error);
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Whether somebody deleted the group, or the stream with it.
pub(crate) fn is_missing_group(error: &RedisError) -> bool {
    says(error, "NOGROUP")
}

/// Whether Redis answered, and had something against the command itself.
fn is_about_one_stream(error: &RedisError) -> bool {
    !error.is_io_error() && !error.is_unrecoverable_error()
}

pub(crate) struct Reader {
    seen: Vec<EntryId>,
    read_at: Instant,
    /// Whether to read without waiting for the doorbell.
    pub(crate) more: bool,
}

impl Reader {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self {
            seen: vec![EntryId::ZERO; engine.streams().len()],
            read_at: clock::now(),
            more: true,
        }
    }

    pub(crate) async fn read_once(
        &mut self,
        engine: &Engine,
        doorbell: &mut Connection,
        redis: &mut Connection,
    ) -> RedisResult<()> {
        let is_believed = clock::now() - self.read_at < BELL_BELIEVED;
        if !self.more && is_believed && !self.ring(engine, doorbell).await? {
            return Ok(());
        }
        self.more = false;
        self.read_at = clock::now();
        let mut behind = false;
        let mut busy: Vec<&str> = Vec::new();
        let mut refused = None;
        for (index, stream) in engine.streams().iter().enumerate() {
            if engine.is_quiet() {
                break;
            }
            let count = room(engine, index);
            // COUNT 0 would mean "all". Backfill is read with what the other lanes leave.
            let waits = stream.lane == Lane::Backfill && busy.contains(&stream.queue.as_str());
            if count == 0 || waits {
                continue;
            }
            let read = match self.read_stream(engine, redis, index, count).await {
                Ok(read) => read,
                // A stream that refuses must not keep those behind it from being read.
                Err(error) if is_about_one_stream(&error) => {
                    // A group that is missing can be mended.
                    if refused.is_none() || is_missing_group(&error) {
                        refused = Some(error);
                    }
                    continue;
                }
                Err(error) => {
                    engine.state().flight.doubt(index);
                    return Err(error);
                }
            };
            if read == count {
                busy.push(&stream.queue);
                behind = true;
            }
            self.more |= read > 0;
        }
        engine.set_behind(behind);
        refused.map_or(Ok(()), Err)
    }

    /// Waits for something to read in a stream that has room; a full one would ring without end.
    async fn ring(&self, engine: &Engine, doorbell: &mut Connection) -> RedisResult<bool> {
        let streams = engine.streams().iter().zip(&self.seen).enumerate();
        let (keys, seen): (Vec<&str>, Vec<String>) = streams
            .filter(|(index, _)| room(engine, *index) > 0)
            .map(|(_, (stream, seen))| (stream.key.as_str(), seen.to_string()))
            .unzip();
        if keys.is_empty() {
            return Ok(false);
        }
        let all_have_room = (0..engine.streams().len()).all(|stream| engine.room(stream) > 0);
        let block_ms = if all_have_room {
            DOORBELL_MS
        } else {
            DOORBELL_WHILE_FULL_MS
        };
        let mut bell = redis::cmd("XREAD");
        bell.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(block_ms)
            .arg("STREAMS")
            .arg(keys)
            .arg(seen);
        // It claims nothing, so nothing is lost when a stop does not wait for it.
        let news = tokio::select! {
            news = bell.query_async::<Value>(doorbell) => news,
            () = engine.quieted() => return Ok(false),
        };
        let rang = match news {
            Ok(news) => news != Value::Nil,
            // One stream that refuses silences the bell of all: each is looked at then.
            Err(error) if is_about_one_stream(&error) => true,
            Err(error) => return Err(error),
        };
        // A queue that was full may have room by now, and its bell was not listened to.
        Ok(rang || !all_have_room)
    }

    async fn read_stream(
        &mut self,
        engine: &Engine,
        redis: &mut Connection,
        index: usize,
        count: usize,
    ) -> RedisResult<usize> {
        let stream = &engine.streams()[index];
        let asked = clock::now();
        let reply: Value = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(engine.consumer())
            .arg("COUNT")
            .arg(count)
            .arg("STREAMS")
            .arg(&stream.key)
            .arg(">")
            .query_async(redis)
            .await?;
        let entries = entries_of_read(reply, index, stream.lane);
        if let Some(last) = entries.last() {
            self.seen[index] = last.job.id;
        } else {
            let info: StreamInfoGroupsReply = redis::cmd("XINFO")
                .arg("GROUPS")
                .arg(&stream.key)
                .query_async(redis)
                .await?;
            let place = info.groups.into_iter().find(|group| group.name == GROUP);
            if let Some(place) = place.and_then(|group| EntryId::parse(&group.last_delivered_id)) {
                self.seen[index] = place;
            }
        }
        let read = entries.len();
        if read == count {
            // Known before the first job opens a lot: there may be company for it.
            engine.set_behind(true);
        }
        engine.accept(index, entries, asked);
        Ok(read)
    }
}
