//! The simulator as a program of its own.
//!
//! The daemon's `simulate` command calls the same library; this binary serves those who test without the daemon.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use klaviyo_simulator::{Config, Limits, Simulator};

/// A faithful local Klaviyo for development and tests.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8899")]
    listen: SocketAddr,
    /// The published rate limits, none, or the published ones times a factor: real, off, 2.5.
    #[arg(long, default_value = "real")]
    limits: Limits,
    /// Milliseconds from queued to complete of an import job.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    import_delay: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config {
        listen: arguments.listen,
        limits: arguments.limits,
        import_delay: Duration::from_millis(arguments.import_delay),
        ..Config::default()
    };
    let simulator = Simulator::start(config).await?;
    announce(&simulator);
    tokio::signal::ctrl_c()
        .await
        .context("failed to wait for ctrl-c")?;
    simulator.stop().await;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "whoever started the program wants to know where it listens"
)]
fn announce(simulator: &Simulator) {
    println!("simulating Klaviyo on {}", simulator.base_url());
}
