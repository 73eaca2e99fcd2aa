//! One operation's share of a [`LocalBudget`](super::LocalBudget): windows, closing, queue.
//!
//! The clock is read by the callers; what happened before a permit is returned is undone when
//! the permit is dropped unused.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::budget::{BudgetStatus, Permit, Wait, WaitReason};
use super::gate::LOCKED;
use super::operation::{Limits, Operation};
use super::rate_limit::RateLimitHeaders;

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: Mutex<State>,
    /// Held by the one caller who sleeps for the next permit; the others wait for it, in turn.
    pub(crate) turn: Semaphore,
    pub(crate) waiting: AtomicU32,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Limits in effect before and after the reserve; absent when the budget is off.
    published: Option<Limits>,
    limits: Option<Limits>,
    pub(crate) bucket: Option<Bucket>,
    closed_until: Option<Instant>,
    minute: LastMinute,
}

impl Slot {
    pub(crate) fn new(published: Option<Limits>, reserve: f64) -> Self {
        let now = Instant::now();
        let limits = published.map(|limits| limits.scaled(1.0 - reserve));
        Self {
            state: Mutex::new(State {
                published,
                limits,
                bucket: limits.map(|limits| Bucket::new(limits, now)),
                closed_until: None,
                minute: LastMinute::new(now),
            }),
            turn: Semaphore::new(1),
            waiting: AtomicU32::new(0),
        }
    }

    /// Refuses at once whom the deadline would overtake in the queue. What is free now is given
    /// whatever the deadline.
    pub(crate) fn promise(&self, deadline: Instant) -> Result<(), Wait> {
        let now = Instant::now();
        let wait = self.wait(now);
        if wait.until > deadline.max(now) {
            Err(wait)
        } else {
            Ok(())
        }
    }

    /// Returns when a newcomer would get a permit, behind those who wait already.
    pub(crate) fn wait(&self, now: Instant) -> Wait {
        let ahead = self.waiting.load(Ordering::Relaxed);
        let state = self.state.lock().expect(LOCKED);
        let (free, reason) = state.next_free(now);
        let interval = state
            .bucket
            .as_ref()
            .map(Bucket::interval)
            .unwrap_or_default();
        Wait {
            until: free + interval * ahead,
            reason,
        }
    }

    pub(crate) fn try_take(&self, now: Instant) -> Result<(), Wait> {
        let mut state = self.state.lock().expect(LOCKED);
        if let Some(until) = state.closed_until.filter(|until| *until > now) {
            return Err(Wait {
                until,
                reason: WaitReason::Closed,
            });
        }
        state.closed_until = None;
        if let Some(bucket) = &mut state.bucket {
            bucket.take(now)?;
        }
        state.minute.add(now);
        Ok(())
    }

    pub(crate) fn permit(self: &Arc<Self>, operation: Operation) -> Permit {
        let taken = Instant::now();
        let slot = Arc::clone(self);
        Permit::returning(operation, move || {
            let mut state = slot.state.lock().expect(LOCKED);
            if let Some(bucket) = &mut state.bucket {
                bucket.give_back();
            }
            state.minute.remove(taken);
        })
    }
}

impl State {
    pub(crate) fn close_until(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
    }

    fn next_free(&self, now: Instant) -> (Instant, WaitReason) {
        let free = self
            .bucket
            .as_ref()
            .map_or(now, |bucket| bucket.next_free(now));
        match self.closed_until {
            Some(until) if until > free => (until, WaitReason::Closed),
            _ => (free, WaitReason::Minute),
        }
    }

    /// Adopts limits that the headers give and that are below ours. Never raises any.
    pub(crate) fn shrink(
        &mut self,
        headers: &RateLimitHeaders,
        reserve: f64,
        now: Instant,
    ) -> bool {
        let Some(published) = self.published else {
            return false;
        };
        let lower = published.lowered_by(headers);
        if lower == published {
            return false;
        }
        let limits = lower.scaled(1.0 - reserve);
        self.published = Some(lower);
        self.limits = Some(limits);
        self.bucket = Some(Bucket::new(limits, now));
        // The new bucket is full, whatever the old one had given: start it a second later.
        self.close_until(now + Duration::from_secs(1));
        true
    }

    pub(crate) fn status(&self, now: Instant) -> BudgetStatus {
        let closed_until = self.closed_until.filter(|until| *until > now);
        let free = self
            .bucket
            .as_ref()
            .map_or(u32::MAX, |bucket| bucket.available(now));
        BudgetStatus {
            limits: self.limits,
            available: if closed_until.is_some() { 0 } else { free },
            used_minute: self.minute.used(now),
            used_day: self.bucket.as_ref().and_then(|bucket| bucket.used_day(now)),
            next_free: self.next_free(now).0,
            closed_until,
        }
    }
}

/// Counts those who wait, so that newcomers know how many are ahead.
pub(crate) struct Waiter<'a>(&'a AtomicU32);

impl<'a> Waiter<'a> {
    pub(crate) fn join(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many permits were given in each of the last 60 seconds.
#[derive(Debug)]
struct LastMinute {
    epoch: Instant,
    seconds: [(u64, u32); 60],
}

impl LastMinute {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            seconds: [(0, 0); 60],
        }
    }

    fn add(&mut self, now: Instant) {
        let second = self.second(now);
        let slot = &mut self.seconds[Self::place(second)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    fn remove(&mut self, taken: Instant) {
        let second = self.second(taken);
        let slot = &mut self.seconds[Self::place(second)];
        if slot.0 == second {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    fn used(&self, now: Instant) -> u32 {
        let second = self.second(now);
        let recent = self.seconds.iter().filter(|(at, _)| at + 60 > second);
        recent.map(|(_, calls)| calls).sum()
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn place(second: u64) -> usize {
        usize::try_from(second % 60).expect("below 60")
    }
}
