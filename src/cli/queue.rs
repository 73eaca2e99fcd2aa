//! `queue list`.

use super::{Global, output};
use clap::Subcommand;
use output::Output;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Action {
    /// Print what waits, runs and is dead in every queue
    List,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Action::List = arguments.action;
    let queues = global.operations().await?.queues().await?;
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&queues)?,
        Output::Table => {
            let rows: Vec<Vec<String>> = queues
                .iter()
                .map(|queue| {
                    let counts = [
                        queue.ready,
                        queue.in_flight,
                        queue.delayed,
                        queue.dead,
                        queue.backfill,
                    ];
                    let mut row = vec![queue.queue.clone()];
                    row.extend(counts.map(|count| count.to_string()));
                    row.push(format!("{} s", queue.oldest_ms / 1000));
                    row
                })
                .collect();
            output::table(
                &[
                    "QUEUE",
                    "READY",
                    "IN FLIGHT",
                    "DELAYED",
                    "DEAD",
                    "BACKFILL",
                    "OLDEST",
                ],
                &rows,
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
