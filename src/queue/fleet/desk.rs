//! Where the callers of one operation stand in line in one process; who serves them is in `budget`.
//!
//! Nothing here waits or asks Redis, and the clock is read by the callers. A caller who has gone is skipped, and what
//! was on its way to it comes back: a permit dropped unused returns to the stock, and what is in stock for longer than
//! [`HOLD`] returns to the fleet.

use super::take::{Ask, Lowered, Reply, Ticket};
use super::terms::Terms;
use crate::klaviyo::{
    BudgetStatus, Limits, Operation, Permit, RateLimitHeaders, Shape, Wait, WaitReason,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How long a process may hold what the fleet granted.
pub(super) const HOLD: Duration = Duration::from_millis(250);
const LOCKED: &str = "nothing panics while it holds this lock";
const MINUTE: Duration = Duration::from_mins(1);

/// The line of one operation.
#[derive(Debug)]
pub(super) struct Desk {
    operation: Operation,
    state: Mutex<State>,
    /// Something changed for whoever serves.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct State {
    terms: Terms,
    callers: VecDeque<Caller>,
    stock: VecDeque<Token>,
    unused: Vec<i64>,
    ticket: Option<(Ticket, Instant)>,
    closed_until: Option<Instant>,
    day_is_full: bool,
    full_at: Instant,
    used: (u32, Instant),
}

#[derive(Debug)]
struct Caller {
    deadline: Instant,
    answer: oneshot::Sender<Permit>,
}

/// One call that was granted and has not left.
#[derive(Clone, Copy, Debug)]
struct Token {
    until: Instant,
    /// Where it was granted, for giving it back; absent when that was not the fleet.
    due_us: Option<i64>,
}

/// What is to be done next for those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until something changes, or until this time.
    Rest(Option<Instant>),
    /// Nothing until a reserved call is due.
    Sleep(Instant),
    /// Ask the fleet.
    Ask(Question),
}

/// What to ask the fleet; see [`Ask`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    shape: Shape,
    daily: Option<u32>,
    closed_for: Duration,
    pub(super) wanted: u32,
    pub(super) ticket: Option<Ticket>,
    pub(super) unused: Vec<i64>,
}

impl Question {
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask {
            shape: self.shape,
            daily: self.daily,
            closed_for: self.closed_for,
            wanted: self.wanted,
            ticket: self.ticket,
            unused: &self.unused,
        }
    }
}

impl Desk {
    pub(super) fn new(operation: Operation, published: Option<Limits>, reserve: f64) -> Self {
        let now = Instant::now();
        let state = State {
            terms: Terms::new(published, reserve),
            callers: VecDeque::new(),
            stock: VecDeque::new(),
            unused: Vec::new(),
            ticket: None,
            closed_until: None,
            day_is_full: false,
            full_at: now,
            used: (0, now),
        };
        Self {
            operation,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn operation(&self) -> Operation {
        self.operation
    }

    pub(super) fn has_limits(&self) -> bool {
        self.state().terms.shape().is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(LOCKED)
    }

    /// The state as of now: what was lowered for long enough is the account's again.
    fn state_at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.terms.expire(now);
        state
    }

    // ---- those who wait ----

    /// Joins the line; refused at once when the deadline would come first, as far as anybody can tell.
    pub(super) fn join(
        self: &Arc<Self>,
        deadline: Instant,
        now: Instant,
    ) -> Result<oneshot::Receiver<Permit>, Wait> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        state.forget_gone();
        let wait = state.wait(now);
        if wait.until > deadline.max(now) {
            return Err(wait);
        }
        state.callers.push_back(Caller { deadline, answer });
        drop(state);
        self.serve(now);
        self.changed.notify_one();
        Ok(receiver)
    }

    /// Takes from the stock, if nobody waits.
    pub(super) fn try_take(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        let mut state = self.state();
        state.forget_gone();
        if !state.callers.is_empty() || state.closed(now).is_some() {
            return None;
        }
        if state.terms.shape().is_none() {
            return Some(Permit::new(self.operation));
        }
        state.retire_stock(now);
        let token = state.stock.pop_front()?;
        drop(state);
        Some(self.permit(token))
    }

    /// Says when a newcomer could get a permit.
    pub(super) fn wait(&self, now: Instant) -> Wait {
        self.state().wait(now)
    }

    fn permit(self: &Arc<Self>, token: Token) -> Permit {
        let desk = Arc::clone(self);
        Permit::returning(self.operation, move || desk.give_back(token))
    }

    fn give_back(self: &Arc<Self>, token: Token) {
        self.state().stock.push_front(token);
        self.serve(Instant::now());
        self.changed.notify_one();
    }

    /// Hands out what is in stock, in turn.
    fn serve(self: &Arc<Self>, now: Instant) {
        loop {
            let mut state = self.state();
            state.retire_stock(now);
            state.forget_gone();
            if state.callers.is_empty() || state.closed(now).is_some() {
                return;
            }
            let Some(token) = state.stock.pop_front() else {
                return;
            };
            let caller = state.callers.pop_front().expect("seen just now");
            // The lock must be free: a caller who is gone by now gives its permit back at once.
            drop(state);
            drop(caller.answer.send(self.permit(token)));
        }
    }

    // ---- whoever serves ----

    /// Says what is to be done.
    pub(super) fn step(&self, now: Instant) -> Step {
        let mut state = self.state_at(now);
        state.forget_gone();
        state.retire_stock(now);
        let Some(shape) = state.terms.shape() else {
            return Step::Rest(None);
        };
        if let Some((_, due)) = state.ticket.filter(|(_, due)| *due > now) {
            return Step::Sleep(due);
        }
        let closed = state.closed(now);
        let waiting = u32::try_from(state.callers.len()).unwrap_or(u32::MAX);
        let ticket = state.ticket.map(|(ticket, _)| ticket);
        let wanted = match closed {
            Some(_) => 0,
            None => waiting
                .saturating_sub(ticket.map_or(0, |it| it.calls))
                .min(shape.block),
        };
        if wanted == 0 && ticket.is_none() && state.unused.is_empty() {
            let stock = state.stock.front().map(|token| token.until);
            let closed = closed.filter(|_| waiting > 0);
            return Step::Rest(stock.into_iter().chain(closed).min());
        }
        state.ticket = None;
        Step::Ask(Question {
            shape,
            daily: state.terms.limits().and_then(|limits| limits.daily),
            closed_for: closed.map_or(Duration::ZERO, |until| until - now),
            wanted,
            ticket,
            unused: std::mem::take(&mut state.unused),
        })
    }

    /// Takes in what the fleet answered.
    pub(super) fn hear(self: &Arc<Self>, question: &Question, reply: &Reply, now: Instant) {
        let mut state = self.state();
        state.full_at = now + reply.full_in;
        state.used = (reply.used, now);
        state.day_is_full = reply.day_is_full;
        if let Some(closed_for) = reply.closed_for {
            state.close_until(now + closed_for);
        }
        if let Some(lowered) = reply.lowered {
            state.terms.lower(lowered, now);
        }
        if let Some(ticket) = question.ticket.filter(|_| reply.ticket_is_good) {
            state.put_in_stock(ticket.calls, Some(ticket.due_us), now);
        }
        state.put_in_stock(reply.free, Some(reply.due_us), now);
        state.ticket = (reply.reserved > 0).then(|| {
            let ticket = Ticket {
                calls: reply.reserved,
                due_us: reply.due_us,
            };
            (ticket, now + reply.wait)
        });
        drop(state);
        self.serve(now);
    }

    /// Serves one caller with a call that the fleet does not know of.
    pub(super) fn serve_alone(self: &Arc<Self>, now: Instant) {
        self.state().put_in_stock(1, None, now);
        self.serve(now);
    }

    pub(super) fn is_wanted(&self) -> bool {
        let mut state = self.state();
        state.forget_gone();
        !state.callers.is_empty()
    }

    // ---- what Klaviyo says ----

    /// Closes the line; true if it was not closed so long.
    pub(super) fn close_until(&self, until: Instant) -> bool {
        let closed = self.state().close_until(until);
        self.changed.notify_one();
        closed
    }

    pub(super) fn closed(&self, now: Instant) -> Option<Instant> {
        self.state().closed(now)
    }

    /// Returns the limits to tell the fleet when two answers in a row named the same lower ones.
    pub(super) fn named(&self, headers: &RateLimitHeaders, now: Instant) -> Option<Limits> {
        self.state_at(now).terms.named(headers, now)
    }

    /// Adopts limits that another process was told.
    pub(super) fn lower(&self, lowered: Lowered, now: Instant) {
        self.state_at(now).terms.lower(lowered, now);
    }

    pub(super) fn status(&self, now: Instant) -> BudgetStatus {
        let state = self.state_at(now);
        let closed_until = state.closed(now);
        let available = match (closed_until, state.terms.shape()) {
            (Some(_), _) => 0,
            (None, None) => u32::MAX,
            (None, Some(shape)) => {
                let owed = state.full_at.saturating_duration_since(now).as_nanos();
                let taken = owed.div_ceil(shape.interval.as_nanos().max(1));
                let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                shape.capacity.get().saturating_sub(taken)
            }
        };
        let (used, heard) = state.used;
        // What is only held here has not left.
        let held = state.stock.len() + state.unused.len();
        let used = used.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX));
        BudgetStatus {
            limits: state.terms.limits(),
            available,
            used_minute: if now < heard + MINUTE { used } else { 0 },
            used_day: None,
            next_free: state.wait(now).until,
            closed_until,
        }
    }
}

impl State {
    fn closed(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    fn close_until(&mut self, until: Instant) -> bool {
        if self.closed_until >= Some(until) {
            return false;
        }
        self.closed_until = Some(until);
        // Whose deadline comes first is told now: dropping its sender does.
        self.callers.retain(|caller| caller.deadline >= until);
        true
    }

    fn wait(&self, now: Instant) -> Wait {
        let ahead = u32::try_from(self.callers.len()).unwrap_or(u32::MAX);
        let (mut until, mut reason) = (now, WaitReason::Minute);
        if let Some(shape) = self.terms.shape() {
            let tolerance = shape.interval * (shape.capacity.get() - 1);
            until = until.max(self.full_at.checked_sub(tolerance).unwrap_or(now));
        }
        if let Some(closed) = self.closed(now).filter(|closed| *closed > until) {
            until = closed;
            reason = if self.day_is_full {
                WaitReason::Day
            } else {
                WaitReason::Closed
            };
        }
        let interval = self
            .terms
            .shape()
            .map(|shape| shape.interval)
            .unwrap_or_default();
        until += interval.saturating_mul(ahead);
        Wait { until, reason }
    }

    fn put_in_stock(&mut self, calls: u32, due_us: Option<i64>, now: Instant) {
        let token = Token {
            until: now + HOLD,
            due_us,
        };
        self.stock.extend((0..calls).map(|_| token));
    }

    fn retire_stock(&mut self, now: Instant) {
        let unused = &mut self.unused;
        self.stock.retain(|token| {
            if token.until <= now {
                unused.extend(token.due_us);
            }
            token.until > now
        });
    }

    fn forget_gone(&mut self) {
        self.callers.retain(|caller| !caller.answer.is_closed());
    }
}
