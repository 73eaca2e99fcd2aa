use crate::harness::{EVENTS, Shop};
use klaviyo_simulator::{Config, Limits, Simulator};
use serde_json::{Value, json};

const EU_EVENTS: &str = "klaviyod:{eu}:event-tracking";

/// Klaviyo as seen by an account that has this key.
async fn klaviyo(key: &str) -> Simulator {
    let config = Config {
        limits: Limits::Off,
        api_key: Some(key.to_owned()),
        ..Config::default()
    };
    Simulator::start(config).await.unwrap()
}

/// A shop with a second account at a Klaviyo of its own.
async fn shop_with_eu(key: &str, klaviyo: &Simulator) -> Shop {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_ACCOUNTS__EU__PRIVATE_KEY", key);
    shop.set("KLAVIYOD_ACCOUNTS__EU__BASE_URL", &klaviyo.base_url());
    shop
}

fn orders(count: usize) -> impl Iterator<Item = Value> {
    let order = |number| {
        json!({"kind": "event.track", "id": format!("o-{number}"), "data": {
            "metric": "Placed Order", "profile": {"external_id": format!("c-{number}")}}})
    };
    (0..count).map(order)
}

/// What waits, runs and is dead on the queue of the second account.
async fn eu(shop: &Shop) -> Value {
    let list = ["queue", "list", "--account", "eu"];
    let (code, said, complaint) = shop.command(&list).await;
    assert_eq!(code, Some(0), "{complaint}");
    let queues: Vec<Value> = serde_json::from_str(&said).unwrap();
    let is_it = |queue: &Value| queue["queue"] == "event-tracking";
    queues.into_iter().find(is_it).unwrap()
}

fn waiting(queue: &Value) -> u64 {
    let count = |state: &str| queue[state].as_u64().unwrap();
    count("ready") + count("in_flight") + count("delayed")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_s_jobs_leave_with_its_own_key() {
    let (default_klaviyo, eu_klaviyo) = (klaviyo("pk_default").await, klaviyo("pk_eu").await);
    let mut shop = shop_with_eu("pk_eu", &eu_klaviyo).await;
    shop.set("KLAVIYO_PRIVATE_KEY", "pk_default");
    shop.set("KLAVIYOD_KLAVIYO_BASE_URL", &default_klaviyo.base_url());
    shop.add_all(EVENTS, orders(300)).await;
    shop.add_all(EU_EVENTS, orders(200)).await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    crate::harness::until("the other account's events arrive", || {
        eu_klaviyo.stats().distinct_events == 200
    })
    .await;
    assert_eq!(default_klaviyo.stats().distinct_events, 300);
    for klaviyo in [&default_klaviyo, &eu_klaviyo] {
        assert!(klaviyo.requests().iter().all(|it| it.status != 401));
    }
    assert_eq!(eu(&shop).await["dead"], 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_of_one_account_holds_up_no_other_and_kills_no_job() {
    let eu_klaviyo = klaviyo("pk_eu").await;
    let mut shop = shop_with_eu("pk_revoked", &eu_klaviyo).await;
    shop.add_all(EU_EVENTS, orders(2_000)).await;
    shop.add_all(EVENTS, orders(300)).await;
    let daemon = shop.daemon().await;
    crate::harness::until("the revoked key is refused", || {
        eu_klaviyo.requests().iter().any(|it| it.status == 401)
    })
    .await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 300);
    let eu = eu(&shop).await;
    assert_eq!((waiting(&eu), &eu["dead"]), (2_000, &json!(0)), "{eu}");
    let explain = ["job", "explain", "o-1999", "--account", "eu"];
    let (_, said, _) = shop.command(&explain).await;
    assert!(said.contains("Klaviyo refuses the account's key"), "{said}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_account_waits_for_its_own_budget_only() {
    let eu_klaviyo = klaviyo("pk_eu").await;
    let mut shop = shop_with_eu("pk_eu", &eu_klaviyo).await;
    // A hundredth of the published limits: some calls a minute.
    shop.set("KLAVIYOD_ACCOUNTS__EU__LIMITS", "0.01");
    shop.add_all(EU_EVENTS, orders(20_000)).await;
    let daemon = shop.daemon().await;
    crate::harness::until("the backlog is worked on", || {
        eu_klaviyo.stats().distinct_events > 0
    })
    .await;
    shop.add_all(EVENTS, orders(2_000)).await;
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 2_000);
    assert!(waiting(&eu(&shop).await) > 10_000);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_one_account_touches_no_other() {
    let eu_klaviyo = klaviyo("pk_eu").await;
    let mut shop = shop_with_eu("pk_eu", &eu_klaviyo).await;
    for stream in [EVENTS, EU_EVENTS] {
        shop.add_all(stream, orders(10)).await;
    }
    let of_eu = ["--account", "eu"];
    for (command, exit_code) in [
        (&["queue", "pause", "event-tracking"][..], 0),
        (&["job", "explain", "o-3"], 0),
        (&["job", "cancel", "o-3", "--yes"], 0),
        (&["job", "explain", "o-3"], 1),
        (&["queue", "purge", "event-tracking", "--yes"], 0),
    ] {
        let (code, _, complaint) = shop.command(&[command, &of_eu].concat()).await;
        assert_eq!(code, Some(exit_code), "{command:?}: {complaint}");
    }
    let eu = eu(&shop).await;
    assert_eq!((waiting(&eu), &eu["paused"]), (0, &json!(true)), "{eu}");
    let queues = shop.queues().await;
    assert_eq!(queues.iter().map(|queue| queue.ready).sum::<u64>(), 10);
    assert!(queues.iter().all(|queue| !queue.paused));
    let (code, _, complaint) = shop.command(&["queue", "list", "--account", "ue"]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("default, eu"), "{complaint}");
}
