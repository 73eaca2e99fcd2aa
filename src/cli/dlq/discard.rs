//! `dlq discard`: dead jobs are deleted for good.

use super::super::Global;
use super::confirm::Confirmation;
use super::interrupt::{exit_code, or_interrupted};
use super::output::{self, Output};
use super::select::Chosen;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let selection = arguments.chosen.selection()?;
    let mut operations = global.operations().await?;
    if !arguments.confirmation.is_given() {
        let count = operations.dead_count(&selection).await?;
        if count > 0
            && !arguments
                .confirmation
                .given(&format!("delete {} for good", output::dead_jobs(count)))?
        {
            return Ok(ExitCode::FAILURE);
        }
    }
    let stop = CancellationToken::new();
    let done = or_interrupted(&stop, operations.discard(&selection, &stop)).await?;
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&done)?,
        Output::Table => output::line(&format!("discarded {}", output::dead_jobs(done.discarded)))?,
    }
    Ok(exit_code(&stop))
}
