//! A Redis that is not as we left it: keys of another type, and no memory before the first group exists. No job is lost,
//! and what can be delivered is.

use crate::harness::{EVENTS, PROFILES, Shop, until, until_async};
use klaviyo_simulator::{Fault, FaultKind};
use serde_json::json;
use tokio::process::Child;

const EVENT: &str =
    r#"{"kind":"event.track","id":"e-1","data":{"metric":"M","profile":{"external_id":"c"}}}"#;
const DELAYED: &str = "klaviyod:{default}:event-tracking:delayed";
const URGENT: &str = "klaviyod:{default}:event-tracking:urgent";

async fn command(shop: &mut Shop, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async::<()>(&mut shop.redis).await.unwrap();
}

/// An event whose call fails while the key to which it should go is not ours.
async fn with_an_event_that_cannot_be_delayed() -> (Shop, Child) {
    let mut shop = Shop::open().await;
    command(&mut shop, &["RPUSH", DELAYED, "not ours"]).await;
    shop.klaviyo.faults().push(Fault {
        operation: Some("create_event".to_owned()),
        times: 1,
        kind: FaultKind::Status {
            status: 500,
            retry_after: None,
        },
    });
    let daemon = shop.binary(&["run"]);
    shop.add(EVENTS, EVENT).await;
    (shop, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_target_refuses_it_stays_where_it_was() {
    let (mut shop, _daemon) = with_an_event_that_cannot_be_delayed().await;
    let redis = shop.redis.clone();
    until_async("the job is refused by its target", async || {
        let mut stats = redis::cmd("INFO");
        let stats: String = stats
            .arg("commandstats")
            .query_async(&mut redis.clone())
            .await
            .unwrap();
        let failed = |line: &str| {
            (line.starts_with("cmdstat_zadd") || line.starts_with("cmdstat_zrem"))
                && !line.contains("failed_calls=0")
        };
        stats.lines().any(failed)
    })
    .await;
    command(&mut shop, &["DEL", DELAYED]).await;
    until("the job is delivered", || shop.klaviyo.stats().events == 1).await;
    shop.until_delivered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_target_refuses_it_keeps_no_other_from_being_settled() {
    let (mut shop, _daemon) = with_an_event_that_cannot_be_delayed().await;
    until("the event fails", || shop.klaviyo.stats().faulted == 1).await;
    let upsert = json!({"kind": "profile.upsert", "data": {"profile": {"email": "p@klqtest.dev"}}});
    shop.add(PROFILES, &upsert.to_string()).await;
    let redis = shop.redis.clone();
    until_async("the other job is settled", async || {
        let mut rest = redis::cmd("XLEN");
        rest.arg("klaviyod:{default}:profile-sync");
        let rest: usize = rest.query_async(&mut redis.clone()).await.unwrap();
        shop.klaviyo.stats().profiles > 0 && rest == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_pauses_that_is_not_ours_pauses_nothing() {
    let mut shop = Shop::open().await;
    command(&mut shop, &["SET", "klaviyod:{default}:paused", "not ours"]).await;
    let _daemon = shop.binary(&["run"]);
    shop.add(EVENTS, EVENT).await;
    until("the job is delivered", || shop.klaviyo.stats().events == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_whose_stream_refuses_it_goes_on_waiting_and_others_do_not_wait_for_it() {
    let mut shop = Shop::open().await;
    command(&mut shop, &["SET", URGENT, "not ours"]).await;
    let delayed = format!("x:0:urgent:::{EVENT}");
    command(&mut shop, &["ZADD", DELAYED, "1", &delayed]).await;
    let upsert = json!({"kind": "profile.upsert", "data": {"profile": {"email": "p@klqtest.dev"}}});
    let delayed = format!("x:0:urgent:::{upsert}");
    let profiles_delayed = DELAYED.replace("event-tracking", "profile-sync");
    command(&mut shop, &["ZADD", &profiles_delayed, "1", &delayed]).await;
    let _daemon = shop.binary(&["run"]);
    until("the other queue is delivered", || {
        shop.klaviyo.stats().profiles == 1
    })
    .await;
    command(&mut shop, &["DEL", URGENT]).await;
    until("the job is delivered", || shop.klaviyo.stats().events == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_refuses_keeps_no_other_from_being_read() {
    let mut shop = Shop::open().await;
    command(&mut shop, &["SET", URGENT, "not ours"]).await;
    let _daemon = shop.binary(&["run"]);
    shop.add(EVENTS, EVENT).await;
    let upsert = json!({"kind": "profile.upsert", "data": {"profile": {"email": "p@klqtest.dev"}}});
    shop.add(PROFILES, &upsert.to_string()).await;
    until("both other streams are read", || {
        let stats = shop.klaviyo.stats();
        stats.events == 1 && stats.profiles > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_emptied_although_no_group_was_made_before() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, EVENT).await;
    command(&mut shop, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let _daemon = shop.binary(&["run"]);
    until("the job is delivered", || shop.klaviyo.stats().events == 1).await;
    shop.until_delivered().await;
}
