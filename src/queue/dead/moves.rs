//! What can be done with dead letters: back to the queue, another payload, away. Each is one script or command, so that
//! whoever is killed in between leaves every job in exactly one place.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use crate::queue::job::replayed::WITHOUT_FLOWS_MARK;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script, cmd};
use std::sync::LazyLock;

/// A dead job that goes back to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveBack {
    /// Its place in the dead letters.
    pub entry: EntryId,
    /// Whether its events start no flows, whatever the job itself says.
    pub without_flows: bool,
}

/// Moves dead jobs of `queue` to the streams of the queue `to`, keeping what their defaults come from, and returns how
/// many there were.
///
/// # Errors
/// Redis' own. After one that leaves open what happened, a job is in exactly one of the two places.
pub async fn replay_dead(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    to: &str,
    jobs: &[MoveBack],
) -> RedisResult<u64> {
    static REPLAY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("replay.lua")));
    let mut call = REPLAY.key(keys.dead(queue));
    for lane in Lane::ALL {
        call.key(keys.queue(to, lane));
    }
    for job in jobs {
        let mark = if job.without_flows {
            WITHOUT_FLOWS_MARK
        } else {
            ""
        };
        call.arg(job.entry.to_string()).arg(mark);
    }
    call.invoke_async(redis).await
}

/// Replaces the job of a dead letter and returns its new entry; `None` if the old one is gone.
///
/// # Errors
/// Redis' own.
pub async fn edit_dead(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    entry: EntryId,
    job: &[u8],
) -> RedisResult<Option<EntryId>> {
    static EDIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("edit.lua")));
    let mut call = EDIT.key(keys.dead(queue));
    let edited: String = call
        .arg(entry.to_string())
        .arg(job)
        .invoke_async(redis)
        .await?;
    Ok(EntryId::parse(&edited))
}

/// Deletes dead letters and returns how many there were. Their claims were released when they were buried.
///
/// # Errors
/// Redis' own.
pub async fn discard_dead(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    entries: &[EntryId],
) -> RedisResult<u64> {
    if entries.is_empty() {
        return Ok(0);
    }
    let entries: Vec<String> = entries.iter().map(EntryId::to_string).collect();
    let mut discard = cmd("XDEL");
    discard.arg(keys.dead(queue)).arg(entries);
    discard.query_async(redis).await
}
