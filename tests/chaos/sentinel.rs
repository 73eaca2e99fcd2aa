//! Three Sentinels that watch a master and its replica.

use super::server::{Server, free_port};
use anyhow::Context;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

pub(crate) const MASTER: &str = "mymaster";
const SENTINELS: usize = 3;
const ASK_MAX: Duration = Duration::from_secs(1);

/// The Sentinels, and the second server.
#[derive(Debug)]
pub(crate) struct Sentinels {
    ports: Vec<u16>,
    // Killed when dropped.
    _processes: Vec<Child>,
    _replica: Server,
}

impl Sentinels {
    /// Gives the master a replica and both of them Sentinels; failover begins a second after the master is gone.
    pub(crate) async fn start(folder: &Path, master: &Server) -> anyhow::Result<Self> {
        let master_port = master.port().to_string();
        let replica = Server::start(
            &folder.join("replica"),
            &["--replicaof", "127.0.0.1", &master_port],
        )
        .await?;
        let mut ports = Vec::new();
        let mut sentinels = Vec::new();
        for number in 1..=SENTINELS {
            let port = free_port()?;
            let file = folder.join(format!("sentinel-{number}.conf"));
            std::fs::write(&file, configuration(port, &master_port))?;
            let sentinel = Command::new("redis-server")
                .arg(&file)
                .arg("--sentinel")
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .context("failed to start a Sentinel")?;
            ports.push(port);
            sentinels.push(sentinel);
        }
        Ok(Self {
            ports,
            _processes: sentinels,
            _replica: replica,
        })
    }

    /// What the daemon is told.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Whether every Sentinel knows the others and the replica, without which there is no failover.
    pub(crate) async fn are_ready(&self) -> bool {
        for port in &self.ports {
            let Ok(ckquorum) = ask::<String>(*port, &["SENTINEL", "CKQUORUM", MASTER]).await else {
                return false;
            };
            let replicas = ask::<Vec<redis::Value>>(*port, &["SENTINEL", "REPLICAS", MASTER]).await;
            if !ckquorum.contains("3 usable") || replicas.map_or(0, |it| it.len()) != 1 {
                return false;
            }
        }
        true
    }
}

fn configuration(port: u16, master_port: &str) -> String {
    format!(
        "port {port}\nbind 127.0.0.1\nlogfile sentinel-{port}.log\n\
         sentinel monitor {MASTER} 127.0.0.1 {master_port} 2\n\
         sentinel down-after-milliseconds {MASTER} 1000\n\
         sentinel failover-timeout {MASTER} 5000\n"
    )
}

/// The address of the master that this Sentinel names.
pub(crate) async fn master(port: u16) -> anyhow::Result<String> {
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
    let (host, port) = ask::<(String, u16)>(port, &words).await?;
    Ok(format!("redis://{host}:{port}"))
}

/// Asks a Sentinel.
pub(crate) async fn ask<T: redis::FromRedisValue>(port: u16, words: &[&str]) -> anyhow::Result<T> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command
            .arg(&words[1..])
            .query_async::<T>(&mut connection)
            .await
    };
    Ok(tokio::time::timeout(ASK_MAX, asked)
        .await
        .context("the Sentinel is silent")??)
}
