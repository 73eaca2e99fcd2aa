//! How many calls each operation made, and what came of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::operation::Operation;

/// What became of one operation's calls since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls that left.
    pub sent: u64,
    /// Answers 2xx.
    pub accepted: u64,
    /// Answers 429.
    pub rate_limited: u64,
    /// Every other answer, and none.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Calls([Counters; Operation::ALL.len()]);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    accepted: AtomicU64,
    rate_limited: AtomicU64,
    failed: AtomicU64,
}

impl Calls {
    pub(crate) fn count_sent(&self, operation: Operation) {
        self.0[operation.index()]
            .sent
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer by its status; `None` is a call without one.
    pub(crate) fn count_answer(&self, operation: Operation, status: Option<u16>) {
        let counters = &self.0[operation.index()];
        let counter = match status {
            Some(200..=299) => &counters.accepted,
            Some(429) => &counters.rate_limited,
            _ => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Vec<(Operation, CallCounts)> {
        let count = |operation: Operation| {
            let counters = &self.0[operation.index()];
            let counts = CallCounts {
                sent: counters.sent.load(Ordering::Relaxed),
                accepted: counters.accepted.load(Ordering::Relaxed),
                rate_limited: counters.rate_limited.load(Ordering::Relaxed),
                failed: counters.failed.load(Ordering::Relaxed),
            };
            (operation, counts)
        };
        Operation::ALL.into_iter().map(count).collect()
    }
}
