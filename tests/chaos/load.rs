//! Nothing to do, far too much to do, and everything at once.

use super::fleet::{Fleet, Plan};
use super::jobs::{EVENTS, PROFILES, Shop, UPSERT, bare_event, event, event_with};
use super::kills::until_nothing_is_left;
use super::stage::{Stage, until};
use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use klaviyo_simulator::{Config, Limits, Simulator};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_mins(2);
const COMMANDS_PER_SECOND_MAX: f64 = 30.0;
/// Of one core. Without optimisation everything costs several times as much.
const IDLE_CPU_MAX: f64 = if cfg!(debug_assertions) { 0.05 } else { 0.01 };
/// Without optimisation the program itself is far larger.
const RSS_MB_MAX: u64 = if cfg!(debug_assertions) { 250 } else { 150 };
const LATENCY_MAX: Duration = Duration::from_secs(2);
const LIST_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 500 });

pub(crate) async fn idle(stage: &Stage) -> anyhow::Result<()> {
    let watched = Duration::from_secs(stage.pick(5, 60));
    let mut fleet = Fleet::start(Plan {
        lease: Duration::from_secs(30),
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    shop.add(EVENTS, (0..10).map(event)).await?;
    until_nothing_is_left(&shop, PATIENCE).await?;
    sleep(Duration::from_secs(2)).await;
    let (begun, commands, cpu) = (Instant::now(), commands(&shop).await?, fleet.cpu()?);
    sleep(watched).await;
    let seconds = begun.elapsed().as_secs_f64();
    let commands = (self::commands(&shop).await? - commands) as f64 / seconds;
    let cpu =
        fleet.cpu()?.saturating_sub(cpu).as_secs_f64() / seconds / fleet.replicas.len() as f64;
    stage.figure(
        "Redis commands a second",
        format!("<= {COMMANDS_PER_SECOND_MAX}"),
        format!("{commands:.1}"),
        commands <= COMMANDS_PER_SECOND_MAX,
    );
    stage.figure(
        "share of a core, each",
        format!("<= {IDLE_CPU_MAX}"),
        format!("{cpu:.4}"),
        cpu <= IDLE_CPU_MAX,
    );
    stage.equal(
        "warnings",
        0,
        fleet.said("\"WARN\"")? + fleet.said("\"ERROR\"")?,
    );
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

async fn commands(shop: &Shop) -> anyhow::Result<u64> {
    let info: redis::InfoDict = shop.command(&["INFO", "stats"]).await?;
    info.get("total_commands_processed")
        .ok_or_else(|| anyhow::anyhow!("INFO does not count commands"))
}

pub(crate) async fn due(stage: &Stage) -> anyhow::Result<()> {
    const EQUAL_EVERY: usize = 10;
    let jobs: usize = stage.pick(3_000, 50_000);
    let mut fleet = Fleet::start(Plan::default()).await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    let file = fleet.folder().join("due.ndjson");
    let mut lines = String::new();
    for number in 0..jobs {
        // Some jobs are equal to the one before, to the last byte. Without an id each is an event of its own.
        let job = match EQUAL_EVERY - 1 - number % EQUAL_EVERY {
            0 => bare_event(number - 1),
            1 => bare_event(number),
            _ => event(number),
        };
        writeln!(lines, "{job}")?;
    }
    std::fs::write(&file, lines)?;
    let due = Timestamp::now() + SignedDuration::from_secs(stage.pick(6, 40));
    let due = Timestamp::from_millisecond(due.as_millisecond())?;
    let path = file.display().to_string();
    let enqueued = fleet
        .command(&[
            "enqueue",
            "--ndjson",
            &path,
            "--run-at",
            &due.to_string(),
            "--unique-for",
            "0s",
        ])
        .await?;
    ensure!(
        enqueued.status.success(),
        "failed to enqueue: {}",
        String::from_utf8_lossy(&enqueued.stderr)
    );
    stage.equal("delayed", jobs as u64, shop.delayed(EVENTS).await?);
    let mut early = 0;
    while Timestamp::now() < due {
        early = early.max(fleet.klaviyo.stats().events);
        sleep(Duration::from_millis(5)).await;
    }
    // Asked after it was due, so one may have arrived rightly; what was seen before did not.
    stage.equal("early", 0, early);
    until_nothing_is_left(&shop, PATIENCE).await?;
    let took = Timestamp::now().duration_since(due);
    stage.told(
        "all delivered after",
        format!("{:.1} s", took.as_secs_f64()),
    );
    stage.equal(
        "distinct events",
        jobs as u64,
        fleet.klaviyo.stats().distinct_events,
    );
    stage.equal("dead", 0, shop.dead().await?);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

pub(crate) async fn mountains(stage: &Stage) -> anyhow::Result<()> {
    let (small, large, probes) = stage.pick((20_000, 20, 20), (1_000_000, 500, 200));
    let mut fleet = Fleet::prepare(&Plan {
        // So slow that the mountains are there to the end.
        limits: Limits::Factor(0.02),
        lease: Duration::from_secs(30),
        ..Plan::default()
    })
    .await?;
    let other = Simulator::start(Config {
        limits: Limits::Off,
        events_kept: 0,
        ..Config::default()
    })
    .await?;
    fleet.set("KLAVIYOD_ACCOUNTS__OTHER__PRIVATE_KEY", "pk_other");
    fleet.set("KLAVIYOD_ACCOUNTS__OTHER__BASE_URL", &other.base_url());
    fleet.set("KLAVIYOD_ACCOUNTS__OTHER__LIMITS", "off");
    let shop = Shop::open(&fleet.redis.url()).await?;
    let third = shop.of_account("other")?;
    shop.add_many(PROFILES, UPSERT, 0..small).await?;
    for number in 0..large {
        shop.add(EVENTS, [event_with(number, four_megabytes())])
            .await?;
    }
    fleet.add_replica().await?;
    fleet.add_replica().await?;
    sleep(Duration::from_secs(stage.pick(3, 20))).await;
    let mut waits = Vec::new();
    for number in 0..probes {
        let written = Instant::now();
        third.add(EVENTS, [event(number)]).await?;
        until("a job of the third queue arrives", PATIENCE, async || {
            Ok(other.stats().distinct_events > number as u64)
        })
        .await?;
        waits.push(written.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    waits.sort();
    let p99 = waits[(waits.len() * 99 / 100).min(waits.len() - 1)];
    stage.within("the third queue's p99", LATENCY_MAX, p99);
    let asked = Instant::now();
    let listed = fleet
        .command(&["queue", "list", "--output", "json"])
        .await?;
    stage.within("queue list", LIST_MAX, asked.elapsed());
    ensure!(listed.status.success(), "failed to list queues");
    let mut most = 0;
    for replica in &fleet.replicas {
        most = most.max(replica.rss_mb()?.1);
    }
    stage.figure(
        "RSS",
        format!("<= {RSS_MB_MAX} MB"),
        format!("{most} MB"),
        most <= RSS_MB_MAX,
    );
    for (operation, calls) in fleet.klaviyo.stats().operations {
        let (first, last) = (calls.first_ms, calls.last_ms);
        let told = format!(
            "{} in {} to {} ms, {} rows",
            calls.accepted, first, last, calls.rows
        );
        stage.told(&operation, told);
    }
    let waiting = shop.left().await?;
    stage.at_least("still waiting", (small / 2) as u64, waiting);
    stage.equal("dead", 0, shop.dead().await?);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// Properties within every limit that make an event of four megabytes.
fn four_megabytes() -> Value {
    let properties: Map<String, Value> = (0..40)
        .map(|number| (format!("P{number}"), Value::from("x".repeat(98_000))))
        .collect();
    Value::Object(properties)
}
