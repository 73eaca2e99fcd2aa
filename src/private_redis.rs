//! A Redis server of our own on a free port, for `dev` and for tests. It ends with its owner.

use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
const LOCK: &str = "redis.lock";
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
    /// If neither `redis-server` nor `valkey-server` can be started, or another one keeps its files there.
    pub async fn start(folder: &Path, append_only: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .context("failed to create the folder of the private Redis")?;
        let lock = lock(folder)?;
        for _ in 0..PORTS_TRIED_MAX {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let mut server = spawn(folder, &lock, port, append_only)?;
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

/// Takes the folder for one server: two would write one append-only file.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK));
    let file = file.context("failed to open the lock of the private Redis")?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "a private Redis uses {} already; end the other `klaviyod dev` (or the redis-server it left behind), or \
             choose another folder with --folder",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).context("failed to lock the folder of the private Redis")
        }
    }
}

fn spawn(folder: &Path, lock: &File, port: u16, append_only: bool) -> anyhow::Result<Child> {
    for server in SERVERS {
        let mut command = Command::new(server);
        command
            .current_dir(folder)
            // The server holds the lock too, so that it lasts if we are killed and the server is not.
            .stdin(lock.try_clone().context("failed to pass the lock on")?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[tokio::test]
    async fn two_servers_do_not_share_a_folder() {
        let folder = TempDir::new().unwrap();
        let first = PrivateRedis::start(folder.path(), true).await.unwrap();
        let refused = PrivateRedis::start(folder.path(), true).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("--folder"), "{refused}");
        drop(first);
        // The server ends a moment after its owner.
        let deadline = Instant::now() + START_MAX;
        while PrivateRedis::start(folder.path(), true).await.is_err() {
            assert!(Instant::now() < deadline, "the folder is never free again");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
