use crate::harness::{EVENTS, Shop};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::app::App;
use klaviyod::telemetry::names;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_mins(1);

struct Answer {
    status: u16,
    media_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The states of all parts whose name begins so.
    fn part(&self, name: &str) -> Value {
        let body = self.json();
        let parts = body["parts"].as_array().unwrap();
        let found = parts.iter().find(|part| part["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }
}

async fn get(app: &App, path: &str) -> Answer {
    get_with(app, path, None).await
}

async fn get_with(app: &App, path: &str, token: Option<&str>) -> Answer {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let address = app.http_address().unwrap();
    let mut request = client.get(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = request.send().await.unwrap();
    let media_type = response.headers()["content-type"].to_str().unwrap();
    Answer {
        media_type: media_type.to_owned(),
        status: response.status().as_u16(),
        body: response.text().await.unwrap(),
    }
}

async fn until(app: &App, path: &str, what: &str, is: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(app, path).await;
        if is(&answer) {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "never came true: {what}; {}",
            answer.body
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn event(id: &str, email: &str) -> String {
    json!({"kind": "event.track", "id": id, "data": {"metric": "Viewed Product", "profile": {"email": email}}})
        .to_string()
}

fn status(status: u16) -> FaultKind {
    FaultKind::Status {
        status,
        retry_after: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_works_is_ready_and_says_what_could_lose_jobs() {
    let mut shop = Shop::open().await;
    let app = shop.daemon().await;
    assert_eq!(get(&app, "/health/live").await.status, 200);
    assert_eq!(get(&app, "/health/klaviyo").await.status, 200);
    let ready = get(&app, "/health/ready").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &json!("warn"))
    );
    let persistence = ready.part("redis persistence");
    assert_eq!(persistence["state"], "warn");
    assert!(
        persistence["what_to_do"]
            .as_str()
            .unwrap()
            .contains("appendonly")
    );
    let mut set = redis::cmd("CONFIG");
    set.arg("SET")
        .arg("appendonly")
        .arg("yes")
        .arg("maxmemory")
        .arg("200mb");
    set.arg("maxmemory-policy").arg("allkeys-lru");
    set.query_async::<()>(&mut shop.redis).await.unwrap();
    let ready = until(&app, "/health/ready", "eviction is warned about", |it| {
        it.part("redis eviction")["state"] == "warn"
    })
    .await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.part("redis persistence"), Value::Null);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_silent_or_gone_makes_it_unready_within_a_second_and_not_dead() {
    let mut shop = Shop::open().await;
    let app = shop.daemon().await;
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg("4000").arg("ALL");
    pause.query_async::<()>(&mut shop.redis).await.unwrap();
    let unready = until(&app, "/health/ready", "a silent Redis is told", |it| {
        it.status == 503
    })
    .await;
    let reason = unready.part("redis")["reason"].clone();
    assert!(reason.as_str().unwrap().contains("within 1 s"), "{reason}");
    until(&app, "/health/ready", "ready again", |it| it.status == 200).await;
    let mut shutdown = redis::cmd("SHUTDOWN");
    drop(
        shutdown
            .arg("NOSAVE")
            .query_async::<()>(&mut shop.redis)
            .await,
    );
    let unready = until(&app, "/health/ready", "an absent Redis is told", |it| {
        it.status == 503
    })
    .await;
    assert_eq!(unready.part("redis")["state"], "bad");
    assert_eq!(get(&app, "/health/live").await.status, 200);
    // Nobody knows any more what waits, so no number pretends to.
    let old =
        "klaviyod_queue_jobs{account=\"default\",queue=\"event-tracking\",state=\"ready\"} NaN";
    until(&app, "/metrics", "old numbers are withdrawn", |it| {
        it.body.contains(old)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_turns_klaviyo_red_with_the_reason_and_green_when_it_works_again() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: status(401),
    });
    let app = shop.daemon().await;
    shop.add(EVENTS, &event("a", "a@shop.io")).await;
    let red = until(&app, "/health/klaviyo", "red", |it| it.status == 503).await;
    let credentials = red.part("klaviyo credentials");
    assert_eq!(
        (&credentials["state"], &credentials["account"]),
        (&json!("bad"), &json!("default"))
    );
    assert!(
        credentials["reason"].as_str().unwrap().contains("401"),
        "{credentials}"
    );
    assert!(credentials["since"].is_string());
    let metrics = get(&app, "/metrics").await.body;
    assert!(
        metrics.contains("klaviyod_credentials_ok{account=\"default\"} 0"),
        "{metrics}"
    );
    // It is the account that is ill, not the daemon.
    assert_eq!(get(&app, "/health/ready").await.status, 200);
    until(&app, "/health/klaviyo", "green", |it| it.status == 200).await;
    shop.until_delivered().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_operation_is_named_and_no_other_is() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: Some("create_event".to_owned()),
        times: 1,
        kind: status(403),
    });
    let app = shop.daemon().await;
    shop.add(EVENTS, &event("a", "a@shop.io")).await;
    let red = until(&app, "/health/klaviyo", "red", |it| it.status == 503).await;
    let body = red.json();
    let bad = body["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|part| part["state"] == "bad");
    let names: Vec<&Value> = bad.map(|part| &part["name"]).collect();
    assert_eq!(names, ["klaviyo operation create_event"]);
    assert!(
        red.part("klaviyo operation create_event")["reason"]
            .as_str()
            .unwrap()
            .contains("403")
    );
    let metrics = get(&app, "/metrics").await.body;
    assert!(
        metrics.contains("klaviyod_gate_closed{account=\"default\",operation=\"create_event\"} 1")
    );
    assert!(
        metrics.contains(
            "klaviyod_gate_closed{account=\"default\",operation=\"bulk_create_events\"} 0"
        )
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_trips_the_breaker_of_its_group_and_health_recovers_with_klaviyo() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().set_outage(true);
    let app = shop.daemon().await;
    let jobs = (0..20).map(|index| {
        let text = event(&format!("e{index}"), "a@shop.io");
        serde_json::from_str(&text).unwrap()
    });
    shop.add_all(EVENTS, jobs).await;
    let red = until(&app, "/health/klaviyo", "red", |it| it.status == 503).await;
    let breaker = red.part("klaviyo breaker events");
    assert!(
        breaker["reason"].as_str().unwrap().contains("503") && breaker["since"].is_string(),
        "{breaker}"
    );
    assert_eq!(red.part("klaviyo breaker profiles")["state"], "ok");
    shop.klaviyo.faults().set_outage(false);
    until(&app, "/health/klaviyo", "green", |it| it.status == 200).await;
    shop.until_delivered().await;
    app.stop().await;
}

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
    for line in [
        "klaviyod_dead_total{account=\"default\",queue=\"event-tracking\",code=\"job.unknown_kind\"} 1",
        "klaviyod_http_requests_total{account=\"default\",operation=\"create_event\",status=\"202\"} 1",
        "klaviyod_http_seconds_count{account=\"default\",operation=\"create_event\"} 1",
        "klaviyod_job_wait_seconds_count{account=\"default\"} 1",
        "klaviyod_budget_available{account=\"default\",operation=\"create_event\",window=\"60s\"} 3499",
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
