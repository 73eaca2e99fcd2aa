//! The meters of one account: what its client and its queues tell, counted.
//!
//! Handles are made once for each label set; counting a job costs no allocation and no lock but a short one per run of
//! jobs that share queue, kind and fate.

use super::names;
use super::recorder::Telemetry;
use crate::klaviyo::{self, Client, Group, Operation};
use crate::queue::{self, Fate, Overview, Route, Settled};
use crate::services::AccountAudit;
use jiff::Timestamp;
use metrics::{Counter, Gauge, Histogram, Label};
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

const OUTCOMES: [&str; 4] = ["delivered", "retried", "snoozed", "buried"];
/// The kind of what nobody could read.
const UNKNOWN: &str = "unknown";
const NO_ANSWER: &str = "none";
const LOCKED: &str = "no holder of this lock panics";

/// The meters of one account.
pub struct AccountMeters {
    telemetry: Telemetry,
    account: String,
    kinds: Vec<KindMeters>,
    queues: Vec<QueueMeters>,
    operations: Vec<OperationMeters>,
    groups: Vec<Gauge>,
    credentials: Gauge,
    revision_days: Gauge,
    reconnects: Counter,
    audit_dropped: Counter,
    audit_lag: Gauge,
    takeovers: Counter,
    lots: Histogram,
    waits: Histogram,
    dead: Mutex<HashMap<(usize, &'static str), Counter>>,
    answers: Mutex<HashMap<(Operation, Option<u16>), Counter>>,
}

struct KindMeters {
    kind: &'static str,
    queue: usize,
    outcomes: [Counter; OUTCOMES.len()],
}

struct QueueMeters {
    queue: &'static str,
    states: [Gauge; 5],
    oldest: Gauge,
    drain: Gauge,
}

struct OperationMeters {
    operation: Operation,
    seconds: Histogram,
    rate_limited: Counter,
    gate: Gauge,
    second: Gauge,
    minute: Gauge,
    day: Option<Gauge>,
}

impl AccountMeters {
    pub(super) fn new(telemetry: Telemetry, account: &str, routes: &[Route]) -> Self {
        let own = |more: &[(&'static str, &'static str)]| labels(account, more);
        let mut queues: Vec<&str> = routes.iter().map(|route| route.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        let outcomes_of = |queue: &'static str, kind: &'static str| {
            OUTCOMES.map(|outcome| {
                let more = [("queue", queue), ("kind", kind), ("outcome", outcome)];
                telemetry.counter(names::JOBS, own(&more))
            })
        };
        let kinds = routes.iter().map(|route| (route.queue, route.kind));
        let unknown = queues.iter().map(|queue| (*queue, UNKNOWN));
        let kinds = kinds.chain(unknown).map(|(queue, kind)| KindMeters {
            kind,
            queue: queues
                .iter()
                .position(|it| *it == queue)
                .expect("collected above"),
            outcomes: outcomes_of(queue, kind),
        });
        Self {
            kinds: kinds.collect(),
            queues: queues
                .iter()
                .map(|queue| QueueMeters::new(&telemetry, account, queue))
                .collect(),
            operations: Operation::ALL
                .map(|operation| OperationMeters::new(&telemetry, account, operation))
                .into(),
            groups: Group::ALL
                .map(|group| {
                    telemetry.gauge(names::BREAKER_TRIPPED, own(&[("group", group.name())]))
                })
                .into(),
            credentials: telemetry.gauge(names::CREDENTIALS_OK, own(&[])),
            revision_days: telemetry.gauge(names::REVISION_DAYS, own(&[])),
            audit_dropped: telemetry.counter(names::AUDIT_DROPPED, own(&[])),
            audit_lag: telemetry.gauge(names::AUDIT_LAG, own(&[])),
            reconnects: telemetry.counter(names::REDIS_RECONNECTS, own(&[])),
            takeovers: telemetry.counter(names::LEASE_TAKEOVERS, own(&[])),
            lots: telemetry.histogram(names::LOT_JOBS, own(&[])),
            waits: telemetry.histogram(names::JOB_WAIT, own(&[])),
            dead: Mutex::default(),
            answers: Mutex::default(),
            account: account.to_owned(),
            telemetry,
        }
    }

    /// Takes over what the client knows: gates, breakers, budgets.
    pub(super) fn see_client(&self, client: &Client) {
        self.credentials
            .set(f64::from(u8::from(client.credentials_closed().is_none())));
        for (gauge, group) in self.groups.iter().zip(Group::ALL) {
            gauge.set(f64::from(u8::from(client.tripped(group).is_some())));
        }
        for meters in &self.operations {
            meters.see(client);
        }
    }

    /// Takes over what Redis knows about the queues; without it nobody knows, and old numbers would lie.
    pub(super) fn see_queues(&self, seen: Option<&[Overview]>) {
        for meters in &self.queues {
            let found = seen.and_then(|seen| seen.iter().find(|it| it.queue == meters.queue));
            meters.see(found);
        }
    }

    pub(super) fn see_audit(&self, audit: &AccountAudit) {
        self.audit_dropped.absolute(audit.dropped());
        self.audit_lag.set(audit.lag().as_secs_f64());
    }

    pub(super) fn see_reconnects(&self, reconnects: u64) {
        self.reconnects.absolute(reconnects);
    }

    pub(super) fn see_revision(&self, days: Option<i32>) {
        self.revision_days.set(days.map_or(f64::NAN, f64::from));
    }

    fn count_run(&self, first: &Settled<'_>, jobs: u64) {
        let kind = first.kind.unwrap_or(UNKNOWN);
        let Some(meters) = self
            .kinds
            .iter()
            .find(|it| it.kind == kind && self.queues[it.queue].queue == first.queue)
        else {
            return;
        };
        let outcome = match first.fate {
            Fate::Delivered => 0,
            Fate::Retried => 1,
            Fate::Snoozed => 2,
            Fate::Buried(code) => {
                self.count_dead(meters.queue, code, jobs);
                3
            }
        };
        meters.outcomes[outcome].increment(jobs);
    }

    fn count_dead(&self, queue: usize, code: &'static str, jobs: u64) {
        let mut dead = self.dead.lock().expect(LOCKED);
        let counter = dead.entry((queue, code)).or_insert_with(|| {
            let more = [("queue", self.queues[queue].queue), ("code", code)];
            self.telemetry
                .counter(names::DEAD, labels(&self.account, &more))
        });
        counter.increment(jobs);
    }
}

impl queue::Observer for AccountMeters {
    #[expect(clippy::cast_precision_loss, reason = "no lot has 2^52 jobs")]
    fn lot(&self, jobs: usize) {
        self.lots.record(jobs as f64);
    }

    fn settled(&self, jobs: &[Settled<'_>]) {
        let same = |left: &Settled<'_>, right: &Settled<'_>| {
            left.queue == right.queue && left.kind == right.kind && left.fate == right.fate
        };
        for run in jobs.chunk_by(same) {
            self.count_run(&run[0], run.len() as u64);
        }
        let now = Timestamp::now().as_millisecond();
        for job in jobs.iter().filter(|job| job.fate == Fate::Delivered) {
            let waited = now.saturating_sub(job.enqueued.time().as_millisecond());
            let waited = Duration::from_millis(u64::try_from(waited).unwrap_or(0));
            self.waits.record(waited.as_secs_f64());
        }
    }

    fn took_over(&self, jobs: usize) {
        self.takeovers.increment(jobs as u64);
    }
}

impl klaviyo::Observer for AccountMeters {
    fn answered(&self, operation: Operation, status: Option<u16>, took: Duration) {
        let meters = &self.operations[operation.index()];
        meters.seconds.record(took.as_secs_f64());
        if status == Some(429) {
            meters.rate_limited.increment(1);
        }
        let mut answers = self.answers.lock().expect(LOCKED);
        let counter = answers.entry((operation, status)).or_insert_with(|| {
            let status = status.map_or(NO_ANSWER.into(), |status| status.to_string());
            let mut labels = labels(&self.account, &[("operation", operation.name())]);
            labels.push(Label::new("status", status));
            self.telemetry.counter(names::HTTP_REQUESTS, labels)
        });
        counter.increment(1);
    }
}

impl fmt::Debug for AccountMeters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AccountMeters({})", self.account)
    }
}

impl QueueMeters {
    fn new(telemetry: &Telemetry, account: &str, queue: &'static str) -> Self {
        let own = |more: &[(&'static str, &'static str)]| {
            let mut labels = labels(account, &[("queue", queue)]);
            labels.extend(
                more.iter()
                    .map(|(name, value)| Label::from_static_parts(name, value)),
            );
            labels
        };
        let states = ["ready", "in_flight", "delayed", "dead", "backfill"];
        Self {
            queue,
            states: states
                .map(|state| telemetry.gauge(names::QUEUE_JOBS, own(&[("state", state)]))),
            oldest: telemetry.gauge(names::QUEUE_OLDEST, own(&[])),
            drain: telemetry.gauge(names::QUEUE_DRAIN, own(&[])),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no queue has 2^52 jobs")]
    fn see(&self, seen: Option<&Overview>) {
        let Some(seen) = seen else {
            let all = self.states.iter().chain([&self.oldest, &self.drain]);
            return all.for_each(|gauge| gauge.set(f64::NAN));
        };
        let counts = [
            seen.ready,
            seen.in_flight,
            seen.delayed,
            seen.dead,
            seen.backfill,
        ];
        for (gauge, count) in self.states.iter().zip(counts) {
            gauge.set(count as f64);
        }
        self.oldest.set(seen.oldest_ms as f64 / 1000.0);
        // Unknown while jobs wait and none leaves: for ever, as far as anybody can tell.
        self.drain
            .set(seen.drain_ms.map_or(f64::INFINITY, |ms| ms as f64 / 1000.0));
    }
}

impl OperationMeters {
    fn new(telemetry: &Telemetry, account: &str, operation: Operation) -> Self {
        let own = || labels(account, &[("operation", operation.name())]);
        let budget = |window: &'static str| {
            let mut labels = own();
            labels.push(Label::from_static_parts("window", window));
            telemetry.gauge(names::BUDGET_AVAILABLE, labels)
        };
        Self {
            operation,
            seconds: telemetry.histogram(names::HTTP_SECONDS, own()),
            rate_limited: telemetry.counter(names::RATE_LIMITED, own()),
            gate: telemetry.gauge(names::GATE_CLOSED, own()),
            second: budget("1s"),
            minute: budget("60s"),
            day: operation.limits().daily.map(|_| budget("24h")),
        }
    }

    fn see(&self, client: &Client) {
        let closed = client.operation_closed(self.operation).is_some();
        self.gate.set(f64::from(u8::from(closed)));
        let budget = client.budget(self.operation);
        let Some(limits) = budget.limits else {
            let windows = [&self.second, &self.minute].into_iter().chain(&self.day);
            return windows.for_each(|gauge| gauge.set(f64::INFINITY));
        };
        self.second.set(f64::from(budget.available));
        self.minute
            .set(f64::from(limits.steady.saturating_sub(budget.used_minute)));
        if let (Some(day), Some(limit)) = (&self.day, limits.daily) {
            let used = budget.used_day.unwrap_or(0);
            day.set(f64::from(limit.saturating_sub(used)));
        }
    }
}

fn labels(account: &str, more: &[(&'static str, &'static str)]) -> Vec<Label> {
    let more = more
        .iter()
        .map(|(name, value)| Label::from_static_parts(name, value));
    [Label::new("account", account.to_owned())]
        .into_iter()
        .chain(more)
        .collect()
}
