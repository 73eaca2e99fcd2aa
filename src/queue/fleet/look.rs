//! Looks at everything the fleet shares, at one moment: for the keeper, and for people.

use super::take::{Lowered, lowered, micros, micros_of};
use super::{HOLD, names};
use crate::klaviyo::{Barrier, BudgetScale, Limits, Operation, RETRY_AFTER_MAX, Shape};
use crate::queue::connection::Connection;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script};
use serde::Serialize;
use std::sync::LazyLock;
use std::time::Duration;

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) version: i64,
    /// In the order of [`Barrier::all`].
    pub(super) barriers: Vec<SeenBarrier>,
    /// In the order of [`Operation::ALL`].
    pub(super) budgets: Vec<SeenBudget>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SeenBarrier {
    /// How long nothing passes; absent when it is open.
    pub(super) until: Option<Duration>,
    pub(super) is_probed: bool,
}

#[derive(Debug)]
pub(super) struct SeenBudget {
    pub(super) closed_for: Option<Duration>,
    pub(super) why: String,
    pub(super) full_in: Duration,
    pub(super) used: u32,
    pub(super) lowered: Option<Lowered>,
}

/// As `look.lua` returns it.
type Answer = (
    i64,
    Vec<(i64, i64)>,
    Vec<((i64, String, i64, u32), (u32, u32, u32, i64))>,
);

pub(super) async fn look(redis: &mut Connection, keys: &Keys) -> RedisResult<Seen> {
    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("look.lua")));
    let mut call = SCRIPT.key(names::version(keys));
    for barrier in Barrier::all() {
        call.key(names::barrier(keys, barrier));
    }
    for operation in Operation::ALL {
        call.key(names::budget(keys, operation));
    }
    call.arg(Barrier::all().count())
        .arg(micros_of(RETRY_AFTER_MAX));
    let (version, barriers, budgets): Answer = call.invoke_async(redis).await?;
    let barriers = barriers.into_iter().map(|(wait_ms, probed)| SeenBarrier {
        until: u64::try_from(wait_ms).ok().map(Duration::from_millis),
        is_probed: probed == 1,
    });
    let budgets = budgets.into_iter().map(|(bucket, limits)| {
        let (closed_ms, why, full_in_us, used) = bucket;
        SeenBudget {
            closed_for: (closed_ms > 0).then(|| micros(closed_ms.saturating_mul(1000))),
            why,
            full_in: micros(full_in_us),
            used,
            lowered: lowered(limits),
        }
    });
    Ok(Seen {
        version,
        barriers: barriers.collect(),
        budgets: budgets.collect(),
    })
}

/// How an operation of Klaviyo stands with an account, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationLimits {
    /// The account.
    pub account: String,
    /// Klaviyo's name of the operation.
    pub operation: &'static str,
    /// Calls in a second that the account's daemons may make; absent when limits are off.
    pub second: Option<u32>,
    /// Calls in a minute.
    pub minute: Option<u32>,
    /// Calls in a day, where Klaviyo has such a limit.
    pub day: Option<u32>,
    /// Calls granted in the last minute.
    pub used_minute: u32,
    /// That, as a share of the minute.
    pub share: Option<f64>,
    /// When the next call may leave, from now.
    pub next_free_ms: u64,
    /// How long `Retry-After` keeps it closed; 0 when it does not.
    pub closed_ms: u64,
    /// Why it is closed.
    pub closed_reason: Option<String>,
    /// The key's gate, the operation's and its group's breaker.
    pub credentials: BarrierState,
    /// The operation's own gate.
    pub gate: BarrierState,
    /// The breaker of the operation's group.
    pub breaker: BarrierState,
}

/// How a barrier stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BarrierState {
    /// Calls pass.
    Open,
    /// Nothing passes before the next probe.
    Shut,
    /// One call probes.
    Probing,
}

/// Reads the state of every operation.
///
/// # Errors
/// Redis' own.
pub async fn operation_limits(
    redis: &mut Connection,
    keys: &Keys,
    scale: BudgetScale,
    reserve: f64,
) -> RedisResult<Vec<OperationLimits>> {
    let seen = look(redis, keys).await?;
    let state = |barrier| {
        let place = Barrier::all().position(|it| it == barrier);
        match place.and_then(|place| seen.barriers.get(place)) {
            Some(SeenBarrier {
                is_probed: true, ..
            }) => BarrierState::Probing,
            Some(SeenBarrier { until: Some(_), .. }) => BarrierState::Shut,
            _ => BarrierState::Open,
        }
    };
    let shut_for = |barrier| {
        let place = Barrier::all().position(|it| it == barrier);
        let seen = place.and_then(|place| seen.barriers.get(place));
        seen.and_then(|it| it.until).unwrap_or_default()
    };
    let rows = Operation::ALL.into_iter().zip(&seen.budgets);
    Ok(rows
        .map(|(operation, budget)| {
            let limits = scale.limits(operation).map(|ours| {
                let lower = budget.lowered.map_or(ours, |it| it.limits);
                let least = Limits {
                    burst: ours.burst.min(lower.burst),
                    steady: ours.steady.min(lower.steady),
                    daily: ours.daily,
                };
                least.scaled(1.0 - reserve)
            });
            let free_in = limits.map_or(Duration::ZERO, |limits| {
                let shape = Shape::shared(limits, HOLD);
                let tolerance = shape.interval * (shape.capacity.get() - 1);
                budget.full_in.saturating_sub(tolerance)
            });
            let closed_for = budget.closed_for.unwrap_or_default();
            let own = [
                Barrier::Credentials,
                Barrier::Operation(operation),
                Barrier::Group(operation.group()),
            ];
            let shut = own.into_iter().map(shut_for).max().unwrap_or_default();
            OperationLimits {
                account: keys.account().to_owned(),
                operation: operation.name(),
                second: limits.map(|limits| limits.burst),
                minute: limits.map(|limits| limits.steady),
                day: limits.and_then(|limits| limits.daily),
                used_minute: budget.used,
                share: limits.map(|it| f64::from(budget.used) / f64::from(it.steady.max(1))),
                next_free_ms: millis(free_in.max(closed_for).max(shut)),
                closed_ms: millis(closed_for),
                closed_reason: budget.closed_for.map(|_| budget.why.clone()),
                credentials: state(Barrier::Credentials),
                gate: state(Barrier::Operation(operation)),
                breaker: state(Barrier::Group(operation.group())),
            }
        })
        .collect())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
