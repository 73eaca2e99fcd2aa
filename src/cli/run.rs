//! `run`: the daemon.

use super::Global;
use crate::app::App;
use crate::config::Need;
use crate::services::operations::QueueName;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Work on these queues only
    #[arg(long, value_delimiter = ',', value_name = "QUEUE,…")]
    queues: Option<Vec<QueueName>>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut config = global.load(Need::Key)?;
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
