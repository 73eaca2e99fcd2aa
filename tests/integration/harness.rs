//! A shop: private Redis, local Klaviyo, and the daemon between them, in this process or as the real binary.

use klaviyo_simulator::{Config as SimulatorConfig, Limits, Simulator};
use klaviyod::app::App;
use klaviyod::config::{Config, Given, Need};
use klaviyod::private_redis::PrivateRedis;
use klaviyod::queue::Connection;
use klaviyod::queue::{DeadJob, Overview, Redis};
use klaviyod::services::operations::Operations;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, sleep};

pub(crate) const EVENTS: &str = "klaviyod:{default}:event-tracking";
pub(crate) const PROFILES: &str = "klaviyod:{default}:profile-sync";
/// A condition that takes longer will not come true.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Shop {
    pub(crate) klaviyo: Simulator,
    pub(crate) redis: Connection,
    operations: Operations,
    variables: Vec<(&'static str, String)>,
    server: PrivateRedis,
    _folder: TempDir,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// Opens a shop whose Klaviyo is not the usual one.
    pub(crate) async fn open_with(change: impl FnOnce(&mut SimulatorConfig)) -> Self {
        let folder = TempDir::new().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        let mut config = SimulatorConfig {
            limits: Limits::Off,
            import_delay: Duration::from_millis(200),
            record_bodies: true,
            ..SimulatorConfig::default()
        };
        change(&mut config);
        let klaviyo = Simulator::start(config).await.unwrap();
        let variables = vec![
            (
                "KLAVIYOD_DATABASE_URL",
                format!("sqlite://{}", folder.path().join("klaviyod.db").display()),
            ),
            ("KLAVIYOD_REDIS_URL", server.url()),
            ("KLAVIYO_PRIVATE_KEY", "pk_test".to_owned()),
            ("KLAVIYOD_KLAVIYO_BASE_URL", klaviyo.base_url()),
            ("KLAVIYOD_KLAVIYO__IMPORT_POLL_FIRST", "300ms".to_owned()),
            ("KLAVIYOD_KLAVIYO__LIMITS", "off".to_owned()),
            ("KLAVIYOD_LEASE", "2s".to_owned()),
            ("KLAVIYOD_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
        let operations = Operations::new(redis.clone(), klaviyo_jobs::Keys::default());
        Self {
            klaviyo,
            redis,
            operations,
            variables,
            server,
            _folder: folder,
        }
    }

    /// Sets a variable of the daemons that are started from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    /// Where the database is.
    pub(crate) fn database_url(&self) -> &str {
        let mut variables = self.variables.iter();
        let url = variables.find(|(name, _)| *name == "KLAVIYOD_DATABASE_URL");
        &url.unwrap().1
    }

    pub(crate) fn redis_url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn config(&self) -> Config {
        let variables = self
            .variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Given::read(Some(Path::new("/dev/null")), variables)
            .config(Need::Key)
            .unwrap()
    }

    /// Starts the daemon within the test.
    pub(crate) async fn daemon(&self) -> App {
        App::start(&self.config()).await.unwrap()
    }

    /// A command of the real binary that sees nothing of who runs the tests: no variable and no file of theirs.
    pub(crate) fn klaviyod(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klaviyod"));
        command.env_clear();
        for kept in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .args(["--config", "/dev/null"])
            .args(arguments)
            .envs(self.variables.iter().cloned());
        command
    }

    /// Starts a command of the real binary.
    pub(crate) fn binary(&self, arguments: &[&str]) -> Child {
        let mut command = self.klaviyod(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap()
    }

    /// Starts a command of the real binary, and returns what it logs.
    pub(crate) fn logging(&self, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStderr>>) {
        let mut command = self.klaviyod(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        (process, log)
    }

    /// Runs a command of the real binary to its end: exit code, standard output, standard error.
    pub(crate) async fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.klaviyod(arguments);
        command.stdin(Stdio::null());
        let output = command.kill_on_drop(true).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Puts a job on a stream as an application does, and returns its stream id.
    pub(crate) async fn add(&mut self, stream: &str, job: &str) -> String {
        redis::cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg("job")
            .arg(job)
            .query_async(&mut self.redis)
            .await
            .unwrap()
    }

    pub(crate) async fn add_all(&mut self, stream: &str, jobs: impl Iterator<Item = Value>) {
        let jobs: Vec<Value> = jobs.collect();
        // As producers do: one answer to more would be late on a busy machine.
        for chunk in jobs.chunks(1_000) {
            let mut pipe = redis::pipe();
            for job in chunk {
                pipe.cmd("XADD")
                    .arg(stream)
                    .arg("*")
                    .arg("job")
                    .arg(job.to_string())
                    .ignore();
            }
            pipe.query_async::<()>(&mut self.redis).await.unwrap();
        }
    }

    pub(crate) async fn queues(&mut self) -> Vec<Overview> {
        self.operations.queues().await.unwrap()
    }

    pub(crate) async fn dead(&mut self) -> Vec<DeadJob> {
        self.operations
            .dead(&<_>::default(), usize::MAX)
            .await
            .unwrap()
    }

    /// Waits until some queue is as it should be.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Overview) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.queues().await.iter().any(&is) {
            assert!(Instant::now() < deadline, "never came true: {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing waits and nothing runs in any queue.
    pub(crate) async fn until_delivered(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let queues = self.queues().await;
            if queues.iter().all(Overview::is_empty) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "jobs were left behind: {queues:?}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads a profile from Klaviyo by its address.
    pub(crate) async fn profile(&self, email: &str) -> Value {
        let url = format!(
            "{}/api/profiles?filter=equals(email,%22{}%22)",
            self.klaviyo.base_url(),
            email.replace('@', "%40")
        );
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let request = client
            .get(url)
            .header("Authorization", "Klaviyo-API-Key pk_test")
            .header("revision", "2026-07-15");
        let body = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["data"][0]["attributes"].clone()
    }
}

/// Sends a signal such as `TERM` to a process.
pub(crate) fn signal(process: &Child, name: &str) {
    let pid = process.id().unwrap().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(
        kill.arg(format!("-{name}"))
            .arg(pid)
            .status()
            .unwrap()
            .success()
    );
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn until_async(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
