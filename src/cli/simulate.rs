//! `simulate`: the local Klaviyo on its own.

use super::output;
use super::run::Stop;
use klaviyo_simulator::{Config, Limits, Simulator};
use std::net::SocketAddr;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8899", value_name = "ADDR")]
    listen: SocketAddr,
    /// Klaviyo's limits: real, off or a factor
    #[arg(long, default_value = "real")]
    limits: Limits,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let simulator = Simulator::start(Config {
        listen: arguments.listen,
        limits: arguments.limits,
        ..Config::default()
    })
    .await?;
    output::line(&format!(
        "a local Klaviyo listens on {}; /sim/stats counts what arrives",
        simulator.base_url()
    ))?;
    Stop::listen()?.asked().await;
    simulator.stop().await;
    Ok(ExitCode::SUCCESS)
}
