//! `dlq export`: dead jobs to a file, one a line, whatever their number.

use super::super::Global;
use super::editor::create;
use super::output::{self, Output};
use super::select::Filters;
use crate::queue::DeadJob;
use crate::services::operations::DeadSelection;
use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::json;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// A file that is not there yet, or - for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    to: String,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    job: &'a DeadJob,
    /// What is no JSON is only in here as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    let selection = DeadSelection::Matching(arguments.filters.filter());
    let mut walk = operations.dead_walk(&selection).await?;
    let to_pipe = arguments.to == "-";
    let mut to: Box<dyn Write + Send> = if to_pipe {
        Box::new(std::io::stdout())
    } else {
        let file = create(Path::new(&arguments.to));
        Box::new(BufWriter::new(file.with_context(|| {
            format!(
                "failed to create {}; name a file that is not there yet",
                arguments.to
            )
        })?))
    };
    let mut exported = 0_u64;
    while let Some(page) = walk.next_page().await? {
        let mut lines = Vec::new();
        for job in &page {
            let is_json = job.job.json().is_some();
            let payload_base64 = (!is_json).then(|| BASE64_STANDARD.encode(job.job.as_bytes()));
            serde_json::to_writer(
                &mut lines,
                &Line {
                    job,
                    payload_base64,
                },
            )?;
            lines.push(b'\n');
        }
        match to.write_all(&lines) {
            // Whoever closed the pipe does not want to hear about it.
            Err(error) if to_pipe && error.kind() == ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            written => written.context("failed to write the export")?,
        }
        exported += page.len() as u64;
    }
    to.flush().context("failed to write the export")?;
    if !to_pipe {
        match Output::or_fitting(global.output) {
            Output::Json => output::json(&json!({"exported": exported, "to": arguments.to}))?,
            Output::Table => output::line(&format!(
                "exported {} to {}",
                output::dead_jobs(exported),
                arguments.to
            ))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
