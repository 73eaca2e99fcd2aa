use crate::harness::Shop;
use klaviyo_simulator::{Fault, FaultKind};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Runs `doctor` and returns its exit code and report; the key must never be in it.
async fn doctor(shop: &Shop) -> (i32, Value) {
    let (code, told, complaints) = shop.command(&["doctor", "--output", "json"]).await;
    assert!(
        !told.contains("pk_test") && !complaints.contains("pk_test"),
        "{told}{complaints}"
    );
    let report = serde_json::from_str(&told).unwrap();
    (code.unwrap(), report)
}

fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    let parts = report["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == name);
    part.map_or("missing", |part| part["state"].as_str().unwrap())
}

async fn configure(shop: &mut Shop, setting: &str, value: &str) {
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg(setting).arg(value);
    set.query_async::<()>(&mut shop.redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_warns_about_a_redis_that_may_lose_jobs_and_exits_0() {
    let mut shop = Shop::open().await;
    configure(&mut shop, "maxmemory", "200mb").await;
    configure(&mut shop, "maxmemory-policy", "allkeys-lru").await;
    let (code, report) = doctor(&shop).await;
    assert_eq!(code, 0, "{report}");
    // Nobody has looked at the scopes, and that is said.
    for warned in ["redis persistence", "redis eviction", "klaviyo scopes"] {
        assert_eq!(state(&report, warned), "warn");
    }
    for well in [
        "configuration",
        "redis",
        "redis version",
        "redis memory",
        "redis clock",
        "clock",
        "klaviyo credentials",
        "klaviyo revision",
    ] {
        assert_eq!(state(&report, well), "ok", "{well}: {report}");
    }
    assert!(
        report.to_string().contains("test account Simulator"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_a_redis_that_evicts_is_refused_by_doctor_and_by_run() {
    let mut shop = Shop::open().await;
    configure(&mut shop, "maxmemory", "200mb").await;
    configure(&mut shop, "maxmemory-policy", "allkeys-lru").await;
    shop.set("KLAVIYOD_ENVIRONMENT", "production");
    let (code, report) = doctor(&shop).await;
    assert_eq!((code, state(&report, "redis eviction")), (1, "bad"));
    let (code, _, complaints) = shop.command(&["run"]).await;
    assert_eq!(code, Some(1));
    assert!(
        complaints.contains("refused to start in production"),
        "{complaints}"
    );
    assert!(complaints.contains("noeviction"), "{complaints}");
    // Without a limit on its memory it never evicts.
    configure(&mut shop, "maxmemory", "0").await;
    shop.daemon().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_exits_1_for_a_refused_key_and_says_what_to_do() {
    let shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: Some("get_accounts".to_owned()),
        times: 1,
        kind: FaultKind::Status {
            status: 401,
            retry_after: None,
        },
    });
    let (code, report) = doctor(&shop).await;
    assert_eq!((code, state(&report, "klaviyo credentials")), (1, "bad"));
    assert!(
        report.to_string().contains("KLAVIYO_PRIVATE_KEY"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_goes_on_without_redis_and_without_klaviyo_and_ends_soon() {
    let mut shop = Shop::open().await;
    shop.set("KLAVIYOD_REDIS_URL", "redis://127.0.0.1:1");
    shop.set("KLAVIYOD_KLAVIYO_BASE_URL", "http://127.0.0.1:1");
    let started = Instant::now();
    let (code, report) = doctor(&shop).await;
    assert!(started.elapsed() < Duration::from_secs(12));
    assert_eq!((code, state(&report, "redis")), (1, "bad"));
    assert_eq!(state(&report, "klaviyo"), "bad");
    assert_eq!(state(&report, "klaviyo revision"), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_a_database_that_lacks_tables_or_belongs_to_another_redis() {
    let mut shop = Shop::open().await;
    let (code, report) = doctor(&shop).await;
    assert_eq!((code, state(&report, "database")), (0, "warn"), "{report}");
    shop.daemon().await.stop().await;
    let (code, report) = doctor(&shop).await;
    assert_eq!((code, state(&report, "database")), (0, "ok"), "{report}");
    assert_eq!(state(&report, "database of this redis"), "ok");
    let folder = tempfile::TempDir::new().unwrap();
    let other = format!("sqlite://{}/other.db", folder.path().display());
    shop.set("KLAVIYOD_DATABASE_URL", &other);
    shop.command(&["migrate"]).await;
    let (code, report) = doctor(&shop).await;
    // Its id is made by the first who opens it.
    assert_eq!(
        (code, state(&report, "database of this redis")),
        (0, "missing"),
        "{report}"
    );
    let (code, _, complaints) = shop.command(&["run"]).await;
    assert!(
        code != Some(0) && complaints.contains("Redis belongs to"),
        "{complaints}"
    );
    let (code, report) = doctor(&shop).await;
    assert_eq!(
        (code, state(&report, "database of this redis")),
        (1, "bad"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_a_file_that_run_would_create_from_one_that_it_cannot_open() {
    let mut shop = Shop::open().await;
    let folder = tempfile::TempDir::new().unwrap();
    let corrupt = folder.path().join("corrupt.db");
    std::fs::write(&corrupt, "no database".repeat(1_000)).unwrap();
    let cases = [
        (folder.path().join("new.db"), 0, "warn"),
        (folder.path().join("missing/new.db"), 1, "bad"),
        (corrupt, 1, "bad"),
    ];
    for (path, code, is) in cases {
        shop.set(
            "KLAVIYOD_DATABASE_URL",
            &format!("sqlite://{}", path.display()),
        );
        let (seen, report) = doctor(&shop).await;
        assert_eq!((seen, state(&report, "database")), (code, is), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_the_replicas_whether_they_persist() {
    let mut shop = Shop::open().await;
    configure(&mut shop, "appendonly", "yes").await;
    let other = Shop::open().await;
    let address = shop.config().redis_url;
    let address = secrecy::ExposeSecret::expose_secret(&address);
    let port = address.rsplit(':').next().unwrap();
    let mut follow = redis::cmd("REPLICAOF");
    follow.arg("127.0.0.1").arg(port);
    follow
        .query_async::<()>(&mut other.redis.clone())
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let (code, report) = doctor(&shop).await;
        assert_eq!(code, 0, "{report}");
        if report.to_string().contains("has no AOF") {
            assert_eq!(state(&report, "redis replica"), "warn");
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the replica never showed: {report}"
        );
    }
    // Nothing can be delivered from where nothing can be written.
    let (code, report) = doctor(&other).await;
    assert_eq!((code, state(&report, "redis role")), (1, "bad"));
}
