//! The budget of one process, all of it in memory.
//!
//! Callers of one operation wait in turn, first come, first served, and only the first of them
//! sleeps. Who would wait past the deadline is told at once, counting those ahead. What is shared
//! by several processes needs another [`Budget`]; this one knows of no other caller, except
//! through the headers of answers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::budget::{Budget, BudgetScale, BudgetStatus, Permit, Wait};
use super::gate::LOCKED;
use super::operation::Operation;
use super::rate_limit::{RETRY_AFTER_MAX, RateLimitHeaders};
use super::slot::{Slot, Waiter};

/// A [`Budget`] for a process that is alone.
#[derive(Debug)]
pub struct LocalBudget {
    slots: [Arc<Slot>; Operation::ALL.len()],
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
        let slots =
            Operation::ALL.map(|operation| Arc::new(Slot::new(scale.limits(operation), reserve)));
        Self { slots, reserve }
    }

    fn slot(&self, operation: Operation) -> &Arc<Slot> {
        &self.slots[operation.index()]
    }

    async fn take_in_turn(&self, operation: Operation, deadline: Instant) -> Result<Permit, Wait> {
        let slot = self.slot(operation);
        slot.promise(deadline)?;
        let _waiter = Waiter::join(&slot.waiting);
        let Ok(turn) = tokio::time::timeout_at(deadline, slot.turn.acquire()).await else {
            return Err(slot.wait(Instant::now()));
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
        let until = Instant::now() + for_.min(RETRY_AFTER_MAX);
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
            state.close_until(now + spent_for.min(Duration::from_mins(1)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::WaitReason;
    use futures::FutureExt;
    use std::sync::atomic::Ordering;

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
