//! Replicas of the real binary around one Redis and one local Klaviyo.
//!
//! Every replica has a log of its own and an address of its own for health; all share one database file.

use super::replica::Replica;
use super::server::Server;
use anyhow::Context;
use klaviyo_simulator::{Config, Fault, FaultKind, Limits, Simulator};
use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// How a fleet is set up.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) replicas: usize,
    pub(crate) lease: Duration,
    /// Of the local Klaviyo, and of the daemon's budget.
    pub(crate) limits: Limits,
    pub(crate) record_bodies: bool,
    /// Further arguments of Redis.
    pub(crate) redis: &'a [&'a str],
    /// Further settings of the daemon.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            replicas: 2,
            lease: Duration::from_secs(2),
            limits: Limits::Off,
            record_bodies: false,
            redis: &[],
            settings: &[],
        }
    }
}

/// Everything a scenario plays with. All of it ends with it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) klaviyo: Simulator,
    pub(crate) redis: Server,
    settings: BTreeMap<String, String>,
    started: usize,
    folder: TempDir,
}

impl Fleet {
    /// Starts Redis, Klaviyo and the replicas, and waits until all of them deliver.
    pub(crate) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let mut fleet = Self::prepare(&plan).await?;
        for _ in 0..plan.replicas {
            fleet.add_replica().await?;
        }
        Ok(fleet)
    }

    /// Starts Redis and Klaviyo only.
    pub(crate) async fn prepare(plan: &Plan<'_>) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("chaos-")?;
        let redis = Server::start(&folder.path().join("redis"), plan.redis).await?;
        let klaviyo = Simulator::start(Config {
            limits: plan.limits,
            record_bodies: plan.record_bodies,
            import_delay: Duration::from_millis(200),
            events_kept: 0,
            ..Config::default()
        })
        .await?;
        let limits = match plan.limits {
            Limits::Real => "real".to_owned(),
            Limits::Off => "off".to_owned(),
            Limits::Factor(factor) => factor.to_string(),
        };
        let database = folder.path().join("klaviyod.db");
        let settings = [
            ("KLAVIYOD_REDIS_URL", redis.url()),
            (
                "KLAVIYOD_DATABASE_URL",
                format!("sqlite://{}", database.display()),
            ),
            ("KLAVIYO_PRIVATE_KEY", "pk_test".to_owned()),
            ("KLAVIYOD_KLAVIYO_BASE_URL", klaviyo.base_url()),
            ("KLAVIYOD_KLAVIYO__IMPORT_POLL_FIRST", "300ms".to_owned()),
            ("KLAVIYOD_KLAVIYO__LIMITS", limits),
            ("KLAVIYOD_LEASE", format!("{}ms", plan.lease.as_millis())),
            ("KLAVIYOD_LOG_FORMAT", "json".to_owned()),
        ];
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let more = plan
            .settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self {
            replicas: Vec::new(),
            klaviyo,
            redis,
            settings: settings.chain(more).collect(),
            started: 0,
            folder,
        })
    }

    /// Sets a setting for what is started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Starts one more replica and waits until it delivers.
    pub(crate) async fn add_replica(&mut self) -> anyhow::Result<()> {
        let replica = self.spawn()?;
        self.replicas.push(replica);
        self.replicas
            .last_mut()
            .context("one was just added")?
            .until_up()
            .await
    }

    /// Starts a replica in the place of one that ended, without waiting.
    pub(crate) fn start_again(&mut self, place: usize) -> anyhow::Result<()> {
        self.replicas[place] = self.spawn()?;
        Ok(())
    }

    fn spawn(&mut self) -> anyhow::Result<Replica> {
        self.started += 1;
        Replica::spawn(self.folder.path(), self.started, &self.settings)
    }

    /// Runs a command of the binary to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klaviyod"));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.settings)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command.output().await.context("failed to run a command")
    }

    /// The dead letters, as the command line shows them.
    pub(crate) async fn dead(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let output = self
            .command(&["dlq", "list", "--output", "json", "--limit", "1000"])
            .await?;
        anyhow::ensure!(
            output.status.success(),
            "`dlq list` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // One array, or one object a line.
        let found = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        let mut dead = Vec::new();
        for value in found {
            match value? {
                serde_json::Value::Array(all) => dead.extend(all),
                one => dead.push(one),
            }
        }
        Ok(dead)
    }

    /// Lets the next `times` calls of an operation, or of any, run into a fault.
    pub(crate) fn fault(&self, operation: Option<&str>, times: u32, kind: FaultKind) {
        self.klaviyo.faults().push(Fault {
            operation: operation.map(str::to_owned),
            times,
            kind,
        });
    }

    /// How many replicas ended by themselves.
    pub(crate) fn ended(&mut self) -> anyhow::Result<usize> {
        let mut ended = 0;
        for replica in &mut self.replicas {
            ended += usize::from(replica.ended()?.is_some());
        }
        Ok(ended)
    }

    /// CPU time of all running replicas so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.replicas.iter().map(Replica::cpu).sum()
    }

    /// Lines that all running replicas logged so far.
    pub(crate) fn log_lines(&self) -> anyhow::Result<usize> {
        let lines = self
            .replicas
            .iter()
            .map(|replica| Ok(replica.log()?.lines().count()));
        lines.sum()
    }

    /// Where all files are.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// How often any replica, also of those that were killed, said this word in its log.
    pub(crate) fn said(&self, word: &str) -> anyhow::Result<usize> {
        let mut said = 0;
        for number in 1..=self.started {
            let log = Replica::log_file(self.folder.path(), number);
            said += std::fs::read_to_string(log)?.matches(word).count();
        }
        Ok(said)
    }
}
