//! `run`: the daemon.

use super::Global;
use crate::app::App;
use crate::config::Need;
use crate::services::operations::QueueName;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

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
    let app = App::start(&config).await?;
    asked_to_stop().await?;
    tokio::select! {
        () = app.stop() => Ok(ExitCode::SUCCESS),
        asked = asked_to_stop() => {
            asked?;
            tracing::warn!("stopped at once; what was in flight is taken over after the lease");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn asked_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
