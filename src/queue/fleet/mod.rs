//! What all daemons of an account share through Redis: budgets, gates, breakers.
//!
//! The client declares what it needs of a fleet as traits; they are implemented here. Each process decides for itself
//! from what it last heard, and only asks Redis for calls of the budget and for the one probe of a shut barrier.
//! The surprising thing: nothing is lost when Redis forgets all of this. It is learned again, at the price of a few
//! refused calls.

mod budget;
mod desk;
#[cfg(test)]
mod desk_tests;
mod keeper;
mod look;
mod names;
mod take;
mod terms;

pub use look::{BarrierState, OperationLimits, operation_limits};

use super::connection::Connection;
use super::vital::Vital;
use crate::klaviyo::{self, Budget, BudgetScale, Client, LocalBudget};
use budget::FleetBudget;
use desk::HOLD;
use futures::FutureExt;
use keeper::{Keeper, Line, Word};
use klaviyo_jobs::Keys;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// This process as a member of its account's fleet.
#[derive(Debug)]
pub struct Fleet {
    redis: Connection,
    keys: Keys,
    budget: Arc<FleetBudget>,
    alone: Arc<LocalBudget>,
    line: Arc<Line>,
    inbox: Option<mpsc::UnboundedReceiver<Word>>,
    tasks: TaskTracker,
    vital: Vital,
    left: CancellationToken,
    _leave: DropGuard,
}

impl Fleet {
    /// Creates a member with the account's limits, of which a share (0 to 1) is left to others.
    pub fn new(redis: Connection, keys: Keys, scale: BudgetScale, reserve: f64) -> Self {
        let (line, inbox) = Line::new();
        let left = CancellationToken::new();
        Self {
            redis,
            keys,
            budget: Arc::new(FleetBudget::new(scale, reserve, Arc::clone(&line))),
            alone: Arc::new(budget::alone(scale, reserve)),
            line,
            inbox: Some(inbox),
            tasks: TaskTracker::new(),
            vital: Vital::new(),
            _leave: left.clone().drop_guard(),
            left,
        }
    }

    /// The budget, for the client.
    pub fn budget(&self) -> Arc<dyn Budget> {
        Arc::<FleetBudget>::clone(&self.budget)
    }

    /// The line to the others, for the client.
    pub fn line(&self) -> Arc<dyn klaviyo::Fleet> {
        Arc::<Line>::clone(&self.line)
    }

    /// Joins: hears what the others know before the first call, and serves the client from now on.
    pub async fn join(&mut self, client: &Arc<Client>) {
        let Some(inbox) = self.inbox.take() else {
            return;
        };
        for desk in self.budget.desks().iter().filter(|it| it.has_limits()) {
            let serve = budget::serve(
                Arc::clone(desk),
                self.redis.clone(),
                self.keys.clone(),
                Arc::clone(&self.alone),
            );
            self.spawn("budget", serve);
        }
        let mut keeper = Keeper::new(
            self.redis.clone(),
            self.keys.clone(),
            format!("{:016x}", rand::random::<u64>()),
            Arc::clone(&self.line),
            self.budget.desks().to_vec(),
            Arc::clone(client),
        );
        keeper.glance().await;
        self.spawn("fleet", keeper.keep(inbox));
    }

    fn spawn(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (left, vital) = (self.left.clone(), self.vital.clone());
        self.tasks.spawn(async move {
            let work = left.run_until_cancelled(work).map(drop);
            let has_left = || left.is_cancelled();
            vital.watch_over(task, work, has_left).await;
        });
    }

    /// Waits until a task has ended without which no call leaves.
    pub async fn broken(&self) {
        self.vital.broken().await;
    }

    /// Leaves: nothing is asked or told any more.
    pub async fn leave(self) {
        self.left.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
