//! What happens to jobs when the process that runs them dies, freezes or is told to stop.

use crate::harness::{EVENTS, PROFILES, Shop, signal, until};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::klaviyo::Operation;
use klaviyod::queue::Overview;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn event(id: &str) -> Value {
    json!({"kind": "event.track", "id": id, "data": {
        "metric": "M", "profile": {"external_id": "c"}}})
}

fn status(status: u16) -> FaultKind {
    FaultKind::Status {
        status,
        retry_after: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_process_is_poison_and_every_neighbour_is_delivered_although_redis_is_full()
 {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_LEASE", "1s");
    shop.set("KLAVIYOD_WORKER__CRASH_ON_ID", "killer");
    let jobs = (0..40).map(|number| event(&format!("e-{number}")));
    shop.add_all(EVENTS, jobs.chain([event("killer")])).await;
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxmemory").arg(1);
    full.query_async::<()>(&mut shop.redis).await.unwrap();
    let mut deaths = 0;
    let dead = loop {
        let mut daemon = shop.binary(&["run"]);
        loop {
            if daemon.try_wait().unwrap().is_some() {
                deaths += 1;
                break;
            }
            if !shop.dead().await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(deaths <= 6, "{deaths} processes died");
        let dead = shop.dead().await;
        if !dead.is_empty() {
            shop.until_delivered().await;
            break dead;
        }
    };
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (dead[0].id.as_str(), dead[0].code.as_str()),
        ("killer", "poison")
    );
    assert_eq!(shop.klaviyo.stats().distinct_events, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_process_settles_nothing_that_another_took_over() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_LEASE", "1s");
    // The first call fails late: meanwhile its process is frozen and another has taken the job.
    shop.klaviyo.faults().push(Fault {
        operation: Some("create_event".to_owned()),
        times: 1,
        kind: FaultKind::After {
            ms: 1_500,
            kind: Box::new(status(500)),
        },
    });
    let mut frozen = shop.binary(&["run"]);
    shop.add(EVENTS, &event("e-1").to_string()).await;
    let asked = || {
        let stats = shop.klaviyo.stats();
        stats.operations.values().any(|it| it.requests > 0)
    };
    until("the first call is made", asked).await;
    signal(&frozen, "STOP");
    let other = shop.binary(&["run"]);
    shop.until_delivered().await;
    signal(&frozen, "CONT");
    signal(&frozen, "TERM");
    assert_eq!(frozen.wait().await.unwrap().code(), Some(0));
    let queues = shop.queues().await;
    assert!(queues.iter().all(Overview::is_empty), "{queues:?}");
    assert_eq!(shop.klaviyo.stats().events, 1);
    assert!(shop.dead().await.is_empty());
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_what_may_not_leave() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: u32::MAX,
        kind: status(401),
    });
    let jobs = (0..500).map(|number| event(&format!("e-{number}")));
    shop.add_all(EVENTS, jobs).await;
    let mut daemon = shop.binary(&["run"]);
    let refused = || {
        let stats = shop.klaviyo.stats();
        stats.operations.values().any(|it| it.requests > 0)
    };
    until("a call is refused", refused).await;
    let asked = Instant::now();
    signal(&daemon, "TERM");
    assert_eq!(daemon.wait().await.unwrap().code(), Some(0));
    // The drain timeout is 25 s: nothing ran that was worth it.
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    let queues = shop.queues().await;
    let waiting: u64 = queues
        .iter()
        .map(|it| it.ready + it.delayed + it.in_flight)
        .sum();
    assert_eq!(waiting, 500);
    assert!(queues.iter().all(|it| it.in_flight == 0), "{queues:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_paused_queue_is_read_and_other_queues_go_on() {
    let mut shop = Shop::open().await;
    shop.command(&["queue", "pause", "event-tracking"]).await;
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &event("e-1").to_string()).await;
    let upsert = json!({"kind": "profile.upsert", "data": {"profile": {"email": "p@klqtest.dev"}}});
    shop.add(PROFILES, &upsert.to_string()).await;
    until("the other queue is delivered", || {
        shop.klaviyo.stats().profiles == 1
    })
    .await;
    let ready: u64 = shop.queues().await.iter().map(|it| it.ready).sum();
    assert_eq!((ready, shop.klaviyo.stats().distinct_events), (1, 0));
    shop.command(&["queue", "resume", "event-tracking"]).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

/// Attempts charged to the jobs `e-0` up to `jobs`, all together.
async fn attempts(shop: &Shop, jobs: usize) -> u64 {
    let mut charged = 0;
    for number in 0..jobs {
        let id = format!("e-{number}");
        let explain = ["job", "explain", &id, "--output", "json"];
        let (_, said, complaint) = shop.command(&explain).await;
        let explained: Value = serde_json::from_str(&said).expect(&complaint);
        charged += explained["found"][0]["attempts"].as_u64().unwrap();
    }
    charged
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_any_length_costs_no_attempts_once_the_breaker_has_tripped() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: u32::MAX,
        kind: status(503),
    });
    let daemon = shop.daemon().await;
    let client = daemon.clients().next().unwrap().clone();
    let jobs = (0..8).map(|number| event(&format!("e-{number}")));
    shop.add_all(EVENTS, jobs).await;
    let group = Operation::CreateEvent.group();
    until("the breaker trips", || client.tripped(group).is_some()).await;
    let asked = || shop.klaviyo.requests().len();
    let before_probes = asked();
    // The first probe leaves a second after the trip or later: what had left before has been decided by then.
    until("it is probed", || asked() > before_probes).await;
    let (probed, charged) = (asked(), attempts(&shop, 8).await);
    assert!(charged >= 5, "{charged}");
    until("it is probed again and again", || asked() >= probed + 4).await;
    assert_eq!(attempts(&shop, 8).await, charged);
    shop.klaviyo.faults().clear();
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 8);
    daemon.stop().await;
}
