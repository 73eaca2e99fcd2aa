//! Daemons of one account against a Klaviyo with real limits, or one that refuses the key.

use crate::harness::{EVENTS, Shop, signal, until, until_async};
use klaviyo_jobs::Keys;
use klaviyo_simulator::{Fault, FaultKind, Limits, Stats};
use klaviyod::klaviyo::BudgetScale;
use klaviyod::queue::{BarrierState, operation_limits};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStderr;
use tokio::time::{Instant, sleep};

fn events(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(|number| {
        json!({"kind": "event.track", "id": format!("order-{number}"), "data": {"metric": "Placed Order",
            "profile": {"external_id": format!("p-{number}")}}})
    })
}

fn calls(stats: &Stats, operation: &str) -> u64 {
    stats.operations.get(operation).map_or(0, |it| it.requests)
}

/// Calls with this status, and when they came.
fn answered(shop: &Shop, status: u16) -> Vec<Duration> {
    let requests = shop.klaviyo.requests().into_iter();
    let with = requests.filter(|it| it.status == status);
    with.map(|it| it.since_start).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_daemons_stay_within_the_real_limits_and_use_them() {
    let mut shop = Shop::open_with(|config| {
        config.limits = Limits::Real;
        config.record_bodies = false;
    })
    .await;
    shop.set("KLAVIYOD_KLAVIYO__LIMITS", "real");
    // More than a quarter of a minute takes.
    shop.add_all(EVENTS, events(40_000)).await;
    let daemons = [
        shop.daemon().await,
        shop.daemon().await,
        shop.daemon().await,
    ];
    until("calls leave", || {
        calls(&shop.klaviyo.stats(), "bulk_create_events") > 0
    })
    .await;
    let (start, before) = (Instant::now(), shop.klaviyo.stats());
    sleep(Duration::from_secs(6)).await;
    let (time, after) = (start.elapsed(), shop.klaviyo.stats());
    assert_eq!(after.rate_limited, 0, "{after:?}");
    for (operation, per_minute, burst) in [
        ("bulk_create_events", 150.0, 10),
        ("create_event", 3_500.0, 350),
    ] {
        let made = calls(&after, operation) - calls(&before, operation);
        let made = f64::from(u32::try_from(made).unwrap());
        let fair = per_minute * time.as_secs_f64() / 60.0;
        assert!(
            made <= fair + (per_minute / 100.0 + 1.0),
            "{operation}: {made} of {fair}"
        );
        // How much of it is used, another test shows under a clock of its own.
        assert!(made > 0.0, "{operation}: {made} of {fair}");
        assert!(after.operations[operation].windows["1"] <= burst);
    }
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_read_again_from_its_file_and_everything_is_delivered() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "pk_revoked\n").unwrap();
    let mut shop = Shop::open_with(|config| config.api_key = Some("pk_new".to_owned())).await;
    shop.set("KLAVIYO_PRIVATE_KEY_FILE", file.to_str().unwrap());
    shop.add_all(EVENTS, events(10_000)).await;
    let daemons = [shop.daemon().await, shop.daemon().await];
    until("the key is refused", || !answered(&shop, 401).is_empty()).await;
    // Whatever waits, each daemon finds out with one call, or hears of it.
    sleep(Duration::from_secs(3)).await;
    let refused = answered(&shop, 401).len();
    assert!(refused <= 3, "{refused} calls were refused");
    std::fs::write(&file, "pk_new\n").unwrap();
    until("the key works", || {
        let mut clients = daemons.iter().flat_map(klaviyod::app::App::clients);
        clients.all(|client| client.credentials_closed().is_none())
    })
    .await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 10_000);
    assert!(shop.dead().await.is_empty());
    let refused = answered(&shop, 401).len();
    assert!(refused <= 10, "{refused} calls were refused");
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_works_is_noticed_without_a_job() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "pk_revoked\n").unwrap();
    let mut shop = Shop::open_with(|config| config.api_key = Some("pk_new".to_owned())).await;
    shop.set("KLAVIYO_PRIVATE_KEY_FILE", file.to_str().unwrap());
    let one = shop.daemon().await;
    // The account is refused by a daemon that ends with its only job.
    shop.add_all(EVENTS, events(1)).await;
    let redis = shop.redis.clone();
    until_async("all can know that the key is refused", async || {
        let mut redis = redis.clone();
        let rows = operation_limits(&mut redis, &Keys::default(), BudgetScale::Real, 0.0).await;
        rows.unwrap()[0].credentials != BarrierState::Open
    })
    .await;
    let mut delete = redis::cmd("DEL");
    delete.arg(EVENTS).arg(format!("{EVENTS}:delayed"));
    one.stop().await;
    delete.query_async::<()>(&mut shop.redis).await.unwrap();
    let other = shop.daemon().await;
    let client = other.clients().next().unwrap().clone();
    until("the other hears of it", || {
        client.credentials_closed().is_some()
    })
    .await;
    std::fs::write(&file, "pk_new\n").unwrap();
    until("the key works", || client.credentials_closed().is_none()).await;
    assert_eq!(calls(&shop.klaviyo.stats(), "create_event"), 1);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_loads_the_key_of_the_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "pk_old\n").unwrap();
    let mut shop = Shop::open().await;
    shop.set("KLAVIYO_PRIVATE_KEY_FILE", file.to_str().unwrap());
    let (mut daemon, mut log) = shop.logging(&["run"]);
    until_line(&mut log, "delivering").await;
    std::fs::write(&file, "pk_new\n").unwrap();
    signal(&daemon, "HUP");
    until_line(&mut log, "loaded the private key anew").await;
    shop.add_all(EVENTS, events(1)).await;
    shop.until_delivered().await;
    signal(&daemon, "TERM");
    assert!(daemon.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_says_so_when_the_file_holds_no_key_and_the_one_before_goes_on() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "pk_old\n").unwrap();
    let mut shop = Shop::open().await;
    shop.set("KLAVIYO_PRIVATE_KEY_FILE", file.to_str().unwrap());
    let (mut daemon, mut log) = shop.logging(&["run"]);
    until_line(&mut log, "delivering").await;
    for malformed in ["pk_secret\npk_other\n", "\n"] {
        std::fs::write(&file, malformed).unwrap();
        signal(&daemon, "HUP");
        let line = until_line(&mut log, "SIGHUP").await;
        assert!(line.contains("failed to load the private key"), "{line}");
        assert!(line.contains("empty or malformed"), "{line}");
        assert!(!line.contains("pk_"), "{line}");
    }
    std::fs::remove_file(&file).unwrap();
    signal(&daemon, "HUP");
    let line = until_line(&mut log, "SIGHUP").await;
    assert!(line.contains("failed to load the private key"), "{line}");
    std::fs::write(&file, "pk_old\n").unwrap();
    signal(&daemon, "HUP");
    let line = until_line(&mut log, "SIGHUP").await;
    assert!(line.contains("the private key is the same"), "{line}");
    shop.add_all(EVENTS, events(1)).await;
    shop.until_delivered().await;
    signal(&daemon, "TERM");
    assert!(daemon.wait().await.unwrap().success());
}

async fn until_line(log: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let found = async {
        loop {
            let line = log.next_line().await.unwrap().expect("the daemon runs");
            if line.contains(text) {
                return line;
            }
        }
    };
    let patience = Duration::from_mins(1);
    tokio::time::timeout(patience, found).await.expect(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_tells_what_each_operation_may_and_what_keeps_it_closed() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_KLAVIYO__LIMITS", "real");
    shop.klaviyo.faults().push(Fault {
        operation: Some("create_event".to_owned()),
        times: 1,
        kind: FaultKind::Status {
            status: 429,
            retry_after: Some("60".to_owned()),
        },
    });
    let daemon = shop.daemon().await;
    shop.add_all(EVENTS, events(1)).await;
    let client = daemon.clients().next().unwrap().clone();
    let operation = klaviyod::klaviyo::Operation::CreateEvent;
    until("Klaviyo asks to wait", || {
        client.closed(operation).is_some()
    })
    .await;
    let end = Instant::now() + Duration::from_secs(20);
    let row = loop {
        let (code, output, errors) = shop.command(&["limits", "--output", "json"]).await;
        assert_eq!(code, Some(0), "{errors}");
        let rows: Vec<Value> = serde_json::from_str(&output).unwrap();
        assert_eq!(rows.len(), klaviyod::klaviyo::Operation::ALL.len());
        let row = rows
            .into_iter()
            .find(|it| it["operation"] == "create_event");
        let row = row.unwrap();
        if row["closed_ms"].as_u64().unwrap() > 0 {
            break row;
        }
        assert!(Instant::now() < end, "it never was closed: {row}");
    };
    assert_eq!(
        (&row["second"], &row["minute"]),
        (&json!(350), &json!(3500))
    );
    assert_eq!(row["account"], "default");
    assert_eq!(row["used_minute"], 1);
    assert_eq!(row["closed_reason"], "retry_after");
    assert!(row["next_free_ms"].as_u64().unwrap() > 10_000, "{row}");
    assert_eq!(
        [&row["gate"], &row["breaker"], &row["credentials"]],
        ["open"; 3]
    );
    let (code, table, _) = shop.command(&["limits", "--output", "table"]).await;
    assert_eq!(code, Some(0));
    assert!(
        table.contains("NEXT FREE") && table.contains("(retry_after)"),
        "{table}"
    );
    daemon.stop().await;
}
