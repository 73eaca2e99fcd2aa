//! `schema [KIND]`.

use super::output::Output;
use super::{Global, output};
use klaviyo_jobs::{kind, kinds};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A kind such as event.track; without one the kinds are listed
    kind: Option<String>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.kind {
        Some(name) => output::line(&serde_json::to_string_pretty(&(kind(name)?.schema)())?)?,
        None if Output::or_fitting(global.output) == Output::Json => {
            let kinds: Vec<&str> = kinds().iter().map(|info| info.kind).collect();
            output::json(&kinds)?;
        }
        None => kinds()
            .iter()
            .try_for_each(|info| output::line(info.kind))?,
    }
    Ok(ExitCode::SUCCESS)
}
