//! `dlq replay`: dead jobs go back to the queue.

use super::super::Global;
use super::confirm::Confirmation;
use super::interrupt::{exit_code, or_interrupted};
use super::output::{self, Output};
use super::select::Chosen;
use crate::services::operations::{self, DeadSelection, REPLAYS_MAX, Replay, ReplayReport};
use std::num::NonZeroU32;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
    /// Only count what would be done
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<NonZeroU32>,
    /// Whether events may start flows: unless they are older than a day, never, or as if they had not died
    #[arg(long, value_enum, default_value_t = Flows::Auto)]
    flows: Flows,
    /// Also what is older than its queue allows (7 days; campaigns 1 hour, consent 30 days)
    #[arg(long)]
    include_too_old: bool,
    /// Also what was replayed 10 times
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Flows {
    Auto,
    Never,
    Always,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let selection = arguments.chosen.selection()?;
    let mut how = Replay {
        dry_run: true,
        rate: arguments.rate,
        flows: match arguments.flows {
            Flows::Auto => operations::Flows::Auto,
            Flows::Never => operations::Flows::Never,
            Flows::Always => operations::Flows::Always,
        },
        include_too_old: arguments.include_too_old,
        include_often_replayed: arguments.force,
        counted: None,
    };
    let output = Output::or_fitting(global.output);
    let mut operations = global.operations().await?;
    let stop = CancellationToken::new();
    if arguments.dry_run || !arguments.confirmation.is_given() {
        let counted = operations.replay(&selection, &how, &stop).await?;
        if arguments.dry_run || counted.eligible == 0 {
            report(output, &counted)?;
            let asked = arguments.dry_run || counted.selected == 0;
            return Ok(if asked || !is_named(&selection) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        let question = format!(
            "replay {} of {}",
            output::dead_jobs(counted.eligible),
            because(&counted)
        );
        if !arguments.confirmation.given(&question)? {
            return Ok(ExitCode::FAILURE);
        }
        how.counted = Some(counted);
    }
    how.dry_run = false;
    let replayed = or_interrupted(&stop, operations.replay(&selection, &how, &stop)).await?;
    report(output, &replayed)?;
    if is_named(&selection) && replayed.replayed < replayed.selected {
        return Ok(ExitCode::FAILURE);
    }
    Ok(exit_code(&stop))
}

/// Whether the jobs were named: that one of them stays is not what was asked for.
fn is_named(selection: &DeadSelection) -> bool {
    matches!(selection, DeadSelection::Entries { .. })
}

/// Writes what was done.
pub(super) fn report(output: Output, report: &ReplayReport) -> anyhow::Result<()> {
    match output {
        Output::Json => output::json(report),
        Output::Table => {
            let (did, jobs) = if report.dry_run {
                ("would replay", report.eligible)
            } else {
                ("replayed", report.replayed)
            };
            output::line(&format!(
                "{did} {} of {}",
                output::dead_jobs(jobs),
                because(report)
            ))
        }
    }
}

/// Says why not all, and how.
fn because(report: &ReplayReport) -> String {
    let mut parts = vec![format!("{} chosen", report.selected)];
    for (count, why) in [
        (
            report.expired,
            "expired (`expires_at` is over; see `dlq edit`)".to_owned(),
        ),
        (
            report.too_old,
            "too old for the queue (--include-too-old)".to_owned(),
        ),
        (
            report.invalid,
            "would die again for the same reason (see `dlq edit`)".to_owned(),
        ),
        (
            report.replayed_too_often,
            format!("replayed {REPLAYS_MAX} times (--force)"),
        ),
        (
            report.without_flows,
            "replayed without starting flows".to_owned(),
        ),
    ] {
        if count > 0 {
            parts.push(format!("{count} {why}"));
        }
    }
    parts.join("; ")
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    text.strip_suffix("/s")
        .unwrap_or(text)
        .parse()
        .map_err(|_| "a rate looks like 50/s".to_owned())
}
