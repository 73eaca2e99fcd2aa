//! Deletes what waits: never what a consumer holds, never dead letters.
//!
//! One call of a script touches at most [`JOBS_PER_CALL`] jobs or reads [`BYTES_PER_CALL`], so that Redis serves others
//! meanwhile. What arrives while a purge is under way is not its business: it ends at the last entry it saw at first.

use crate::queue::connection::Connection;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script, cmd};
use serde::Serialize;
use std::sync::LazyLock;
use tokio_util::sync::CancellationToken;

const JOBS_PER_CALL: usize = 500;
const BYTES_PER_CALL: usize = 4 << 20;

static PURGE_STREAM: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("purge_stream.lua")));
static PURGE_DELAYED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("purge_delayed.lua")));

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Jobs deleted from the streams.
    pub ready: u64,
    /// Jobs deleted from the delayed ones.
    pub delayed: u64,
    /// Jobs left alone because a consumer holds them.
    pub in_flight: u64,
    /// Internal jobs left alone: the follow-ups of imports that Klaviyo has accepted.
    pub internal: u64,
}

/// Deletes what waits in a queue, or in one lane of it, until `stop` is cancelled, and counts it in `purged`, which is
/// right also after an error.
/// Payloads that begin with one of the `internal` texts are kept.
pub(crate) async fn purge(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    lane: Option<Lane>,
    internal: &[String],
    stop: &CancellationToken,
    purged: &mut Purged,
) -> RedisResult<()> {
    // Delayed jobs first: one that comes due meanwhile is on the stream before that is looked at.
    purge_delayed(redis, keys, queue, lane, internal, stop, purged).await?;
    for lane in Lane::ALL
        .into_iter()
        .filter(|it| lane.is_none_or(|lane| lane == *it))
    {
        purge_stream(
            redis,
            &keys.queue(queue, lane),
            keys,
            internal,
            stop,
            purged,
        )
        .await?;
    }
    Ok(())
}

async fn purge_delayed(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    lane: Option<Lane>,
    internal: &[String],
    stop: &CancellationToken,
    purged: &mut Purged,
) -> RedisResult<()> {
    let key = keys.delayed(queue);
    let mut left: usize = cmd("ZCARD").arg(&key).query_async(redis).await?;
    // Counted from the latest, because jobs come due at the other end.
    let mut kept_before = 0;
    while left > 0 && !stop.is_cancelled() {
        let mut call = PURGE_DELAYED.key(&key);
        call.arg(keys.base())
            .arg(lane.map_or("", Lane::as_str))
            .arg(kept_before)
            .arg(left.min(JOBS_PER_CALL))
            .arg(BYTES_PER_CALL)
            .arg(internal);
        let (deleted, kept_internal, kept_other): (u64, u64, usize) =
            call.invoke_async(redis).await?;
        purged.delayed += deleted;
        purged.internal += kept_internal;
        let kept = usize::try_from(kept_internal).unwrap_or(usize::MAX) + kept_other;
        let seen = usize::try_from(deleted).unwrap_or(usize::MAX) + kept;
        if seen == 0 {
            break;
        }
        kept_before += kept;
        left = left.saturating_sub(seen);
    }
    Ok(())
}

async fn purge_stream(
    redis: &mut Connection,
    key: &str,
    keys: &Keys,
    internal: &[String],
    stop: &CancellationToken,
    purged: &mut Purged,
) -> RedisResult<()> {
    let newest: Vec<(String, redis::Value)> = cmd("XREVRANGE")
        .arg(key)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(redis)
        .await?;
    let Some((newest, _)) = newest.into_iter().next() else {
        return Ok(());
    };
    let mut from = "-".to_owned();
    while !stop.is_cancelled() {
        let mut call = PURGE_STREAM.key(key);
        call.arg(GROUP)
            .arg(keys.base())
            .arg(from)
            .arg(&newest)
            .arg(JOBS_PER_CALL)
            .arg(BYTES_PER_CALL)
            .arg(internal);
        let (deleted, held, kept, last): (u64, u64, u64, String) = call.invoke_async(redis).await?;
        purged.ready += deleted;
        purged.in_flight += held;
        purged.internal += kept;
        if last.is_empty() {
            break;
        }
        from = format!("({last}");
    }
    Ok(())
}
