//! The apalis workers: one for each kind, all over one engine.

use super::register;
use crate::queue::{Engine, Lot, LotBackend, Verdict};
use crate::services::Services;
use apalis::prelude::*;
use apalis_core::error::BoxDynError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    engine: Arc<Engine>,
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Starts a worker for every registered kind.
    pub fn start(engine: &Arc<Engine>, services: &Arc<Services>) -> Self {
        let (stop, _) = watch::channel(false);
        let mut running = JoinSet::new();
        for registered in register() {
            let backend = LotBackend::new(Arc::clone(engine), registered.route.kind)
                .expect("the engine was started with the routes of this register");
            let services = Arc::clone(services);
            let handle = move |lot: Lot| {
                let services = Arc::clone(&services);
                async move {
                    Ok::<Vec<Verdict>, BoxDynError>((registered.handler)(&lot, &services).await)
                }
            };
            let worker = WorkerBuilder::new(registered.route.kind)
                .backend(backend)
                .catch_panic()
                .concurrency(registered.lots_at_once)
                .build(handle);
            let mut stopped = stop.subscribe();
            let signal = async move {
                // An error means that nobody can ask for a stop any more: that is one too.
                drop(stopped.wait_for(|stop| *stop).await);
                Ok::<(), WorkerError>(())
            };
            let ended: Pin<Box<dyn Future<Output = Result<(), WorkerError>> + Send>> =
                Box::pin(worker.run_until(signal));
            running.spawn(async move {
                if let Err(error) = ended.await {
                    tracing::error!(%error, kind = registered.route.kind, "a worker ended");
                }
            });
        }
        Self {
            engine: Arc::clone(engine),
            running,
            stop,
        }
    }

    /// Takes nothing new, lets running lots end until `drain` is over, hands the rest back, and ends.
    pub async fn stop(mut self, drain: Duration) {
        self.engine.quiet();
        self.stop.send_replace(true);
        let ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, ended).await.is_err() {
            tracing::warn!("the drain timeout is over; running lots are handed back");
        }
        // Dropped handlers settle their lots: what they sealed is retried, what they did not stays queued.
        self.running.shutdown().await;
        self.engine.close().await;
    }
}
