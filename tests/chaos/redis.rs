//! Redis in every state: killed, restarted, loading, read-only, slow, emptied, full, failed over.

use super::feed::{Feed, Way, fed};
use super::fleet::{Fleet, Plan};
use super::jobs::{EVENT, EVENTS, PROFILES, Shop, marker};
use super::kills::{everything_arrived_once, until_nothing_is_left};
use super::proxy::Proxy;
use super::replica::signal;
use super::sentinel::{self, Sentinels};
use super::stage::{Stage, until};
use klaviyo_jobs::Lane;
use klaviyo_jobs::keys::GROUP;
use rand::Rng;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const BACK_MAX: Duration = Duration::from_secs(5);
const NOTICED_MAX: Duration = Duration::from_secs(5);
const FAILOVER_MAX: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_mins(1);
const LINES_PER_SECOND_MAX: f64 = 2.0;
/// Of one core, while Redis is away. Without optimisation everything costs several times as much.
const CPU_SHARE_MAX: f64 = if cfg!(debug_assertions) { 0.2 } else { 0.05 };

/// Counts people at Klaviyo: each marker is a job for somebody new, written after something was over.
#[derive(Debug)]
struct Markers {
    known: u64,
    next: usize,
}

impl Markers {
    /// Takes the people that a feed deals with as known.
    async fn after_a_moment(fleet: &Fleet, people: u64) -> anyhow::Result<Self> {
        until("the load arrives", PATIENCE, async || {
            Ok(fleet.klaviyo.stats().event_profiles >= people)
        })
        .await?;
        Ok(Self {
            known: fleet.klaviyo.stats().event_profiles,
            next: 0,
        })
    }

    /// Writes a marker and says how long ago `since` was when it arrived.
    async fn arrives(
        &mut self,
        fleet: &Fleet,
        shop: &Shop,
        since: Instant,
    ) -> anyhow::Result<Duration> {
        shop.add(EVENTS, [marker(self.next)]).await?;
        self.next += 1;
        let people = self.known + self.next as u64;
        until("jobs are delivered again", PATIENCE, async || {
            Ok(fleet.klaviyo.stats().event_profiles >= people)
        })
        .await?;
        Ok(since.elapsed())
    }
}

pub(crate) async fn killed(stage: &Stage) -> anyhow::Result<()> {
    let kills = stage.pick(4, 20);
    let mut chance = stage.chance();
    let mut fleet = Fleet::start(Plan::default()).await?;
    let feed = Feed::start(Way::Direct(fleet.redis.url()), EVENTS, 500);
    let mut markers = Markers::after_a_moment(&fleet, 20).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        sleep(Duration::from_millis(chance.random_range(200..1_500))).await;
        fleet.redis.kill().await?;
        sleep(Duration::from_millis(
            chance.random_range(0..stage.pick(1_000, 3_000)),
        ))
        .await;
        fleet.redis.start_again(&[]).await?;
        let back = Instant::now();
        let shop = Shop::open(&fleet.redis.url()).await?;
        slowest = slowest.max(markers.arrives(&fleet, &shop, back).await?);
    }
    let jobs = feed.stop().await + kills;
    let shop = Shop::open(&fleet.redis.url()).await?;
    until_nothing_is_left(&shop, PATIENCE).await?;
    stage.told("AOF", "everysec");
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    stage.within("slowest return", BACK_MAX, slowest);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

pub(crate) async fn states(stage: &Stage) -> anyhow::Result<()> {
    let pause = Duration::from_secs(stage.pick(2, 10));
    let user = [
        "--user",
        "klaviyod",
        "on",
        ">secret",
        "~klaviyod:*",
        "&*",
        "+@all",
    ];
    let mut fleet = Fleet::prepare(&Plan {
        redis: &user,
        ..Plan::default()
    })
    .await?;
    let proxy = Proxy::start(fleet.redis.port()).await?;
    let url = format!("redis://klaviyod:secret@127.0.0.1:{}", proxy.port());
    fleet.set("KLAVIYOD_REDIS_URL", &url);
    fleet.add_replica().await?;
    fleet.add_replica().await?;
    let mut markers = Markers::after_a_moment(&fleet, 0).await?;
    let mut shop = Shop::open(&fleet.redis.url()).await?;
    // What makes a restart slow.
    let filler: Vec<String> = (0..3_000)
        .map(|number| format!("filler:{number}"))
        .collect();
    for key in &filler {
        shop.command::<()>(&["SET", key, "1"]).await?;
    }
    let after_nothing = markers.arrives(&fleet, &shop, Instant::now()).await?;
    stage.within("with user and password", BACK_MAX, after_nothing);
    for state in [
        "scripts flushed",
        "connections killed",
        "groups destroyed",
        "streams deleted",
        "half-open",
        "silent",
        "read-only",
        "loading",
        "away",
    ] {
        let before = (fleet.cpu()?, fleet.log_lines()?, Instant::now());
        match state {
            "scripts flushed" => shop.command(&["SCRIPT", "FLUSH"]).await?,
            "connections killed" => {
                shop.command::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                    .await?;
            }
            "groups destroyed" => {
                for queue in [EVENTS, PROFILES] {
                    let stream = shop.stream(queue, Lane::Live);
                    shop.command::<u64>(&["XGROUP", "DESTROY", &stream, GROUP])
                        .await?;
                }
            }
            "streams deleted" => {
                for queue in [EVENTS, PROFILES] {
                    shop.command::<u64>(&["DEL", &shop.stream(queue, Lane::Live)])
                        .await?;
                }
            }
            "half-open" => proxy.mute(),
            "silent" => {
                let pid = fleet.redis.pid()?;
                signal(pid, "STOP").await?;
                sleep(pause).await;
                signal(pid, "CONT").await?;
            }
            "read-only" => {
                shop.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await?;
                sleep(pause).await;
                shop.command::<()>(&["REPLICAOF", "NO", "ONE"]).await?;
            }
            "loading" => {
                fleet.redis.kill().await?;
                let slow = [
                    "--key-load-delay",
                    "1000",
                    "--loading-process-events-interval-bytes",
                    "1024",
                ];
                fleet.redis.start_again(&slow).await?;
            }
            _ => {
                fleet.redis.kill().await?;
                sleep(pause).await;
                let seconds = before.2.elapsed().as_secs_f64() * fleet.replicas.len() as f64;
                let lines = (fleet.log_lines()? - before.1) as f64 / seconds;
                let cpu = fleet.cpu()?.saturating_sub(before.0).as_secs_f64() / seconds;
                stage.figure(
                    "log lines a second while away",
                    format!("<= {LINES_PER_SECOND_MAX}"),
                    format!("{lines:.1}"),
                    lines <= LINES_PER_SECOND_MAX,
                );
                stage.figure(
                    "share of a core while away",
                    format!("<= {CPU_SHARE_MAX}"),
                    format!("{cpu:.3}"),
                    cpu <= CPU_SHARE_MAX,
                );
                fleet.redis.start_again(&[]).await?;
            }
        }
        let over = Instant::now();
        shop = Shop::open(&fleet.redis.url()).await?;
        let took = markers.arrives(&fleet, &shop, over).await?;
        // Nobody tells that a connection is half-open: it takes a while to be noticed, and then to return.
        let most = if state == "half-open" {
            NOTICED_MAX + BACK_MAX
        } else {
            BACK_MAX
        };
        stage.within(state, most, took);
    }
    until_nothing_is_left(&shop, PATIENCE).await?;
    everything_arrived_once(stage, &fleet, &shop, markers.next).await?;
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// Memory is over the limit from before the first delivery until after the last one.
pub(crate) async fn full(stage: &Stage) -> anyhow::Result<()> {
    let jobs = stage.pick(2_000, 50_000);
    let refused = jobs / 100;
    let mut fleet = Fleet::start(Plan {
        replicas: 1,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    // The groups exist by now. Creating them needs memory.
    fleet.replicas[0].kill().await?;
    shop.add_many(EVENTS, EVENT, 0..jobs).await?;
    let wrong = (0..refused).map(|number| {
        let mut wrong = fed(number);
        wrong["data"]["profile"] = serde_json::json!({"email": "nobody"});
        wrong
    });
    shop.add(EVENTS, wrong).await?;
    shop.command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"])
        .await?;
    let unavailable = klaviyo_simulator::FaultKind::Status {
        status: 503,
        retry_after: None,
    };
    fleet.fault(None, stage.pick(3, 20), unavailable);
    let enqueued = fleet
        .command(&[
            "enqueue",
            "event.track",
            "--data",
            r#"{"metric":"M","profile":{"email":"a@klqtest.dev"}}"#,
        ])
        .await?;
    let said = String::from_utf8_lossy(&enqueued.stderr).to_lowercase()
        + &String::from_utf8_lossy(&enqueued.stdout).to_lowercase();
    let explained = said.contains("memory");
    stage.figure(
        "enqueue",
        "refused with a reason",
        format!(
            "{}, {}",
            enqueued.status,
            if explained {
                "says memory"
            } else {
                "no reason"
            }
        ),
        !enqueued.status.success() && explained,
    );
    let raw = shop.add(EVENTS, [fed(0)]).await;
    stage.figure(
        "XADD",
        "refused",
        if raw.is_err() { "refused" } else { "taken" },
        raw.is_err(),
    );
    fleet.add_replica().await?;
    until_nothing_is_left(&shop, PATIENCE * 2).await?;
    let still: Result<(), _> = shop.command(&["SET", "still", "full"]).await;
    stage.figure(
        "memory all the time",
        "full",
        if still.is_err() { "full" } else { "free" },
        still.is_err(),
    );
    stage.equal(
        "distinct events",
        jobs as u64,
        fleet.klaviyo.stats().distinct_events,
    );
    stage.equal("dead, as they should", refused as u64, shop.dead().await?);
    stage.at_least(
        "attempts that had to be repeated",
        1,
        fleet.klaviyo.stats().faulted,
    );
    stage.equal("processes ended", 1, fleet.ended()?);
    Ok(())
}

pub(crate) async fn failover(stage: &Stage) -> anyhow::Result<()> {
    let mut fleet = Fleet::prepare(&Plan {
        redis: &["--repl-diskless-sync-delay", "0"],
        ..Plan::default()
    })
    .await?;
    let sentinels = Sentinels::start(fleet.folder(), &fleet.redis).await?;
    until("the Sentinels know one another", PATIENCE, async || {
        Ok(sentinels.are_ready().await)
    })
    .await?;
    fleet.set("KLAVIYOD_REDIS_URL", &sentinels.url());
    fleet.add_replica().await?;
    fleet.add_replica().await?;
    let way = Way::Sentinel(sentinels.port());
    let feed = Feed::start(way.clone(), EVENTS, 200);
    let mut markers = Markers::after_a_moment(&fleet, 20).await?;
    let first = sentinel::master(sentinels.port()).await?;
    fleet.redis.kill().await?;
    let killed = Instant::now();
    until("there is a new master", PATIENCE, async || {
        Ok(sentinel::master(sentinels.port())
            .await
            .is_ok_and(|it| it != first))
    })
    .await?;
    let took = markers.arrives(&fleet, &way.open().await?, killed).await?;
    stage.within("delivering after the master died", FAILOVER_MAX, took);
    fleet.redis.start_again(&[]).await?;
    until("the old master is a replica", PATIENCE, async || {
        Ok(sentinels.are_ready().await)
    })
    .await?;
    until("a failover is possible", PATIENCE, async || {
        let words = ["SENTINEL", "FAILOVER", sentinel::MASTER];
        Ok(sentinel::ask::<()>(sentinels.port(), &words).await.is_ok())
    })
    .await?;
    let asked = Instant::now();
    until("the first master is back", PATIENCE, async || {
        Ok(sentinel::master(sentinels.port())
            .await
            .is_ok_and(|it| it == first))
    })
    .await?;
    let took = markers.arrives(&fleet, &way.open().await?, asked).await?;
    stage.within("delivering after a failover by hand", FAILOVER_MAX, took);
    let jobs = feed.stop().await + markers.next;
    let shop = way.open().await?;
    until_nothing_is_left(&shop, PATIENCE).await?;
    everything_arrived_once(stage, &fleet, &shop, jobs).await?;
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}
