//! `dlq discard`: dead jobs are deleted for good.

use super::super::Global;
use super::confirm::Confirmation;
use super::interrupt::{exit_code, or_interrupted};
use super::output::{self, Output};
use super::select::Chosen;
use crate::services::operations::Discarded;
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
    let mut counted = None;
    if !arguments.confirmation.is_given() {
        let found = operations.dead_count(&selection).await?;
        if found.jobs == 0 {
            report(global, Discarded::default())?;
            return Ok(ExitCode::SUCCESS);
        }
        let question = format!("delete {} for good", output::dead_jobs(found.jobs));
        if !arguments.confirmation.given(&question)? {
            return Ok(ExitCode::FAILURE);
        }
        counted = Some(found);
    }
    let stop = CancellationToken::new();
    let discard = operations.discard(&selection, counted.as_ref(), &stop);
    report(global, or_interrupted(&stop, discard).await?)?;
    Ok(exit_code(&stop))
}

fn report(global: &Global, done: Discarded) -> anyhow::Result<()> {
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&done),
        Output::Table => output::line(&format!("discarded {}", output::dead_jobs(done.discarded))),
    }
}
