use crate::harness::{EVENTS, PROFILES, Shop, until, until_async};
use klaviyo_jobs::{Keys, keys::GROUP};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::queue::recorded_actions;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_is_shown_as_paused_until_it_is_resumed() {
    let shop = Shop::open().await;
    let (code, said, _) = shop.command(&["queue", "pause", "event-tracking"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("paused event-tracking"), "{said}");
    assert_eq!(paused(&shop).await, ["event-tracking"]);
    let (code, said, _) = shop.command(&["queue", "pause", "event-tracking"]).await;
    assert_eq!((code, said.contains("already")), (Some(0), true), "{said}");
    let (code, _, _) = shop.command(&["queue", "resume", "event-tracking"]).await;
    assert_eq!(code, Some(0));
    assert!(paused(&shop).await.is_empty());
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
async fn a_waiting_job_is_cancelled_by_its_id_and_its_id_is_free_again() {
    let mut shop = Shop::open().await;
    enqueue(&shop, "o/1", &[]).await;
    enqueue(&shop, "o/2", &["--in", "1h"]).await;
    let third = shop.add(EVENTS, &order_without_id().to_string()).await;
    shop.add(EVENTS, &order("o/11").to_string()).await;
    let (code, _, complaint) = shop.command(&["job", "cancel", "o/1"]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("--yes"), "{complaint}");
    for id in ["o/1", "o/2", &format!("event-tracking/{third}")] {
        let (code, said, complaint) = shop.command(&["job", "cancel", id, "--yes"]).await;
        assert_eq!(code, Some(0), "{complaint}");
        let done: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(done, json!({"cancelled": 1, "in_flight": 0}));
        let (code, _, complaint) = shop.command(&["job", "cancel", id, "--yes"]).await;
        assert_eq!(code, Some(1));
        assert!(complaint.contains("no job has this id"), "{complaint}");
    }
    assert_eq!(claims(&mut shop).await, 0);
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!((&queue["ready"], &queue["delayed"]), (&json!(1), &json!(0)));
    assert_eq!(recorded(&mut shop).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_or_dead_is_not_cancelled_and_the_command_says_so() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("held").to_string()).await;
    take(&mut shop, EVENTS, 1).await;
    let dead = add_dead(&mut shop, &order("dead")).await;
    let (code, _, complaint) = shop.command(&["job", "cancel", "held", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains("in flight, taken by another-daemon"),
        "{complaint}"
    );
    let (code, _, complaint) = shop.command(&["job", "cancel", "dead", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains(&format!("dlq discard {dead}")),
        "{complaint}"
    );
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!(
        (&queue["in_flight"], &queue["dead"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_explained_wherever_it_is() {
    let mut shop = Shop::open().await;
    shop.add_all(EVENTS, ["held", "first", "second"].into_iter().map(order))
        .await;
    take(&mut shop, EVENTS, 1).await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    let dead = add_dead(&mut shop, &order("dead")).await;

    let second = explain(&shop, "second").await;
    assert_eq!(
        (&second["state"], &second["lane"], &second["ahead"]),
        (&json!("ready"), &json!("live"), &json!(1))
    );
    assert_eq!(second["kind"], "event.track");
    assert!(second.get("payload").is_none(), "{second}");
    let by_entry = explain(&shop, second["entry"].as_str().unwrap()).await;
    assert_eq!(by_entry["id"], "second");

    let held = explain(&shop, "held").await;
    assert_eq!(
        (&held["state"], &held["consumer"], &held["times_taken"]),
        (&json!("in_flight"), &json!("another-daemon"), &json!(1))
    );
    let later = explain(&shop, "later").await;
    assert_eq!(later["state"], "delayed");
    assert!(later["due_at"].is_string());
    let dead_job = explain(&shop, "dead").await;
    assert_eq!(
        (&dead_job["state"], &dead_job["entry"], &dead_job["code"]),
        (&json!("dead"), &json!(dead), &json!("klaviyo.invalid"))
    );

    shop.command(&["queue", "pause", "event-tracking"]).await;
    for (id, state) in [("second", "ready"), ("later", "delayed")] {
        let job = explain(&shop, id).await;
        assert_eq!(job["state"], state);
        let next = job["next"].as_str().unwrap();
        assert!(next.contains("paused by an operator"), "{next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_job_is_explained_by_the_audit_with_every_attempt() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: FaultKind::Status {
            status: 503,
            retry_after: None,
        },
    });
    let daemon = shop.daemon().await;
    let entry = shop.add(EVENTS, &order_without_id().to_string()).await;
    shop.until_delivered().await;
    let known = async || {
        let (code, said, _) = shop.command(&["job", "explain", &entry]).await;
        (code == Some(0)).then(|| serde_json::from_str::<Value>(&said).unwrap())
    };
    // The audit is written in batches.
    until_async("the audit knows both attempts", async || {
        let explanation = known().await;
        explanation.is_some_and(|it| it["attempts"].as_array().unwrap().len() == 2)
    })
    .await;
    let explanation = known().await.unwrap();
    let outcomes = [0, 1].map(|at| explanation["attempts"][at]["outcome"].clone());
    assert_eq!(outcomes, [json!("retry"), json!("delivered")]);
    assert_eq!(explanation["attempts"][0]["status"], 503);
    assert!(explanation["delivered_at"].is_string());
    assert_eq!(explanation["found"], json!([]));
    let id = format!("event-tracking/{entry}");
    let (_, said, _) = shop
        .command(&["job", "explain", &id, "--output", "table"])
        .await;
    assert!(
        said.contains("delivered at") && said.contains("status 503"),
        "{said}"
    );
    let (code, _, complaint) = shop.command(&["job", "cancel", &id, "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("it was delivered at"), "{complaint}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_be_reached_is_said_and_hides_nothing_else() {
    let mut shop = Shop::open().await;
    shop.set(
        "KLAVIYOD_DATABASE_URL",
        "postgres://nobody:secret@127.0.0.1:1/none",
    );
    shop.add(EVENTS, &order("o-1").to_string()).await;
    let (code, said, _) = shop.command(&["job", "explain", "o-1"]).await;
    assert_eq!(code, Some(0));
    let explanation: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(explanation["found"][0]["state"], "ready");
    let not_searched = explanation["not_searched"].to_string();
    assert!(
        not_searched.contains("audit: failed to reach the database"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_nowhere_is_told_with_where_it_was_looked_for() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("o-1").to_string()).await;
    let (code, said, _) = shop.command(&["job", "explain", "o-2"]).await;
    assert_eq!(code, Some(1));
    let explanation: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(explanation["found"], json!([]));
    let searched = explanation["searched"].as_array().unwrap();
    assert!(
        searched.contains(&json!({"place": "event-tracking:live", "entries": 1, "complete": true}))
    );
    let (_, _, complaint) = shop
        .command(&["job", "explain", "o-2", "--output", "table"])
        .await;
    assert!(complaint.contains("profile-sync:dead"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_shown_only_where_it_is_asked_for() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("o-1").to_string()).await;
    for output in ["table", "json"] {
        let explain = ["job", "explain", "o-1", "--output", output];
        let (_, said, _) = shop.command(&explain).await;
        assert!(!said.contains("klqtest.dev"), "{said}");
        let (_, said, _) = shop.command(&[&explain[..], &["--payload"]].concat()).await;
        assert!(said.contains("klqtest.dev"), "{said}");
    }
}

fn profile(external_id: &str) -> Value {
    json!({"kind": "profile.upsert", "data": {"profile": {"external_id": external_id}}})
}

fn order(id: &str) -> Value {
    let mut order = order_without_id();
    order["id"] = json!(id);
    order
}

fn order_without_id() -> Value {
    json!({"kind": "event.track", "data": {"metric": "Placed Order", "profile": {"email": "a@klqtest.dev"}}})
}

async fn enqueue(shop: &Shop, id: &str, options: &[&str]) {
    let data = order_without_id()["data"].to_string();
    let enqueue = ["enqueue", "event.track", "--data", &data, "--id", id];
    let (code, _, complaint) = shop.command(&[&enqueue[..], options].concat()).await;
    assert_eq!(code, Some(0), "{complaint}");
}

/// Takes so many entries as a daemon does, and returns their ids.
async fn take(shop: &mut Shop, stream: &str, count: usize) -> Vec<String> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(stream).arg(GROUP).arg("0");
    create.query_async::<()>(&mut shop.redis).await.unwrap();
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(GROUP).arg("another-daemon");
    read.arg("COUNT")
        .arg(count)
        .arg("STREAMS")
        .arg(stream)
        .arg(">");
    let reply: redis::streams::StreamReadReply = read.query_async(&mut shop.redis).await.unwrap();
    let entries = reply.keys.into_iter().flat_map(|key| key.ids);
    entries.map(|entry| entry.id).collect()
}

async fn ids(shop: &mut Shop, stream: &str) -> Vec<String> {
    let mut range = redis::cmd("XRANGE");
    let range = range.arg(stream).arg("-").arg("+");
    let reply: redis::streams::StreamRangeReply = range.query_async(&mut shop.redis).await.unwrap();
    reply.ids.into_iter().map(|entry| entry.id).collect()
}

async fn add_dead(shop: &mut Shop, job: &Value) -> String {
    let mut add = redis::cmd("XADD");
    add.arg(format!("{EVENTS}:dead"))
        .arg("*")
        .arg("job")
        .arg(job.to_string());
    add.arg("sid")
        .arg("1700000000000-0")
        .arg("n")
        .arg(1)
        .arg("lane")
        .arg("live");
    add.arg("code")
        .arg("klaviyo.invalid")
        .arg("status")
        .arg(400);
    add.arg("detail").arg("refused").arg("pointer").arg("");
    add.query_async(&mut shop.redis).await.unwrap()
}

async fn claims(shop: &mut Shop) -> usize {
    let mut keys = redis::cmd("KEYS");
    let found: Vec<String> = keys
        .arg("klaviyod:{default}:claim:*")
        .query_async(&mut shop.redis)
        .await
        .unwrap();
    found.len()
}

async fn recorded(shop: &mut Shop) -> Vec<(String, u64)> {
    let recorded = recorded_actions(&mut shop.redis, &Keys::default(), 100).await;
    let recorded = recorded.unwrap().into_iter();
    recorded.map(|(_, it)| (it.action, it.touched)).collect()
}

/// The only copy of a job.
async fn explain(shop: &Shop, id: &str) -> Value {
    let (code, said, complaint) = shop.command(&["job", "explain", id]).await;
    assert_eq!(code, Some(0), "{id}: {complaint}");
    let explanation: Value = serde_json::from_str(&said).unwrap();
    let found = explanation["found"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{explanation}");
    found[0].clone()
}

async fn queue(shop: &Shop, name: &str) -> Value {
    let queues = queues(shop).await;
    queues.into_iter().find(|it| it["queue"] == name).unwrap()
}

async fn queues(shop: &Shop) -> Vec<Value> {
    let (code, said, complaint) = shop.command(&["queue", "list", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    serde_json::from_str(&said).unwrap()
}

async fn paused(shop: &Shop) -> Vec<String> {
    let queues = queues(shop).await.into_iter();
    let paused = queues.filter(|queue| queue["paused"] == true);
    paused
        .map(|queue| queue["queue"].as_str().unwrap().to_owned())
        .collect()
}
