//! Delayed jobs: what is due returns to the stream of its lane. The same call tells which queues are paused.
//!
//! A job that is delayed anew by somebody else is noticed within [`LOOK_EVERY`]; one that was seen waiting is promoted
//! when it is due. Redis' clock decides, so that none is early.

use crate::queue::connection::Connection;
use crate::queue::engine::Engine;
use klaviyo_jobs::Lane;
use redis::{ErrorKind, RedisError, RedisResult, Script};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Jobs and bytes of each queue per call: Redis serves nobody else meanwhile.
const JOBS_PER_QUEUE: usize = 200;
const BYTES_PER_QUEUE: usize = 1 << 20;

/// Promotes due jobs until the engine is quiet.
pub(crate) async fn promote(engine: Arc<Engine>, mut redis: Connection) {
    while !engine.is_quiet() {
        let pause = match promote_once(&engine, &mut redis).await {
            Ok(next_due) => next_due.min(LOOK_EVERY),
            Err(error) => {
                redis.health().complain("promote delayed jobs", &error);
                LOOK_EVERY
            }
        };
        if !pause.is_zero() {
            // The limit is the pause itself: whichever comes first.
            drop(timeout(pause, engine.quieted()).await);
        }
    }
}

/// Promotes what is due and returns how long nothing else will be.
pub(crate) async fn promote_once(engine: &Engine, redis: &mut Connection) -> RedisResult<Duration> {
    static PROMOTE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("promote.lua")));
    let keys = engine.keys();
    let mut call = PROMOTE.key(crate::queue::reading::pause::key(keys));
    for queue in engine.queues() {
        call.key(keys.delayed(queue));
        for lane in Lane::ALL {
            call.key(keys.queue(queue, lane));
        }
    }
    call.arg(JOBS_PER_QUEUE).arg(BYTES_PER_QUEUE);
    let (next_ms, paused, refused): (i64, Vec<String>, String) = call.invoke_async(redis).await?;
    engine.set_paused(paused.into_iter().collect());
    if !refused.is_empty() {
        let error = RedisError::from((ErrorKind::Extension, "a queue was left alone", refused));
        redis.health().complain("promote delayed jobs", &error);
    }
    let next = u64::try_from(next_ms).map_or(Duration::MAX, Duration::from_millis);
    Ok(next.max(Duration::from_millis(1)))
}
