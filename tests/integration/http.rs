use crate::harness::{EVENTS, Shop};
use crate::page::{PATIENCE, event, get, get_with, until};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::app::App;
use klaviyod::telemetry::names;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_every_name_and_nothing_of_a_person() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_KLAVIYO__LIMITS", "real");
    let app = shop.daemon().await;
    shop.add(EVENTS, &event("marked-id", "marked-address@shop.io"))
        .await;
    shop.add(
        EVENTS,
        r#"{"kind":"event.track","id":"marked-dead","data":{"metric":"marked-metric"}}"#,
    )
    .await;
    shop.add(
        EVENTS,
        r#"{"kind":"marked.kind","id":"marked-kind","data":{}}"#,
    )
    .await;
    shop.until_delivered().await;
    let delivered = "klaviyod_jobs_total{account=\"default\",queue=\"event-tracking\",kind=\"event.track\",outcome=\"delivered\"} 1";
    let page = until(&app, "/metrics", "the delivered job is counted", |it| {
        it.body.contains(delivered)
    })
    .await;
    assert!(page.media_type.starts_with("text/plain; version=0.0.4"));
    for (name, _, meaning) in names::ALL {
        assert!(
            page.body.contains(&format!("# HELP {name} {meaning}\n")),
            "{name} is missing: {}",
            page.body
        );
    }
    assert!(!page.body.contains("marked"), "{}", page.body);
    let samples = page
        .body
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for sample in samples {
        assert!(sample.contains("account=\"default\""), "{sample}");
    }
    let account = "{account=\"default\"";
    // One event may leave either way.
    let left = ["create_event", "bulk_create_events"].map(|operation| {
        let calls =
            format!("http_requests_total{account},operation=\"{operation}\",status=\"202\"}} 1");
        let seconds = format!("http_seconds_count{account},operation=\"{operation}\"}} 1");
        let budget = match operation {
            "create_event" => 3499,
            _ => 149,
        };
        let budget = format!(
            "budget_available{account},operation=\"{operation}\",window=\"60s\"}} {budget}"
        );
        [calls, seconds, budget]
            .iter()
            .all(|line| page.body.contains(line))
    });
    assert!(left.contains(&true), "{}", page.body);
    for line in [
        "klaviyod_dead_total{account=\"default\",queue=\"event-tracking\",code=\"job.unknown_kind\"} 1",
        "klaviyod_job_wait_seconds_count{account=\"default\"} 1",
    ] {
        assert!(page.body.contains(line), "{line} is missing: {}", page.body);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_token_is_needed_for_everything_but_health() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_READ_TOKEN", "read-0123456789abcdef");
    shop.set("KLAVIYOD_ADMIN_TOKEN", "admin-0123456789abcdef");
    let app = shop.daemon().await;
    for path in ["/metrics", "/", "/v1/queues"] {
        for token in [None, Some("read-0123456789abcdeF")] {
            let refused = get_with(&app, path, token).await;
            assert_eq!(refused.status, 401, "{path}");
            assert_eq!(refused.media_type, "application/problem+json");
        }
    }
    for token in ["read-0123456789abcdef", "admin-0123456789abcdef"] {
        assert_eq!(get_with(&app, "/metrics", Some(token)).await.status, 200);
        let missing = get_with(&app, "/v1/nothing", Some(token)).await;
        assert_eq!(
            (missing.status, &missing.json()["status"]),
            (404, &json!(404))
        );
    }
    for path in ["/health/live", "/health/ready", "/health/klaviyo"] {
        assert_eq!(get(&app, path).await.status, 200, "{path}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_daemon_says_so_and_answers_to_the_end() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: FaultKind::Delay { ms: 3_000 },
    });
    let app = shop.daemon().await;
    let address = app.http_address().unwrap();
    shop.add(EVENTS, &event("a", "a@shop.io")).await;
    crate::harness::until("the call is under way", || {
        !shop.klaviyo.requests().is_empty() || shop.klaviyo.faults().pending().is_empty()
    })
    .await;
    let draining = async {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = client.get(format!("http://{address}/health/ready")).send();
            let ready = ready.await.unwrap();
            let (status, body) = (ready.status().as_u16(), ready.text().await.unwrap());
            if status == 503 {
                assert!(body.contains("stopping"), "{body}");
                let live = client.get(format!("http://{address}/health/live")).send();
                assert_eq!(live.await.unwrap().status().as_u16(), 200);
                return;
            }
            assert!(Instant::now() < deadline, "{body}");
        }
    };
    tokio::join!(app.stop(), draining);
    assert!(TcpStream::connect(address).await.is_err());
    shop.until_delivered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_too_much_or_hang_stop_neither_health_nor_the_end() {
    let shop = Shop::open().await;
    let app = shop.daemon().await;
    let address = app.http_address().unwrap();
    let mut greedy = TcpStream::connect(address).await.unwrap();
    let header = format!(
        "GET /health/live HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(64 * 1024)
    );
    // The server may close before it has read everything.
    drop(greedy.write_all(header.as_bytes()).await);
    let mut answer = Vec::new();
    drop(greedy.read_to_end(&mut answer).await);
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let mut hanging = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health/live HT").await.unwrap();
        hanging.push(stream);
    }
    assert_eq!(get(&app, "/health/live").await.status, 200);
    let stopped = Instant::now();
    app.stop().await;
    assert!(stopped.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_the_start_with_one_clear_error() {
    let mut shop = Shop::open().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    shop.set("KLAVIYOD_HTTP_LISTEN", &address);
    let (code, _, complaints) = shop.command(&["run"]).await;
    assert_eq!(code, Some(1));
    let complaint = complaints.lines().last().unwrap();
    assert!(
        complaint.contains(&address) && complaint.contains("--no-http"),
        "{complaint}"
    );
    let mut config = shop.config();
    config.http.serve = false;
    let app = App::start(&config).await.unwrap();
    assert_eq!(app.http_address(), None);
    app.stop().await;
}
