//! What waits where, for people.

use super::entry::EntryId;
use jiff::Timestamp;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::aio::ConnectionManager;
use redis::streams::{StreamInfoGroupsReply, StreamRangeReply};
use redis::{RedisResult, cmd};
use serde::Serialize;

/// The state of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The account.
    pub account: String,
    /// The queue.
    pub queue: String,
    /// Jobs of the urgent and the live lane that nobody has taken.
    pub ready: u64,
    /// Jobs that a daemon holds.
    pub in_flight: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Dead jobs.
    pub dead: u64,
    /// Jobs of the backfill lane that nobody has taken.
    pub backfill: u64,
    /// How long ago the oldest job on the streams was written.
    pub oldest_ms: u64,
    /// Whether an operator paused it.
    pub paused: bool,
}

impl Overview {
    /// Whether nothing waits and nothing runs. Dead jobs do not count.
    pub fn is_empty(&self) -> bool {
        self.ready + self.in_flight + self.delayed + self.backfill == 0
    }
}

/// Counts the jobs of a queue, without reading them.
///
/// # Errors
/// Redis' own.
pub async fn overview(
    redis: &mut ConnectionManager,
    keys: &Keys,
    queue: &str,
    now: Timestamp,
) -> RedisResult<Overview> {
    let mut overview = Overview {
        account: keys.account().to_owned(),
        queue: queue.to_owned(),
        ready: 0,
        in_flight: 0,
        delayed: cmd("ZCARD")
            .arg(keys.delayed(queue))
            .query_async(redis)
            .await?,
        dead: cmd("XLEN").arg(keys.dead(queue)).query_async(redis).await?,
        backfill: 0,
        oldest_ms: 0,
        paused: false,
    };
    for lane in Lane::ALL {
        let key = keys.queue(queue, lane);
        let length: u64 = cmd("XLEN").arg(&key).query_async(redis).await?;
        if length == 0 {
            continue;
        }
        let groups: StreamInfoGroupsReply = cmd("XINFO")
            .arg("GROUPS")
            .arg(&key)
            .query_async(redis)
            .await?;
        let pending = groups
            .groups
            .iter()
            .find(|group| group.name == GROUP)
            .map_or(0, |group| u64::try_from(group.pending).unwrap_or(u64::MAX));
        let waiting = length.saturating_sub(pending);
        overview.in_flight += pending;
        match lane {
            Lane::Urgent | Lane::Live => overview.ready += waiting,
            Lane::Backfill => overview.backfill += waiting,
        }
        let first: StreamRangeReply = cmd("XRANGE")
            .arg(&key)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(1)
            .query_async(redis)
            .await?;
        if let Some(id) = first
            .ids
            .first()
            .and_then(|entry| EntryId::parse(&entry.id))
        {
            let age = now
                .as_millisecond()
                .saturating_sub(id.time().as_millisecond());
            overview.oldest_ms = overview.oldest_ms.max(u64::try_from(age).unwrap_or(0));
        }
    }
    Ok(overview)
}
