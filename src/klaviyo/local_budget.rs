//! The budget of one process, all of it in memory.
//!
//! Callers of one operation wait in turn, first come, first served, and only the first of them
//! sleeps. Who would wait past the deadline is told at once, counting those ahead. What is shared
//! by several processes needs another [`Budget`]; this one knows of no other caller, except
//! through the headers of answers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::budget::{Budget, BudgetScale, BudgetStatus, Permit, Wait, WaitReason};
use super::gate::LOCKED;
use super::operation::{Limits, Operation};
use super::rate_limit::RateLimitHeaders;

/// The longest time for which one `Retry-After` closes an operation, unless set otherwise.
const CLOSED_MAX: Duration = Duration::from_secs(15 * 60);

/// A [`Budget`] for a process that is alone.
#[derive(Debug)]
pub struct LocalBudget {
    slots: [Arc<Slot>; Operation::ALL.len()],
    closed_max: Duration,
    reserve: f64,
}

impl LocalBudget {
    /// Creates a budget with every operation's full limits, scaled.
    pub fn new(scale: BudgetScale) -> Self {
        Self::with_reserve(scale, 0.0)
    }

    /// Creates a budget that leaves a share (0 to 1) to other integrations of the account.
    pub fn with_reserve(scale: BudgetScale, reserve: f64) -> Self {
        let reserve = reserve.clamp(0.0, 1.0);
        let slots = Operation::ALL.map(|operation| {
            let published = match scale {
                BudgetScale::Real => Some(operation.limits()),
                BudgetScale::Factor(factor) => Some(operation.limits().scaled(factor)),
                BudgetScale::Off => None,
            };
            Arc::new(Slot::new(published, reserve))
        });
        Self {
            slots,
            closed_max: CLOSED_MAX,
            reserve,
        }
    }

    /// Sets the longest time for which one `Retry-After` closes an operation.
    #[must_use]
    pub fn with_closed_max(mut self, closed_max: Duration) -> Self {
        self.closed_max = closed_max;
        self
    }

    fn slot(&self, operation: Operation) -> &Arc<Slot> {
        &self.slots[operation.index()]
    }

    async fn take_in_turn(&self, operation: Operation, deadline: Instant) -> Result<Permit, Wait> {
        let slot = self.slot(operation);
        slot.promise(deadline)?;
        let _waiter = Waiter::join(&slot.waiting);
        let Ok(turn) = tokio::time::timeout_at(deadline, slot.turn.acquire()).await else {
            return Err(slot.wait());
        };
        let _turn = turn.expect("this semaphore is never closed");
        loop {
            match slot.try_take(Instant::now()) {
                Ok(()) => return Ok(slot.permit(operation)),
                Err(wait) if wait.until > deadline => return Err(wait),
                Err(wait) => tokio::time::sleep_until(wait.until).await,
            }
        }
    }
}

impl Budget for LocalBudget {
    fn take(&self, operation: Operation, deadline: Instant) -> BoxFuture<'_, Result<Permit, Wait>> {
        Box::pin(self.take_in_turn(operation, deadline))
    }

    fn try_take(&self, operation: Operation) -> Option<Permit> {
        let slot = self.slot(operation);
        // Nobody overtakes those who wait.
        let _turn = slot.turn.try_acquire().ok()?;
        slot.try_take(Instant::now()).ok()?;
        Some(slot.permit(operation))
    }

    fn close(&self, operation: Operation, for_: Duration) {
        let until = Instant::now() + for_.min(self.closed_max);
        self.slot(operation)
            .state
            .lock()
            .expect(LOCKED)
            .close_until(until);
    }

    fn observe(&self, operation: Operation, headers: &RateLimitHeaders) {
        let now = Instant::now();
        let mut state = self.slot(operation).state.lock().expect(LOCKED);
        if state.bucket.is_none() {
            return;
        }
        if let Some(spent_for) = headers.spent_for() {
            state.close_until(now + spent_for.min(Duration::from_secs(60)));
        }
        if state.shrink(headers, self.reserve, now) {
            tracing::warn!(
                operation = operation.name(),
                "lowered limits: Klaviyo grants less than its reference says"
            );
        }
    }

    fn status(&self, operation: Operation) -> BudgetStatus {
        self.slot(operation)
            .state
            .lock()
            .expect(LOCKED)
            .status(Instant::now())
    }
}

#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    turn: Semaphore,
    waiting: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// Limits in effect before and after the reserve; absent when the budget is off.
    published: Option<Limits>,
    limits: Option<Limits>,
    bucket: Option<Bucket>,
    closed_until: Option<Instant>,
    minute: LastMinute,
}

impl Slot {
    fn new(published: Option<Limits>, reserve: f64) -> Self {
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

    /// Refuses at once whom the deadline would overtake in the queue.
    fn promise(&self, deadline: Instant) -> Result<(), Wait> {
        let wait = self.wait();
        if wait.until > deadline {
            Err(wait)
        } else {
            Ok(())
        }
    }

    /// Returns when a newcomer would get a permit, behind those who wait already.
    fn wait(&self) -> Wait {
        let ahead = self.waiting.load(Ordering::Relaxed);
        let state = self.state.lock().expect(LOCKED);
        let now = Instant::now();
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

    fn try_take(&self, now: Instant) -> Result<(), Wait> {
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

    fn permit(self: &Arc<Self>, operation: Operation) -> Permit {
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
    fn close_until(&mut self, until: Instant) {
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
    fn shrink(&mut self, headers: &RateLimitHeaders, reserve: f64, now: Instant) -> bool {
        let Some(published) = self.published else {
            return false;
        };
        let least = |ours: u32, window| {
            headers
                .window(window)
                .filter(|limit| *limit > 0)
                .map_or(ours, |limit| limit.min(ours))
        };
        let lower = Limits {
            burst: least(published.burst, 1),
            steady: least(published.steady, 60),
            daily: published.daily.map(|limit| least(limit, 86_400)),
        };
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

    fn status(&self, now: Instant) -> BudgetStatus {
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
struct Waiter<'a>(&'a AtomicU32);

impl<'a> Waiter<'a> {
    fn join(waiting: &'a AtomicU32) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const M: Operation = Operation::BulkCreateEvents;

    fn now_plus(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn retry_after_closes_the_operation_for_everybody_until_it_is_over() {
        let budget = LocalBudget::new(BudgetScale::Off);
        budget.close(M, Duration::from_secs(30));
        let wait = budget.take(M, now_plus(29)).await.unwrap_err();
        assert_eq!(wait.reason, WaitReason::Closed);
        assert!(wait.until > now_plus(29));
        assert!(budget.try_take(M).is_none());
        assert!(budget.try_take(Operation::CreateEvent).is_some());
        // A caller with patience waits instead of getting a permit early.
        assert!(budget.take(M, now_plus(60)).now_or_never().is_none());
        let slot = budget.slot(M);
        assert!(slot.try_take(now_plus(29)).is_err());
        assert_eq!(slot.try_take(now_plus(31)), Ok(()));
    }

    #[tokio::test]
    async fn retry_after_is_capped_and_never_shortened_by_a_later_one() {
        let budget = LocalBudget::new(BudgetScale::Real);
        budget.close(M, Duration::from_secs(1_000_000));
        budget.close(M, Duration::from_secs(1));
        let closed_until = budget.status(M).closed_until.unwrap();
        assert!(closed_until <= now_plus(15 * 60) && closed_until > now_plus(14 * 60));
    }

    #[tokio::test]
    async fn waiting_that_is_given_up_takes_nothing() {
        let budget = LocalBudget::new(BudgetScale::Real);
        budget.take(M, Instant::now()).await.unwrap().spend();
        let free = budget.status(M).next_free;
        for _ in 0..10 {
            assert!(budget.take(M, now_plus(60)).now_or_never().is_none());
        }
        assert_eq!(budget.status(M).next_free, free);
        assert_eq!(budget.slot(M).waiting.load(Ordering::Relaxed), 0);
        assert_eq!(budget.slot(M).try_take(free), Ok(()));
    }

    #[tokio::test]
    async fn whom_the_deadline_would_overtake_is_told_at_once() {
        let budget = LocalBudget::new(BudgetScale::Real);
        budget.take(M, Instant::now()).await.unwrap().spend();
        let deadline = now_plus(1);
        let mut waiting = Vec::new();
        let refused = loop {
            let mut take = budget.take(M, deadline);
            match (&mut take).now_or_never() {
                None => waiting.push(take),
                Some(answer) => break answer.unwrap_err(),
            }
        };
        // Two calls and a half grow back in that second.
        assert_eq!(waiting.len(), 2);
        assert!(refused.until > deadline);
    }

    #[tokio::test]
    async fn permit_dropped_unused_gives_its_call_back() {
        let budget = LocalBudget::new(BudgetScale::Real);
        let permit = budget.try_take(M).unwrap();
        assert!(budget.try_take(M).is_none());
        assert_eq!(budget.status(M).used_minute, 1);
        drop(permit);
        assert_eq!(budget.status(M).used_minute, 0);
        budget.try_take(M).unwrap().spend();
        assert!(budget.try_take(M).is_none());
    }

    #[tokio::test]
    async fn headers_lower_the_limits_and_never_raise_them() {
        let budget = LocalBudget::new(BudgetScale::Real);
        let operation = Operation::CreateOrUpdateProfile;
        let mut headers = RateLimitHeaders {
            windows: vec![(75, 1), (7000, 60)],
            ..RateLimitHeaders::default()
        };
        budget.observe(operation, &headers);
        assert_eq!(budget.status(operation).limits, Some(operation.limits()));
        headers.windows = vec![(75, 1), (700, 60)];
        budget.observe(operation, &headers);
        assert_eq!(
            budget.status(operation).limits.map(|limits| limits.steady),
            Some(700)
        );
    }

    #[tokio::test]
    async fn nothing_leaves_for_the_rest_of_a_window_with_no_calls_remaining() {
        let budget = LocalBudget::new(BudgetScale::Real);
        let headers = RateLimitHeaders {
            limit: Some(150),
            windows: vec![(10, 1), (150, 60)],
            remaining: Some(0),
            reset: Some(Duration::from_secs(20)),
        };
        budget.observe(M, &headers);
        assert!(budget.try_take(M).is_none());
        assert!(budget.status(M).next_free > now_plus(19));
    }

    #[test]
    fn reserve_leaves_its_share_to_others() {
        let budget = LocalBudget::with_reserve(BudgetScale::Real, 0.2);
        let limits = budget.status(M).limits.unwrap();
        assert_eq!((limits.burst, limits.steady), (8, 120));
    }
}
