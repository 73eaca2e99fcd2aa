//! `dlq stats`: what killed how many, and what to do about it.

use super::super::Global;
use super::output::{self, Output, cut};
use super::select::Filters;
use crate::services::operations::DeadGroup;
use std::process::ExitCode;

const POINTER_CHARS_MAX: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    let groups = operations
        .dead_stats(&arguments.filters.clone().filter())
        .await?;
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&groups)?,
        Output::Table if groups.is_empty() => output::line("no dead jobs")?,
        Output::Table => table(&groups)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(groups: &[DeadGroup]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    output::table(
        &[
            "COUNT", "QUEUE", "KIND", "CODE", "POINTER", "FIRST", "LAST", "SAMPLE",
        ],
        &rows,
    )?;
    let mut remedies: Vec<(&str, &str)> = groups
        .iter()
        .map(|group| (group.code.as_str(), group.remedy))
        .collect();
    remedies.sort_unstable();
    remedies.dedup();
    output::line("")?;
    for (code, remedy) in remedies {
        output::line(&format!("{}: {remedy}", output::harmless(code)))?;
    }
    Ok(())
}

fn row(group: &DeadGroup) -> Vec<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        group.count.to_string(),
        group.queue.clone(),
        cut(&or_dash(&group.kind), POINTER_CHARS_MAX),
        group.code.clone(),
        cut(&or_dash(&group.pointer), POINTER_CHARS_MAX),
        format!("{:.0}", group.first_seen),
        format!("{:.0}", group.last_seen),
        group.sample.clone(),
    ]
}
