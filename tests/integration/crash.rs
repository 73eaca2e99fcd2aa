use crate::harness::{EVENTS, Shop, signal, until, until_async};
use serde_json::json;
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_loses_nothing() {
    const JOBS: u64 = 20_000;
    let mut shop = Shop::open().await;
    let jobs = (0..JOBS).map(|number| {
        json!({"kind": "event.track", "id": format!("o-{number}"), "data": {
            "metric": "Placed Order", "profile": {"email": format!("c-{number}@klqtest.dev")}}})
    });
    shop.add_all(EVENTS, jobs).await;
    let mut daemon = shop.binary(&["run"]);
    until("some events arrive", || {
        shop.klaviyo.stats().distinct_events > 1_000
    })
    .await;
    daemon.kill().await.unwrap();
    let _daemon = shop.binary(&["run"]);
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, JOBS);
    assert!(shop.dead().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_hands_back_what_is_not_delivered_and_exits_0() {
    let mut shop = Shop::open().await;
    let mut daemon = shop.binary(&["run"]);
    shop.add(EVENTS, r#"{"kind": "event.track", "id": "o-1", "data": {"metric": "M", "profile": {"external_id": "c"}}}"#).await;
    shop.until_delivered().await;
    signal(&daemon, "TERM");
    assert_eq!(daemon.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_the_start_is_a_stop_like_any_other() {
    let mut shop = Shop::open().await;
    // Nobody answers there, and the start tries for a while.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    shop.set("KLAVIYOD_REDIS_URL", &format!("redis://{address}"));
    let mut daemon = shop.binary(&["run"]);
    drop(silent.accept().await.unwrap());
    signal(&daemon, "TERM");
    assert_eq!(daemon.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_redis_goes_away_meanwhile_exits_3() {
    let mut shop = Shop::open().await;
    let mut command = shop.binary(&["enqueue", "--ndjson", "-"]);
    let redis = shop.redis.clone();
    until_async("the command is connected", async || {
        let mut list = redis::cmd("CLIENT");
        list.arg("LIST");
        let list: String = list.query_async(&mut redis.clone()).await.unwrap();
        list.contains("cmd=ping")
    })
    .await;
    let mut end = redis::cmd("SHUTDOWN");
    drop(end.arg("NOSAVE").query_async::<()>(&mut shop.redis).await);
    let mut input = command.stdin.take().unwrap();
    let job = r#"{"kind": "event.track", "id": "o-1", "data": {"metric": "M", "profile": {"external_id": "c"}}}"#;
    input.write_all(job.as_bytes()).await.unwrap();
    drop(input);
    assert_eq!(command.wait().await.unwrap().code(), Some(3));
}
