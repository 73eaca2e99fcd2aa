//! `config show|check`.

use super::{Global, output};
use crate::config::Need;
use clap::Subcommand;
use output::Output;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Action {
    /// Print every setting with its value
    Show,
    /// Report all mistakes; exits 2 if there are any
    Check,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let given = global.given();
    match arguments.action {
        Action::Show => {
            let shown = given.shown();
            match Output::or_fitting(global.output) {
                Output::Json => {
                    let settings: serde_json::Map<_, _> = shown
                        .iter()
                        .map(|(name, text, _)| (name.clone(), json!(text)))
                        .collect();
                    output::json(&settings)?;
                }
                Output::Table => {
                    let rows: Vec<Vec<String>> = shown
                        .into_iter()
                        .map(|(name, text, setting)| {
                            vec![name, text, setting.variable(), setting.meaning.to_owned()]
                        })
                        .collect();
                    output::table(&["SETTING", "VALUE", "VARIABLE", "MEANING"], &rows)?;
                }
            }
        }
        Action::Check => {
            given.config(Need::Key)?;
            match Output::or_fitting(global.output) {
                Output::Json => output::json(&json!({ "complete": true }))?,
                Output::Table => output::line("the configuration is complete")?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
