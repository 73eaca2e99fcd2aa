//! `run`: the daemon.

use super::Global;
use crate::app::App;
use crate::config::Need;
use crate::services::operations::QueueName;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Answer no health and no metrics over HTTP
    #[arg(long)]
    no_http: bool,
    /// Run no schedules; this version has none yet
    #[arg(long)]
    no_scheduler: bool,
    /// Work on these queues only
    #[arg(long, value_delimiter = ',', value_name = "QUEUE,…")]
    queues: Option<Vec<QueueName>>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut config = global.load(Need::Key)?;
    config.http.serve = !arguments.no_http;
    if arguments.no_scheduler {
        tracing::debug!("--no-scheduler changes nothing: this version has no schedules");
    }
    if let Some(queues) = &arguments.queues {
        config.worker.queues = Some(queues.iter().map(|queue| queue.as_str()).collect());
    }
    // Before anything is started: a stop during the start is a stop like any other.
    let mut stop = Stop::listen()?;
    let app = tokio::select! {
        app = App::start(&config) => app?,
        () = stop.asked() => {
            tracing::info!("stopped before everything was started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    tokio::select! {
        () = stop.asked() => {}
        // No orderly stop: nobody knows what still works.
        () = app.broken() => return Ok(ExitCode::FAILURE),
    }
    tokio::select! {
        () = app.stop() => Ok(ExitCode::SUCCESS),
        () = stop.asked() => {
            tracing::warn!("stopped at once; what was in flight is taken over after the lease");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// SIGTERM and Ctrl-C, from the moment on that this exists.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
