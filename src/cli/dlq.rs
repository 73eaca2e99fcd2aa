//! `dlq list|show`.

use super::{Global, output};
use crate::services::operations::DeadFilter;
use clap::Subcommand;
use output::Output;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print dead jobs, oldest first
    List {
        /// Only of this queue
        #[arg(long)]
        queue: Option<String>,
        /// Only of this kind
        #[arg(long)]
        kind: Option<String>,
        /// Only with this code
        #[arg(long)]
        code: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print one dead job with everything known about it
    Show {
        /// Its entry or its id
        entry: String,
    },
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    match arguments.action {
        Action::List {
            queue,
            kind,
            code,
            limit,
        } => {
            let dead = operations
                .dead(&DeadFilter { queue, kind, code }, limit)
                .await?;
            match Output::or_fitting(global.output) {
                Output::Json => output::json(&dead)?,
                Output::Table => {
                    let rows: Vec<Vec<String>> = dead
                        .iter()
                        .map(|job| {
                            let kind = job.kind.clone().unwrap_or_else(|| "-".to_owned());
                            vec![
                                job.entry.clone(),
                                job.queue.clone(),
                                kind,
                                job.id.clone(),
                                job.code.clone(),
                                job.detail.clone(),
                            ]
                        })
                        .collect();
                    output::table(&["ENTRY", "QUEUE", "KIND", "ID", "CODE", "DETAIL"], &rows);
                }
            }
        }
        Action::Show { entry } => match operations.dead_job(&entry).await? {
            Some(job) => output::line(&serde_json::to_string_pretty(&job)?),
            None => anyhow::bail!("no dead job has this entry or id; see `klaviyod dlq list`"),
        },
    }
    Ok(ExitCode::SUCCESS)
}
