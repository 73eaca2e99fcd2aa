use crate::harness::{EVENTS, Shop};
use crate::page::{PATIENCE, event, get, status, until};
use klaviyo_simulator::Fault;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

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
async fn a_daemon_that_still_waits_for_redis_is_alive_and_not_ready() {
    let mut shop = Shop::open().await;
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    shop.set("KLAVIYOD_REDIS_URL", &url);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    shop.set("KLAVIYOD_HTTP_LISTEN", &address.to_string());
    let _daemon = shop.binary(&["run"]);
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let get = async |path: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.get(format!("http://{address}{path}")).send().await {
                Ok(answer) => break (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) if error.is_connect() && Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{path}: {error}"),
            }
        }
    };
    assert_eq!(get("/health/live").await.0, 200);
    for path in ["/health/ready", "/health/klaviyo"] {
        let (status, body) = get(path).await;
        assert_eq!(status, 503, "{path}");
        assert!(body.contains("starting"), "{path}: {body}");
    }
    let (status, _) = get("/metrics").await;
    assert_eq!(status, 503);
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
async fn a_refused_key_of_one_account_is_told_of_that_account_only() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_ACCOUNTS__EU__PRIVATE_KEY", "pk_eu");
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: status(401),
    });
    let app = shop.daemon().await;
    shop.add("klaviyod:{eu}:event-tracking", &event("a", "a@shop.io"))
        .await;
    let red = until(&app, "/health/klaviyo", "red", |it| it.status == 503).await;
    let body = red.json();
    let parts = body["parts"].as_array().unwrap().iter();
    let bad: Vec<(&Value, &Value)> = parts
        .filter(|part| part["state"] == "bad")
        .map(|part| (&part["name"], &part["account"]))
        .collect();
    assert_eq!(bad, [(&json!("klaviyo credentials"), &json!("eu"))]);
    let metrics = get(&app, "/metrics").await.body;
    for line in [
        "klaviyod_credentials_ok{account=\"eu\"} 0",
        "klaviyod_credentials_ok{account=\"default\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing: {metrics}");
    }
    app.stop().await;
}
