//! Delayed jobs: what is due returns to the stream of its lane.

use super::connection::Connection;
use super::engine::Engine;
use klaviyo_jobs::Lane;
use redis::Script;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::sleep;

const EVERY: Duration = Duration::from_millis(250);
const PER_CALL: usize = 500;

/// Promotes due jobs until the engine is quiet.
pub(crate) async fn promote(engine: Arc<Engine>, mut redis: Connection) {
    static PROMOTE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("promote.lua")));
    while !engine.is_quiet() {
        let mut more = false;
        for queue in engine.queues() {
            let keys = engine.keys();
            let mut call = PROMOTE.key(keys.delayed(queue));
            for lane in Lane::ALL {
                call.key(keys.queue(queue, lane));
            }
            match call.invoke_async::<usize>(&mut redis).await {
                Ok(promoted) => more |= promoted == PER_CALL,
                Err(error) => {
                    redis.health().complain("promote delayed jobs", &error);
                }
            }
        }
        if !more {
            sleep(EVERY).await;
        }
    }
}
