use crate::harness::{EVENTS, Shop, signal, until};
use serde_json::json;

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
