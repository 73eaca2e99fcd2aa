//! Stops that operators ask for: with time, without, and without patience.

use super::feed::{Feed, Way};
use super::fleet::{Fleet, Plan};
use super::jobs::{EVENTS, Shop, event};
use super::kills::{everything_arrived_once, until_nothing_is_left};
use super::stage::{Stage, until};
use klaviyo_simulator::FaultKind;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DRAIN: Duration = Duration::from_secs(4);
const EXIT_GRACE: Duration = Duration::from_secs(2);
const AT_ONCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_mins(1);

/// The work fits: calls end before the drain timeout, and long after nothing new may be taken.
pub(crate) async fn terminate(stage: &Stage) -> anyhow::Result<()> {
    let mut fleet = fleet().await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    fleet.fault(None, u32::MAX, FaultKind::Delay { ms: 2_500 });
    let feed = Feed::start(Way::Direct(fleet.redis.url()), EVENTS, 500);
    sleep(Duration::from_secs(stage.pick(1, 8))).await;
    let pid = fleet.replicas[0].pid();
    let asked = Instant::now();
    fleet.replicas[0].signal("TERM").await?;
    let ends = async { anyhow::Ok((fleet.replicas[0].wait().await?, asked.elapsed())) };
    let takes = async {
        sleep(AT_ONCE).await;
        shop.last_taken(EVENTS).await
    };
    let ((status, took), taken) = tokio::try_join!(ends, takes)?;
    // Had it taken more before it went, that would show; the load goes on.
    sleep(AT_ONCE).await;
    stage.equal("exit", 0, status.code().unwrap_or(-1));
    stage.within("exit after", DRAIN + EXIT_GRACE, took);
    stage.equal("last job taken", taken, shop.last_taken(EVENTS).await?);
    stage.equal("jobs not handed back", 0, shop.held_by(EVENTS, pid).await?);
    fleet.add_replica().await?;
    let jobs = feed.stop().await;
    until_nothing_is_left(&shop, PATIENCE).await?;
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    let stats = fleet.klaviyo.stats();
    stage.equal("sent twice", 0, stats.events - stats.distinct_events);
    Ok(())
}

/// The work does not fit: Klaviyo is silent.
pub(crate) async fn impatient(stage: &Stage) -> anyhow::Result<()> {
    let jobs = stage.pick(300, 3_000);
    let mut fleet = fleet().await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    let mut written = 0;
    for second in ["none", "TERM", "KILL"] {
        fleet.fault(None, u32::MAX, FaultKind::Silence);
        shop.add(EVENTS, (written..written + jobs).map(event))
            .await?;
        written += jobs;
        let replica = fleet.replicas.last_mut().unwrap();
        let pid = replica.pid();
        until("calls are under way", PATIENCE, async || {
            Ok(shop.held_by(EVENTS, pid).await? >= jobs)
        })
        .await?;
        let asked = Instant::now();
        replica.signal("TERM").await?;
        if second == "none" {
            let status = replica.wait().await?;
            stage.equal(
                "exit of a stop that takes too long",
                0,
                status.code().unwrap_or(-1),
            );
            stage.within("after", DRAIN + EXIT_GRACE, asked.elapsed());
            stage.equal("jobs not handed back", 0, shop.held_by(EVENTS, pid).await?);
        } else {
            sleep(Duration::from_millis(300)).await;
            let again = Instant::now();
            replica.signal(second).await?;
            replica.wait().await?;
            stage.within(
                &format!("end after a further {second}"),
                AT_ONCE,
                again.elapsed(),
            );
        }
        fleet.klaviyo.faults().clear();
        fleet.add_replica().await?;
        until_nothing_is_left(&shop, PATIENCE).await?;
    }
    everything_arrived_once(stage, &fleet, &shop, written).await
}

async fn fleet() -> anyhow::Result<Fleet> {
    let drain = format!("{}s", DRAIN.as_secs());
    Fleet::start(Plan {
        replicas: 1,
        settings: &[("KLAVIYOD_DRAIN_TIMEOUT", &drain)],
        ..Plan::default()
    })
    .await
}
