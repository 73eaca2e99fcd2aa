//! The queue without Klaviyo: jobs are read, leased, decoded and settled, and sent nowhere.

use apalis::prelude::*;
use apalis_core::error::BoxDynError;
use klaviyo_jobs::{Envelope, Job, Keys, TrackEvent, decode};
use klaviyod::queue::{Engine, EngineConfig, Lot, LotBackend, Redis, Route, Verdict};
use std::hint::black_box;
use std::sync::Arc;

const JOBS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4_000_000;
/// As many as the daemon runs for this kind.
const LOTS_AT_ONCE: usize = 16;

/// Runs until it is killed.
pub(crate) async fn run(redis: &str) -> anyhow::Result<()> {
    let route = Route {
        kind: TrackEvent::KIND,
        queue: TrackEvent::QUEUE,
        internal: false,
    };
    let config = EngineConfig::new(Keys::default(), "queue".to_owned(), vec![route]);
    let engine = Engine::start(&Redis::at(redis)?, config).await?;
    let backend = LotBackend::new(Arc::clone(&engine), TrackEvent::KIND)
        .expect("the engine was started with this kind");
    let worker = WorkerBuilder::new(TrackEvent::KIND)
        .backend(backend)
        .catch_panic()
        .concurrency(LOTS_AT_ONCE)
        .build(|lot: Lot| async move { Ok::<Vec<Verdict>, BoxDynError>(deliver(&lot).await) });
    worker.run().await?;
    Ok(())
}

async fn deliver(lot: &Lot) -> Vec<Verdict> {
    let jobs = lot.seal(JOBS_MAX, BYTES_MAX).await;
    for job in jobs {
        let envelope = Envelope::parse(&job.payload).expect("this program wrote it");
        let event: TrackEvent = decode(envelope.data).expect("this program wrote it");
        black_box(event);
    }
    vec![Verdict::Delivered; jobs.len()]
}
