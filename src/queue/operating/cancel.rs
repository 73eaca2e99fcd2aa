//! Takes one job off the queue, if nobody holds it, and releases its claim. The first write of each script frees memory.

use crate::queue::connection::Connection;
use crate::queue::job::entry::QueuedJob;
use crate::queue::operating::find::DelayedJob;
use klaviyo_jobs::Keys;
use klaviyo_jobs::keys::GROUP;
use redis::{RedisResult, Script};
use std::sync::LazyLock;

// Without a group nobody holds anything: the reply is an error then, which has no entries.
static CANCEL_READY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if #redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0 then return 0 end
        local deleted = redis.call('XDEL', KEYS[1], ARGV[2])
        if deleted == 1 and ARGV[3] ~= '' then redis.call('DEL', KEYS[2]) end
        return deleted",
    )
});
static CANCEL_DELAYED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local deleted = redis.call('ZREM', KEYS[1], ARGV[1])
        if deleted == 1 and ARGV[2] ~= '' then redis.call('DEL', KEYS[2]) end
        return deleted",
    )
});

/// Deletes an entry of a stream; false if a consumer holds it or it is gone.
pub(crate) async fn cancel_ready(
    redis: &mut Connection,
    keys: &Keys,
    stream: &str,
    job: &QueuedJob,
) -> RedisResult<bool> {
    let mut call = CANCEL_READY.key(stream);
    call.key(keys.claim_of_hash(&job.claim))
        .arg(GROUP)
        .arg(job.id.to_string())
        .arg(&*job.claim);
    call.invoke_async(redis).await
}

/// Deletes a delayed job; false if it is gone.
pub(crate) async fn cancel_delayed(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    job: &DelayedJob,
) -> RedisResult<bool> {
    let mut call = CANCEL_DELAYED.key(keys.delayed(queue));
    call.key(keys.claim_of_hash(&job.claim))
        .arg(&job.member)
        .arg(&job.claim);
    call.invoke_async(redis).await
}
