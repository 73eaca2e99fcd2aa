use crate::harness::{EVENTS, PROFILES, Shop};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::store::{Database, Store};
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_dead_lettered_with_one_readable_reason_each_and_neighbours_are_delivered() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let good = json!({"kind": "event.track", "id": "good", "data": {"metric": "M", "profile": {"email": "a@klqtest.dev"}}});
    let huge = format!(
        r#"{{"kind": "event.track", "data": {{"metric": "{}"}}}}"#,
        "x".repeat(6_000_000)
    );
    for nonsense in [
        "not json",
        r#"{"kind": "event.trak", "data": {}}"#,
        r#"{"kind": "event.track", "data": {"metric": "M"}}"#,
        &huge,
        r#"{"kind": "profile.upsert", "data": {"profile": {"email": "a@klqtest.dev"}}}"#,
        r#"{"kind": "event.track", "data": {"metric": "M", "profile": {"phone_number": "0150"}}}"#,
        r#"{"kind": "profile.import.follow", "data": {}}"#,
    ] {
        shop.add(EVENTS, nonsense).await;
    }
    redis::cmd("XADD")
        .arg(EVENTS)
        .arg("*")
        .arg("other")
        .arg("x")
        .query_async::<()>(&mut shop.redis)
        .await
        .unwrap();
    shop.add(EVENTS, &good.to_string()).await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    let codes: Vec<&str> = dead.iter().map(|job| job.code.as_str()).collect();
    assert_eq!(dead.len(), 8, "{codes:?}");
    let distinct: BTreeSet<&str> = codes.iter().copied().collect();
    let expected = [
        "job.invalid",
        "job.missing_field",
        "job.no_job_field",
        "job.not_json",
        "job.too_large",
        "job.unknown_kind",
        "job.wrong_queue",
    ];
    assert_eq!(distinct, BTreeSet::from(expected));
    assert!(
        dead.iter()
            .all(|job| !job.detail.is_empty() && !job.detail.contains("0150"))
    );
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_row_of_a_bulk_call_harms_only_itself() {
    let mut shop = Shop::open().await;
    let row = FaultKind::RejectRow {
        index: 5,
        field: None,
    };
    shop.klaviyo.faults().push(Fault {
        operation: Some("bulk_create_events".to_owned()),
        times: 1,
        kind: row,
    });
    let jobs = (0..1_000).map(|number| {
        json!({"kind": "event.track", "id": format!("e-{number}"), "data": {
            "metric": "M", "profile": {"email": format!("c-{number}@klqtest.dev")}}})
    });
    shop.add_all(EVENTS, jobs).await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (dead[0].code.as_str(), dead[0].status),
        ("klaviyo.invalid", Some(400))
    );
    assert!(dead[0].pointer.is_some() && !dead[0].detail.is_empty());
    assert_eq!(shop.klaviyo.stats().distinct_events, 999);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_an_import_refuses_is_dead_lettered_with_klaviyos_reason_also_after_a_restart() {
    let mut shop = Shop::open().await;
    let jobs = (0..40).map(|number| {
        json!({"kind": "profile.upsert", "id": format!("p-{number}"), "data": {
            "profile": {"email": format!("p-{number}@klqtest.dev")}, "properties": {"sim_reject": number == 7}}})
    });
    shop.add_all(PROFILES, jobs).await;
    let daemon = shop.daemon().await;
    let claim = klaviyo_jobs::Keys::default().claim("profile.upsert:p-7");
    redis::cmd("SET")
        .arg(&claim)
        .arg("p-7")
        .query_async::<()>(&mut shop.redis)
        .await
        .unwrap();
    let imported = || {
        shop.klaviyo
            .stats()
            .operations
            .get("bulk_import_profiles")
            .is_some_and(|it| it.accepted == 1)
    };
    crate::harness::until("the import is accepted", imported).await;
    daemon.stop().await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (dead[0].id.as_str(), dead[0].code.as_str()),
        ("p-7", "klaviyo.import_refused")
    );
    let claimed: bool = redis::cmd("EXISTS")
        .arg(&claim)
        .query_async(&mut shop.redis)
        .await
        .unwrap();
    assert!(!claimed, "whoever sends it again is told it is a duplicate");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_audit_show_the_rows_that_an_import_refused_later() {
    let mut shop = Shop::open().await;
    // Some may go singly, and are not refused then.
    let jobs = (0..200).map(|number| {
        json!({"kind": "profile.upsert", "id": format!("p-{number}"), "data": {
            "profile": {"email": format!("p-{number}@klqtest.dev")}, "properties": {"sim_reject": true}}})
    });
    shop.add_all(PROFILES, jobs).await;
    let daemon = shop.daemon().await;
    shop.until("rows are refused", |it| it.dead > 0).await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    let url = format!("http://{}/metrics", daemon.http_address().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(url).send().await.unwrap();
    let page = page.text().await.unwrap();
    let line = format!(
        "klaviyod_dead_total{{account=\"default\",queue=\"profile-sync\",code=\"klaviyo.import_refused\"}} {}",
        dead.len()
    );
    assert!(page.contains(&line), "{page}");
    daemon.stop().await;
    let database = Database::look(shop.database_url()).await.unwrap();
    let store = Store::open(database, None).await.unwrap();
    let of_job = store.attempts("default", None, &dead[0].id).await;
    let of_job = of_job.unwrap().found;
    let outcomes: Vec<_> = of_job
        .iter()
        .map(|it| (it.outcome.as_str(), it.code.as_deref()))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("delivered", None),
            ("bury", Some("klaviyo.import_refused"))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_larger_than_any_read_stops_nobody() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &"x".repeat(10_000_000)).await;
    shop.until_delivered().await;
    shop.add(
        EVENTS,
        r#"{"kind": "event.track", "id": "o-1", "data": {"metric": "M", "profile": {"external_id": "c"}}}"#,
    )
    .await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_beyond_every_float_is_one_dead_job_and_no_panic() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let digits = "9".repeat(310);
    let job = format!(
        r#"{{"kind": "profile.upsert", "data": {{"profile": {{"external_id": "c"}}, "properties": {{"n": {digits}.0}}}}}}"#
    );
    shop.add(PROFILES, &job).await;
    shop.until_delivered().await;
    assert_eq!(shop.dead().await[0].code, "job.invalid");
    daemon.stop().await;
}
