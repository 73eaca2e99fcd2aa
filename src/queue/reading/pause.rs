//! Paused queues: one hash of the account, the same for every replica.
//!
//! Nothing of a paused queue is read or taken over; what is in flight ends. The surprising thing: both writes are scripts whose first
//! write frees memory, because a full Redis is when an operator most wants to pause something.

use crate::queue::connection::Connection;
use jiff::Timestamp;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script, cmd};
use std::collections::HashMap;
use std::sync::LazyLock;

static PAUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('HDEL', KEYS[1], '') return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])",
    )
});

/// Returns the paused queues of the account and since when.
pub(crate) async fn paused(
    redis: &mut Connection,
    keys: &Keys,
) -> RedisResult<HashMap<String, Timestamp>> {
    let found: HashMap<String, String> = cmd("HGETALL").arg(key(keys)).query_async(redis).await?;
    let since = |ms: String| {
        // Whatever stands there, the queue is paused; only since when may be unknown.
        let ms = ms.parse().ok();
        ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let found = found.into_iter();
    Ok(found.map(|(queue, ms)| (queue, since(ms))).collect())
}

/// Pauses a queue; false if it was paused already.
pub(crate) async fn pause(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    now: Timestamp,
) -> RedisResult<bool> {
    let mut call = PAUSE.key(key(keys));
    call.arg(queue).arg(now.as_millisecond());
    call.invoke_async(redis).await
}

/// Resumes a queue; false if it was not paused.
pub(crate) async fn resume(redis: &mut Connection, keys: &Keys, queue: &str) -> RedisResult<bool> {
    let mut call = cmd("HDEL");
    call.arg(key(keys)).arg(queue).query_async(redis).await
}

/// The hash of the paused queues.
pub(crate) fn key(keys: &Keys) -> String {
    format!("{}:paused", keys.base())
}
