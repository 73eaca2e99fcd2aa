//! What waits where, for people.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use crate::queue::settling::rate::rate_key;
use jiff::Timestamp;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script};
use serde::Serialize;
use std::sync::LazyLock;

/// The state of one queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// How long ago the first job of a stream was enqueued, by its first stream id.
    pub oldest_ms: u64,
    /// Whether an operator paused it.
    pub paused: bool,
    /// Jobs that left it for good per second, within the last minute.
    pub rate: f64,
    /// How long what is on the streams takes at this rate; unknown while nothing leaves.
    pub drain_ms: Option<u64>,
}

impl Overview {
    /// Whether nothing waits and nothing runs. Dead jobs do not count.
    pub fn is_empty(&self) -> bool {
        self.ready + self.in_flight + self.delayed + self.backfill == 0
    }
}

/// Delayed, dead, left within how many milliseconds, then the lanes.
type Counts = (u64, u64, u64, u64, LaneCount, LaneCount, LaneCount);

/// Entries, entries that a consumer holds, and the first stream id of the first entry of one lane.
type LaneCount = (u64, u64, String);

/// Counts the jobs of a queue at one moment, without reading them.
///
/// # Errors
/// Redis' own.
pub async fn overview(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    paused: bool,
    now: Timestamp,
) -> RedisResult<Overview> {
    static OVERVIEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("overview.lua")));
    let mut call = OVERVIEW.key(keys.delayed(queue));
    call.key(keys.dead(queue)).key(rate_key(keys, queue));
    for lane in Lane::ALL {
        call.key(keys.queue(queue, lane));
    }
    let (delayed, dead, left, within_ms, urgent, live, backfill): Counts =
        call.arg(GROUP).invoke_async(redis).await?;
    let waiting = |lane: &LaneCount| lane.0.saturating_sub(lane.1);
    let age = |lane: &LaneCount| {
        let written = EntryId::parse(&lane.2).map(EntryId::time);
        let age = written.map_or(0, |written| now.as_millisecond() - written.as_millisecond());
        u64::try_from(age).unwrap_or(0)
    };
    let on_streams = urgent.0 + live.0 + backfill.0;
    let rate = rate(left, within_ms);
    Ok(Overview {
        account: keys.account().to_owned(),
        queue: queue.to_owned(),
        ready: waiting(&urgent) + waiting(&live),
        in_flight: urgent.1 + live.1 + backfill.1,
        delayed,
        dead,
        backfill: waiting(&backfill),
        oldest_ms: age(&urgent).max(age(&live)).max(age(&backfill)),
        paused,
        rate,
        drain_ms: drain_ms(on_streams, if paused { 0.0 } else { rate }),
    })
}

/// Jobs per second, to three digits.
#[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
fn rate(jobs: u64, within_ms: u64) -> f64 {
    // A bucket that began just now says little about a second.
    let seconds = within_ms.max(1_000) as f64 / 1_000.0;
    (jobs as f64 / seconds * 1_000.0).round() / 1_000.0
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a forecast is for people, and a float that is too large becomes the largest integer"
)]
fn drain_ms(jobs: u64, rate: f64) -> Option<u64> {
    match (jobs, rate) {
        (0, _) => Some(0),
        (_, rate) if rate > 0.0 => Some((jobs as f64 / rate * 1_000.0) as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_drain_is_unknown_while_nothing_leaves() {
        assert_eq!(drain_ms(10, 0.0), None);
        assert_eq!(drain_ms(0, 0.0), Some(0));
        assert_eq!(drain_ms(10, rate(300, 60_000)), Some(2_000));
        assert_eq!(drain_ms(u64::MAX, 0.001), Some(u64::MAX));
    }
}
