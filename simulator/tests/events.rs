//! Single and bulk events over real sockets: what is accepted, refused, dropped and counted.

mod driver;

use driver::{Driver, config, event, group, group_with_id};
use klaviyo_simulator::{Config, Limits};
use serde_json::json;

#[tokio::test]
async fn an_accepted_event_is_a_202_with_an_empty_body_and_limits() {
    let driver = Driver::start(Config {
        limits: Limits::Real,
        ..config()
    })
    .await;
    let body = json!({"data": {"type": "event", "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": "a@shop.io"}}},
        "properties": {"OrderId": "1001", "empty": ""}, "value": 9.99, "value_currency": "EUR", "unique_id": "1001",
    }}});
    let response = driver
        .request("POST", "/api/events")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    assert_eq!(
        response.headers()["ratelimit-limit"],
        "350, 350;w=1, 3500;w=60"
    );
    assert_eq!(response.headers()["content-length"], "0");
    assert_eq!(response.text().await.unwrap(), "");
    let (_, events) = driver.get("/api/events?include=metric").await;
    let properties = &events["data"][0]["attributes"]["event_properties"];
    let expected =
        json!({"OrderId": "1001", "$event_id": "1001", "$value": 9.99, "$value_currency": "EUR"});
    assert_eq!(properties, &expected);
    assert_eq!(events["included"][0]["attributes"]["name"], "Placed Order");
}

#[tokio::test]
async fn one_wrong_row_refuses_the_whole_bulk_request_with_a_pointer_to_it() {
    let driver = Driver::start(config()).await;
    let groups = [
        group("a@shop.io", vec![event("1", 1.0)]),
        group("nope", vec![event("2", 1.0)]),
    ];
    let (status, answer) = driver.bulk(&groups).await;
    assert_eq!(status, 400);
    let pointer =
        "/data/attributes/events-bulk-create/data/1/attributes/profile/data/attributes/email";
    assert_eq!(answer["errors"][0]["source"]["pointer"], pointer);
    let mut wrong = event("3", 1.0);
    wrong["attributes"]["time"] = json!("yesterday");
    let (_, answer) = driver
        .bulk(&[group("a@shop.io", vec![event("1", 1.0), wrong])])
        .await;
    let pointer =
        "/data/attributes/events-bulk-create/data/0/attributes/events/data/1/attributes/time";
    assert_eq!(answer["errors"][0]["source"]["pointer"], pointer);
    let stats = driver.simulator.stats();
    assert_eq!((stats.events, stats.profiles), (0, 0));
}

#[tokio::test]
async fn a_repeated_unique_id_fails_the_request_even_across_groups_of_one_profile() {
    let driver = Driver::start(config()).await;
    let repeated = [
        group("a@shop.io", vec![event("1", 1.0)]),
        group("A@shop.io", vec![event("1", 1.0)]),
    ];
    assert_eq!(driver.bulk(&repeated[..1]).await.0, 202);
    assert_eq!(driver.bulk(&repeated).await.0, 400);
    let apart = [
        group("a@shop.io", vec![event("1", 1.0)]),
        group("a@shop.io", vec![event("2", 1.0)]),
    ];
    assert_eq!(driver.bulk(&apart).await.0, 202);
    let strangers = [
        group("b@shop.io", vec![event("1", 1.0)]),
        group("b@shop.io", vec![event("1", 1.0)]),
    ];
    assert_eq!(driver.bulk(&strangers).await.0, 400);
    let stats = driver.simulator.stats();
    assert_eq!((stats.events, stats.distinct_events), (3, 2));
}

#[tokio::test]
async fn more_than_a_thousand_events_or_five_megabytes_are_refused() {
    let driver = Driver::start(config()).await;
    let events = |count: usize| {
        (0..count)
            .map(|n| event(&n.to_string(), 0.1))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        driver.bulk(&[group("a@shop.io", events(1001))]).await.0,
        400
    );
    assert_eq!(
        driver.bulk(&[group("a@shop.io", events(1000))]).await.0,
        202
    );
    let large = "x".repeat(5_000_001);
    let response = driver
        .request("POST", "/api/event-bulk-create-jobs")
        .body(large)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 413);
    let profile = json!({"data": {"type": "profile", "attributes": {"email": "a@shop.io", "title": "x".repeat(100_000)}}});
    assert_eq!(driver.post("/api/profile-import", &profile).await.0, 413);
    let stats = driver.simulator.stats();
    assert_eq!(stats.value.to_string(), "100");
    assert_eq!(
        (
            stats.operations["bulk_create_events"].rows_max,
            stats.event_profiles
        ),
        (1000, 1)
    );
}

#[tokio::test]
async fn events_of_test_addresses_and_unknown_profiles_are_accepted_and_dropped() {
    let driver = Driver::start(config()).await;
    let unknown = group_with_id("01UNKNOWN00000000000000000", vec![event("1", 1.0)]);
    assert_eq!(
        driver
            .bulk(&[group("a@example.com", vec![event("1", 1.0)]), unknown])
            .await
            .0,
        202
    );
    let stats = driver.simulator.stats();
    assert_eq!(
        (stats.events, stats.dropped_events, stats.profiles),
        (0, 2, 0)
    );
}

#[tokio::test]
async fn stats_over_http_are_those_of_the_library_and_a_reset_forgets_them() {
    let driver = Driver::start(Config {
        record_bodies: true,
        ..config()
    })
    .await;
    driver
        .bulk(&[group("a@shop.io", vec![event("1", 0.1), event("2", 0.2)])])
        .await;
    let (_, stats) = driver.get("/sim/stats").await;
    assert_eq!(
        stats,
        serde_json::to_value(driver.simulator.stats()).unwrap()
    );
    assert_eq!(stats["value"], 0.3);
    let request = driver.simulator.requests().remove(0);
    assert_eq!(
        (request.operation.as_str(), request.status),
        ("bulk_create_events", 202)
    );
    assert_eq!(
        request.body.unwrap()["data"]["type"],
        "event-bulk-create-job"
    );
    driver.post("/sim/reset", &json!({})).await;
    assert_eq!(
        driver.simulator.stats(),
        klaviyo_simulator::Stats::default()
    );
}

#[tokio::test]
async fn a_sum_of_ten_thousand_values_is_exact_to_the_cent() {
    let driver = Driver::start(config()).await;
    for request in 0..10 {
        let row = |n: usize| event(&format!("{request}-{n}"), 35.89);
        assert_eq!(
            driver
                .bulk(&[group("a@shop.io", (0..1000).map(row).collect())])
                .await
                .0,
            202
        );
    }
    assert_eq!(driver.simulator.stats().value.to_string(), "358900");
}
