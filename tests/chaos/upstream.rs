//! Klaviyo is down, accepts without answering, or does not want our key.

use super::feed::{Feed, Way};
use super::fleet::{Fleet, Plan};
use super::jobs::{EVENTS, PROFILES, Shop, bare_event, event, upsert};
use super::kills::{everything_arrived_once, until_nothing_is_left};
use super::stage::{Stage, until};
use klaviyo_simulator::{FaultKind, Limits, Recorded};
use klaviyod::klaviyo::Operation;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const TRIP_MAX: Duration = Duration::from_secs(5);
const RECOVERY_MAX: Duration = Duration::from_secs(10);
const HEARD_MAX: Duration = Duration::from_secs(1);
const PROBES_APART: Duration = Duration::from_secs(1);
/// Jobs a second while Klaviyo is down, and before and after.
const RATE: usize = 200;
const PATIENCE: Duration = Duration::from_mins(2);
const FOREVER: u32 = u32::MAX;
/// The longest pause between two probes of an operation's gate.
const OPERATION_PROBE: Duration = Duration::from_mins(1);
/// Calls of one kind that a replica has under way at most.
const LOTS_AT_ONCE: usize = 16;
/// Calls that left before the first refusal was known.
const IN_FLIGHT: Duration = Duration::from_millis(500);

pub(crate) async fn down(stage: &Stage) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Plan {
        limits: Limits::Real,
        ..Plan::default()
    })
    .await?;
    let feed = Feed::start(Way::Direct(fleet.redis.url()), EVENTS, RATE);
    until("the load arrives", PATIENCE, async || {
        Ok(fleet.klaviyo.stats().distinct_events > 200)
    })
    .await?;
    fleet.klaviyo.faults().set_outage(true);
    sleep(Duration::from_secs(stage.pick(10, 60))).await;
    fleet.klaviyo.faults().set_outage(false);
    let over = Instant::now();
    let (before, waiting) = (
        fleet.klaviyo.stats().distinct_events,
        feed.acknowledged() as u64,
    );
    until("something is delivered again", PATIENCE, async || {
        Ok(fleet.klaviyo.stats().distinct_events > before)
    })
    .await?;
    let recovered = over.elapsed();
    let catches_up = until("all that waited is delivered", PATIENCE, async || {
        Ok(fleet.klaviyo.stats().distinct_events >= waiting)
    });
    let delivers = async {
        sleep_until(over + RECOVERY_MAX).await;
        fleet.klaviyo.stats().distinct_events - before
    };
    let (caught_up, delivered) = tokio::join!(catches_up, delivers);
    let caught_up = recovered + caught_up?;
    let refused: Vec<Duration> = fleet
        .klaviyo
        .requests()
        .iter()
        .filter(|request| request.status == 503)
        .map(|request| request.since_start)
        .collect();
    let tripped = tripped(&refused);
    let probes = &refused[tripped.calls..];
    stage.told("calls until it tripped", tripped.calls);
    stage.within("tripped after", TRIP_MAX, tripped.after);
    stage.at_most(
        "probes within one second",
        1,
        most_within(probes, PROBES_APART),
    );
    stage.told("probes", probes.len());
    stage.within("recovered after", RECOVERY_MAX, recovered);
    // One probe that passes is no recovery: the load must pass again.
    stage.at_least(
        "delivered by then",
        RATE as u64 * RECOVERY_MAX.as_secs(),
        delivered,
    );
    stage.told(
        "caught up after",
        format!("{:.1} s", caught_up.as_secs_f64()),
    );
    let jobs = feed.stop().await;
    let shop = Shop::open(&fleet.redis.url()).await?;
    until_nothing_is_left(&shop, PATIENCE).await?;
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    within_the_burst_limits(stage, &fleet);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// The calls before the first pause of a second.
struct Tripped {
    calls: usize,
    after: Duration,
}

fn tripped(refused: &[Duration]) -> Tripped {
    let pause = refused
        .windows(2)
        .position(|pair| pair[1].saturating_sub(pair[0]) >= PROBES_APART);
    let calls = pause.map_or(refused.len(), |last| last + 1);
    let after = match (refused.first(), refused[..calls].last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => Duration::ZERO,
    };
    Tripped { calls, after }
}

/// The most calls in any stretch of this length.
fn most_within(calls: &[Duration], stretch: Duration) -> usize {
    let ahead = |(index, first): (usize, &Duration)| {
        calls[index..]
            .iter()
            .take_while(|call| call.saturating_sub(*first) < stretch)
            .count()
    };
    calls.iter().enumerate().map(ahead).max().unwrap_or(0)
}

/// No operation got more calls in one second than Klaviyo allows, refused ones included.
pub(crate) fn within_the_burst_limits(stage: &Stage, fleet: &Fleet) {
    let stats = fleet.klaviyo.stats();
    let over: Vec<String> = Operation::ALL
        .iter()
        .filter_map(|operation| {
            let peak = *stats.operations.get(operation.name())?.windows.get("1")?;
            (peak > u64::from(operation.limits().burst)).then(|| format!("{operation}: {peak}"))
        })
        .collect();
    stage.equal(
        "over the burst limit",
        "none".to_owned(),
        if over.is_empty() {
            "none".to_owned()
        } else {
            over.join(", ")
        },
    );
    stage.equal("answers 429", 0, stats.rate_limited);
}

pub(crate) async fn unanswered(stage: &Stage) -> anyhow::Result<()> {
    let rounds = stage.pick(40, 400);
    let mut fleet = Fleet::start(Plan {
        record_bodies: true,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    let cut = Box::new(FaultKind::CutAfterAccept);
    fleet.fault(None, FOREVER, FaultKind::Every { nth: 10, kind: cut });
    let start = Instant::now();
    for round in 0..rounds {
        // Few at a time leave singly, many in bulk.
        let jobs = if round % 4 == 0 { 20 } else { 2 };
        let first = round * 20;
        let both = (first..first + jobs).map(|number| {
            if number % 2 == 0 {
                event(number)
            } else {
                bare_event(number)
            }
        });
        shop.add(EVENTS, both).await?;
        sleep(Duration::from_millis(50)).await;
    }
    until_nothing_is_left(&shop, PATIENCE).await?;
    let jobs = (0..rounds)
        .map(|round| if round % 4 == 0 { 20 } else { 2 })
        .sum();
    let sent = events_sent(&fleet.klaviyo.requests());
    let repeated = sent.values().filter(|(times, _)| *times > 1).count();
    let bare = sent
        .iter()
        .filter(|(number, (times, _))| *times > 1 && number.starts_with('b'))
        .count();
    let changed = sent.values().filter(|(_, forms)| forms.len() > 1).count();
    stage.equal("jobs seen", jobs, sent.len());
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    stage.at_least("calls unanswered", 1, fleet.klaviyo.stats().faulted);
    stage.at_least("events sent again", 1, repeated);
    stage.at_least("of them without id", 1, bare);
    stage.equal("changed on the way", 0, changed);
    stage.told("took", format!("{:.1} s", start.elapsed().as_secs_f64()));
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// Every event by its number: how often it was sent, and in which forms (`unique_id`, time, metric, profile).
fn events_sent(requests: &[Recorded]) -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let mut sent: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut note = |profile: &Value, event: &Value| {
        let attributes = &event["attributes"];
        let number = match attributes["properties"]["Number"].as_u64() {
            Some(number) => format!("b{number}"),
            None => format!("o{}", attributes["properties"]["OrderId"]),
        };
        let form = ["unique_id", "time", "metric"].map(|name| attributes[name].to_string());
        let (times, forms) = sent.entry(number).or_default();
        *times += 1;
        forms.insert(format!(
            "{} {}",
            form.join(" "),
            profile["data"]["attributes"]
        ));
    };
    for request in requests {
        let Some(body) = &request.body else { continue };
        let attributes = &body["data"]["attributes"];
        match attributes["events-bulk-create"]["data"].as_array() {
            Some(groups) => {
                for group in groups {
                    let group = &group["attributes"];
                    for event in group["events"]["data"].as_array().unwrap_or(&Vec::new()) {
                        note(&group["profile"], event);
                    }
                }
            }
            None => note(&attributes["profile"], &body["data"]),
        }
    }
    sent
}

pub(crate) async fn revoked(stage: &Stage) -> anyhow::Result<()> {
    let jobs = stage.pick(1_000, 10_000);
    let watched = Duration::from_secs(stage.pick(5, 60));
    let mut fleet = Fleet::start(Plan::default()).await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    let health = async |fleet: &Fleet| {
        let mut statuses = BTreeSet::new();
        for replica in &fleet.replicas {
            statuses.insert(
                replica
                    .get("/health/klaviyo")
                    .await
                    .map_or(0, |(status, _)| status),
            );
        }
        let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
        statuses.join(", ")
    };
    fleet.fault(
        None,
        FOREVER,
        FaultKind::Status {
            status: 401,
            retry_after: None,
        },
    );
    shop.add(EVENTS, (0..jobs).map(event)).await?;
    sleep(watched).await;
    let refused = fleet
        .klaviyo
        .requests()
        .iter()
        .filter(|request| request.status == 401)
        .count();
    stage.at_most("calls refused in a minute", 10, refused);
    stage.at_least("calls refused", 1, refused);
    stage.equal("dead while the key is revoked", 0, shop.dead().await?);
    stage.equal("health meanwhile", "503".to_owned(), health(&fleet).await);
    fleet.klaviyo.faults().clear();
    let works = Instant::now();
    until_nothing_is_left(&shop, PATIENCE).await?;
    stage.told(
        "all delivered after",
        format!("{:.1} s", works.elapsed().as_secs_f64()),
    );
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    // A replica that delivered nothing itself hears of it from the others.
    let heard = until("health is 200 again", PATIENCE, async || {
        Ok(health(&fleet).await == "200")
    })
    .await?;
    stage.within("health is 200 after", HEARD_MAX, heard);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// The first ones may leave singly.
const PROFILE_WRITES: [&str; 2] = ["bulk_import_profiles", "create_or_update_profile"];

pub(crate) async fn forbidden(stage: &Stage) -> anyhow::Result<()> {
    let jobs = stage.pick(300, 3_000);
    let mut fleet = Fleet::start(Plan::default()).await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    // The short form cannot wait for a probe of the gate, so the events have another way.
    let refused: &[&str] = stage.pick(
        &["bulk_create_events"],
        &["bulk_create_events", "create_event"],
    );
    for operation in refused {
        fleet.fault(
            Some(operation),
            FOREVER,
            FaultKind::Status {
                status: 403,
                retry_after: None,
            },
        );
    }
    let begun = Instant::now();
    shop.add(EVENTS, (0..jobs).map(event)).await?;
    shop.add(PROFILES, (0..jobs).map(upsert)).await?;
    let took = until("every profile is there", PATIENCE, async || {
        Ok(fleet
            .klaviyo
            .stats()
            .operations
            .iter()
            .filter(|(name, _)| PROFILE_WRITES.contains(&name.as_str()))
            .map(|(_, it)| it.rows)
            .sum::<u64>()
            >= jobs as u64)
    })
    .await?;
    stage.within("the others went on, within", Duration::from_secs(10), took);
    stage.equal("dead meanwhile", 0, shop.dead().await?);
    if stage.pick(true, false) {
        until_nothing_is_left(&shop, PATIENCE).await?;
    }
    if stage.pick(false, true) {
        sleep(OPERATION_PROBE).await;
    }
    refused_once_a_minute(stage, &fleet, refused, begun.elapsed());
    fleet.klaviyo.faults().clear();
    let works = Instant::now();
    until_nothing_is_left(&shop, PATIENCE).await?;
    stage.within(
        "all delivered after the scope came",
        OPERATION_PROBE + RECOVERY_MAX,
        works.elapsed(),
    );
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// What was in flight when an operation was first refused may be refused too; from then on there are probes only.
fn refused_once_a_minute(stage: &Stage, fleet: &Fleet, operations: &[&str], took: Duration) {
    let probes = usize::try_from(took.as_secs() / OPERATION_PROBE.as_secs()).unwrap_or(0);
    for operation in operations {
        let mut refused: Vec<Duration> = fleet
            .klaviyo
            .requests()
            .iter()
            .filter(|request| request.operation == *operation && request.status == 403)
            .map(|request| request.since_start)
            .collect();
        refused.sort();
        let Some(first) = refused.first().copied() else {
            stage.at_least(&format!("refused of {operation}"), 1, 0);
            continue;
        };
        let later = refused.iter().filter(|at| **at > first + IN_FLIGHT).count();
        stage.at_most(
            &format!("{operation} refused at once"),
            LOTS_AT_ONCE * fleet.replicas.len(),
            refused.len() - later,
        );
        stage.at_most(&format!("{operation} refused later"), probes, later);
    }
}
