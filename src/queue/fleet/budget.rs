//! The budget that all daemons of an account share: one bucket for each operation, in Redis.
//!
//! In a process one task per operation asks for those who wait, and sleeps until the time Redis named; nobody polls.
//! Without an answer from Redis a quarter of the budget is used through governor alone, so that what is in flight
//! ends while even three cut-off daemons stay within the limits.

use super::desk::{Desk, Step};
use super::keeper::{Line, Word};
use crate::klaviyo::{
    Budget, BudgetScale, BudgetStatus, LocalBudget, Operation, Permit, RETRY_AFTER_MAX,
    RateLimitHeaders, Wait,
};
use crate::queue::connection::Connection;
use futures::future::BoxFuture;
use klaviyo_jobs::Keys;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// What each process uses while Redis is away.
const SHARE_ALONE: f64 = 0.25;
/// Redis that takes longer counts as away.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The shortest sleep between two looks at the small budget.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// How soon Redis is asked again after it was away.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A [`Budget`] shared through Redis.
#[derive(Debug)]
pub(super) struct FleetBudget {
    desks: [Arc<Desk>; Operation::ALL.len()],
    line: Arc<Line>,
}

impl FleetBudget {
    pub(super) fn new(scale: BudgetScale, reserve: f64, line: Arc<Line>) -> Self {
        let desk = |it| Arc::new(Desk::new(it, scale.limits(it), reserve));
        Self {
            desks: Operation::ALL.map(desk),
            line,
        }
    }

    pub(super) fn desks(&self) -> &[Arc<Desk>] {
        &self.desks
    }

    fn desk(&self, operation: Operation) -> &Arc<Desk> {
        &self.desks[operation as usize]
    }

    async fn take_in_turn(&self, operation: Operation, deadline: Instant) -> Result<Permit, Wait> {
        let desk = self.desk(operation);
        self.line.note_traffic();
        if desk.has_limits() {
            let answer = desk.join(deadline, Instant::now())?;
            return match timeout_at(deadline, answer).await {
                Ok(Ok(permit)) => Ok(permit),
                Ok(Err(_)) | Err(_) => Err(desk.wait(Instant::now())),
            };
        }
        loop {
            let now = Instant::now();
            match desk.closed(now) {
                None => return Ok(Permit::new(operation)),
                Some(until) if until > deadline => return Err(desk.wait(now)),
                Some(until) => sleep_until(until).await,
            }
        }
    }
}

impl Budget for FleetBudget {
    fn take(&self, operation: Operation, deadline: Instant) -> BoxFuture<'_, Result<Permit, Wait>> {
        Box::pin(self.take_in_turn(operation, deadline))
    }

    fn try_take(&self, operation: Operation) -> Option<Permit> {
        self.line.note_traffic();
        self.desk(operation).try_take(Instant::now())
    }

    fn close(&self, operation: Operation, for_: Duration) {
        let for_ = for_.min(RETRY_AFTER_MAX);
        if self.desk(operation).close_until(Instant::now() + for_) {
            self.line.say(Word::Close {
                operation,
                for_,
                lowered: None,
            });
        }
    }

    fn observe(&self, operation: Operation, headers: &RateLimitHeaders) {
        let desk = self.desk(operation);
        if !desk.has_limits() {
            return;
        }
        if let Some(spent_for) = headers.spent_for() {
            self.close(operation, spent_for.min(Duration::from_mins(1)));
        }
        if let Some(lowered) = desk.named(headers, Instant::now()) {
            tracing::warn!(
                operation = operation.name(),
                "lowered limits: Klaviyo grants less than its reference says"
            );
            self.line.say(Word::Close {
                operation,
                for_: Duration::ZERO,
                lowered: Some(lowered),
            });
        }
    }

    fn status(&self, operation: Operation) -> BudgetStatus {
        self.desk(operation).status(Instant::now())
    }
}

/// Serves those who wait for one operation, until it is dropped.
pub(super) async fn serve(
    desk: Arc<Desk>,
    mut redis: Connection,
    keys: Keys,
    alone: Arc<LocalBudget>,
) {
    loop {
        match desk.step(Instant::now()) {
            Step::Rest(None) => desk.changed.notified().await,
            Step::Rest(Some(until)) => {
                // Either way there may be something to do.
                drop(timeout_at(until, desk.changed.notified()).await);
            }
            Step::Sleep(due) => sleep_until(due).await,
            Step::Ask(question) => {
                let ask = question.ask();
                let asked = ask.send(&mut redis, &keys, desk.operation());
                match timeout(ANSWER_MAX, asked).await {
                    Ok(Ok(reply)) => desk.hear(&question, &reply, Instant::now()),
                    Ok(Err(error)) => {
                        redis.health().complain("take from the budget", &error);
                        serve_alone(&desk, &alone).await;
                    }
                    Err(_) => serve_alone(&desk, &alone).await,
                }
            }
        }
    }
}

/// Serves from this process's own small budget until Redis shall be asked again.
async fn serve_alone(desk: &Arc<Desk>, alone: &LocalBudget) {
    let end = Instant::now() + ASK_AGAIN;
    loop {
        let now = Instant::now();
        if now >= end {
            return;
        }
        let closed = desk.closed(now);
        if closed.is_none()
            && desk.is_wanted()
            && let Some(permit) = alone.try_take(desk.operation())
        {
            permit.spend();
            desk.serve_alone(now);
            continue;
        }
        let free = alone.status(desk.operation()).next_free;
        // While nobody waits there is nothing to wake for.
        let wake = closed.unwrap_or(if desk.is_wanted() { free } else { end });
        drop(timeout_at(wake.max(now + PAUSE_MIN).min(end), desk.changed.notified()).await);
    }
}

/// The budget of a process that has lost the others.
pub(super) fn alone(scale: BudgetScale, reserve: f64) -> LocalBudget {
    LocalBudget::with_reserve(scale, 1.0 - (1.0 - reserve) * SHARE_ALONE)
}
