//! What ends an engine before its time, and what a stop waits for, over a real Redis.

use super::*;
use crate::private_redis::PrivateRedis;
use crate::queue::settling::observe::Settled;
use futures::FutureExt;
use tempfile::TempDir;

const ROUTE: Route = Route {
    kind: "event.track",
    queue: "event-tracking",
    internal: false,
};
const PATIENCE: Duration = Duration::from_mins(1);

/// An observer that ends the task that tells it something.
#[derive(Debug)]
struct Panics;

impl Observer for Panics {
    fn lot(&self, _: usize) {}
    fn settled(&self, _: &[Settled<'_>]) {
        panic!("on purpose");
    }
    fn took_over(&self, _: usize) {}
}

async fn start(observer: Option<Arc<dyn Observer>>) -> (Arc<Engine>, Redis, impl Sized) {
    let folder = TempDir::new().unwrap();
    let server = PrivateRedis::start(folder.path(), false).await.unwrap();
    let redis = Redis::at(&server.url()).unwrap();
    let mut config = EngineConfig::new(Keys::default(), "test".to_owned(), vec![ROUTE]);
    config.observer = observer;
    let engine = Engine::start(&redis, config).await.unwrap();
    (engine, redis, (server, folder))
}

async fn add(redis: &Redis, job: &str) {
    let mut add = redis::cmd("XADD");
    add.arg(Keys::default().queue(ROUTE.queue, Lane::Live));
    add.arg("*").arg("job").arg(job);
    let mut connection = redis.connect().await.unwrap();
    add.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_task_of_the_engine_breaks_it() {
    let (engine, redis, _server) = start(Some(Arc::new(Panics))).await;
    add(&redis, "nonsense is settled at once").await;
    timeout(PATIENCE, engine.broken()).await.unwrap();
    // Whoever still runs may settle, and is not torn down with it.
    let job = QueuedJob::for_test(0, EntryId { ms: 1, seq: 0 }, 0);
    engine.settle(vec![(job, Verdict::Delivered)]);
}

#[tokio::test]
async fn a_task_breaks_the_engine_when_it_ends_before_the_stop_and_not_after() {
    let (engine, _redis, _server) = start(None).await;
    engine.close(PATIENCE).await;
    engine.watch_over("late", async {}).await;
    assert!(engine.broken().now_or_never().is_none());
    let (engine, _redis, _server) = start(None).await;
    engine.watch_over("early", async {}).await;
    engine.broken().await;
    engine.close(PATIENCE).await;
}

#[tokio::test]
async fn a_stop_waits_for_what_a_read_under_way_brings_and_hands_it_back() {
    let (engine, redis, _server) = start(None).await;
    let keys = Keys::default();
    let mut connection = redis.connect().await.unwrap();
    until_clients_show(&mut connection, "cmd=xread ").await;
    let mut pipe = redis::pipe();
    // The lane that is read first.
    pipe.cmd("XADD").arg(keys.queue(ROUTE.queue, Lane::Urgent));
    pipe.arg("*")
        .arg("job")
        .arg(r#"{"kind": "event.track", "data": {}}"#);
    // The bell rings, and the read that follows stands still.
    pipe.cmd("CLIENT").arg("PAUSE").arg(1_000).arg("WRITE");
    pipe.query_async::<()>(&mut connection).await.unwrap();
    until_clients_show(&mut connection, "cmd=xreadgroup").await;
    engine.close(PATIENCE).await;
    let mut waiting = redis::cmd("ZCARD");
    waiting.arg(keys.delayed(ROUTE.queue));
    let waiting: usize = waiting.query_async(&mut connection).await.unwrap();
    assert_eq!(waiting, 1);
}

async fn until_clients_show(connection: &mut Connection, command: &str) {
    let mut clients = redis::cmd("CLIENT");
    clients.arg("LIST");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list: String = clients.query_async(connection).await.unwrap();
        if list.contains(command) {
            return;
        }
        assert!(Instant::now() < deadline, "{command} is not in {list}");
    }
}
