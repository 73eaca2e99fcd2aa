//! `dlq`: dead jobs, one file per action.

mod discard;
mod edit;
mod editor;
mod export;
mod list;
mod replay;
mod select;
mod show;
mod stats;

use super::{Global, confirm, enqueue, interrupt, output};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print dead jobs, oldest first within a queue
    List(list::Arguments),
    /// Print how many died of what, and what to do
    Stats(stats::Arguments),
    /// Print everything known about one dead job
    Show(show::Arguments),
    /// Send dead jobs again
    Replay(replay::Arguments),
    /// Correct a dead job
    Edit(edit::Arguments),
    /// Delete dead jobs for good
    Discard(discard::Arguments),
    /// Write dead jobs to a file, one a line
    Export(export::Arguments),
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::List(arguments) => list::run(global, arguments).await,
        Action::Stats(arguments) => stats::run(global, &arguments).await,
        Action::Show(arguments) => show::run(global, &arguments).await,
        Action::Replay(arguments) => replay::run(global, arguments).await,
        Action::Edit(arguments) => edit::run(global, arguments).await,
        Action::Discard(arguments) => discard::run(global, arguments).await,
        Action::Export(arguments) => export::run(global, arguments).await,
    }
}
