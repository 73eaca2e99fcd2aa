//! Fills the stream, starts what empties it, and watches until it is empty.
//!
//! From outside only: the length of the stream, and what the kernel and Redis say about CPU time. Time runs from the
//! first read, so that no start-up is measured; what is read ahead is measured too.

use crate::sink::Sink;
use anyhow::{Context, bail, ensure};
use klaviyo_jobs::keys::GROUP;
use klaviyod::queue::Connection;
use redis::streams::StreamInfoGroupsReply;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const JOBS_PER_PIPE: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_mins(2);
/// Linux counts CPU time in hundredths of a second.
const TICK_MS: f64 = 10.0;

/// What all laps share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) redis: Connection,
    pub(crate) stream: String,
    /// Keys that must not exist in the end: a job that was not delivered leaves the stream too.
    pub(crate) undelivered: [String; 2],
    pub(crate) sink: Sink,
}

/// One lap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) jobs: f64,
    pub(crate) seconds: f64,
    /// CPU time of the process that is measured.
    pub(crate) cpu_ms: f64,
    /// CPU time of Redis.
    pub(crate) redis_cpu_ms: f64,
    /// CPU time of the sink and of whoever watches.
    pub(crate) sink_cpu_ms: f64,
    /// The most memory it ever held.
    pub(crate) rss_mb: f64,
    pub(crate) calls: f64,
}

impl Measured {
    pub(crate) fn jobs_per_s(&self) -> f64 {
        self.jobs / self.seconds
    }

    pub(crate) fn per_thousand(&self, ms: f64) -> f64 {
        ms * 1_000.0 / self.jobs
    }

    /// The lap in the middle, by speed.
    pub(crate) fn median(mut laps: Vec<Self>) -> Self {
        laps.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        laps[laps.len() / 2]
    }
}

/// Milliseconds of CPU time, so far.
struct Spent {
    process: f64,
    redis: f64,
    sink: f64,
}

impl Bench {
    /// Empties Redis and fills the stream.
    pub(crate) async fn fill(
        &mut self,
        jobs: usize,
        job: impl Fn(usize) -> String,
    ) -> anyhow::Result<()> {
        redis::cmd("FLUSHALL")
            .query_async::<()>(&mut self.redis)
            .await?;
        for first in (0..jobs).step_by(JOBS_PER_PIPE) {
            let mut pipe = redis::pipe();
            for number in first..jobs.min(first + JOBS_PER_PIPE) {
                pipe.cmd("XADD").arg(&self.stream).arg("*");
                pipe.arg("job").arg(job(number)).ignore();
            }
            pipe.query_async::<()>(&mut self.redis).await?;
        }
        Ok(())
    }

    /// Starts the command, and kills it when the stream is empty.
    pub(crate) async fn measure(
        &mut self,
        mut command: Command,
        jobs: usize,
    ) -> anyhow::Result<Measured> {
        let mut child = command
            .spawn()
            .context("failed to start what is measured")?;
        let pid = child.id().context("what is measured ended at once")?;
        let deadline = Instant::now() + PATIENCE;
        while !self.was_read().await? {
            check(&mut child, deadline)?;
            sleep(LOOK_EVERY).await;
        }
        let (start, before, calls) = (Instant::now(), self.spent(pid).await?, self.sink.calls());
        while self.length().await? > 0 {
            check(&mut child, deadline)?;
            sleep(LOOK_EVERY).await;
        }
        let (seconds, after) = (start.elapsed().as_secs_f64(), self.spent(pid).await?);
        self.check_delivered().await?;
        let measured = Measured {
            jobs: count(jobs as u64),
            seconds,
            cpu_ms: after.process - before.process,
            redis_cpu_ms: after.redis - before.redis,
            sink_cpu_ms: after.sink - before.sink,
            rss_mb: rss_mb(pid)?,
            calls: count(self.sink.calls() - calls),
        };
        child.kill().await?;
        Ok(measured)
    }

    async fn length(&mut self) -> anyhow::Result<u64> {
        Ok(redis::cmd("XLEN")
            .arg(&self.stream)
            .query_async(&mut self.redis)
            .await?)
    }

    async fn check_delivered(&mut self) -> anyhow::Result<()> {
        let undelivered: u64 = redis::cmd("EXISTS")
            .arg(&self.undelivered)
            .query_async(&mut self.redis)
            .await?;
        ensure!(undelivered == 0, "some jobs were not delivered");
        Ok(())
    }

    async fn was_read(&mut self) -> anyhow::Result<bool> {
        let info: StreamInfoGroupsReply = redis::cmd("XINFO")
            .arg("GROUPS")
            .arg(&self.stream)
            .query_async(&mut self.redis)
            .await?;
        Ok(info
            .groups
            .iter()
            .any(|group| group.name == GROUP && group.last_delivered_id != "0-0"))
    }

    async fn spent(&mut self, pid: u32) -> anyhow::Result<Spent> {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("cpu")
            .query_async(&mut self.redis)
            .await?;
        let seconds = |name| info.get::<f64>(name).unwrap_or_default();
        Ok(Spent {
            process: cpu_ms(&pid.to_string())?,
            redis: (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1_000.0,
            sink: cpu_ms("self")?,
        })
    }
}

fn check(child: &mut tokio::process::Child, deadline: Instant) -> anyhow::Result<()> {
    if let Some(status) = child.try_wait()? {
        bail!("what is measured ended early: {status}");
    }
    if Instant::now() > deadline {
        bail!("the stream is not empty after {} s", PATIENCE.as_secs());
    }
    Ok(())
}

/// User and system time of all threads.
fn cpu_ms(process: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .context("CPU times are read from /proc, which only Linux has")?;
    // The name in brackets may hold spaces; after it come the state and then numbers.
    let (_, fields) = stat.rsplit_once(')').context("/proc has an unknown form")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks * TICK_MS)
}

fn rss_mb(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kb: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|size| size.trim().trim_end_matches("kB").trim().parse().ok())
        .context("/proc has an unknown form")?;
    Ok(kb / 1_024.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn count(of: u64) -> f64 {
    of as f64
}
