//! Parses the command line and runs one command. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 a
//! dependency cannot be reached.

use clap::Parser;
use klaviyod::cli::{Cli, fail};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&anyhow::Error::new(error).context("failed to start the runtime"));
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}
