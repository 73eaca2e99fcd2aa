//! `dlq edit`: a dead job is corrected, by an argument or in an editor.

use super::super::Global;
use super::confirm::Confirmation;
use super::editor::edited_by_hand;
use super::output::{self, Output};
use super::select::entry;
use super::{enqueue, replay};
use crate::config::Mistakes;
use crate::queue::EntryId;
use crate::services::operations::{DeadEdit, DeadSelection, QueueName, Replay};
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
    let mut operations = global.operations().await?;
    let dead = operations
        .dead_job(arguments.queue, arguments.entry)
        .await?;
    let by_hand = match given {
        Some(_) => None,
        None => edited_by_hand(&dead.job).await?.map(DeadEdit::Job),
    };
    let Some(edit) = given.or(by_hand) else {
        output::line("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    };
    let question = format!("replace the payload of 1 dead job ({})", dead.entry);
    if !arguments.confirmation.given(&question)? {
        return Ok(ExitCode::FAILURE);
    }
    let edited = operations.edit(&dead, &edit).await?;
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&json!({"edited": 1, "entry": edited.to_string()}))?,
        Output::Table => output::line(&format!("edited 1 dead job; its entry is now {edited}")),
    }
    if arguments.replay {
        let selection = DeadSelection::Entries {
            queue: dead.queue.parse().ok(),
            entries: vec![edited],
        };
        let stop = CancellationToken::new();
        let replayed = operations
            .replay(&selection, &Replay::default(), &stop)
            .await?;
        replay::report(global, &replayed)?;
        if replayed.replayed == 0 {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
