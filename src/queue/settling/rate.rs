//! How fast a queue empties, told to every replica: jobs that left it for good, in buckets of ten seconds.
//!
//! Counted at most once a second and process, never per job, and thrown away by itself. A count that Redis does not take
//! is lost: it must never hold up the settling of jobs.

use crate::queue::connection::Connection;
use crate::queue::engine::Engine;
use crate::queue::settling::observe::Fate;
use crate::queue::settling::settle::Settlement;
use klaviyo_jobs::Keys;
use redis::Script;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// The counts of one process that Redis does not know yet.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    left: HashMap<usize, u64>,
    told: Option<Instant>,
}

impl Rates {
    /// Counts what left the queues for good with this settlement, and tells Redis now and then.
    pub(crate) async fn count(
        &mut self,
        engine: &Engine,
        redis: &mut Connection,
        settlement: &Settlement,
        fates: &[Fate],
    ) {
        static RATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate.lua")));
        for ((job, _), fate) in settlement.iter().zip(fates) {
            if matches!(fate, Fate::Delivered | Fate::Buried(_)) {
                *self.left.entry(job.stream).or_default() += 1;
            }
        }
        if self.left.is_empty() || self.told.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        for (stream, left) in std::mem::take(&mut self.left) {
            let key = rate_key(engine.keys(), &engine.streams()[stream].queue);
            let mut call = RATE.key(key);
            let told = call.arg(left).invoke_async::<()>(redis).await;
            if let Err(error) = told {
                tracing::debug!(%error, "the rate of a queue was not counted");
            }
        }
    }
}

/// The hash of a queue's buckets.
pub(crate) fn rate_key(keys: &Keys, queue: &str) -> String {
    format!("{}:rate:{queue}", keys.base())
}
