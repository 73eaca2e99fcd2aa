//! The apalis backend of one kind: one task is one open lot.
//!
//! It never returns an error (that would end the worker) and never touches Redis: reading, settling and renewing are
//! tasks of the engine, because apalis polls a backend neither while handlers run out nor after it is dropped.

use crate::queue::engine::Engine;
use crate::queue::job::verdict::Verdict;
use crate::queue::lot::open::Lot;
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::worker::context::WorkerContext;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Uninhabited: no error ever reaches apalis.
#[derive(Debug, thiserror::Error)]
pub enum Never {}

/// Hands out the open lots of one kind.
#[derive(Debug)]
pub struct LotBackend {
    engine: Arc<Engine>,
    line: usize,
}

impl LotBackend {
    /// Creates the backend of a kind that the engine was told of.
    pub fn new(engine: Arc<Engine>, kind: &str) -> Option<Self> {
        let line = engine.line(kind)?;
        Some(Self { engine, line })
    }
}

impl Backend for LotBackend {
    type Task = Task<Lot>;
    type Error = Never;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Never>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Lot>, Never>>> {
        if self.engine.poll_open(self.line, context) {
            Poll::Ready(Some(Ok(Task::new(Lot::open(
                Arc::clone(&self.engine),
                self.line,
            )))))
        } else {
            Poll::Pending
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Never>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for LotBackend {
    type Args = Lot;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = KeepVerdicts;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> KeepVerdicts {
        KeepVerdicts
    }
}

/// The outermost layer: it sees what `catch_panic` made of a panic, and writes the verdicts to the lot.
#[derive(Clone, Debug)]
pub struct KeepVerdicts;

/// See [`KeepVerdicts`].
#[derive(Clone, Debug)]
pub struct KeepingVerdicts<S>(S);

impl<S> Layer<S> for KeepVerdicts {
    type Service = KeepingVerdicts<S>;

    fn layer(&self, inner: S) -> KeepingVerdicts<S> {
        KeepingVerdicts(inner)
    }
}

impl<S> Service<Task<Lot>> for KeepingVerdicts<S>
where
    S: Service<Task<Lot>, Response = Vec<Verdict>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError>,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxDynError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Lot>) -> Self::Future {
        let (lot, handler) = (task.args.clone(), self.0.call(task));
        Box::pin(async move {
            match handler.await.map_err(Into::into) {
                Ok(verdicts) => lot.decide(verdicts),
                // No job is lost: without verdicts the jobs run again when `lot` is dropped here.
                Err(error) => tracing::error!(error, "a handler failed; its jobs run again"),
            }
            Ok(())
        })
    }
}
