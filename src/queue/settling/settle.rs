//! What becomes of jobs, and the scripts that make it so.
//!
//! Delivered is delivered, whoever holds the job now: it is acknowledged and deleted without a fence. Everything else
//! moves only what this process surely holds.

use crate::queue::connection::{Connection, is_unreachable};
use crate::queue::engine::Engine;
use crate::queue::job::entry::{EntryId, QueuedJob};
use crate::queue::job::verdict::{Reason, Retries, Verdict, millis};
use crate::queue::reading::read::{create_groups, is_missing_group};
use crate::queue::settling::observe::Fate;
use crate::queue::settling::rate::Rates;
use jiff::Timestamp;
use redis::{RedisResult, Script};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Ids per script call: Redis serves nobody else meanwhile.
const CHUNK: usize = 500;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

pub(crate) type Settlement = Vec<(QueuedJob, Verdict)>;

/// Jobs that somebody else took over before we could move them, by stream and entry.
pub(crate) type NotOurs = HashSet<(usize, EntryId)>;

/// Settles until the engine has nothing in flight any more.
pub(crate) async fn settle_all(
    engine: Arc<Engine>,
    mut redis: Connection,
    mut inbox: mpsc::UnboundedReceiver<Settlement>,
) {
    let mut rates = Rates::default();
    let mut refused: VecDeque<Settlement> = VecDeque::new();
    loop {
        // What Redis refuses must not hold back what it would take.
        let (settlement, is_first) = tokio::select! {
            biased;
            new = inbox.recv() => match new {
                Some(settlement) => (settlement, true),
                None => return,
            },
            () = sleep(PAUSE_AFTER_ERROR), if !refused.is_empty() => match refused.pop_front() {
                Some(settlement) => (settlement, false),
                None => continue,
            },
        };
        let Some(not_ours) = settle_surely(&engine, &mut redis, &settlement, is_first).await else {
            refused.push_back(settlement);
            continue;
        };
        // Whoever took the others over tells what became of them.
        let (lapsed, ours): (Settlement, Settlement) = settlement
            .into_iter()
            .partition(|(job, _)| not_ours.contains(&(job.stream, job.id)));
        let fates = fates(&engine, &ours);
        engine.tell_settled(&ours, &fates);
        engine.tell_attempted(&ours, &fates);
        // Who waits for the end has told all by then.
        engine.release(&lapsed);
        engine.release(&ours);
        rates.count(&engine, &mut redis, &ours, &fates).await;
    }
}

/// Settles until Redis has taken it, and returns the jobs that surely were not ours any more; `None` if it refused.
async fn settle_surely(
    engine: &Engine,
    redis: &mut Connection,
    settlement: &Settlement,
    mut is_first: bool,
) -> Option<NotOurs> {
    loop {
        match settle(engine, redis, settlement).await {
            Ok(not_ours) if is_first => return Some(not_ours),
            // What an earlier try moved is not found any more.
            Ok(_) => return Some(NotOurs::new()),
            // The reader may be waiting for just the room that settling would make.
            Err(error) if is_missing_group(&error) => create_groups(engine, redis).await,
            Err(error) => {
                redis.health().complain("settle", &error);
                if !is_unreachable(&error) {
                    return None;
                }
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
        is_first = false;
    }
}

pub(crate) async fn settle(
    engine: &Engine,
    redis: &mut Connection,
    settlement: &Settlement,
) -> RedisResult<NotOurs> {
    static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
    // In one piece: an entry that is acknowledged and not deleted would stand there for ever, and nobody would read it.
    static DELIVERED: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2)) redis.call('XDEL', KEYS[1], unpack(ARGV, 2))",
        )
    });
    let mut not_ours = NotOurs::new();
    for (index, stream) in engine.streams().iter().enumerate() {
        let of_stream = settlement.iter().filter(|(job, _)| job.stream == index);
        let (delivered, moved): (Vec<_>, Vec<_>) =
            of_stream.partition(|(_, verdict)| *verdict == Verdict::Delivered);
        for chunk in delivered.chunks(CHUNK) {
            let ids: Vec<String> = chunk.iter().map(|(job, _)| job.id.to_string()).collect();
            let mut call = DELIVERED.key(&stream.key);
            call.arg(klaviyo_jobs::keys::GROUP).arg(ids);
            call.invoke_async::<()>(redis).await?;
        }
        let (moved, lapsed): (Vec<_>, Vec<_>) =
            moved.into_iter().partition(|(job, _)| engine.holds(job));
        not_ours.extend(lapsed.iter().map(|(job, _)| (index, job.id)));
        let (retries, now) = (engine.retries(&stream.queue), Timestamp::now());
        for chunk in moved.chunks(CHUNK) {
            let mut call = SETTLE.key(&stream.key);
            call.key(engine.keys().delayed(&stream.queue))
                .key(engine.keys().dead(&stream.queue))
                .key(engine.marks(stream).key());
            call.arg(klaviyo_jobs::keys::GROUP)
                .arg(engine.consumer())
                .arg(engine.keys().base());
            for (job, verdict) in chunk {
                let move_ = Move::of(job, verdict, retries, now);
                call.arg(job.id.to_string())
                    .arg(&job.payload)
                    .arg(job.sid.to_string())
                    .arg(move_.attempts);
                call.arg(job.lane_text())
                    .arg(&*job.claim)
                    .arg(move_.to)
                    .arg(move_.delay_ms);
                let reason = move_.reason;
                call.arg(reason.map_or("", |it| it.code));
                call.arg(
                    reason
                        .and_then(|it| it.status)
                        .map(|it| it.to_string())
                        .unwrap_or_default(),
                );
                call.arg(reason.map_or("", |it| &it.detail));
                call.arg(
                    reason
                        .and_then(|it| it.pointer.as_deref())
                        .unwrap_or_default(),
                );
            }
            let is_moved: Vec<bool> = call.invoke_async(redis).await?;
            let left = chunk.iter().zip(is_moved).filter(|(_, is_moved)| !is_moved);
            not_ours.extend(left.map(|((job, _), _)| (index, job.id)));
        }
        let watched = delivered.iter().filter(|(job, _)| job.deaths.is_some());
        let watched: Vec<EntryId> = watched.map(|(job, _)| job.id).collect();
        if !watched.is_empty() {
            engine.marks(stream).clear(redis, &watched).await?;
        }
    }
    Ok(not_ours)
}

/// Says where each verdict sent its job.
fn fates(engine: &Engine, settlement: &Settlement) -> Vec<Fate> {
    let now = Timestamp::now();
    let fate = |(job, verdict): &(QueuedJob, Verdict)| match verdict {
        Verdict::Delivered => Fate::Delivered,
        Verdict::Snooze(_) => Fate::Snoozed,
        Verdict::Retry(reason) | Verdict::Bury(reason) => {
            let retries = engine.retries(&engine.streams()[job.stream].queue);
            match Move::of(job, verdict, retries, now).to {
                "dead" => Fate::Buried(reason.code),
                _ => Fate::Retried,
            }
        }
    };
    settlement.iter().map(fate).collect()
}

struct Move<'a> {
    attempts: u32,
    to: &'static str,
    delay_ms: u64,
    reason: Option<&'a Reason>,
}

impl<'a> Move<'a> {
    fn of(job: &QueuedJob, verdict: &'a Verdict, retries: Retries, now: Timestamp) -> Self {
        let attempts = job.attempts.saturating_add(1);
        match verdict {
            Verdict::Delivered => unreachable!("delivered jobs are settled before"),
            Verdict::Retry(reason) if retries.are_used_up(attempts, job.since(), now) => Self {
                attempts,
                to: "dead",
                delay_ms: 0,
                reason: Some(reason),
            },
            Verdict::Retry(reason) => Self {
                attempts,
                to: "later",
                delay_ms: retries.backoff_ms(job.attempts),
                reason: Some(reason),
            },
            Verdict::Snooze(delay) => Self {
                attempts: job.attempts,
                to: "later",
                delay_ms: millis(*delay),
                reason: None,
            },
            Verdict::Bury(reason) => Self {
                attempts,
                to: "dead",
                delay_ms: 0,
                reason: Some(reason),
            },
        }
    }
}
