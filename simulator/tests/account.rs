//! The simulator over real sockets: state, validation, imports, limits and stats.
//!
//! Every test has a simulator of its own on a free port.

mod driver;

use std::time::Duration;

use driver::{Driver, config, event, group, group_with_id};
use klaviyo_simulator::{Config, Limits, Simulator};
use serde_json::{Value, json};

#[tokio::test]
async fn an_upsert_creates_with_201_updates_with_200_and_keeps_what_is_absent() {
    let driver = Driver::start(config()).await;
    let body = |attributes: Value| json!({"data": {"type": "profile", "attributes": attributes}});
    let first = body(
        json!({"email": "a@shop.io", "first_name": "A", "title": "Dr", "properties": {"plan": "pro"}}),
    );
    let (status, created) = driver.post("/api/profile-import/", &first).await;
    assert_eq!(status, 201);
    let second = body(json!({"email": "a@shop.io", "title": null, "properties": {"seen": 1}}));
    let (status, updated) = driver.post("/api/profile-import", &second).await;
    assert_eq!(status, 200);
    assert_eq!(updated["data"]["id"], created["data"]["id"]);
    let attributes = &updated["data"]["attributes"];
    assert_eq!(attributes["first_name"], "A");
    assert_eq!(attributes["title"], Value::Null);
    assert_eq!(attributes["properties"], json!({"plan": "pro", "seen": 1}));
}

#[tokio::test]
async fn identifiers_of_two_profiles_are_a_409_that_names_one_of_them() {
    let driver = Driver::start(config()).await;
    let id = driver.profile("a@shop.io").await;
    let other = json!({"data": {"type": "profile", "attributes": {"external_id": "2"}}});
    driver.post("/api/profile-import", &other).await;
    let both = json!({"data": {"type": "profile", "attributes": {"email": "a@shop.io", "external_id": "2"}}});
    let (status, answer) = driver.post("/api/profile-import", &both).await;
    assert_eq!(
        (status, &answer["errors"][0]["code"]),
        (409, &json!("duplicate_profile"))
    );
    let strict = json!({"data": {"type": "profile", "attributes": {"email": "a@shop.io"}}});
    let (status, answer) = driver.post("/api/profiles", &strict).await;
    assert_eq!(
        (status, &answer["errors"][0]["meta"]["duplicate_profile_id"]),
        (409, &json!(id))
    );
}

#[tokio::test]
async fn a_request_without_key_or_revision_is_a_401_without_limits() {
    let driver = Driver::start(config()).await;
    let url = format!("{}/api/profiles", driver.simulator.base_url());
    let client = &driver.client;
    for request in [
        client.get(&url).header("revision", "2026-07-15"),
        client
            .get(&url)
            .header("Authorization", "Klaviyo-API-Key pk_test"),
        client
            .get(&url)
            .header("Authorization", "Klaviyo-API-Key pk_test")
            .header("revision", "soon"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(!response.headers().contains_key("ratelimit-limit"));
    }
    let retired = client
        .get(&url)
        .header("Authorization", "Klaviyo-API-Key pk_test")
        .header("revision", "2023-02-22");
    assert_eq!(retired.send().await.unwrap().status(), 410);
}

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
async fn an_import_is_queued_then_complete_and_reports_the_rows_that_failed() {
    let driver = Driver::start(Config {
        import_delay: Duration::ZERO,
        ..config()
    })
    .await;
    let (_, list) = driver
        .post(
            "/api/lists",
            &json!({"data": {"type": "list", "attributes": {"name": "L"}}}),
        )
        .await;
    let list_id = list["data"]["id"].as_str().unwrap().to_owned();
    let row = |attributes: Value| json!({"type": "profile", "attributes": attributes});
    let body = json!({"data": {"type": "profile-bulk-import-job",
        "attributes": {"profiles": {"data": [
            row(json!({"email": "a@shop.io"})),
            row(json!({"email": "b@shop.io", "properties": {"sim_reject": true}})),
        ]}},
        "relationships": {"lists": {"data": [{"type": "list", "id": list_id}]}}}});
    let (status, job) = driver.post("/api/profile-bulk-import-jobs", &body).await;
    assert_eq!(
        (status, &job["data"]["attributes"]["total_count"]),
        (202, &json!(2))
    );
    let job_path = format!(
        "/api/profile-bulk-import-jobs/{}",
        job["data"]["id"].as_str().unwrap()
    );
    let (_, job) = driver.get(&job_path).await;
    let attributes = &job["data"]["attributes"];
    assert_eq!(attributes["status"], "complete");
    assert_eq!(
        (&attributes["completed_count"], &attributes["failed_count"]),
        (&json!(1), &json!(1))
    );
    let (_, errors) = driver.get(&format!("{job_path}/import-errors")).await;
    assert_eq!(
        errors["data"][0]["attributes"]["original_payload"]["attributes"]["email"],
        "b@shop.io"
    );
    let pointer = "/data/attributes/profiles/data/1/attributes/properties/sim_reject";
    assert_eq!(
        errors["data"][0]["attributes"]["source"]["pointer"],
        pointer
    );
    let (_, members) = driver.get(&format!("/api/lists/{list_id}/profiles")).await;
    assert_eq!(members["data"].as_array().unwrap().len(), 1);
    assert!(members["data"][0]["attributes"]["joined_group_at"].is_string());
}

#[tokio::test]
async fn a_job_is_queued_until_half_of_its_delay_is_over() {
    let driver = Driver::start(Config {
        import_delay: Duration::from_hours(1),
        ..config()
    })
    .await;
    let rows = json!([{"type": "profile", "attributes": {"email": "a@shop.io"}}]);
    let body = json!({"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": rows}}}});
    let (_, job) = driver.post("/api/profile-bulk-import-jobs", &body).await;
    let id = job["data"]["id"].as_str().unwrap();
    let (_, job) = driver
        .get(&format!("/api/profile-bulk-import-jobs/{id}"))
        .await;
    assert_eq!(job["data"]["attributes"]["status"], "queued");
    assert_eq!(driver.simulator.stats().profiles, 0);
}

#[tokio::test]
async fn profiles_are_found_by_filter_and_page_by_page() {
    let driver = Driver::start(config()).await;
    for name in ["a", "b", "c+d"] {
        driver.profile(&format!("{name}@shop.io")).await;
    }
    let (_, found) = driver
        .get("/api/profiles?filter=any(email,%5B%22a@shop.io%22,%22c%2Bd@shop.io%22%5D)")
        .await;
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
    let (_, found) = driver
        .get("/api/profiles?filter=greater-than(updated,2099-01-01T00:00:00Z)")
        .await;
    assert_eq!(found["data"], json!([]));
    let (status, refused) = driver
        .get("/api/profiles?filter=contains(email,%22a%22)")
        .await;
    assert_eq!(
        (status, &refused["errors"][0]["source"]["parameter"]),
        (400, &json!("filter"))
    );
    assert_eq!(driver.get("/api/profiles?page%5Bsize%5D=101").await.0, 400);
    let (_, first) = driver
        .get("/api/profiles?page[size]=2&fields[profile]=email")
        .await;
    assert_eq!(
        first["data"][0]["attributes"],
        json!({"email": "a@shop.io"})
    );
    let next = first["links"]["next"].as_str().unwrap();
    let (_, second) = driver
        .get(next.strip_prefix(&driver.simulator.base_url()).unwrap())
        .await;
    assert_eq!(
        second["data"][0]["attributes"],
        json!({"email": "c+d@shop.io"})
    );
    assert_eq!(second["links"]["next"], Value::Null);
}

#[tokio::test]
async fn members_are_added_and_removed_by_id_only() {
    let driver = Driver::start(config()).await;
    let id = driver.profile("a@shop.io").await;
    let (_, list) = driver
        .post(
            "/api/lists",
            &json!({"data": {"type": "list", "attributes": {"name": "L"}}}),
        )
        .await;
    let list_id = list["data"]["id"].as_str().unwrap();
    let members = format!("/api/lists/{list_id}/relationships/profiles");
    let body = json!({"data": [{"type": "profile", "id": id}]});
    assert_eq!(driver.post(&members, &body).await.0, 204);
    let (_, count) = driver
        .get(&format!(
            "/api/lists/{list_id}?additional-fields[list]=profile_count"
        ))
        .await;
    assert_eq!(count["data"]["attributes"]["profile_count"], 1);
    assert_eq!(driver.send("DELETE", &members, &body).await.0, 204);
    assert_eq!(driver.get(&members).await.1["data"], json!([]));
    let by_email = json!({"data": [{"type": "profile", "attributes": {"email": "a@shop.io"}}]});
    assert_eq!(driver.post(&members, &by_email).await.0, 400);
}

#[tokio::test]
async fn a_segment_holds_who_fits_its_rule() {
    let driver = Driver::start(config()).await;
    driver.profile("a@shop.io").await;
    driver
        .bulk(&[group("b@shop.io", vec![event("1", 1.0)])])
        .await;
    let (_, segments) = driver
        .get("/api/segments?filter=equals(name,%22Buyers%22)")
        .await;
    let id = segments["data"][0]["id"].as_str().unwrap();
    let (_, members) = driver.get(&format!("/api/segments/{id}/profiles")).await;
    assert_eq!(members["data"].as_array().unwrap().len(), 1);
    assert_eq!(members["data"][0]["attributes"]["email"], "b@shop.io");
}

#[tokio::test]
async fn a_throttled_request_says_when_to_come_back() {
    let driver = Driver::start(Config {
        limits: Limits::Factor(0.001),
        ..config()
    })
    .await;
    let mut response = driver.request("GET", "/api/metrics").send().await.unwrap();
    // The minute admits one request; a boundary between the two would admit another.
    while response.status() != 429 {
        response = driver.request("GET", "/api/metrics").send().await.unwrap();
    }
    assert!(!response.headers().contains_key("ratelimit-limit"));
    let retry_after: u64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&retry_after));
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["errors"][0]["code"], "throttled");
    assert_eq!(driver.simulator.stats().rate_limited, 1);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_in_the_error() {
    let first = Simulator::start(config()).await.unwrap();
    let error = Simulator::start(Config {
        listen: first.address(),
        ..config()
    })
    .await
    .unwrap_err();
    assert!(format!("{error:#}").contains(&first.address().to_string()));
    first.stop().await;
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
