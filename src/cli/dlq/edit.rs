//! `dlq edit`: a dead job is corrected, by an argument or in an editor.

use super::super::Global;
use super::confirm::Confirmation;
use super::editor::{edited_by_hand, kept};
use super::output::{self, Output};
use super::select::entry;
use super::{enqueue, replay};
use crate::config::Mistakes;
use crate::queue::{DeadJob, EntryId};
use crate::services::operations::{
    DeadEdit, DeadError, DeadSelection, Operations, QueueName, Replay, ReplayReport,
};
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its entry, as `dlq list` shows it
    #[arg(value_name = "ENTRY", value_parser = entry)]
    entry: EntryId,
    /// Only of this queue
    #[arg(long)]
    queue: Option<QueueName>,
    /// The new `data`: JSON, @FILE or - for standard input; without it, an editor opens on a terminal
    #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "job")]
    data: Option<String>,
    /// The whole new job: JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    job: Option<String>,
    /// Send it again at once
    #[arg(long)]
    replay: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let given = match (&arguments.data, &arguments.job) {
        (Some(data), _) => Some(DeadEdit::Data(enqueue::payload(data)?)),
        (None, Some(job)) => Some(DeadEdit::Job(enqueue::payload(job)?)),
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) => {
            return Err(Mistakes(vec![
                "there is no terminal to edit on; give the new payload with --data or --job"
                    .to_owned(),
            ])
            .into());
        }
    };
    let output = Output::or_fitting(global.output);
    let mut operations = global.operations().await?;
    let dead = operations
        .dead_job(arguments.queue, arguments.entry)
        .await?;
    let by_hand = match given {
        Some(_) => None,
        None => edited_by_hand(&dead.job).await?,
    };
    let Some(edit) = given.or(by_hand.clone().map(DeadEdit::Job)) else {
        match output {
            Output::Json => output::json(&json!({"edited": 0, "entry": dead.entry.to_string()}))?,
            Output::Table => output::line("nothing was changed")?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let question = format!("replace the payload of 1 dead job ({})", dead.entry);
    if !arguments.confirmation.given(&question)? {
        return Ok(ExitCode::FAILURE);
    }
    let edited = match (operations.edit(&dead, &edit).await, by_hand) {
        (Err(error), Some(text)) => {
            let hint = match kept(&text) {
                Ok(path) => format!("what you wrote is kept in {}", path.display()),
                Err(error) => format!("what you wrote is lost: {error:#}"),
            };
            return Err(anyhow::Error::from(error).context(hint));
        }
        (edited, _) => edited?,
    };
    if output == Output::Table {
        output::line(&format!("edited 1 dead job; its entry is now {edited}"))?;
    }
    // What was edited is told even if the replay fails.
    let replayed = if arguments.replay {
        Some(replay_one(&mut operations, &dead, edited).await)
    } else {
        None
    };
    match (output, &replayed) {
        (Output::Json, _) => {
            let mut done = json!({"edited": 1, "entry": edited.to_string()});
            if let Some(Ok(report)) = &replayed {
                done["replay"] = json!(report);
            }
            output::json(&done)?;
        }
        (Output::Table, Some(Ok(report))) => replay::report(output, report)?,
        (Output::Table, _) => {}
    }
    match replayed.transpose()? {
        Some(report) if report.replayed == 0 => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn replay_one(
    operations: &mut Operations,
    dead: &DeadJob,
    edited: EntryId,
) -> Result<ReplayReport, DeadError> {
    let selection = DeadSelection::Entries {
        queue: dead.queue.parse().ok(),
        entries: vec![edited],
    };
    let stop = CancellationToken::new();
    operations
        .replay(&selection, &Replay::default(), &stop)
        .await
}
