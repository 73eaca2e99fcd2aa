//! Reads dead letters page by page: a million of them cost no more memory than one page.

use super::letter::DeadJob;
use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use klaviyo_jobs::Keys;
use redis::streams::{StreamId, StreamRangeReply};
use redis::{RedisResult, Script, cmd};
use std::sync::LazyLock;

const JOBS_PER_PAGE: usize = 500;
const BYTES_PER_PAGE: usize = 4 << 20;

/// Which entries of the dead letters are read; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadRange {
    /// The first.
    pub from: EntryId,
    /// The last.
    pub to: EntryId,
}

impl DeadRange {
    /// Everything.
    pub const ALL: Self = Self {
        from: EntryId::ZERO,
        to: EntryId::LAST,
    };
}

/// Reads the first page of the range, oldest first; it is empty only when the range is.
///
/// # Errors
/// Redis' own.
pub async fn dead_page(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    range: DeadRange,
) -> RedisResult<Vec<DeadJob>> {
    static PAGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("page.lua")));
    let mut call = PAGE.key(keys.dead(queue));
    call.arg(range.from.to_string())
        .arg(range.to.to_string())
        .arg(JOBS_PER_PAGE)
        .arg(BYTES_PER_PAGE);
    let reply: StreamRangeReply = call.invoke_async(redis).await?;
    let of_entry = |entry: &StreamId| DeadJob::of_entry(entry, keys.account(), queue);
    Ok(reply.ids.iter().filter_map(of_entry).collect())
}

/// Reads one entry.
///
/// # Errors
/// Redis' own.
pub async fn dead_job(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    entry: EntryId,
) -> RedisResult<Option<DeadJob>> {
    let mut range = cmd("XRANGE");
    range.arg(keys.dead(queue)).arg(entry.to_string());
    let reply: StreamRangeReply = range.arg(entry.to_string()).query_async(redis).await?;
    let found = reply.ids.first();
    Ok(found.and_then(|entry| DeadJob::of_entry(entry, keys.account(), queue)))
}

/// Returns the newest entry, where a walk that began now ends.
///
/// # Errors
/// Redis' own.
pub async fn newest_dead(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
) -> RedisResult<Option<EntryId>> {
    let mut newest = cmd("XREVRANGE");
    newest.arg(keys.dead(queue)).arg("+").arg("-");
    let reply: StreamRangeReply = newest.arg("COUNT").arg(1).query_async(redis).await?;
    Ok(reply
        .ids
        .first()
        .and_then(|entry| EntryId::parse(&entry.id)))
}
