//! What waits where, for people.

use super::connection::Connection;
use super::entry::EntryId;
use jiff::Timestamp;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script};
use serde::Serialize;
use std::sync::LazyLock;

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

/// Entries, entries that a consumer holds, and the oldest id of one lane.
type LaneCount = (u64, u64, String);

/// Counts the jobs of a queue at one moment, without reading them.
///
/// # Errors
/// Redis' own.
pub async fn overview(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    now: Timestamp,
) -> RedisResult<Overview> {
    static OVERVIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("overview.lua")));
    let mut call = OVERVIEW.key(keys.delayed(queue));
    call.key(keys.dead(queue));
    for lane in Lane::ALL {
        call.key(keys.queue(queue, lane));
    }
    let (delayed, dead, urgent, live, backfill): (u64, u64, LaneCount, LaneCount, LaneCount) =
        call.arg(GROUP).invoke_async(redis).await?;
    let waiting = |lane: &LaneCount| lane.0.saturating_sub(lane.1);
    let age = |lane: &LaneCount| {
        let written = EntryId::parse(&lane.2).map(EntryId::time);
        let age = written.map_or(0, |written| now.as_millisecond() - written.as_millisecond());
        u64::try_from(age).unwrap_or(0)
    };
    Ok(Overview {
        account: keys.account().to_owned(),
        queue: queue.to_owned(),
        ready: waiting(&urgent) + waiting(&live),
        in_flight: urgent.1 + live.1 + backfill.1,
        delayed,
        dead,
        backfill: waiting(&backfill),
        oldest_ms: age(&urgent).max(age(&live)).max(age(&backfill)),
        paused: false,
    })
}
