//! Faults on request, as a client sees them.

mod driver;

use std::time::Duration;

use driver::{Driver, config, event, group};
use klaviyo_simulator::{Fault, FaultKind, HostileBody};
use serde_json::json;

async fn with_fault(kind: FaultKind) -> Driver {
    let driver = Driver::start(config()).await;
    driver.simulator.faults().push(Fault {
        operation: None,
        times: 1,
        kind,
    });
    driver
}

#[tokio::test]
async fn a_scripted_status_carries_the_retry_after_it_was_given() {
    let driver = with_fault(FaultKind::Status {
        status: 429,
        retry_after: Some("7".to_owned()),
    })
    .await;
    let response = driver.request("GET", "/api/metrics").send().await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["retry-after"]
        ),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(driver.get("/api/metrics").await.0, 200);
    let stats = driver.simulator.stats();
    assert_eq!((stats.faulted, stats.rate_limited), (1, 0));
}

#[tokio::test]
async fn a_cut_connection_changes_nothing_and_a_late_cut_changes_everything() {
    let driver = with_fault(FaultKind::Cut).await;
    let bulk = || {
        let groups = [group("a@shop.io", vec![event("1", 1.0)])];
        let body = json!({"data": {"type": "event-bulk-create-job",
            "attributes": {"events-bulk-create": {"data": groups}}}});
        driver
            .request("POST", "/api/event-bulk-create-jobs")
            .body(body.to_string())
            .send()
    };
    assert!(bulk().await.is_err());
    assert_eq!(driver.simulator.stats().events, 0);
    let fault = Fault {
        operation: None,
        times: 1,
        kind: FaultKind::CutAfterAccept,
    };
    driver.simulator.faults().push(fault);
    assert!(bulk().await.is_err());
    assert_eq!(driver.simulator.stats().events, 1);
    assert_eq!(bulk().await.unwrap().status(), 202);
    assert_eq!(driver.simulator.stats().distinct_events, 1);
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    let driver = with_fault(FaultKind::Truncate { bytes: 40 }).await;
    assert!(driver.request("GET", "/api/accounts").send().await.is_err());
}

#[tokio::test]
async fn a_gateway_page_is_not_json() {
    let driver = with_fault(FaultKind::Html { status: 502 }).await;
    let response = driver.request("GET", "/api/metrics").send().await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["content-type"]
        ),
        (502, &"text/html".parse().unwrap())
    );
}

#[tokio::test]
async fn a_delayed_answer_comes_after_a_clients_deadline_and_still_counts() {
    let driver = with_fault(FaultKind::Delay { ms: 60_000 }).await;
    let request = driver
        .request("GET", "/api/metrics")
        .timeout(Duration::from_millis(50));
    assert!(request.send().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_rejected_row_is_named_by_the_pointer_of_its_operation() {
    let field = Some("/attributes/profile/data/attributes/email".to_owned());
    let driver = with_fault(FaultKind::RejectRow { index: 3, field }).await;
    let (status, answer) = driver
        .bulk(&[group("a@shop.io", vec![event("1", 1.0)])])
        .await;
    let pointer =
        "/data/attributes/events-bulk-create/data/3/attributes/profile/data/attributes/email";
    assert_eq!(
        (status, &answer["errors"][0]["source"]["pointer"]),
        (400, &json!(pointer))
    );
}

#[tokio::test]
async fn during_an_outage_everything_is_503() {
    let driver = Driver::start(config()).await;
    driver.post("/sim/faults", &json!({"outage": true})).await;
    assert_eq!(driver.get("/api/metrics").await.0, 503);
    assert_eq!(driver.get("/api/lists").await.0, 503);
    driver.send("DELETE", "/sim/faults", &json!({})).await;
    assert_eq!(driver.get("/api/metrics").await.0, 200);
}

#[tokio::test]
async fn faults_are_scripted_over_http_too() {
    let driver = Driver::start(config()).await;
    let fault =
        json!({"operation": "get_lists", "times": 2, "kind": {"type": "status", "status": 500}});
    assert_eq!(driver.post("/sim/faults", &fault).await.0, 200);
    assert_eq!(driver.get("/api/metrics").await.0, 200);
    assert_eq!(driver.get("/api/lists").await.0, 500);
    assert_eq!(driver.simulator.faults().pending()[0].times, 1);
    assert_eq!(
        driver
            .post("/sim/faults", &json!({"operation": "get_lists"}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn a_silent_answer_never_comes_though_everything_changed() {
    let driver = with_fault(FaultKind::Silence).await;
    let body = json!({"data": {"type": "profile", "attributes": {"email": "a@shop.io"}}});
    let request = driver
        .request("POST", "/api/profile-import")
        .timeout(Duration::from_millis(200))
        .body(body.to_string());
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(driver.simulator.stats().profiles, 1);
}

#[tokio::test]
async fn hostile_answers_are_as_large_deep_and_broken_as_they_say() {
    let answer = async |body: HostileBody| {
        let driver = with_fault(FaultKind::Hostile {
            status: 500,
            body,
            retry_after: Some("-1".to_owned()),
        })
        .await;
        let response = driver.request("GET", "/api/metrics").send().await.unwrap();
        assert_eq!(response.headers()["retry-after"], "-1");
        (
            response.headers().get("content-encoding").cloned(),
            response.bytes().await,
        )
    };
    assert_eq!(answer(HostileBody::Deep).await.1.unwrap().len(), 100_000);
    assert_eq!(answer(HostileBody::Huge).await.1.unwrap().len(), 256 << 20);
    assert!(answer(HostileBody::Half).await.1.is_err());
    let (encoding, bomb) = answer(HostileBody::ZipBomb).await;
    let bomb = bomb.unwrap();
    assert_eq!(encoding.unwrap(), "gzip");
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let mut unpacked = flate2::read::GzDecoder::new(bomb.as_ref());
    let mut megabyte = vec![1; 1 << 20];
    std::io::Read::read_exact(&mut unpacked, &mut megabyte).unwrap();
    assert!(megabyte.iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_fault_may_come_later_and_hit_only_some() {
    let driver = with_fault(FaultKind::After {
        ms: 20,
        kind: Box::new(FaultKind::Status {
            status: 503,
            retry_after: None,
        }),
    })
    .await;
    assert_eq!(driver.get("/api/metrics").await.0, 503);
    driver.simulator.faults().push(Fault {
        operation: None,
        times: 4,
        kind: FaultKind::Every {
            nth: 2,
            kind: Box::new(FaultKind::Html { status: 502 }),
        },
    });
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(driver.get("/api/metrics").await.0);
    }
    assert_eq!(statuses, [502, 200, 502, 200, 200]);
}
