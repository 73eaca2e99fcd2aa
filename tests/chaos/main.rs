//! The chaos suite: the real binary, one to three replicas of it, against private Redis servers and the local Klaviyo,
//! while something goes wrong.
//!
//! `cargo test --test chaos` runs every scenario in a short form, `make chaos` in the full sizes;
//! `cargo test --test chaos -- NAME` one of them, `-- --list` names them. Each prints what is required and what was seen.
//! Nothing here knows the daemon from inside: it is judged by Redis, by what Klaviyo received, by its log and its exits.

#![expect(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints figures for people, and may stop a scenario at a surprise"
)]

mod answers;
mod arguments;
mod feed;
mod fleet;
mod jobs;
mod kills;
mod limits;
mod load;
mod proxy;
mod redis;
mod replica;
mod report;
mod scenarios;
mod sentinel;
mod server;
mod stage;
mod stop;
mod upstream;

use arguments::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(mistake) => {
            println!("{mistake}");
            return ExitCode::from(2);
        }
    };
    if arguments.list {
        for scenario in scenarios::ALL {
            println!("{:<18} {}", scenario.name, scenario.what);
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runtime.block_on(scenarios::run(&arguments)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
