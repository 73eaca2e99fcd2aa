//! The apalis workers: one for each kind, all over one engine.
//!
//! A worker that ends for whatever reason is started again: no kind may stay without one. A panic outside of a handler
//! breaks the engine instead, for nobody knows what it left behind.

use super::{Registered, register};
use crate::queue::{Engine, Lot, LotBackend, Verdict};
use crate::services::Services;
use apalis::prelude::*;
use apalis_core::error::BoxDynError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// What is left of the drain timeout for handing back, at least.
const HAND_BACK_MIN: Duration = Duration::from_secs(1);
const PAUSE_BEFORE_RESTART: Duration = Duration::from_secs(1);

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    engine: Arc<Engine>,
    running: JoinSet<()>,
}

impl Workers {
    /// Starts a worker for every registered kind that the engine reads.
    pub fn start(engine: &Arc<Engine>, services: &Arc<Services>) -> Self {
        let mut running = JoinSet::new();
        let read = |it: &Registered| engine.reads(it.route.kind);
        for registered in register().into_iter().filter(read) {
            let (engine, services) = (Arc::clone(engine), Arc::clone(services));
            running.spawn(async move {
                let keep = keep_working(&registered, &engine, &services);
                engine.watch_over(registered.route.kind, keep).await;
            });
        }
        Self {
            engine: Arc::clone(engine),
            running,
        }
    }

    /// Waits until nothing is delivered any more: what must not end has ended.
    pub async fn broken(&self) {
        self.engine.broken().await;
    }

    /// Takes nothing new, lets running lots end until `drain` is over, hands the rest back, and ends.
    pub async fn stop(mut self, drain: Duration) {
        let deadline = Instant::now() + drain;
        self.engine.quiet();
        let ended = async { while self.running.join_next().await.is_some() {} };
        if timeout(drain, ended).await.is_err() {
            tracing::warn!("the drain timeout is over; running lots are handed back");
        }
        // Dropped handlers settle their lots: what they sealed is handed back, what they did not stays queued.
        self.running.shutdown().await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.engine.close(left.max(HAND_BACK_MIN)).await;
    }
}

async fn keep_working(registered: &Registered, engine: &Arc<Engine>, services: &Arc<Services>) {
    while !engine.is_quiet() {
        if let Err(error) = work(registered, engine, services).await {
            let kind = registered.route.kind;
            tracing::error!(%error, kind, "a worker ended; it is started again");
            sleep(PAUSE_BEFORE_RESTART).await;
        }
    }
}

/// Runs a worker until the engine is quiet and the running lots have ended.
async fn work(
    registered: &Registered,
    engine: &Arc<Engine>,
    services: &Arc<Services>,
) -> Result<(), WorkerError> {
    let kind = registered.route.kind;
    let backend = LotBackend::new(Arc::clone(engine), kind)
        .expect("only kinds that the engine reads have a worker");
    let (handler, services) = (registered.handler, Arc::clone(services));
    let handle = move |lot: Lot| {
        let services = Arc::clone(&services);
        async move {
            let verdicts = tokio::select! {
                verdicts = async { lot.turn().await; handler(&lot, &services).await } => verdicts,
                () = lot.needless() => Vec::new(),
                () = lot.overdue() => {
                    tracing::warn!(kind, "a lot ran too long; what it did not decide is queued again");
                    Vec::new()
                }
            };
            Ok::<Vec<Verdict>, BoxDynError>(verdicts)
        }
    };
    let worker = WorkerBuilder::new(kind)
        .backend(backend)
        .catch_panic()
        .concurrency(registered.lots_at_once)
        .build(handle);
    let quieted = {
        let engine = Arc::clone(engine);
        async move {
            engine.quieted().await;
            Ok::<(), WorkerError>(())
        }
    };
    let ended: Pin<Box<dyn Future<Output = Result<(), WorkerError>> + Send>> =
        Box::pin(worker.run_until(quieted));
    ended.await
}
