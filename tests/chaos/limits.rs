//! The account's limits, shared by three replicas that are offered twice as much.

use super::fleet::{Fleet, Plan};
use super::jobs::{EVENT, EVENTS, Shop};
use super::kills::until_nothing_is_left;
use super::stage::{Stage, until};
use super::upstream::within_the_burst_limits;
use klaviyo_simulator::{FaultKind, Limits, Stats};
use klaviyod::klaviyo::Operation;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const EVENTS_PER_CALL: usize = 1_000;
const OPERATIONS: [Operation; 2] = [Operation::BulkCreateEvents, Operation::CreateEvent];
/// Permits that were granted before the answer came may still leave.
const IN_FLIGHT: Duration = Duration::from_millis(300);
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A window may be spent when the pause is over, and the machine busy.
const NEXT_CALL_MAX: Duration = Duration::from_secs(20);
const RATE_LIMITED_MAX: f64 = 0.001;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn shared(stage: &Stage) -> anyhow::Result<()> {
    let (stretch, stretches) =
        stage.pick((Duration::from_secs(10), 1), (Duration::from_mins(1), 3));
    // A call more or less weighs much in a short while.
    let share_min = stage.pick(0.85, 0.97);
    let mut fleet = Fleet::start(Plan {
        replicas: 3,
        limits: Limits::Real,
        lease: Duration::from_secs(10),
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    let mut written = 0;
    let mut top_up = async |stretches: u32| -> anyhow::Result<()> {
        let budget: usize = OPERATIONS
            .iter()
            .map(|operation| {
                let rows = if *operation == Operation::BulkCreateEvents {
                    EVENTS_PER_CALL
                } else {
                    1
                };
                rows * allowed(*operation, stretch * stretches)
            })
            .sum();
        let jobs = 2 * budget;
        shop.add_many(EVENTS, EVENT, written..written + jobs)
            .await?;
        written += jobs;
        Ok(())
    };
    top_up(2).await?;
    until("the load arrives", PATIENCE, async || {
        Ok(fleet.klaviyo.stats().distinct_events > 0)
    })
    .await?;
    if stretches > 1 {
        // Klaviyo counts by the minutes of the clock.
        sleep(until_next_minute()).await;
    } else {
        sleep(Duration::from_secs(2)).await;
    }
    let mut worst = OPERATIONS.map(|_| f64::INFINITY);
    for number in 0..stretches {
        let (begun, before) = (Instant::now(), fleet.klaviyo.stats());
        if number + 1 < stretches {
            top_up(1).await?;
        }
        sleep(stretch.saturating_sub(begun.elapsed())).await;
        let after = fleet.klaviyo.stats();
        for (worst, operation) in worst.iter_mut().zip(OPERATIONS) {
            let calls = accepted(&after, operation) - accepted(&before, operation);
            let share = calls as f64 / allowed(operation, begun.elapsed()) as f64;
            *worst = worst.min(share);
        }
    }
    for (share, operation) in worst.into_iter().zip(OPERATIONS) {
        let ok = share >= share_min;
        stage.figure(
            &format!("used of {operation}"),
            format!(">= {share_min}"),
            format!("{share:.3}"),
            ok,
        );
    }
    stage.at_least("jobs still waiting", 1, shop.left().await?);
    let stats = fleet.klaviyo.stats();
    let limited = stats.rate_limited as f64 / stats.requests as f64;
    stage.figure(
        "share of answers 429",
        format!("<= {RATE_LIMITED_MAX}"),
        format!(
            "{limited:.4} ({} of {})",
            stats.rate_limited, stats.requests
        ),
        limited <= RATE_LIMITED_MAX,
    );
    within_the_burst_limits(stage, &fleet);
    retry_after(stage, &fleet).await?;
    stage.equal("dead", 0, shop.dead().await?);
    if stage.pick(true, false) {
        until_nothing_is_left(&shop, PATIENCE * 2).await?;
        stage.equal(
            "distinct events",
            written as u64,
            fleet.klaviyo.stats().distinct_events,
        );
    }
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// Klaviyo asks for a pause, in the middle of everything.
async fn retry_after(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    let operation = Operation::BulkCreateEvents.name();
    let limited = FaultKind::Status {
        status: 429,
        retry_after: Some(RETRY_AFTER.as_secs().to_string()),
    };
    fleet.fault(Some(operation), 1, limited);
    let calls = || {
        let mut requests = fleet.klaviyo.requests();
        requests.retain(|request| request.operation == operation);
        requests
    };
    until("Klaviyo asks for a pause", PATIENCE, async || {
        Ok(fleet.klaviyo.faults().pending().is_empty())
    })
    .await?;
    let asked = calls()
        .iter()
        .rfind(|request| request.status == 429)
        .map(|it| it.since_start);
    let Some(asked) = asked else {
        anyhow::bail!("the pause was never asked for");
    };
    let over = asked + RETRY_AFTER;
    let after = until("the operation is called again", PATIENCE, async || {
        Ok(calls().iter().any(|request| request.since_start >= over))
    })
    .await?;
    let early = calls()
        .iter()
        .filter(|request| request.since_start > asked + IN_FLIGHT && request.since_start < over)
        .count();
    stage.equal("calls before Retry-After was over", 0, early);
    stage.within("the next call, within", RETRY_AFTER + NEXT_CALL_MAX, after);
    Ok(())
}

fn allowed(operation: Operation, time: Duration) -> usize {
    let per_minute = f64::from(operation.limits().steady);
    let calls = (per_minute * time.as_secs_f64() / 60.0).round();
    // Small and positive.
    format!("{calls:.0}").parse().unwrap_or(0)
}

fn accepted(stats: &Stats, operation: Operation) -> u64 {
    stats
        .operations
        .get(operation.name())
        .map_or(0, |it| it.accepted)
}

fn until_next_minute() -> Duration {
    let now = jiff::Timestamp::now();
    let into_the_minute = now.as_millisecond().rem_euclid(60_000);
    Duration::from_millis(60_000 - into_the_minute.unsigned_abs())
}
