//! Load: an application that writes jobs at a steady rate, and writes again what was not acknowledged.
//!
//! Jobs are numbered without gaps, so that as many distinct events must arrive as were acknowledged.

use super::jobs::{Shop, event_of};
use super::sentinel;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const EVERY: Duration = Duration::from_millis(20);
/// So few that after a moment all of them are known at Klaviyo.
const PEOPLE: usize = 20;

/// Where the application finds Redis.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Direct(String),
    /// Over a Sentinel; acknowledged is what a second server has too.
    Sentinel(u16),
}

impl Way {
    pub(crate) async fn open(&self) -> anyhow::Result<Shop> {
        match self {
            Self::Direct(url) => Shop::open(url).await,
            Self::Sentinel(port) => Shop::open(&sentinel::master(*port).await?).await,
        }
    }
}

/// A running application.
#[derive(Debug)]
pub(crate) struct Feed {
    acknowledged: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    task: JoinSet<()>,
}

impl Feed {
    /// Writes `per_second` jobs to the queue until it is stopped.
    pub(crate) fn start(way: Way, queue: &'static str, per_second: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(feed(
            way,
            queue,
            per_second,
            Arc::clone(&acknowledged),
            stopped,
        ));
        Self {
            acknowledged,
            stop,
            task,
        }
    }

    /// Jobs that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Stops when everything it wrote is acknowledged, and says how much that is.
    pub(crate) async fn stop(mut self) -> usize {
        self.stop.send_replace(true);
        while self.task.join_next().await.is_some() {}
        self.acknowledged()
    }
}

/// One of the events that a feed writes.
pub(crate) fn fed(number: usize) -> Value {
    event_of(number, PEOPLE)
}

async fn feed(
    way: Way,
    queue: &'static str,
    per_second: usize,
    acknowledged: Arc<AtomicUsize>,
    stopped: watch::Receiver<bool>,
) {
    let mut shop = None;
    let mut last = Instant::now();
    let mut done = 0;
    let mut due = 0.0;
    while !*stopped.borrow() {
        sleep(EVERY).await;
        due += last.elapsed().as_secs_f64() * f64::from(u32::try_from(per_second).unwrap_or(0));
        last = Instant::now();
        let mut many = 0;
        while due >= 1.0 {
            due -= 1.0;
            many += 1;
        }
        while let Err(_error) = write(&way, &mut shop, queue, done..done + many).await {
            // As an application would: it connects again and writes the same jobs again.
            shop = None;
            sleep(EVERY).await;
            // While nothing can be written nothing new happens either.
            last = Instant::now();
        }
        done += many;
        acknowledged.store(done, Ordering::SeqCst);
    }
}

async fn write(
    way: &Way,
    shop: &mut Option<Shop>,
    queue: &str,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<()> {
    if shop.is_none() {
        *shop = Some(way.open().await?);
    }
    let Some(shop) = shop else { return Ok(()) };
    shop.add(queue, numbers.map(fed)).await?;
    if matches!(way, Way::Sentinel(_)) {
        let copies: u64 = shop.command(&["WAIT", "1", "1000"]).await?;
        anyhow::ensure!(copies >= 1, "no second server has it yet");
    }
    Ok(())
}
