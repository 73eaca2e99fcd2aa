//! Every metric: its name, what it is, what it means.

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Its values are counted in buckets with these upper ends.
    Histogram(&'static [f64]),
}

/// Jobs that moved on, by queue, kind and outcome (`delivered`, `retried`, `snoozed`, `buried`).
pub const JOBS: &str = "klaviyod_jobs_total";
/// From enqueueing to acceptance.
pub const JOB_WAIT: &str = "klaviyod_job_wait_seconds";
/// What is where, by queue and state.
pub const QUEUE_JOBS: &str = "klaviyod_queue_jobs";
/// The age of the oldest job, by queue.
pub const QUEUE_OLDEST: &str = "klaviyod_queue_oldest_seconds";
/// How long the waiting jobs take at the fleet's rate of the last minute, by queue.
pub const QUEUE_DRAIN: &str = "klaviyod_queue_drain_seconds";
/// Jobs in one lot.
pub const LOT_JOBS: &str = "klaviyod_lot_jobs";
/// Calls, by operation and status (`none`: no answer).
pub const HTTP_REQUESTS: &str = "klaviyod_http_requests_total";
/// How long calls take, by operation.
pub const HTTP_SECONDS: &str = "klaviyod_http_seconds";
/// Answers 429, by operation.
pub const RATE_LIMITED: &str = "klaviyod_rate_limited_total";
/// Calls left, by operation and window (`1s`, `60s`, `24h`).
pub const BUDGET_AVAILABLE: &str = "klaviyod_budget_available";
/// Tripped breakers, by group.
pub const BREAKER_TRIPPED: &str = "klaviyod_breaker_tripped";
/// Closed gates, by operation.
pub const GATE_CLOSED: &str = "klaviyod_gate_closed";
/// Whether Klaviyo accepts the key.
pub const CREDENTIALS_OK: &str = "klaviyod_credentials_ok";
/// Jobs that died, by queue and code.
pub const DEAD: &str = "klaviyod_dead_total";
/// Jobs taken over from vanished consumers.
pub const LEASE_TAKEOVERS: &str = "klaviyod_lease_takeovers_total";
/// Attempts that the audit lacks.
pub const AUDIT_DROPPED: &str = "klaviyod_audit_dropped_total";
/// How long the oldest attempt has waited to be written.
pub const AUDIT_LAG: &str = "klaviyod_audit_lag_seconds";
/// Connections to Redis that were made anew.
pub const REDIS_RECONNECTS: &str = "klaviyod_redis_reconnects_total";
/// Days until the revision is two years old.
pub const REVISION_DAYS: &str = "klaviyod_revision_days_to_retirement";

const WAIT_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3_600.0, 14_400.0, 86_400.0,
];
const CALL_SECONDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const LOT_SIZES: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
];

/// Every metric, in the order of the interface.
pub const ALL: &[(&str, Shape, &str)] = &[
    (
        JOBS,
        Shape::Counter,
        "Jobs that moved on, by what became of them",
    ),
    (
        JOB_WAIT,
        Shape::Histogram(WAIT_SECONDS),
        "Seconds from enqueueing to acceptance by Klaviyo",
    ),
    (QUEUE_JOBS, Shape::Gauge, "Jobs of a queue, by state"),
    (
        QUEUE_OLDEST,
        Shape::Gauge,
        "Age of the oldest job of a queue that waits or runs",
    ),
    (
        QUEUE_DRAIN,
        Shape::Gauge,
        "Seconds until the waiting jobs are done at the rate of the last minute",
    ),
    (
        LOT_JOBS,
        Shape::Histogram(LOT_SIZES),
        "Jobs that one lot took",
    ),
    (
        HTTP_REQUESTS,
        Shape::Counter,
        "Calls to Klaviyo, by status; none is no answer",
    ),
    (
        HTTP_SECONDS,
        Shape::Histogram(CALL_SECONDS),
        "Seconds that a call to Klaviyo took",
    ),
    (RATE_LIMITED, Shape::Counter, "Answers 429 of Klaviyo"),
    (
        BUDGET_AVAILABLE,
        Shape::Gauge,
        "Calls left in a window; infinite without limits",
    ),
    (
        BREAKER_TRIPPED,
        Shape::Gauge,
        "1 while a part of Klaviyo is not called because it fails",
    ),
    (
        GATE_CLOSED,
        Shape::Gauge,
        "1 while Klaviyo does not allow an operation",
    ),
    (
        CREDENTIALS_OK,
        Shape::Gauge,
        "1 while no call is refused for its key",
    ),
    (DEAD, Shape::Counter, "Jobs that died, by reason"),
    (
        LEASE_TAKEOVERS,
        Shape::Counter,
        "Jobs taken over from daemons that vanished",
    ),
    (
        AUDIT_DROPPED,
        Shape::Counter,
        "Attempts that are not in the audit, because the database did not take them in time",
    ),
    (
        AUDIT_LAG,
        Shape::Gauge,
        "Seconds that the oldest attempt has waited to be written to the audit",
    ),
    (
        REDIS_RECONNECTS,
        Shape::Counter,
        "Connections to Redis that were made anew",
    ),
    (
        REVISION_DAYS,
        Shape::Gauge,
        "Days until Klaviyo retires the revision in use",
    ),
];
