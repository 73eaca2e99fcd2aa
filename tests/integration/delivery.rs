use crate::harness::{EVENTS, PROFILES, Shop, until};
use klaviyo_simulator::{Fault, FaultKind};
use serde_json::{Value, json};

fn event(id: &str, metric: &str) -> Value {
    json!({"kind": "event.track", "id": id, "at": "2026-11-20T09:00:00Z",
        "data": {"metric": metric, "profile": {"email": "a@klqtest.dev"}, "value": 9.99}})
}

fn upsert(email: &str, attributes: &Value) -> Value {
    json!({"kind": "profile.upsert", "data": {"profile": {"email": email}, "attributes": attributes}})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_xadd_reaches_klaviyo() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &event("order-1", "Placed Order").to_string())
        .await;
    shop.until_delivered().await;
    let stats = shop.klaviyo.stats();
    assert_eq!((stats.distinct_events, stats.value), (1, 9.99));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_leaves_in_bulk_and_repeats_are_folded() {
    let mut shop = Shop::open().await;
    let jobs = (0..2_500).map(|number| event(&format!("order-{}", number / 2), "Placed Order"));
    shop.add_all(EVENTS, jobs).await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    let stats = shop.klaviyo.stats();
    assert_eq!(stats.distinct_events, 1_250);
    assert!(
        stats.operations["bulk_create_events"].requests <= 10,
        "{stats:?}"
    );
    assert!(shop.dead().await.is_empty());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_metrics_of_one_order_id_are_two_events() {
    let mut shop = Shop::open().await;
    shop.add_all(
        EVENTS,
        ["Placed Order", "Fulfilled Order"]
            .map(|metric| event("order-1", metric))
            .into_iter(),
    )
    .await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 2);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_recorded_with_each_of_its_lines() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let item = json!({"sku": "MUG-01", "name": "Mug", "quantity": 2, "price": 5});
    let order = json!({"kind": "order.placed", "id": "order-7", "data": {"order_id": "order-7",
        "profile": {"email": "a@klqtest.dev"}, "value": 20, "items": [item.clone(), item]}});
    shop.add(EVENTS, &order.to_string()).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 3);
    daemon.stop().await;
}

/// Each line is an event, and one is the order itself.
fn order_of(lines: u32) -> Value {
    let items: Vec<Value> = (0..lines)
        .map(|line| json!({"sku": format!("MUG-{line}"), "name": "Mug", "quantity": 1, "price": 5}))
        .collect();
    json!({"kind": "order.placed", "id": "order-of-lines", "data": {"order_id": "order-of-lines",
        "profile": {"email": "a@klqtest.dev"}, "value": 20, "items": items}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_many_lines_leaves_in_bulk_though_it_waits_alone() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &order_of(199).to_string()).await;
    shop.until_delivered().await;
    let stats = shop.klaviyo.stats();
    assert_eq!(stats.distinct_events, 200);
    assert_eq!(stats.operations["bulk_create_events"].requests, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_setting_different_fields_of_one_person_both_arrive_in_one_lot_and_in_two() {
    let mut shop = Shop::open().await;
    let filler = (0..30).map(|number| upsert(&format!("filler-{number}@klqtest.dev"), &json!({})));
    let first = upsert("one@klqtest.dev", &json!({"first_name": "Ada"}));
    let second = upsert("one@klqtest.dev", &json!({"last_name": "Lovelace"}));
    shop.add_all(PROFILES, [first, second].into_iter().chain(filler))
        .await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    for attributes in [
        json!({"first_name": "Grace"}),
        json!({"last_name": "Hopper"}),
    ] {
        shop.add(
            PROFILES,
            &upsert("two@klqtest.dev", &attributes).to_string(),
        )
        .await;
        shop.until_delivered().await;
    }
    let one = shop.profile("one@klqtest.dev").await;
    assert_eq!(
        (&one["first_name"], &one["last_name"]),
        (&json!("Ada"), &json!("Lovelace"))
    );
    let two = shop.profile("two@klqtest.dev").await;
    assert_eq!(
        (&two["first_name"], &two["last_name"]),
        (&json!("Grace"), &json!("Hopper"))
    );
    assert!(shop.klaviyo.stats().operations["bulk_import_profiles"].requests >= 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limited_job_waits_as_long_as_klaviyo_asked_and_costs_no_attempt() {
    let mut shop = Shop::open().await;
    let limited = FaultKind::Status {
        status: 429,
        retry_after: Some("1".to_owned()),
    };
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: limited,
    });
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &event("order-1", "Placed Order").to_string())
        .await;
    until("the event arrives", || {
        shop.klaviyo.stats().distinct_events == 1
    })
    .await;
    shop.until_delivered().await;
    let times: Vec<_> = shop
        .klaviyo
        .requests()
        .iter()
        .map(|request| request.since_start)
        .collect();
    assert_eq!(times.len(), 2);
    assert!(
        times[1].checked_sub(times[0]).unwrap() >= std::time::Duration::from_millis(990),
        "{times:?}"
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_no_answer_is_the_identical_event() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: FaultKind::CutAfterAccept,
    });
    let daemon = shop.daemon().await;
    let without_id = json!({"kind": "event.track", "data": {"metric": "Viewed Product", "profile": {"email": "a@klqtest.dev"}}});
    shop.add(EVENTS, &without_id.to_string()).await;
    shop.until_delivered().await;
    let requests = shop.klaviyo.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backfill_lane_starts_no_flows() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add(
        &format!("{EVENTS}:backfill"),
        &event("order-1", "Placed Order").to_string(),
    )
    .await;
    shop.until_delivered().await;
    let body = shop.klaviyo.requests()[0].body.clone().unwrap();
    assert_eq!(body["data"]["attributes"]["backfill"], json!(true));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_operation_leaves_its_work_to_the_other() {
    let mut shop = Shop::open().await;
    let forbidden = FaultKind::Status {
        status: 403,
        retry_after: None,
    };
    shop.klaviyo.faults().push(Fault {
        operation: Some("bulk_create_events".to_owned()),
        times: u32::MAX,
        kind: forbidden,
    });
    let jobs = (0..200).map(|number| event(&format!("order-{number}"), "Placed Order"));
    shop.add_all(EVENTS, jobs).await;
    let daemon = shop.daemon().await;
    until("all but the refused lot arrive", || {
        shop.klaviyo.stats().distinct_events >= 50
    })
    .await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 200);
    // Nor does an order wait for the bulk call that its many lines would like to have.
    shop.add(EVENTS, &order_of(19).to_string()).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 220);
    assert!(shop.dead().await.is_empty());
    daemon.stop().await;
}
