//! A Redis server of our own on a free port, for `dev` and for tests. It ends with its owner.

use anyhow::{Context, bail};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
const START_MAX: Duration = Duration::from_secs(10);
/// Another process may take the free port before the server does.
const PORTS_TRIED_MAX: usize = 5;

/// A running server.
#[derive(Debug)]
pub struct PrivateRedis {
    port: u16,
    // Killed when dropped.
    _server: Child,
}

impl PrivateRedis {
    /// Starts a server that keeps its files in `folder`.
    ///
    /// # Errors
    /// If neither `redis-server` nor `valkey-server` can be started.
    pub async fn start(folder: &Path, append_only: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .context("failed to create the folder of the private Redis")?;
        for _ in 0..PORTS_TRIED_MAX {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut server = spawn(folder, port, append_only)?;
            if answers(&mut server, port).await? {
                return Ok(Self {
                    port,
                    _server: server,
                });
            }
        }
        bail!(
            "the private Redis did not start; look into {}",
            folder.join("redis.log").display()
        )
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn spawn(folder: &Path, port: u16, append_only: bool) -> anyhow::Result<Child> {
    for server in SERVERS {
        let mut command = Command::new(server);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--logfile",
            "redis.log",
        ]);
        command.args([
            "--appendonly",
            if append_only { "yes" } else { "no" },
            "--maxmemory-policy",
            "noeviction",
        ]);
        match command.kill_on_drop(true).spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(format!("failed to start {server}")),
        }
    }
    bail!("neither redis-server nor valkey-server is installed; run `make setup`")
}

/// Waits until the server answers; false if it ended, as it does when the port is taken.
async fn answers(server: &mut Child, port: u16) -> anyhow::Result<bool> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        if server.try_wait()?.is_some() {
            return Ok(false);
        }
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await
            && redis::cmd("PING")
                .query_async::<()>(&mut connection)
                .await
                .is_ok()
        {
            return Ok(true);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(false)
}
