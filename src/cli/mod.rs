//! The command line: one file per command. Tables on a terminal, JSON in a pipe.

mod config;
mod confirm;
#[cfg(feature = "simulator")]
mod dev;
mod dlq;
mod doctor;
mod enqueue;
mod interrupt;
mod job;
mod limits;
mod migrate;
mod output;
mod queue;
mod run;
mod schema;
#[cfg(feature = "simulator")]
mod simulate;

use crate::config::{Config, Given, Mistakes, Need};
use crate::queue::{Redis, RedisError, Unreachable, is_unreachable};
use crate::services::OtherDatabase;
use crate::services::operations::Operations;
use crate::telemetry;
use clap::{CommandFactory, Parser, Subcommand};
use output::Output;
use secrecy::ExposeSecret;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// The delivery engine between an application and Klaviyo.
#[derive(Debug, Parser)]
#[command(name = "klaviyod", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// Configuration file; else ./klaviyod.toml, else /etc/klaviyod/klaviyod.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The account, where a command is about one; `run` and `doctor` serve all
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    account: String,
    /// Table or JSON; a table on a terminal, JSON in a pipe
    #[arg(long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show or check the effective configuration, secrets hidden
    Config(config::Arguments),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Run everything on this machine: private Redis, local Klaviyo, workers
    #[cfg(feature = "simulator")]
    Dev(dev::Arguments),
    /// Look at dead jobs
    Dlq(dlq::Arguments),
    /// Check Redis, database, key, revision and clocks; exits 1 with what to do
    Doctor,
    /// Enqueue one job, or many from NDJSON
    Enqueue(enqueue::Arguments),
    /// Explain or cancel one job
    Job(job::Arguments),
    /// Show the budget of each of Klaviyo's operations: used, share, next free, what keeps it closed
    Limits,
    /// Bring the database up to this version
    Migrate(migrate::Arguments),
    /// Look at queues, pause, resume and purge them
    Queue(queue::Arguments),
    /// Run the daemon
    Run(run::Arguments),
    /// Print the JSON Schema of a kind, or list the kinds
    Schema(schema::Arguments),
    /// Run the local Klaviyo on its own
    #[cfg(feature = "simulator")]
    Simulate(simulate::Arguments),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever went wrong; [`fail`] prints it and chooses the exit code.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let global = self.global;
        match self.command {
            Command::Config(arguments) => config::run(&global, &arguments),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "klaviyod", &mut script);
                output::line(String::from_utf8_lossy(&script).trim_end())?;
                Ok(ExitCode::SUCCESS)
            }
            #[cfg(feature = "simulator")]
            Command::Dev(arguments) => dev::run(&global, arguments).await,
            Command::Dlq(arguments) => dlq::run(&global, arguments).await,
            Command::Doctor => doctor::run(&global).await,
            Command::Enqueue(arguments) => enqueue::run(&global, arguments).await,
            Command::Job(arguments) => job::run(&global, arguments).await,
            Command::Limits => limits::run(&global).await,
            Command::Migrate(arguments) => migrate::run(&global, arguments).await,
            Command::Queue(arguments) => queue::run(&global, arguments).await,
            Command::Run(arguments) => run::run(&global, &arguments).await,
            Command::Schema(arguments) => schema::run(&global, &arguments),
            #[cfg(feature = "simulator")]
            Command::Simulate(arguments) => simulate::run(&arguments).await,
        }
    }
}

/// Prints why a command failed, one line for each mistake, and returns the exit code.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        for mistake in &mistakes.0 {
            output::complain(mistake);
        }
        return ExitCode::from(2);
    }
    output::complain(&format!("{error:#}"));
    let cannot_be_reached = |cause: &(dyn Error + 'static)| {
        let of_database = cause.downcast_ref::<crate::store::Error>();
        let of_redis = cause.downcast_ref::<RedisError>();
        cause.is::<Unreachable>()
            || of_redis.is_some_and(is_unreachable)
            || of_database.is_some_and(crate::store::Error::is_unreachable)
    };
    if error.chain().any(cannot_be_reached) {
        ExitCode::from(3)
    } else if error.chain().any(is_about_settings) {
        // Somebody must change the configuration: starting again does not help.
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

fn is_about_settings(cause: &(dyn Error + 'static)) -> bool {
    let of_database = cause.downcast_ref::<crate::store::Error>();
    cause.is::<OtherDatabase>()
        || cause.is::<crate::app::SetupError>()
        || of_database.is_some_and(|it| matches!(it, crate::store::Error::Address { .. }))
}

impl Global {
    fn given(&self) -> Given {
        Given::read(self.config.as_deref(), std::env::vars_os())
    }

    fn load(&self, need: Need) -> anyhow::Result<Config> {
        let config = self.given().config(need)?;
        telemetry::start(&config.log);
        Ok(config)
    }

    async fn operations(&self) -> anyhow::Result<Operations> {
        let config = self.load(Need::Redis)?;
        let redis = Redis::at(config.redis_url.expose_secret())?
            .connect()
            .await?;
        let account = config.account(&self.account)?;
        let (keys, klaviyo) = (account.keys.clone(), account.klaviyo.clone());
        Ok(Operations::new(redis, keys)
            .with_limits(klaviyo.limits, klaviyo.reserve)
            .with_audit(config.database_url, config.hash_key)
            .with_retries(config.worker.retries))
    }
}
