//! Handlers that end without a verdict, over a real Redis.

use super::*;
use crate::private_redis::PrivateRedis;
use crate::queue::connection::Connection;
use crate::queue::{EngineConfig, Redis, Route};
use futures::FutureExt;
use klaviyo_jobs::{Keys, Lane};
use std::task::{Context, Waker};
use tempfile::TempDir;
use tokio::time::sleep;

const ROUTE: Route = Route {
    kind: "event.track",
    queue: "event-tracking",
    internal: false,
};
const LINE: usize = 0;
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_panic_costs_only_the_job_an_attempt_that_panics_alone() {
    let folder = TempDir::new().unwrap();
    let server = PrivateRedis::start(folder.path(), false).await.unwrap();
    let redis = Redis::at(&server.url()).unwrap();
    let mut connection = redis.connect().await.unwrap();
    let keys = Keys::default();
    add_jobs(&mut connection, &keys, &["a", "b", "bad", "c", "d"]).await;
    let mut config = EngineConfig::new(keys.clone(), "test".to_owned(), vec![ROUTE]);
    // Suspects wait for so long.
    config.lease = Duration::from_secs(1);
    let engine = Engine::start(&redis, config).await.unwrap();
    until("all jobs are read", || engine.waiting(LINE) == 5).await;

    let mut lots = Vec::new();
    while lots.iter().sum::<usize>() < 5 + 5 {
        let context = Context::from_waker(Waker::noop());
        until("a lot opens", || engine.poll_open(LINE, &context)).await;
        let lot = Lot::open(Arc::clone(&engine), LINE);
        lot.turn().await;
        let jobs = lot.seal(100, usize::MAX).await;
        lots.push(jobs.len());
        let is_bad = |job: &QueuedJob| String::from_utf8_lossy(&job.payload).contains("bad");
        // Dropped without a verdict, as it is after a panic.
        if !jobs.iter().any(is_bad) {
            lot.decide(vec![Verdict::Delivered; jobs.len()]);
        }
    }
    assert_eq!(lots, [5, 1, 1, 1, 1, 1]);
    until("all is settled", || engine.state().flight.count() == 0).await;
    let mut delayed = redis::cmd("ZRANGE");
    delayed.arg(keys.delayed(ROUTE.queue)).arg(0).arg(-1);
    let delayed: Vec<String> = delayed.query_async(&mut connection).await.unwrap();
    assert_eq!(delayed.len(), 1, "{delayed:?}");
    assert!(
        delayed[0].contains(":1:live:") && delayed[0].contains("bad"),
        "{delayed:?}"
    );
    let mut rest = redis::cmd("XLEN");
    rest.arg(keys.queue(ROUTE.queue, Lane::Live));
    let rest: usize = rest.query_async(&mut connection).await.unwrap();
    assert_eq!(rest, 0);
    engine.close(PATIENCE).await;
}

#[tokio::test]
async fn suspects_that_cannot_be_alone_end_so_that_their_permit_is_free_and_try_again_later() {
    let folder = TempDir::new().unwrap();
    let server = PrivateRedis::start(folder.path(), false).await.unwrap();
    let redis = Redis::at(&server.url()).unwrap();
    let mut connection = redis.connect().await.unwrap();
    let keys = Keys::default();
    add_jobs(&mut connection, &keys, &["a", "bad"]).await;
    let config = EngineConfig::new(keys.clone(), "test".to_owned(), vec![ROUTE]);
    let engine = Engine::start(&redis, config).await.unwrap();
    until("all jobs are read", || engine.waiting(LINE) == 2).await;

    let open = || Lot::open(Arc::clone(&engine), LINE);
    let context = Context::from_waker(Waker::noop());
    let panicked = open();
    assert_eq!(panicked.seal(100, usize::MAX).await.len(), 2);
    drop(panicked);
    let other = engine.isolation.enter().await;

    assert!(engine.poll_open(LINE, &context));
    let suspect = open();
    assert!(suspect.seal(100, usize::MAX).await.is_empty());
    drop(suspect);
    // It comes again, and asks for nothing before it could do something with it.
    assert!(engine.poll_open(LINE, &context));
    let suspect = open();
    assert!(suspect.turn().now_or_never().is_none());
    drop((other, suspect));
    engine.close(PATIENCE).await;
}

async fn add_jobs(redis: &mut Connection, keys: &Keys, ids: &[&str]) {
    for id in ids {
        let mut add = redis::cmd("XADD");
        add.arg(keys.queue(ROUTE.queue, Lane::Live)).arg("*");
        let job = format!(r#"{{"kind": "event.track", "id": "{id}", "data": {{}}}}"#);
        let add = add.arg("job").arg(job);
        add.query_async::<()>(redis).await.unwrap();
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
