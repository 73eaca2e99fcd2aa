//! One process of the daemon: its signals, its log, what it uses.

use super::server::free_port;
use super::stage::until;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// A process that did not start by then never will.
const START_MAX: Duration = Duration::from_secs(30);
const HTTP_MAX: Duration = Duration::from_secs(5);
/// Linux counts CPU time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A process of the daemon.
#[derive(Debug)]
pub(crate) struct Replica {
    process: Child,
    pid: u32,
    http_port: u16,
    log: PathBuf,
}

impl Replica {
    /// Starts `run` with these settings and nothing else of the environment.
    pub(crate) fn spawn(
        folder: &Path,
        number: usize,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let log = Self::log_file(folder, number);
        let http_port = free_port()?;
        let process = Command::new(env!("CARGO_BIN_EXE_klaviyod"))
            .arg("run")
            .env_clear()
            .envs(settings)
            .env("KLAVIYOD_HTTP_LISTEN", format!("127.0.0.1:{http_port}"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start a replica")?;
        let pid = process.id().context("a replica ended at once")?;
        Ok(Self {
            process,
            pid,
            http_port,
            log,
        })
    }

    pub(crate) fn log_file(folder: &Path, number: usize) -> PathBuf {
        folder.join(format!("replica-{number}.log"))
    }

    /// Waits until it says that it delivers.
    pub(crate) async fn until_up(&mut self) -> anyhow::Result<()> {
        until("a replica delivers", START_MAX, async || {
            if let Some(status) = self.ended()? {
                anyhow::bail!(
                    "a replica ended at its start, {status}: {}",
                    self.last_words()?
                );
            }
            Ok(self.log()?.contains("\"delivering\""))
        })
        .await
        .map(drop)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> anyhow::Result<String> {
        let log = self.log()?;
        let lines: Vec<&str> = log.lines().collect();
        Ok(lines[lines.len().saturating_sub(3)..].join(" | "))
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.process.wait().await?)
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Sends a signal such as `STOP`.
    pub(crate) async fn signal(&self, name: &str) -> anyhow::Result<()> {
        signal(self.pid, name).await
    }

    /// CPU time of all threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .context("CPU times are read from /proc, which only Linux has")?;
        // The name in brackets may hold spaces; after it come the state and then numbers.
        let (_, fields) = stat.rsplit_once(')').context("/proc has an unknown form")?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = times.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        Ok(TICK * ticks)
    }

    /// Megabytes it holds now, and the most it ever held.
    pub(crate) fn rss_mb(&self) -> anyhow::Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let mb = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kb = line.and_then(|size| {
                size.trim()
                    .trim_end_matches("kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            });
            kb.map(|kb| kb / 1024).context("/proc has an unknown form")
        };
        Ok((mb("VmRSS:")?, mb("VmHWM:")?))
    }

    /// Asks it over HTTP: status and body.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let client = reqwest::Client::builder()
            .timeout(HTTP_MAX)
            .no_proxy()
            .build()?;
        let url = format!("http://127.0.0.1:{}{path}", self.http_port);
        let response = client.get(url).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

/// Sends a signal to a process of ours.
pub(crate) async fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &pid.to_string()]);
    ensure!(kill.status().await?.success(), "failed to send {name}");
    Ok(())
}
