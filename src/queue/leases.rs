//! Leases: renewal of what this process holds, take-over of what a vanished consumer held.
//!
//! Who last renewed longer than one lease ago (monotonic clock) has lost those jobs: they are neither renewed nor
//! settled here any more. Renewal is a task of its own, whatever a handler waits for.

use super::engine::Engine;
use super::entry::{EntryId, entries_of_claim};
use klaviyo_jobs::keys::GROUP;
use redis::aio::ConnectionManager;
use redis::{RedisResult, Script, Value};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::time::sleep;

const CHUNK: usize = 500;
const TAKE_OVER_MAX: usize = 1_000;

/// Renews and takes over, four times a lease, until the engine is closed.
pub(crate) async fn keep(engine: Arc<Engine>, mut redis: ConnectionManager) {
    while !engine.is_closed() {
        for stream in 0..engine.streams().len() {
            if let Err(error) = renew(&engine, &mut redis, stream).await {
                tracing::warn!(%error, "failed to renew leases; trying again");
            }
            if let Err(error) = take_over_all(&engine, &mut redis, stream).await {
                tracing::warn!(%error, "failed to look for vanished consumers; trying again");
            }
        }
        sleep(engine.lease() / 4).await;
    }
}

async fn take_over_all(
    engine: &Engine,
    redis: &mut ConnectionManager,
    stream: usize,
) -> RedisResult<()> {
    while !engine.is_quiet() {
        match take_over(engine, redis, stream).await {
            // As much as was asked for: there may be more.
            Ok(taken) if taken >= TAKE_OVER_MAX => {}
            Ok(_) => break,
            // The reader creates the group.
            Err(error) if error.code() == Some("NOGROUP") => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn renew(engine: &Engine, redis: &mut ConnectionManager, stream: usize) -> RedisResult<()> {
    static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));
    let key = &engine.streams()[stream].key;
    let held: Vec<EntryId> = engine.held(stream);
    for chunk in held.chunks(CHUNK) {
        let asked = Instant::now();
        let ids: Vec<String> = chunk.iter().map(EntryId::to_string).collect();
        let kept: HashSet<String> = RENEW
            .key(key)
            .arg(GROUP)
            .arg(engine.consumer())
            .arg(&ids)
            .invoke_async(redis)
            .await?;
        for (id, text) in chunk.iter().zip(&ids) {
            engine.renewed(stream, *id, kept.contains(text).then_some(asked));
        }
    }
    Ok(())
}

async fn take_over(
    engine: &Engine,
    redis: &mut ConnectionManager,
    stream: usize,
) -> RedisResult<usize> {
    let (key, lane) = (&engine.streams()[stream].key, engine.streams()[stream].lane);
    let lease_ms = u64::try_from(engine.lease().as_millis()).unwrap_or(u64::MAX);
    let room = engine.room(stream).min(TAKE_OVER_MAX);
    if room == 0 {
        return Ok(0);
    }
    let idle: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
        .arg(key)
        .arg(GROUP)
        .arg("IDLE")
        .arg(lease_ms)
        .arg("-")
        .arg("+")
        .arg(room)
        .query_async(redis)
        .await?;
    let lost: Vec<&str> = idle
        .iter()
        .filter(|(id, ..)| EntryId::parse(id).is_some_and(|id| !engine.knows(stream, id)))
        .map(|(id, ..)| id.as_str())
        .collect();
    if lost.is_empty() {
        return Ok(0);
    }
    let asked = Instant::now();
    // The minimum idle time lets one of several daemons win.
    let reply: Value = redis::cmd("XCLAIM")
        .arg(key)
        .arg(GROUP)
        .arg(engine.consumer())
        .arg(lease_ms)
        .arg(&lost)
        .query_async(redis)
        .await?;
    let entries = entries_of_claim(reply, stream, lane);
    tracing::info!(queue = %engine.streams()[stream].queue, jobs = entries.len(), "took over jobs of a vanished consumer");
    let taken = entries.len();
    engine.accept(entries, asked);
    Ok(taken)
}
