//! What becomes of jobs, and the scripts that make it so.
//!
//! Delivered is delivered, whoever holds the job now: it is acknowledged and deleted without a fence. Everything else
//! moves only what this process surely holds.

use super::connection::Connection;
use super::engine::Engine;
use super::entry::{EntryId, QueuedJob};
use super::observe::Fate;
use super::rate::Rates;
use super::read::{create_groups, is_missing_group};
use jiff::Timestamp;
use rand::Rng;
use redis::{RedisResult, Script};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Ids per script call: Redis serves nobody else meanwhile.
const CHUNK: usize = 500;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

/// How often and how long a job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// A job that needs more attempts than this is dead.
    pub attempts_max: u32,
    /// A job older than this is dead.
    pub age_max: Duration,
    /// The interval from which the first wait is drawn; it doubles with each attempt.
    pub backoff_first: Duration,
    /// The longest such interval.
    pub backoff_max: Duration,
}

impl Retries {
    /// Returns the defaults of a queue: a campaign soon comes too late, and consent must arrive.
    pub const fn of_queue(queue: &str) -> Self {
        let age_max = match queue.as_bytes() {
            b"campaigns" => Duration::from_hours(1),
            b"consent" => Duration::from_hours(30 * 24),
            _ => Duration::from_hours(7 * 24),
        };
        Self {
            attempts_max: 20,
            age_max,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_mins(15),
        }
    }

    /// Age counts only when an attempt fails: whatever waits for its turn dies of nothing.
    fn are_used_up(self, attempts: u32, since: Timestamp, now: Timestamp) -> bool {
        let age = now.duration_since(since);
        attempts >= self.attempts_max || Duration::try_from(age).is_ok_and(|age| age > self.age_max)
    }

    /// Full jitter: a random part of an interval that doubles with each attempt. It begins after the first interval,
    /// so that no retry falls into the second that its failure was counted in.
    fn backoff_ms(self, attempts: u32) -> u64 {
        let first = self.backoff_first.min(self.backoff_max);
        let doubled = self.backoff_first.saturating_mul(1 << attempts.min(20));
        // The interval is capped, not what is drawn from it: else long waits would all be the same.
        let interval = doubled.min(self.backoff_max.saturating_sub(first));
        millis(first).saturating_add(rand::rng().random_range(0..=millis(interval)))
    }
}

/// Why a job is not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The stable code, such as `klaviyo.invalid`.
    pub code: &'static str,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What is wrong and what to do.
    pub detail: Arc<str>,
    /// Where in the job.
    pub pointer: Option<Arc<str>>,
}

impl Reason {
    /// Its time was over.
    pub(crate) fn expired() -> Self {
        Self {
            code: "job.expired",
            status: None,
            detail: "its time was over before it could be delivered; enqueue it again if it still matters".into(),
            pointer: None,
        }
    }

    /// The handler ended without a verdict.
    pub(crate) fn abandoned() -> Self {
        Self {
            code: "worker.abandoned",
            status: None,
            detail: "the handler ended without a verdict; see the log".into(),
            pointer: None,
        }
    }
}

impl From<&klaviyo_jobs::Invalid> for Reason {
    fn from(invalid: &klaviyo_jobs::Invalid) -> Self {
        Self {
            code: invalid.code(),
            status: None,
            detail: invalid.to_string().into(),
            pointer: invalid.pointer().map(Into::into),
        }
    }
}

/// What becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Klaviyo accepted it: it is deleted.
    Delivered,
    /// The attempt counts; again after a random part of 1 s, 2 s, 4 s .. 15 min.
    Retry(Reason),
    /// Again after the delay; costs no attempt.
    Snooze(Duration),
    /// It goes to the dead letters.
    Bury(Reason),
}

pub(crate) type Settlement = Vec<(QueuedJob, Verdict)>;

/// Jobs that somebody else took over before we could move them, by stream and entry.
pub(super) type NotOurs = HashSet<(usize, EntryId)>;

/// Settles until the engine has nothing in flight any more.
pub(crate) async fn settle_all(
    engine: Arc<Engine>,
    mut redis: Connection,
    mut inbox: mpsc::UnboundedReceiver<Settlement>,
) {
    let mut rates = Rates::default();
    while let Some(settlement) = inbox.recv().await {
        let not_ours = settle_surely(&engine, &mut redis, &settlement).await;
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

/// Settles until Redis has taken it, and returns the jobs that surely were not ours any more.
async fn settle_surely(
    engine: &Engine,
    redis: &mut Connection,
    settlement: &Settlement,
) -> NotOurs {
    let mut is_first = true;
    loop {
        match settle(engine, redis, settlement).await {
            Ok(not_ours) if is_first => return not_ours,
            // What an earlier try moved is not found any more.
            Ok(_) => return NotOurs::new(),
            // The reader may be waiting for just the room that settling would make.
            Err(error) if is_missing_group(&error) => create_groups(engine, redis).await,
            Err(error) => {
                redis.health().complain("settle", &error);
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
        is_first = false;
    }
}

pub(super) async fn settle(
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
        let watched = delivered.iter().filter(|(job, _)| job.marks.is_some());
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

fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_within_the_doubling_interval_and_below_fifteen_minutes() {
        let retries = Retries::of_queue("event-tracking");
        for attempts in 0..40 {
            let most = (1000 + (1000_u64 << attempts.min(20))).min(900_000);
            assert!(
                (1000..=most).contains(&retries.backoff_ms(attempts)),
                "{attempts}"
            );
        }
    }

    #[test]
    fn late_retries_are_spread_as_widely_as_early_ones() {
        let retries = Retries::of_queue("event-tracking");
        for attempts in [1, 12, 19] {
            let waits: HashSet<u64> = (0..100).map(|_| retries.backoff_ms(attempts)).collect();
            assert!(waits.len() > 50, "after {attempts}: {waits:?}");
        }
    }

    #[test]
    fn attempts_and_age_end_a_job_that_fails() {
        let retries = Retries::of_queue("campaigns");
        let now = Timestamp::now();
        let fresh = now - Duration::from_secs(1);
        let old = now - Duration::from_mins(61);
        assert!(!retries.are_used_up(19, fresh, now) && retries.are_used_up(20, fresh, now));
        assert!(retries.are_used_up(1, old, now));
        assert!(!Retries::of_queue("consent").are_used_up(1, old, now));
    }
}
