//! `dev`: everything on this machine. `--demo` feeds it a believable day, `--once` ends with a summary.

mod day;
mod summary;

use super::{Global, output};
use crate::app::App;
use crate::cli::run::Stop;
use crate::config::{Config, Given, Need};
use crate::private_redis::PrivateRedis;
use crate::queue::{Outbox, Redis};
use crate::services::operations::Operations;
use crate::telemetry;
use anyhow::bail;
use day::{CUSTOMERS, Day};
use indicatif::{ProgressBar, ProgressStyle};
use klaviyo_jobs::Producer;
use klaviyo_simulator::Simulator;
use secrecy::ExposeSecret;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use summary::Summary;
use tokio::time::{Instant, sleep};

/// How long the day may take before the demo says that something is wrong.
const DAY_MAX: Duration = Duration::from_mins(3);
const OUTAGE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Feed it a day of profiles, orders and browsing, with broken rows and a short outage
    #[arg(long)]
    demo: bool,
    /// End when the day is delivered, with a summary
    #[arg(long, requires = "demo")]
    once: bool,
    /// Where the private Redis keeps its files
    #[arg(long, default_value = ".klaviyod", value_name = "FOLDER")]
    folder: PathBuf,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let folder = arguments.redis_folder();
    let redis = PrivateRedis::start(&folder, true).await?;
    let result = with_redis(global, &arguments, &redis, &folder).await;
    drop(redis);
    if arguments.demo {
        remove(&folder);
    }
    result
}

impl Arguments {
    /// Where Redis keeps its files. A demo starts from nothing, as its local Klaviyo does: the ids of a day before
    /// would be claimed still.
    fn redis_folder(&self) -> PathBuf {
        if self.demo {
            self.folder
                .join(format!("demo-{:016x}", rand::random::<u64>()))
        } else {
            self.folder.join("redis")
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        output::complain(&format!("the demo's folder could not be removed ({error})"));
    }
}

async fn with_redis(
    global: &Global,
    arguments: &Arguments,
    redis: &PrivateRedis,
    folder: &Path,
) -> anyhow::Result<ExitCode> {
    let simulator = Simulator::start(klaviyo_simulator::Config::default()).await?;
    let config = config(global, redis, &simulator, folder)?;
    telemetry::start(&config.log);
    let keys = config.account(&global.account)?.keys.clone();
    let app = App::start(&config).await?;
    output::line(&format!("private Redis   {}", redis.url()))?;
    output::line(&format!(
        "local Klaviyo   {}  (/sim/stats counts what arrives)",
        simulator.base_url()
    ))?;
    if let Some(address) = app.http_address() {
        output::line(&format!(
            "health, metrics http://{address}/health/ready  /health/klaviyo  /metrics"
        ))?;
    }
    let connection = Redis::at(config.redis_url.expose_secret())?
        .connect()
        .await?;
    let mut operations = Operations::new(connection.clone(), keys.clone());
    let mut code = ExitCode::SUCCESS;
    if arguments.demo {
        let day = Day::believable();
        output::line(&format!(
            "demo day        {} jobs, {} of them broken on purpose, Klaviyo down for {} s",
            day.jobs(),
            day.broken(),
            OUTAGE.as_secs()
        ))?;
        let producer = Producer::new(connection.clone(), keys.clone());
        let outbox = Outbox::new(connection, keys.clone());
        simulator.faults().set_outage(true);
        let started = Instant::now();
        day.feed(&producer, &outbox).await?;
        tokio::time::sleep_until(started + OUTAGE).await;
        simulator.faults().set_outage(false);
        until_delivered(&mut operations, &simulator, &day).await?;
        let summary = Summary::of(
            &day,
            &simulator.stats(),
            &app,
            operations.dead(&<_>::default(), usize::MAX).await?,
        );
        summary.print(global.output)?;
        if !summary.is_good() {
            code = ExitCode::FAILURE;
        }
    }
    if !arguments.once {
        output::line(
            "running until Ctrl-C; try: klaviyod enqueue event.track --data '{\"metric\":\"Viewed Product\",\"profile\":{\"email\":\"a@klqtest.dev\"}}'",
        )?;
        output::line(&format!("with KLAVIYOD_REDIS_URL={}", redis.url()))?;
        Stop::listen()?.asked().await;
    }
    app.stop().await;
    simulator.stop().await;
    Ok(code)
}

fn config(
    global: &Global,
    redis: &PrivateRedis,
    simulator: &Simulator,
    folder: &Path,
) -> anyhow::Result<Config> {
    let database = folder.join("klaviyod.db");
    let variables = [
        (
            "KLAVIYOD_DATABASE_URL",
            format!("sqlite://{}", database.display()),
        ),
        ("KLAVIYOD_REDIS_URL", redis.url()),
        ("KLAVIYO_PRIVATE_KEY", "pk_local_demo".to_owned()),
        ("KLAVIYOD_KLAVIYO_BASE_URL", simulator.base_url()),
        // The local Klaviyo finishes an import within a second.
        ("KLAVIYOD_KLAVIYO__IMPORT_POLL_FIRST", "1500ms".to_owned()),
        // Any free port: several of these may run beside each other and beside a daemon.
        ("KLAVIYOD_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ("KLAVIYOD_LOG", "error".to_owned()),
    ];
    let given = Given::read(
        global.config.as_deref(),
        variables.map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(given.config(Need::Key)?)
}

async fn until_delivered(
    operations: &mut Operations,
    simulator: &Simulator,
    day: &Day,
) -> anyhow::Result<()> {
    let progress = progress(day);
    let deadline = Instant::now() + DAY_MAX;
    loop {
        let stats = simulator.stats();
        progress.set_position(stats.distinct_events + stats.profiles.min(CUSTOMERS));
        let queues = operations.queues().await?;
        if queues.iter().all(crate::queue::Overview::is_empty) {
            progress.finish_and_clear();
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "the day was not delivered within {} s; see `klaviyod queue list`",
                DAY_MAX.as_secs()
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

fn progress(day: &Day) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("delivering      {bar:40} {pos}/{len} {elapsed}")
        .expect("the template is constant");
    ProgressBar::new(day.events() + CUSTOMERS).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_demo_starts_from_nothing_and_the_rest_goes_on_where_it_was() {
        let arguments = |demo| Arguments {
            demo,
            once: false,
            folder: PathBuf::from("kept"),
        };
        let demos = [
            arguments(true).redis_folder(),
            arguments(true).redis_folder(),
        ];
        assert_ne!(demos[0], demos[1]);
        assert!(
            demos
                .iter()
                .all(|it| !it.exists() && it.starts_with("kept"))
        );
        assert_eq!(arguments(false).redis_folder(), Path::new("kept/redis"));
    }
}
