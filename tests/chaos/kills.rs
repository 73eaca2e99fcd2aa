//! Processes that die, sleep or kill themselves.

use super::fleet::{Fleet, Plan};
use super::jobs::{EVENTS, Shop, event};
use super::stage::{Stage, until};
use anyhow::ensure;
use klaviyo_simulator::FaultKind;
use rand::Rng;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long delivery may take after what happened, beside the lease.
const AFTER_KILLS: Duration = Duration::from_mins(1);
const AFTER_ORPHANING: Duration = Duration::from_secs(5);
const FOREVER: u32 = u32::MAX;

pub(crate) async fn sigkill(stage: &Stage) -> anyhow::Result<()> {
    let (kills, jobs) = stage.pick((10, 5_000), (200, 100_000));
    let mut chance = stage.chance();
    let lease = Duration::from_secs(stage.pick(2, 5));
    let mut fleet = Fleet::start(Plan {
        lease,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    // Calls take their time, so that kills meet them on their way.
    fleet.fault(
        None,
        FOREVER,
        FaultKind::Delay {
            ms: stage.pick(50, 200),
        },
    );
    let mut met = 0;
    for kill in 0..kills {
        let (from, to) = (kill * jobs / kills, (kill + 1) * jobs / kills);
        shop.add(EVENTS, (from..to).map(event)).await?;
        sleep(Duration::from_millis(chance.random_range(0..300))).await;
        let both = chance.random_ratio(1, 10);
        let victim = chance.random_range(0..fleet.replicas.len());
        for place in 0..fleet.replicas.len() {
            if both || place == victim {
                let pid = fleet.replicas[place].pid();
                met += usize::from(shop.held_by(EVENTS, pid).await? > 0);
                fleet.replicas[place].kill().await?;
                fleet.start_again(place)?;
            }
        }
    }
    stage.at_least("killed with jobs in hand", kills / stage.pick(10, 3), met);
    let last_kill = Instant::now();
    until_nothing_is_left(&shop, lease + AFTER_KILLS).await.ok();
    stage.within(
        "done after the last kill",
        lease + AFTER_KILLS,
        last_kill.elapsed(),
    );
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    stage.equal("panics", 0, fleet.said("panicked")?);
    Ok(())
}

pub(crate) async fn orphaned(stage: &Stage) -> anyhow::Result<()> {
    let jobs = stage.pick(500, 2_000);
    let lease = Duration::from_secs(stage.pick(2, 5));
    let mut fleet = Fleet::start(Plan {
        replicas: 1,
        lease,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    fleet.fault(None, FOREVER, FaultKind::Silence);
    shop.add(EVENTS, (0..jobs).map(event)).await?;
    let pid = fleet.replicas[0].pid();
    until(
        "the first replica holds every job",
        lease * 10,
        async || Ok(shop.held_by(EVENTS, pid).await? == jobs),
    )
    .await?;
    fleet.add_replica().await?;
    ensure!(
        shop.held_by(EVENTS, pid).await? == jobs,
        "a living replica lost its jobs"
    );
    fleet.replicas[0].kill().await?;
    // Not before: what it had not sent yet would be delivered by it.
    fleet.klaviyo.faults().clear();
    let killed = Instant::now();
    until_nothing_is_left(&shop, lease + AFTER_KILLS).await?;
    stage.within(
        "all delivered after the death",
        lease + AFTER_ORPHANING,
        killed.elapsed(),
    );
    everything_arrived_once(stage, &fleet, &shop, jobs).await
}

pub(crate) async fn freeze(stage: &Stage) -> anyhow::Result<()> {
    const SINGLE: usize = 5;
    let jobs = stage.pick(200, 2_000);
    let held = jobs - 1;
    let lease = Duration::from_secs(stage.pick(2, 5));
    let mut fleet = Fleet::start(Plan {
        replicas: 1,
        lease,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    // The first call of a process proves its key, and others wait for it.
    shop.add(EVENTS, [event(0)]).await?;
    until_nothing_is_left(&shop, AFTER_KILLS).await?;
    // What it sent is refused while it sleeps: it wakes up with verdicts that would bury or repeat.
    let lease_ms = u64::try_from(lease.as_millis())?;
    for (operation, status) in [("create_event", 400), ("bulk_create_events", 503)] {
        let refused = FaultKind::Status {
            status,
            retry_after: None,
        };
        let later = FaultKind::After {
            ms: 2 * lease_ms,
            kind: Box::new(refused),
        };
        fleet.fault(Some(operation), FOREVER, later);
    }
    let sent = |operation: &str| {
        let operations = fleet.klaviyo.faults().pending();
        let its_own = operations
            .into_iter()
            .find(|fault| fault.operation.as_deref() == Some(operation));
        its_own.map_or(0, |fault| FOREVER - fault.times)
    };
    shop.add(EVENTS, (1..SINGLE).map(event)).await?;
    until("single events are under way", lease * 2, async || {
        Ok(sent("create_event") > 0)
    })
    .await?;
    shop.add(EVENTS, (SINGLE..jobs).map(event)).await?;
    let pid = fleet.replicas[0].pid();
    until("events in bulk are under way", lease * 2, async || {
        Ok(sent("bulk_create_events") > 0 && shop.held_by(EVENTS, pid).await? == held)
    })
    .await?;
    fleet.replicas[0].signal("STOP").await?;
    let stopped = Instant::now();
    fleet.klaviyo.faults().clear();
    // The other one is still at it when the sleeper wakes up.
    fleet.fault(None, FOREVER, FaultKind::Delay { ms: 3 * lease_ms });
    fleet.add_replica().await?;
    let other = fleet.replicas[1].pid();
    until("the other one took over", lease * 3, async || {
        Ok(shop.held_by(EVENTS, other).await? == held)
    })
    .await?;
    sleep((lease * 3).saturating_sub(stopped.elapsed())).await;
    fleet.replicas[0].signal("CONT").await?;
    sleep(lease / 2).await;
    stage.equal(
        "held by the other",
        held,
        shop.held_by(EVENTS, other).await?,
    );
    stage.equal("moved by the sleeper", 0, shop.delayed(EVENTS).await?);
    fleet.klaviyo.faults().clear();
    until_nothing_is_left(&shop, lease * 10).await?;
    // Whatever the sleeper would still do shows within a lease.
    sleep(lease).await;
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    let stats = fleet.klaviyo.stats();
    stage.equal("accepted twice", 0, stats.events - stats.distinct_events);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

pub(crate) async fn poison(stage: &Stage) -> anyhow::Result<()> {
    const JOBS: usize = 1_000;
    const POISON: &str = "order-500";
    let lease = Duration::from_secs(stage.pick(1, 5));
    let settings = [("KLAVIYOD_WORKER__CRASH_ON_ID", POISON)];
    let mut fleet = Fleet::start(Plan {
        lease,
        settings: &settings,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    shop.add(EVENTS, (0..JOBS).map(event)).await?;
    let start = Instant::now();
    let mut crashes = 0;
    while shop.left().await? > 0 {
        ensure!(
            start.elapsed() < lease * 20 + AFTER_KILLS,
            "jobs were left behind"
        );
        for place in 0..fleet.replicas.len() {
            if fleet.replicas[place].ended()?.is_some() {
                crashes += 1;
                fleet.start_again(place)?;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    let dead = fleet.dead().await?;
    let ids: Vec<&str> = dead.iter().filter_map(|job| job["id"].as_str()).collect();
    let codes: Vec<&str> = dead.iter().filter_map(|job| job["code"].as_str()).collect();
    stage.equal("dead", POISON.to_owned(), ids.join(", "));
    stage.equal("its code", "poison".to_owned(), codes.join(", "));
    stage.equal(
        "delivered",
        JOBS as u64 - 1,
        fleet.klaviyo.stats().distinct_events,
    );
    stage.told("processes it killed", crashes);
    stage.told("took", format!("{:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Waits until every job is delivered or dead.
pub(crate) async fn until_nothing_is_left(shop: &Shop, patience: Duration) -> anyhow::Result<()> {
    until("nothing is left in any queue", patience, async || {
        Ok(shop.left().await? == 0)
    })
    .await
    .map(drop)
}

/// The figures of nearly every scenario: none lost, none dead.
pub(crate) async fn everything_arrived_once(
    stage: &Stage,
    fleet: &Fleet,
    shop: &Shop,
    jobs: usize,
) -> anyhow::Result<()> {
    let stats = fleet.klaviyo.stats();
    stage.equal("distinct events", jobs as u64, stats.distinct_events);
    stage.equal("left in any queue", 0, shop.left().await?);
    stage.equal("dead", 0, shop.dead().await?);
    Ok(())
}
