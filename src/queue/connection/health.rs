//! How Redis is, as this process sees it; and the few lines that say so.
//!
//! All tasks meet the same outage at once. It is told when it begins, every ten seconds while it lasts, and when it
//! ends; other refusals of Redis are told at most once a second, with the number of those that were not told.

use redis::RedisError;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REMIND_EVERY: Duration = Duration::from_secs(10);
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);
const LOCKED: &str = "nothing panics while it holds this lock";

/// What is known about a server.
#[derive(Debug, Default)]
pub struct Health {
    reconnects: AtomicU64,
    outage: Mutex<Option<Outage>>,
    outage_told: Mutex<Option<Instant>>,
    complaints: Mutex<Complaints>,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    told: bool,
}

#[derive(Debug, Default)]
struct Complaints {
    told: Option<Instant>,
    untold: u64,
}

impl Health {
    /// How long it has not answered, if it does not.
    pub fn away_for(&self) -> Option<Duration> {
        let outage = self.outage.lock().expect(LOCKED);
        outage.map(|outage| outage.since.elapsed())
    }

    /// How many connections were made anew since the start.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Tells what Redis refused, unless it is the outage that is told anyway.
    pub(crate) fn complain(&self, doing: &'static str, error: &RedisError) {
        if self.away_for().is_some() {
            return;
        }
        let mut complaints = self.complaints.lock().expect(LOCKED);
        if complaints
            .told
            .is_some_and(|at| at.elapsed() < COMPLAIN_EVERY)
        {
            complaints.untold += 1;
            return;
        }
        complaints.told = Some(Instant::now());
        let untold = std::mem::take(&mut complaints.untold);
        drop(complaints);
        tracing::warn!(%error, untold, "failed to {doing}; trying again");
    }

    pub(super) fn answered(&self) {
        let ended = self.outage.lock().expect(LOCKED).take();
        if let Some(outage) = ended.filter(|outage| outage.told) {
            let away_ms = u64::try_from(outage.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(away_ms, "Redis answers again");
        }
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: &RedisError) {
        let now = Instant::now();
        let mut outage = self.outage.lock().expect(LOCKED);
        let outage = outage.get_or_insert(Outage {
            since: now,
            told: false,
        });
        // A line that flaps would else be told at every turn.
        let pause = if outage.told {
            REMIND_EVERY
        } else {
            COMPLAIN_EVERY
        };
        let mut told = self.outage_told.lock().expect(LOCKED);
        if told.is_some_and(|at| now - at < pause) {
            return;
        }
        *told = Some(now);
        outage.told = true;
        let away_s = (now - outage.since).as_secs();
        tracing::warn!(%error, away_s, "Redis does not answer; jobs wait, connecting again");
    }
}
