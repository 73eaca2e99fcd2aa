//! What is asked of the shared bucket, and what it answers. Redis' clock is in the script; here are only distances.

use super::names;
use crate::klaviyo::{Limits, Operation, RETRY_AFTER_MAX, Shape};
use crate::queue::connection::Connection;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script};
use std::sync::LazyLock;
use std::time::Duration;

/// How long limits that Klaviyo named hold; then it must name them again.
pub(super) const LOWERED_FOR: Duration = Duration::from_hours(24);

pub(super) const TAKE: &str = include_str!("take.lua");

/// Calls that were reserved, and when they are due on Redis' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) calls: u32,
    pub(super) due_us: i64,
}

/// A request to the bucket of one operation.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) shape: Shape,
    pub(super) daily: Option<u32>,
    /// How long this process knows the operation to be closed; Redis may have forgotten.
    pub(super) closed_for: Duration,
    pub(super) wanted: u32,
    pub(super) ticket: Option<Ticket>,
    /// The due times of calls that come back.
    pub(super) unused: &'a [i64],
}

/// Limits below the published ones, and how long they hold from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lowered {
    pub(super) limits: Limits,
    pub(super) for_: Duration,
}

/// What the bucket answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) ticket_is_good: bool,
    /// Calls that may leave now.
    pub(super) free: u32,
    /// Calls that may leave after the wait, with a ticket.
    pub(super) reserved: u32,
    pub(super) due_us: i64,
    pub(super) wait: Duration,
    pub(super) closed_for: Option<Duration>,
    pub(super) day_is_full: bool,
    /// When the bucket is full again.
    pub(super) full_in: Duration,
    pub(super) used: u32,
    pub(super) lowered: Option<Lowered>,
}

/// As `take.lua` returns it.
pub(super) type Answer = (
    (i64, u32, u32, i64, i64),
    (i64, String, i64, u32),
    (u32, u32, u32, i64),
);

impl Ask<'_> {
    /// Asks Redis.
    pub(super) async fn send(
        &self,
        redis: &mut Connection,
        keys: &Keys,
        operation: Operation,
    ) -> RedisResult<Reply> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TAKE));
        let budget = names::budget(keys, operation);
        let mut call = SCRIPT.key(&budget);
        call.key(format!("{budget}:day"));
        for argument in self.arguments() {
            call.arg(argument);
        }
        call.invoke_async::<Answer>(redis).await.map(Reply::from)
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        let ticket = self.ticket.unwrap_or(Ticket {
            calls: 0,
            due_us: 0,
        });
        let mut arguments = vec![
            format!("{:.3}", self.shape.interval.as_secs_f64() * 1e6),
            self.shape.capacity.to_string(),
            self.daily.unwrap_or(0).to_string(),
            self.closed_for.as_micros().to_string(),
            names::RETRY_AFTER.to_owned(),
            micros_of(RETRY_AFTER_MAX).to_string(),
            self.wanted.to_string(),
            ticket.calls.to_string(),
            ticket.due_us.to_string(),
        ];
        arguments.extend(self.unused.iter().map(ToString::to_string));
        arguments
    }
}

impl From<Answer> for Reply {
    fn from((calls, bucket, limits): Answer) -> Self {
        let (good, free, reserved, due_us, wait_us) = calls;
        let (closed_us, why, full_in_us, used) = bucket;
        Self {
            ticket_is_good: good == 1,
            free,
            reserved,
            due_us,
            wait: micros(wait_us),
            closed_for: (closed_us > 0).then(|| micros(closed_us)),
            day_is_full: why == "day",
            full_in: micros(full_in_us),
            used,
            lowered: lowered(limits),
        }
    }
}

pub(super) fn lowered((burst, steady, daily, for_us): (u32, u32, u32, i64)) -> Option<Lowered> {
    let limits = Limits {
        burst,
        steady,
        daily: (daily > 0).then_some(daily),
    };
    // A clock that was set back must not make it longer.
    let for_ = micros(for_us).min(LOWERED_FOR);
    (steady > 0).then_some(Lowered { limits, for_ })
}

/// Closes an operation for the fleet.
pub(super) async fn close(
    redis: &mut Connection,
    keys: &Keys,
    operation: Operation,
    closed_for: Duration,
    lowered: Option<Limits>,
) -> RedisResult<()> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("close.lua")));
    let limits = lowered.unwrap_or(Limits {
        burst: 0,
        steady: 0,
        daily: None,
    });
    let mut call = SCRIPT.key(names::budget(keys, operation));
    call.key(names::version(keys))
        .arg(micros_of(closed_for))
        .arg(names::RETRY_AFTER)
        .arg(limits.burst)
        .arg(limits.steady)
        .arg(limits.daily.unwrap_or(0))
        .arg(micros_of(RETRY_AFTER_MAX))
        .arg(micros_of(LOWERED_FOR));
    call.invoke_async::<i64>(redis).await.map(drop)
}

pub(super) fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn micros(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}
