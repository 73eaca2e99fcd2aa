//! `dlq list`: page by page, so that a million dead jobs cost no memory.

use super::super::Global;
use super::output::{self, Columns, Output, cut};
use super::select::Filters;
use crate::queue::DeadJob;
use crate::services::operations::{DeadFilter, DeadSelection, DeadWalk};
use std::process::ExitCode;

/// Rows on a terminal unless a limit is given; a pipe gets everything.
const ROWS_MAX: u64 = 100;
const HEADER: &[&str] = &[
    "ENTRY", "QUEUE", "KIND", "ID", "DIED", "TRIED", "CODE", "DETAIL",
];
const ID_CHARS_MAX: usize = 40;
const DETAIL_CHARS_MAX: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    let output = Output::or_fitting(global.output);
    let mut filter = arguments.filters.filter();
    // One more than is shown tells whether there are more.
    let cut_off = output == Output::Table && filter.limit.is_none();
    if cut_off {
        filter.limit = Some(ROWS_MAX + 1);
    }
    let selection = DeadSelection::Matching(DeadFilter { ..filter });
    let walk = operations.dead_walk(&selection).await?;
    match output {
        Output::Json => json(walk).await?,
        Output::Table => table(walk, cut_off).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn json(mut walk: DeadWalk) -> anyhow::Result<()> {
    let mut lead = "[";
    while let Some(page) = walk.next_page().await? {
        for job in page {
            if !output::line_was_read(&format!("{lead}{}", serde_json::to_string(&job)?))? {
                return Ok(());
            }
            lead = ",";
        }
    }
    output::line(if lead == "[" { "[]" } else { "]" })
}

async fn table(mut walk: DeadWalk, cut_off: bool) -> anyhow::Result<()> {
    let mut columns: Option<Columns> = None;
    let mut left = if cut_off { ROWS_MAX } else { u64::MAX };
    while let Some(page) = walk.next_page().await? {
        let rows: Vec<Vec<String>> = page.iter().map(row).collect();
        let columns = match &mut columns {
            Some(columns) => columns,
            none => {
                let fitting = none.insert(Columns::fitting(HEADER, &rows));
                fitting.write(HEADER)?;
                fitting
            }
        };
        for row in &rows {
            if left == 0 {
                output::complain(&format!(
                    "these are the first {ROWS_MAX}; --limit N shows more, `klaviyod dlq stats` counts all"
                ));
                return Ok(());
            }
            if !columns.write(row)? {
                return Ok(());
            }
            left -= 1;
        }
    }
    if columns.is_none() {
        output::line("no dead jobs")?;
    }
    Ok(())
}

fn row(job: &DeadJob) -> Vec<String> {
    vec![
        job.entry.to_string(),
        job.queue.clone(),
        job.kind
            .as_deref()
            .map_or_else(|| "-".to_owned(), |kind| cut(kind, ID_CHARS_MAX)),
        cut(&job.id, ID_CHARS_MAX),
        format!("{:.0}", job.died_at),
        job.attempts.to_string(),
        job.code.clone(),
        cut(&job.detail, DETAIL_CHARS_MAX),
    ]
}
