//! What the daemon keeps in the database while it delivers.

use crate::databases::{PrivatePostgres, say_skipped};
use crate::harness::{EVENTS, Shop, until_async};
use klaviyo_jobs::Keys;
use klaviyod::queue::recorded_actions;
use klaviyod::services::operations::Operations;
use klaviyod::store::{Attempt, Database, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_in_the_audit_when_the_daemon_has_stopped() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add_all(EVENTS, (0..1_000).map(event)).await;
    shop.add(
        EVENTS,
        r#"{"kind": "event.track", "id": "bad", "data": {"metric": "M"}}"#,
    )
    .await;
    let unnamed = shop.add(EVENTS, "not json").await;
    let own = event(0)["data"].clone();
    let without_id = json!({"kind": "event.track", "data": own}).to_string();
    let without_id = shop.add(EVENTS, &without_id).await;
    shop.until_delivered().await;
    let audit = daemon.records().audit().clone();
    daemon.stop().await;
    assert_eq!((audit.dropped(), audit.lag().as_millis()), (0, 0));

    let store = open(shop.database_url()).await;
    for id in [
        "order-0",
        "order-999",
        &format!("event-tracking/{without_id}"),
    ] {
        let found = attempts(&store, id).await;
        let one: Vec<_> = found.iter().map(|it| (it.attempt, &*it.outcome)).collect();
        assert_eq!(one, [(1, "delivered")], "{id}");
        assert_eq!(found[0].queue, "event-tracking");
        assert!(found[0].started_at <= found[0].ended_at);
    }
    let bad = attempts(&store, "bad").await;
    assert_eq!(
        (&*bad[0].outcome, bad[0].code.as_deref()),
        ("bury", Some("job.missing_field"))
    );
    let nonsense = attempts(&store, &format!("event-tracking/{unnamed}")).await;
    assert_eq!(nonsense[0].code.as_deref(), Some("job.not_json"));
    assert_eq!(nonsense[0].kind, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_did_moves_from_redis_to_the_database() {
    let shop = Shop::open().await;
    let keys = Keys::default();
    let mut operations = Operations::new(shop.redis.clone(), keys.clone());
    operations
        .record("queue.purge", "lists", 3, json!({"lane": "live"}))
        .await
        .unwrap();
    let daemon = shop.daemon().await;
    let store = daemon.records().store().clone();
    until_async("the record is in the database", async || {
        store.actions("default", 10).await.unwrap().len() == 1
    })
    .await;
    let kept = store.actions("default", 10).await.unwrap();
    assert_eq!((&*kept[0].action, kept[0].touched), ("queue.purge", 3));
    let redis = shop.redis.clone();
    until_async("Redis forgets it", async || {
        let recorded = recorded_actions(&mut redis.clone(), &keys, 10).await;
        recorded.unwrap().is_empty()
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_database_is_refused_until_it_is_adopted_and_an_emptied_redis_takes_any() {
    let mut shop = Shop::open().await;
    shop.daemon().await.stop().await;
    let first = shop.database_url().to_owned();
    let second = first.replace("klaviyod.db", "other.db");
    shop.set("KLAVIYOD_DATABASE_URL", &second);

    let (code, _, complaint) = shop.command(&["run"]).await;
    assert_eq!(code, Some(2), "{complaint}");
    assert!(
        complaint.contains("klaviyod migrate --adopt"),
        "{complaint}"
    );

    let (code, _, complaint) = shop.command(&["migrate", "--adopt"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    shop.daemon().await.stop().await;
    let keys = Keys::default();
    let recorded = recorded_actions(&mut shop.redis, &keys, 10).await.unwrap();
    let store = open(&second).await;
    let kept = store.actions("default", 10).await.unwrap();
    // A stop between the copy and the forgetting leaves the record in both places, under one stream id.
    let waiting = recorded.into_iter().map(|(id, it)| (id, it.action));
    let kept = kept.into_iter().map(|it| (it.stream_id, it.action));
    let actions: BTreeMap<String, String> = waiting.chain(kept).collect();
    let actions: Vec<String> = actions.into_values().collect();
    assert_eq!(actions, ["deployment.adopt"]);

    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut shop.redis)
        .await
        .unwrap();
    shop.set("KLAVIYOD_DATABASE_URL", &first);
    shop.daemon().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_what_is_pending_and_what_it_applied() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_DATABASE__MIGRATE", "off");
    let (code, _, complaint) = shop.command(&["run"]).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("run `klaviyod migrate`"), "{complaint}");
    let states = |text: String| -> Vec<String> {
        let listed: Vec<Value> = serde_json::from_str(&text).unwrap();
        listed
            .iter()
            .map(|it| it["state"].as_str().unwrap().to_owned())
            .collect()
    };
    let (code, listed, _) = shop.command(&["migrate", "--check"]).await;
    assert_eq!(code, Some(1));
    assert!(states(listed).iter().all(|state| state == "pending"));
    let (code, listed, _) = shop.command(&["migrate"]).await;
    assert_eq!(code, Some(0));
    assert!(states(listed).iter().all(|state| state == "applied"));
    let (code, listed, _) = shop.command(&["migrate", "--check"]).await;
    assert_eq!(code, Some(0));
    assert!(states(listed).iter().all(|state| state == "there"));
    shop.daemon().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_goes_on_while_the_database_is_away_and_the_audit_catches_up() {
    let Some(mut server) = PrivatePostgres::start().await else {
        return say_skipped();
    };
    let url = server.url("postgres");
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_DATABASE_URL", &url);
    let daemon = shop.daemon().await;
    server.kill();
    shop.add_all(EVENTS, (0..100).map(event)).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 100);
    let audit = daemon.records().audit().clone();
    let ready = format!("http://{}/health/ready", daemon.http_address().unwrap());
    until_async("health says that the database is away", async || {
        state_of("database", &ready).await == "warn"
    })
    .await;
    assert!(!audit.lag().is_zero());
    server.restart().await;
    let store = open(&url).await;
    until_async("the audit catches up", async || {
        !attempts(&store, "order-99").await.is_empty() && audit.lag().is_zero()
    })
    .await;
    assert_eq!(audit.dropped(), 0);
    assert_eq!(state_of("database", &ready).await, "ok");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_later_is_waited_for_and_one_that_cannot_be_ends_with_exit_code_3() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_DATABASE_URL", "sqlite:///nowhere/at/all.db");
    let (code, _, complaint) = shop.command(&["run"]).await;
    assert_eq!(code, Some(3));
    assert!(
        complaint.contains("check KLAVIYOD_DATABASE_URL"),
        "{complaint}"
    );

    let Some(mut server) = PrivatePostgres::start().await else {
        return say_skipped();
    };
    shop.set("KLAVIYOD_DATABASE_URL", &server.url("postgres"));
    server.kill();
    let (daemon, ()) = tokio::join!(shop.daemon(), server.restart());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_database_that_is_away() {
    let Some(mut server) = PrivatePostgres::start().await else {
        return say_skipped();
    };
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_DATABASE_URL", &server.url("postgres"));
    shop.set("KLAVIYOD_DRAIN_TIMEOUT", "2s");
    let daemon = shop.daemon().await;
    server.kill();
    shop.add_all(EVENTS, (0..10).map(event)).await;
    shop.until_delivered().await;
    let audit = daemon.records().audit().clone();
    let asked = std::time::Instant::now();
    daemon.stop().await;
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
    assert!(audit.dropped() == 10 || !audit.lag().is_zero());
}

fn event(number: usize) -> Value {
    json!({"kind": "event.track", "id": format!("order-{number}"), "data": {
        "metric": "Placed Order", "profile": {"email": format!("c-{number}@klqtest.dev")}}})
}

/// The state of a part in a report on health.
async fn state_of(part: &str, url: &str) -> String {
    let answer = reqwest::get(url).await.unwrap().bytes().await.unwrap();
    let report: Value = serde_json::from_slice(&answer).unwrap();
    let parts = report["parts"].as_array().unwrap();
    let found = parts.iter().find(|it| it["name"] == part).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

async fn open(url: &str) -> Store {
    let database = Database::look(url).await.unwrap();
    Store::open(database, None).await.unwrap()
}

async fn attempts(store: &Store, id: &str) -> Vec<Attempt> {
    store.attempts("default", None, id).await.unwrap().found
}
