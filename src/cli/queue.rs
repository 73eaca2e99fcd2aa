//! `queue list|pause|resume|purge`.

use super::confirm::Confirmation;
use super::interrupt::{exit_code, or_interrupted};
use super::{Global, output};
use crate::queue::Overview;
use crate::services::operations::QueueName;
use clap::Subcommand;
use klaviyo_jobs::Lane;
use output::Output;
use serde_json::json;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Action {
    /// Print what waits, runs and is dead in every queue
    List,
    /// Read nothing more of a queue, in every replica; what is in flight ends
    Pause {
        /// The queue
        queue: QueueName,
    },
    /// Delete what waits: never what is in flight, never dead letters
    Purge {
        /// The queue
        queue: QueueName,
        /// Only this lane: urgent, live or backfill
        #[arg(long, value_parser = super::enqueue::lane)]
        lane: Option<Lane>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Read a paused queue again
    Resume {
        /// The queue
        queue: QueueName,
    },
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = Output::or_fitting(global.output);
    let mut operations = global.operations().await?;
    match arguments.action {
        Action::List => {
            let queues = operations.queues().await?;
            match output {
                Output::Json => output::json(&queues)?,
                Output::Table => list(&queues)?,
            }
        }
        Action::Pause { queue } => {
            let changed = operations.pause(queue).await?;
            match output {
                Output::Json => told(queue, true, changed)?,
                Output::Table if changed => output::line(&format!(
                    "paused {queue}: within a second nothing more of it is read; what is in flight ends"
                ))?,
                Output::Table => output::line(&format!("{queue} was paused already"))?,
            }
        }
        Action::Purge {
            queue,
            lane,
            confirmation,
        } => {
            let of_lane =
                lane.map_or_else(String::new, |lane| format!(" (lane {})", lane.as_str()));
            if !confirmation.given(&format!("delete everything that waits in {queue}{of_lane}"))? {
                anyhow::bail!("nothing was deleted");
            }
            let stop = CancellationToken::new();
            let purged = or_interrupted(&stop, operations.purge(queue, lane, &stop)).await?;
            match output {
                Output::Json => output::json(&purged)?,
                Output::Table => output::line(&format!(
                    "deleted {} ready and {} delayed; left {} in flight and {} follow-ups of accepted imports",
                    purged.ready, purged.delayed, purged.in_flight, purged.internal
                ))?,
            }
            return Ok(exit_code(&stop));
        }
        Action::Resume { queue } => {
            let changed = operations.resume(queue).await?;
            match output {
                Output::Json => told(queue, false, changed)?,
                Output::Table if changed => output::line(&format!("resumed {queue}"))?,
                Output::Table => output::line(&format!("{queue} was not paused"))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(queues: &[Overview]) -> anyhow::Result<()> {
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
            row.push(roughly(queue.oldest_ms));
            row.push(format!("{:.1}/s", queue.rate));
            row.push(queue.drain_ms.map_or_else(|| "-".to_owned(), roughly));
            row.push(if queue.paused { "paused" } else { "" }.to_owned());
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
            "RATE",
            "DRAINED IN",
            "",
        ],
        &rows,
    )
}

/// Says what a queue is now, and whether it was something else before.
fn told(queue: QueueName, paused: bool, changed: bool) -> anyhow::Result<()> {
    output::json(&json!({"queue": queue.as_str(), "paused": paused, "changed": changed}))
}

/// A duration in its largest unit that has at least two of them.
fn roughly(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_short_enough_for_a_column() {
        let texts = [0, 1, 119_000, 120_000, 7_200_000, 172_800_000].map(roughly);
        assert_eq!(texts, ["0 s", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
