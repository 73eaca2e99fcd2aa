//! How fast events pass: through a bare loop, through the daemon, and through the queue alone.
//!
//! All three empty the same stream of a private Redis, one after the other, in several rounds; the median is printed.
//! Whatever is measured is a process of its own, so that its CPU time is not mixed with that of the sink that answers
//! in Klaviyo's place. The surprising thing: this program starts itself again for the bare loop and for the queue.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

mod bare;
mod measure;
mod queue;
mod sink;
mod table;

use anyhow::Context;
use klaviyo_jobs::{Job, Keys, Lane, TrackEvent};
use klaviyod::private_redis::PrivateRedis;
use klaviyod::queue::Redis;
use measure::{Bench, Measured};
use sink::Sink;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

// The daemon has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
const JOBS: usize = 100_000;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lap {
    Bare,
    Daemon,
    Queue,
}

impl Lap {
    const ALL: [Self; 3] = [Self::Bare, Self::Daemon, Self::Queue];
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["bare-loop", redis, sink] => runtime.block_on(bare::run(redis, sink)),
        ["queue-alone", redis] => runtime.block_on(queue::run(redis)),
        _ => {
            // Times never fail a build, nor does a machine on which they cannot be taken.
            if let Err(error) = runtime.block_on(run()) {
                println!("nothing was measured: {error:#}");
            }
            Ok(())
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let folder = TempDir::new().context("failed to create a folder")?;
    let server = PrivateRedis::start(folder.path(), false).await?;
    let sink = Sink::start()?;
    let mut bench = Bench {
        redis: Redis::at(&server.url())?.connect().await?,
        stream: stream(),
        undelivered: undelivered(),
        sink,
    };
    let mut laps = Lap::ALL.map(|lap| (lap, Vec::new()));
    println!("{JOBS} jobs of {} bytes, {ROUNDS} rounds", job(0).len());
    for round in 1..=ROUNDS {
        for (lap, found) in &mut laps {
            bench.fill(JOBS, job).await?;
            let command = command(*lap, &server.url(), &bench.sink.url(), &folder)?;
            let measured = bench.measure(command, JOBS).await?;
            println!("round {round}: {lap:?} {:.0} jobs/s", measured.jobs_per_s());
            found.push(measured);
        }
    }
    let medians: Vec<(Lap, Measured)> = laps
        .into_iter()
        .map(|(lap, found)| (lap, Measured::median(found)))
        .collect();
    table::print(&medians);
    Ok(())
}

fn command(lap: Lap, redis: &str, sink: &str, folder: &TempDir) -> anyhow::Result<Command> {
    let this = std::env::current_exe().context("failed to find this program")?;
    let mut command = match lap {
        Lap::Bare => {
            let mut command = Command::new(this);
            command.args(["bare-loop", redis, sink]);
            command
        }
        Lap::Queue => {
            let mut command = Command::new(this);
            command.args(["queue-alone", redis]);
            command
        }
        Lap::Daemon => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_klaviyod"));
            command.arg("run").env_clear().envs([
                ("KLAVIYOD_REDIS_URL", redis),
                ("KLAVIYOD_HTTP_LISTEN", "127.0.0.1:0"),
                ("KLAVIYO_PRIVATE_KEY", "pk_bench"),
                ("KLAVIYOD_KLAVIYO_BASE_URL", sink),
                ("KLAVIYOD_KLAVIYO__LIMITS", "off"),
                ("KLAVIYOD_LOG", "warn"),
            ]);
            command
        }
    };
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// The stream all laps empty.
fn stream() -> String {
    Keys::default().queue(TrackEvent::QUEUE, Lane::Live)
}

/// Where jobs go that are not delivered.
fn undelivered() -> [String; 2] {
    let keys = Keys::default();
    [
        keys.delayed(TrackEvent::QUEUE),
        keys.dead(TrackEvent::QUEUE),
    ]
}

/// A job as an application writes it. No two have one profile: the largest bulk document.
fn job(number: usize) -> String {
    format!(
        concat!(
            r#"{{"kind":"event.track","id":"order-{number:08}","at":"2025-11-24T09:00:00Z","data":{{"#,
            r#""metric":"Placed Order","profile":{{"email":"customer-{number:08}@shop.example"}},"#,
            r#""properties":{{"OrderId":"{number:08}","Categories":["Coats","Winter"],"#,
            r#""Items":[{{"SKU":"COAT-M","ProductName":"Winter Coat","Quantity":1,"ItemPrice":89.90}},"#,
            r#"{{"SKU":"SCARF","ProductName":"Scarf","Quantity":1,"ItemPrice":10}}]}},"#,
            r#""value":99.90,"value_currency":"EUR"}}}}"#,
        ),
        number = number
    )
}
