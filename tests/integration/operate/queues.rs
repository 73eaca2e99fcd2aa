use super::*;
use crate::harness::{PROFILES, until};
use klaviyod::services::operations::Operations;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_is_shown_as_paused_until_it_is_resumed() {
    let shop = Shop::open().await;
    let told =
        |changed, paused| json!({"queue": "event-tracking", "paused": paused, "changed": changed});
    let pause = ["queue", "pause", "event-tracking"];
    assert_eq!(shop.told(&pause).await, told(true, true));
    assert_eq!(paused(&shop).await, ["event-tracking"]);
    assert_eq!(shop.told(&pause).await, told(false, true));
    let (code, said, _) = shop
        .command(&[&pause[..], &["--output", "table"]].concat())
        .await;
    assert_eq!((code, said.contains("already")), (Some(0), true), "{said}");
    let resume = ["queue", "resume", "event-tracking"];
    assert_eq!(shop.told(&resume).await, told(true, false));
    assert_eq!(shop.told(&resume).await, told(false, false));
    assert!(paused(&shop).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_cannot_be_put_on_record_is_none() {
    let mut shop = Shop::open().await;
    let mut forbid = redis::cmd("ACL");
    forbid.arg("SETUSER").arg("default").arg("-xadd");
    forbid.query_async::<()>(&mut shop.redis).await.unwrap();
    let pause = ["queue", "pause", "event-tracking"];
    let (code, _, complaint) = shop.command(&pause).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("failed to ask Redis"), "{complaint}");
    assert_eq!(paused(&shop).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_is_refused_with_those_that_do() {
    let shop = Shop::open().await;
    for action in ["pause", "resume"] {
        let (code, _, complaint) = shop.command(&["queue", action, "event-trackin"]).await;
        assert_eq!(code, Some(2));
        assert!(
            complaint.contains("event-tracking") && complaint.contains("profile-sync"),
            "{complaint}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vanished_daemon_held_of_a_paused_queue_waits_until_it_is_resumed() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_LEASE", "1s");
    shop.add(EVENTS, &order("o-1").to_string()).await;
    shop.add(PROFILES, &profile("c-1").to_string()).await;
    for stream in [EVENTS, PROFILES] {
        take(&mut shop, stream, 1).await;
    }
    shop.command(&["queue", "pause", "event-tracking"]).await;
    let daemon = shop.daemon().await;
    shop.until("what was held of the other queue is delivered", |queue| {
        queue.queue == "profile-sync" && queue.is_empty()
    })
    .await;
    assert_eq!(queue(&shop, "event-tracking").await["in_flight"], 1);
    assert_eq!(shop.klaviyo.stats().distinct_events, 0);
    shop.command(&["queue", "resume", "event-tracking"]).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_waits_while_the_others_go_on() {
    let mut shop = Shop::open().await;
    shop.command(&["queue", "pause", "event-tracking"]).await;
    shop.add_all(EVENTS, (0..10).map(|number| order(&format!("o-{number}"))))
        .await;
    shop.add_all(
        PROFILES,
        (0..10).map(|number| profile(&format!("c-{number}"))),
    )
    .await;
    let daemon = shop.daemon().await;
    shop.until("the other queue is empty", |queue| {
        queue.queue == "profile-sync" && queue.is_empty()
    })
    .await;
    assert_eq!(queue(&shop, "event-tracking").await["ready"], 10);
    assert_eq!(shop.klaviyo.stats().distinct_events, 0);
    shop.command(&["queue", "resume", "event-tracking"]).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 10);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_some_queues_leaves_the_others_alone() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("o-1").to_string()).await;
    shop.add(PROFILES, &profile("c-1").to_string()).await;
    let _daemon = shop.binary(&["run", "--queues", "profile-sync"]);
    shop.until("the chosen queue is empty", |queue| {
        queue.queue == "profile-sync" && queue.is_empty()
    })
    .await;
    assert_eq!(queue(&shop, "event-tracking").await["ready"], 1);
    let _other = shop.binary(&["run", "--queues", "event-tracking,profile-sync"]);
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    let (code, _, complaint) = shop.command(&["run", "--queues", "profile-sink"]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("profile-sync"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_shows_how_fast_it_empties_and_how_long_the_rest_takes() {
    let mut shop = Shop::open().await;
    let idle = queue(&shop, "event-tracking").await;
    assert_eq!((&idle["rate"], &idle["drain_ms"]), (&json!(0.0), &json!(0)));
    let mut daemon = shop.binary(&["run"]);
    shop.add_all(EVENTS, (0..500).map(|number| order(&format!("o-{number}"))))
        .await;
    shop.until("a rate is shown", |queue| {
        queue.queue == "event-tracking" && queue.rate > 0.0
    })
    .await;
    daemon.kill().await.unwrap();
    shop.add(EVENTS, &order("waits").to_string()).await;
    let waiting = queue(&shop, "event-tracking").await;
    assert!(waiting["rate"].as_f64().unwrap() > 0.0, "{waiting}");
    assert!(waiting["drain_ms"].as_u64().unwrap() > 0, "{waiting}");
    shop.command(&["queue", "pause", "event-tracking"]).await;
    assert!(queue(&shop, "event-tracking").await["drain_ms"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_job_is_told_by_when_it_was_first_enqueued() {
    let mut shop = Shop::open().await;
    let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    // As a promotion writes it.
    let mut add = redis::cmd("XADD");
    add.arg(EVENTS)
        .arg("*")
        .arg("job")
        .arg(order("o-1").to_string());
    add.arg("n").arg(3).arg("lane").arg("live");
    add.arg("sid")
        .arg(format!("{}-0", hour_ago.as_millisecond()));
    add.query_async::<String>(&mut shop.redis).await.unwrap();
    let oldest = queue(&shop, "event-tracking").await["oldest_ms"].clone();
    assert!(oldest.as_u64().unwrap() >= 3_600_000, "{oldest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_deletes_what_waits_and_leaves_what_is_in_flight_and_what_is_dead() {
    let mut shop = Shop::open().await;
    shop.add_all(
        EVENTS,
        (0..1_200).map(|number| order(&format!("o-{number}"))),
    )
    .await;
    let held = take(&mut shop, EVENTS, 3).await;
    shop.add(&format!("{EVENTS}:backfill"), &order("old").to_string())
        .await;
    add_dead(&mut shop, &order("dead")).await;
    // Enqueued by our own command: the id is claimed.
    enqueue(&shop, "ready", &[]).await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    assert_eq!(claims(&mut shop).await, 2);

    let (code, _, complaint) = shop.command(&["queue", "purge", "event-tracking"]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("--yes"), "{complaint}");

    let purge = ["queue", "purge", "event-tracking", "--yes"];
    let (code, said, complaint) = shop.command(&purge).await;
    assert_eq!(code, Some(0), "{complaint}");
    let purged: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        purged,
        json!({"ready": 1_199, "delayed": 1, "in_flight": 3, "internal": 0})
    );
    assert_eq!(claims(&mut shop).await, 0);
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!(
        (&queue["ready"], &queue["in_flight"], &queue["delayed"]),
        (&json!(0), &json!(3), &json!(0))
    );
    assert_eq!((&queue["dead"], &queue["backfill"]), (&json!(1), &json!(0)));
    assert_eq!(ids(&mut shop, EVENTS).await, held);
    assert_eq!(
        recorded(&mut shop).await,
        [("queue.purge".to_owned(), 1_200)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_under_load_deletes_what_was_not_delivered_and_nothing_else() {
    const JOBS: u64 = 20_000;
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let jobs = (0..JOBS).map(|number| order(&format!("o-{number}")));
    shop.add_all(EVENTS, jobs).await;
    until("some events arrive", || {
        shop.klaviyo.stats().distinct_events > 0
    })
    .await;
    let purge = ["queue", "purge", "event-tracking", "--yes"];
    let (code, said, complaint) = shop.command(&purge).await;
    assert_eq!(code, Some(0), "{complaint}");
    shop.until_delivered().await;
    let purged: Value = serde_json::from_str(&said).unwrap();
    let count = |state: &str| purged[state].as_u64().unwrap();
    let delivered = shop.klaviyo.stats().distinct_events;
    assert_eq!(delivered + count("ready") + count("delayed"), JOBS);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_can_be_paused_and_purged() {
    let mut shop = Shop::open().await;
    shop.add_all(EVENTS, (0..10).map(|number| order(&format!("o-{number}"))))
        .await;
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxmemory").arg(1);
    full.query_async::<()>(&mut shop.redis).await.unwrap();
    let data = order_without_id()["data"].to_string();
    let (code, _, _) = shop
        .command(&["enqueue", "event.track", "--data", &data])
        .await;
    assert_eq!(code, Some(1));
    for command in [
        &["queue", "pause", "event-tracking"][..],
        &["job", "cancel", "o-3", "--yes"],
        &["queue", "purge", "event-tracking", "--yes"],
    ] {
        let (code, _, complaint) = shop.command(command).await;
        assert_eq!(code, Some(0), "{command:?}: {complaint}");
    }
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!(
        (&queue["ready"], &queue["paused"]),
        (&json!(0), &json!(true))
    );
    let done = [("queue.pause", 0), ("job.cancel", 1), ("queue.purge", 9)];
    let done = done.map(|(action, touched)| (action.to_owned(), touched));
    assert_eq!(recorded(&mut shop).await, done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_one_lane_leaves_the_others() {
    let mut shop = Shop::open().await;
    let backfill = format!("{EVENTS}:backfill");
    for stream in [EVENTS, backfill.as_str()] {
        shop.add_all(stream, (0..10).map(|number| order(&format!("o-{number}"))))
            .await;
    }
    for number in 0..10 {
        let lane = if number % 2 == 0 { "live" } else { "backfill" };
        let id = format!("later-{number}");
        enqueue(&shop, &id, &["--in", "1h", "--lane", lane]).await;
    }
    let purge = [
        "queue",
        "purge",
        "event-tracking",
        "--lane",
        "backfill",
        "--yes",
    ];
    let (code, said, complaint) = shop.command(&purge).await;
    assert_eq!(code, Some(0), "{complaint}");
    let purged: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&purged["ready"], &purged["delayed"]),
        (&json!(10), &json!(5))
    );
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!(
        (&queue["ready"], &queue["delayed"], &queue["backfill"]),
        (&json!(10), &json!(5), &json!(0))
    );
    assert_eq!(claims(&mut shop).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_the_follow_ups_of_imports_that_were_accepted() {
    let mut shop = Shop::open().await;
    shop.add_all(
        PROFILES,
        (0..100).map(|number| profile(&format!("c-{number}"))),
    )
    .await;
    let daemon = shop.daemon().await;
    let imported = || {
        let stats = shop.klaviyo.stats();
        let bulk = stats.operations.get("bulk_import_profiles");
        bulk.is_some_and(|it| it.accepted >= 1)
    };
    until("an import is accepted", imported).await;
    daemon.stop().await;
    let purge = ["queue", "purge", "profile-sync", "--yes"];
    let (_, said, _) = shop.command(&purge).await;
    let purged: Value = serde_json::from_str(&said).unwrap();
    assert!(purged["internal"].as_u64().unwrap() >= 1, "{purged}");
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    assert!(shop.klaviyo.stats().operations["get_bulk_import_profiles_job"].requests >= 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_fails_on_the_way_tells_and_records_what_it_deleted() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("ready").to_string()).await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    // Delayed jobs come first; then the streams cannot be read.
    let mut forbid = redis::cmd("ACL");
    forbid.arg("SETUSER").arg("default").arg("-xrevrange");
    forbid.query_async::<()>(&mut shop.redis).await.unwrap();
    let purge = ["queue", "purge", "event-tracking", "--yes"];
    let (code, _, complaint) = shop.command(&purge).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("stopped after 1 job"), "{complaint}");
    assert_eq!(recorded(&mut shop).await, [("queue.purge".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_stopped_leaves_the_rest_and_its_record_says_so() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("ready").to_string()).await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let keys = Keys::default();
    let mut operations = Operations::new(shop.redis.clone(), keys.clone());
    let queue = "event-tracking".parse().unwrap();
    let purged = operations.purge(queue, None, &stop).await.unwrap();
    assert_eq!((purged.ready, purged.delayed), (0, 0));
    assert_eq!(ids(&mut shop, EVENTS).await.len(), 1);
    let recorded = recorded_actions(&mut shop.redis, &keys, 10).await.unwrap();
    assert_eq!(recorded[0].1.detail["state"], "stopped");
}
