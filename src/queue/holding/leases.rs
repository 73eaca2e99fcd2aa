//! Leases: renewal of what this process holds, take-over of what a vanished consumer held.
//!
//! Who last renewed longer than one lease ago (monotonic clock) has lost those jobs: they are neither renewed nor
//! settled here any more. Renewal waits for nothing else, neither for a handler nor for a long take-over.

use crate::queue::connection::Connection;
use crate::queue::engine::Engine;
use crate::queue::holding::clock;
use crate::queue::holding::deaths::Deaths;
use crate::queue::job::entry::{Entry, EntryId, entries_of_claim};
use crate::queue::reading::read::is_missing_group;
use klaviyo_jobs::keys::GROUP;
use redis::{RedisResult, Script, Value};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const CHUNK: usize = 500;
/// How soon a start looks whether it is known by now which queues are paused.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A consumer is one process. It is forgotten when it holds nothing and was not seen for a day.
const FORGET_IDLE_MS: u64 = 24 * 60 * 60 * 1000;
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Renews and takes over, each four times a lease and without waiting for the other, until the engine is closed.
pub(crate) async fn keep(engine: Arc<Engine>, redis: Connection) {
    tokio::join!(
        keep_renewing(&engine, redis.clone()),
        keep_taking_over(&engine, redis)
    );
}

async fn keep_renewing(engine: &Engine, mut redis: Connection) {
    while !engine.is_closed() {
        for stream in 0..engine.streams().len() {
            if let Err(error) = renew(engine, &mut redis, stream).await {
                redis.health().complain("renew leases", &error);
            }
        }
        sleep(engine.lease() / 4).await;
    }
}

async fn keep_taking_over(engine: &Engine, mut redis: Connection) {
    let mut forgot: Option<Instant> = None;
    while !engine.is_closed() {
        let forget_now = forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY);
        if forget_now {
            forgot = Some(Instant::now());
        }
        engine.isolation.set_gathering(true);
        for stream in 0..engine.streams().len() {
            if let Err(error) = take_over_all(engine, &mut redis, stream).await {
                redis
                    .health()
                    .complain("look for vanished consumers", &error);
            }
            if forget_now {
                forget_consumers(engine, &mut redis, stream, FORGET_IDLE_MS).await;
            }
        }
        engine.isolation.set_gathering(false);
        sleep(if engine.knows_paused() {
            engine.lease() / 4
        } else {
            LOOK_AGAIN
        })
        .await;
    }
}

pub(crate) async fn forget_consumers(
    engine: &Engine,
    redis: &mut Connection,
    stream: usize,
    idle_ms: u64,
) {
    static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget.lua")));
    let mut call = FORGET.key(&engine.streams()[stream].key);
    call.arg(GROUP).arg(engine.consumer()).arg(idle_ms);
    match call.invoke_async::<u64>(redis).await {
        Ok(_) => {}
        Err(error) if is_missing_group(&error) => {}
        Err(error) => redis.health().complain("forget consumers", &error),
    }
}

pub(crate) async fn take_over_all(
    engine: &Engine,
    redis: &mut Connection,
    stream: usize,
) -> RedisResult<()> {
    let mut from = "-".to_owned();
    // What a vanished consumer held of a paused queue waits like the rest of it.
    while !engine.is_quiet() && !engine.is_paused(&engine.streams()[stream].queue) {
        match take_over(engine, redis, stream, &from).await {
            // There may be more behind the last one.
            Ok(Some(last)) => from = format!("({last}"),
            Ok(None) => break,
            // The reader creates the group.
            Err(error) if is_missing_group(&error) => break,
            Err(error) => {
                engine.state().flight.doubt(stream);
                return Err(error);
            }
        }
    }
    Ok(())
}

pub(crate) async fn renew(
    engine: &Engine,
    redis: &mut Connection,
    stream: usize,
) -> RedisResult<()> {
    static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));
    let key = &engine.streams()[stream].key;
    let held: Vec<EntryId> = engine.held(stream);
    for chunk in held.chunks(CHUNK) {
        let asked = clock::now();
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

/// Takes over what is idle from `from` on; returns the last id looked at when there may be more.
async fn take_over(
    engine: &Engine,
    redis: &mut Connection,
    stream: usize,
    from: &str,
) -> RedisResult<Option<String>> {
    let (key, lane) = (&engine.streams()[stream].key, engine.streams()[stream].lane);
    let lease_ms = u64::try_from(engine.lease().as_millis()).unwrap_or(u64::MAX);
    let room = engine.room(stream);
    if room == 0 {
        return Ok(None);
    }
    let mut pending = redis::cmd("XPENDING");
    pending
        .arg(key)
        .arg(GROUP)
        .arg("IDLE")
        .arg(lease_ms)
        .arg(from)
        .arg("+")
        .arg(room);
    let idle: Vec<(String, String, u64, u64)> = pending.query_async(redis).await?;
    let more = if idle.len() == room {
        idle.last().map(|(id, ..)| id.clone())
    } else {
        None
    };
    let lost: Vec<&str> = idle
        .iter()
        .filter(|(id, ..)| EntryId::parse(id).is_some_and(|id| !engine.knows(stream, id)))
        .map(|(id, ..)| id.as_str())
        .collect();
    if lost.is_empty() {
        return Ok(more);
    }
    let asked = clock::now();
    // The minimum idle time lets one of several daemons win.
    let mut claim = redis::cmd("XCLAIM");
    claim
        .arg(key)
        .arg(GROUP)
        .arg(engine.consumer())
        .arg(lease_ms)
        .arg(&lost);
    let mut entries = entries_of_claim(claim.query_async::<Value>(redis).await?, stream, lane);
    if entries.is_empty() {
        return Ok(more);
    }
    watch(engine, redis, stream, &mut entries).await;
    engine.tell_took_over(entries.len());
    tracing::info!(queue = %engine.streams()[stream].queue, jobs = entries.len(), "took over jobs of a vanished consumer");
    engine.accept(stream, entries, asked);
    Ok(more)
}

/// Reads what is known of deaths while these jobs ran. They are ours already: what cannot be read counts as nothing.
async fn watch(engine: &Engine, redis: &mut Connection, stream: usize, entries: &mut [Entry]) {
    let ids: Vec<EntryId> = entries.iter().map(|entry| entry.job.id).collect();
    let marks = engine.marks(&engine.streams()[stream]);
    let deaths = match marks.read(redis, &ids).await {
        Ok(deaths) => deaths,
        Err(error) => {
            redis
                .health()
                .complain("read the marks of suspects", &error);
            Vec::new()
        }
    };
    let deaths = deaths.into_iter().chain(std::iter::repeat(Deaths::NONE));
    for (entry, deaths) in entries.iter_mut().zip(deaths) {
        entry.job.deaths = Some(deaths);
    }
}
