//! Where an entry stands in its stream: who holds it, or how many are read before it.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use crate::queue::operating::find::ENTRIES_MAX;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use redis::{RedisError, RedisResult, Script, cmd};
use std::sync::LazyLock;
use std::time::Duration;

const ENTRIES_PER_CALL: usize = 500;
const BYTES_PER_CALL: usize = 4 << 20;

/// The consumer that holds an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its name.
    pub(crate) consumer: String,
    /// How long ago it took the entry or renewed its lease, in milliseconds.
    pub(crate) renewed_ms: u64,
    /// How often the entry was handed to a consumer.
    pub(crate) times_taken: u64,
}

/// Returns who holds the entry, if anybody does.
pub(crate) async fn holder(
    redis: &mut Connection,
    stream: &str,
    id: EntryId,
) -> RedisResult<Option<Holder>> {
    let id = id.to_string();
    let mut pending = cmd("XPENDING");
    pending.arg(stream).arg(GROUP).arg(&id).arg(&id).arg(1);
    let held: RedisResult<Vec<(String, String, u64, u64)>> = pending.query_async(redis).await;
    match held {
        Ok(held) => {
            let first = held.into_iter().next();
            Ok(first.map(|(_, consumer, renewed_ms, times_taken)| Holder {
                consumer,
                renewed_ms,
                times_taken,
            }))
        }
        // No daemon has read this stream yet.
        Err(error) if error.code() == Some("NOGROUP") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns how long ago a daemon last touched a stream of the queue; `None` if none ever did.
pub(crate) async fn reader_seen(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
) -> RedisResult<Option<Duration>> {
    let mut least = None;
    for lane in Lane::ALL {
        let mut info = cmd("XINFO");
        info.arg("CONSUMERS")
            .arg(keys.queue(queue, lane))
            .arg(GROUP);
        let consumers: RedisResult<StreamInfoConsumersReply> = info.query_async(redis).await;
        match consumers {
            Ok(reply) => {
                let idle = reply.consumers.iter().map(|it| it.idle).min();
                least = idle.into_iter().chain(least).min();
            }
            // Neither a stream nor a group: no daemon has been here.
            Err(error) if error.code() == Some("NOGROUP") || is_no_key(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(least
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis))
}

fn is_no_key(error: &RedisError) -> bool {
    error.detail().is_some_and(|it| it.contains("no such key"))
}

/// Counts the entries of the stream that are read before this one, at most [`ENTRIES_MAX`].
pub(crate) async fn ahead(redis: &mut Connection, stream: &str, id: EntryId) -> RedisResult<usize> {
    static AHEAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ahead.lua")));
    let groups: RedisResult<StreamInfoGroupsReply> = cmd("XINFO")
        .arg("GROUPS")
        .arg(stream)
        .query_async(redis)
        .await;
    let groups = groups.map_or_else(|_| Vec::new(), |reply| reply.groups);
    let group = groups.into_iter().find(|group| group.name == GROUP);
    let mut from = group.map_or_else(|| "-".to_owned(), |it| format!("({}", it.last_delivered_id));
    let mut count = 0;
    while count < ENTRIES_MAX {
        let mut call = AHEAD.key(stream);
        call.arg(&from)
            .arg(format!("({id}"))
            .arg(ENTRIES_PER_CALL)
            .arg(BYTES_PER_CALL);
        let (seen, last): (usize, String) = call.invoke_async(redis).await?;
        count += seen;
        if last.is_empty() {
            break;
        }
        from = format!("({last}");
    }
    Ok(count.min(ENTRIES_MAX))
}
