//! The simulator over real sockets: profiles, imports, lists, segments and limits.
//!
//! Every test has a simulator of its own on a free port.

mod driver;

use std::time::Duration;

use driver::{Driver, config, event, group};
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
