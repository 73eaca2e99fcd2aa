//! A Redis server that can be killed and started again: same port, same folder.
//!
//! Its append-only file survives its death: what a killed process wrote is with the kernel.

use anyhow::{Context, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
const START_MAX: Duration = Duration::from_secs(20);
const PORTS_TRIED_MAX: usize = 5;

/// A Redis server.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    process: Child,
}

impl Server {
    /// Starts a server with an append-only file, flushed every second unless the arguments say otherwise.
    pub(crate) async fn start(folder: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        for _ in 0..PORTS_TRIED_MAX {
            let port = free_port()?;
            let process = spawn(folder, port, &arguments)?;
            let mut server = Self {
                port,
                folder: folder.to_owned(),
                arguments: arguments.clone(),
                process,
            };
            if server.answers().await? {
                return Ok(server);
            }
        }
        bail!("Redis did not start; see redis.log in {}", folder.display())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("Redis is not running")
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("failed to kill Redis")
    }

    /// Starts it again where it was, and waits until it answers.
    pub(crate) async fn start_again(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let mut arguments = self.arguments.clone();
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        self.process = spawn(&self.folder, self.port, &arguments)?;
        anyhow::ensure!(self.answers().await?, "Redis did not start again");
        Ok(())
    }

    /// Waits until it answers `PING`; false if it ended.
    async fn answers(&mut self) -> anyhow::Result<bool> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.process.try_wait()?.is_some() {
                return Ok(false);
            }
            if ping(self.port).await {
                return Ok(true);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(false)
    }
}

/// Whether a Redis server that is ready listens there. One that wants a password is ready too.
async fn ping(port: u16) -> bool {
    let Ok(client) = redis::Client::open(("127.0.0.1", port)) else {
        return false;
    };
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    match timeout(Duration::from_secs(1), asked).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => error.code() == Some("NOAUTH"),
        Err(_) => false,
    }
}

/// Finds a port that nobody listens on.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> anyhow::Result<Child> {
    for server in SERVERS {
        let mut command = Command::new(server);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--logfile", "redis.log"]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        command.args(["--maxmemory-policy", "noeviction"]);
        command.args(arguments);
        match command.kill_on_drop(true).spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(format!("failed to start {server}")),
        }
    }
    bail!("neither redis-server nor valkey-server is installed; run `make setup`")
}
