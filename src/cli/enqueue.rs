//! `enqueue`: one job, or many from NDJSON.

use super::{Global, output};
use crate::config::Need;
use crate::queue::{Connection, Redis};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::{Enqueued, Lane, Message, Options, Outcome, ProduceError, Producer};
use output::Output;
use secrecy::ExposeSecret;
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::ExitCode;
use std::time::Duration;

const CHUNK: usize = 1_000;
/// Rejected lines that are explained; the others are counted.
const EXPLAINED_MAX: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The kind, such as event.track
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson")]
    kind: Option<String>,
    /// The payload: JSON, @FILE or - for standard input
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        default_value = "-",
        conflicts_with = "ndjson"
    )]
    data: String,
    /// One whole job per line, from a file or - for standard input
    #[arg(long, value_name = "FILE|-")]
    ndjson: Option<String>,
    /// The job's identifier
    #[arg(long, conflicts_with = "ndjson")]
    id: Option<String>,
    /// When it happened (RFC 3339)
    #[arg(long)]
    at: Option<Timestamp>,
    /// Not before this time (RFC 3339)
    #[arg(long, conflicts_with = "in_")]
    run_at: Option<Timestamp>,
    /// Not before so long from now, such as 10m
    #[arg(long = "in", value_name = "DUR")]
    in_: Option<SignedDuration>,
    /// The lane: urgent, live or backfill
    #[arg(long, default_value = "live", value_parser = lane)]
    lane: Lane,
    /// How long a repeat of the id is refused; 0s for not at all
    #[arg(long, value_name = "DUR")]
    unique_for: Option<SignedDuration>,
}

pub(super) fn lane(name: &str) -> Result<Lane, String> {
    Lane::parse(name).ok_or_else(|| "the lanes are urgent, live and backfill".to_owned())
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    accepted: u64,
    duplicates: u64,
    rejected: Vec<Rejected>,
    rejected_count: u64,
}

#[derive(Debug, Serialize)]
struct Rejected {
    index: u64,
    detail: String,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = global.load(Need::Redis)?;
    let keys = config.account(&global.account)?.keys.clone();
    let options = Options {
        id: arguments.id.clone(),
        at: arguments.at,
        run_at: arguments
            .run_at
            .or_else(|| arguments.in_.map(|delay| Timestamp::now() + delay)),
        lane: arguments.lane,
        unique_for: arguments
            .unique_for
            .map(Duration::try_from)
            .transpose()
            .context("--unique-for is negative")?,
        ..Options::default()
    };
    let redis = Redis::at(config.redis_url.expose_secret())?;
    let producer = Producer::new(redis.connect().await?, keys);
    let mut summary = Summary::default();
    if let Some(from) = &arguments.ndjson {
        enqueue_lines(&producer, source(from)?, &options, &mut summary).await?;
    } else {
        let data: serde_json::Value =
            serde_json::from_str(&payload(&arguments.data)?).context("--data is not JSON")?;
        let job = serde_json::json!({"kind": arguments.kind, "data": data});
        let message = Message::from_json(&serde_json::to_vec(&job)?, &options);
        send(
            &producer,
            vec![(0, message.map_err(ProduceError::Invalid))],
            &mut summary,
        )
        .await?;
    }
    report(global, &summary)?;
    Ok(if summary.rejected_count == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(global: &Global, summary: &Summary) -> anyhow::Result<()> {
    match Output::or_fitting(global.output) {
        Output::Json => output::json(summary),
        Output::Table => {
            for rejected in &summary.rejected {
                output::complain(&format!("line {}: {}", rejected.index + 1, rejected.detail));
            }
            output::line(&format!(
                "accepted {}, duplicates {}, rejected {}",
                summary.accepted, summary.duplicates, summary.rejected_count
            ))
        }
    }
}

fn source(from: &str) -> anyhow::Result<Box<dyn BufRead>> {
    Ok(match from {
        "-" => Box::new(BufReader::new(std::io::stdin())),
        path => Box::new(BufReader::new(
            File::open(path).context("failed to open the NDJSON file")?,
        )),
    })
}

/// Reads JSON that is given as itself, as @FILE, or as - for standard input.
pub(super) fn payload(data: &str) -> anyhow::Result<String> {
    match data.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
        }
        None if data == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("failed to read standard input")?;
            Ok(text)
        }
        None => Ok(data.to_owned()),
    }
}

async fn enqueue_lines(
    producer: &Producer<Connection>,
    mut source: Box<dyn BufRead>,
    options: &Options,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let progress = progress();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut line = Vec::new();
    for index in 0.. {
        line.clear();
        if source
            .read_until(b'\n', &mut line)
            .context("failed to read a line")?
            == 0
        {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        chunk.push((
            index,
            Message::from_json(line.trim_ascii(), options).map_err(ProduceError::Invalid),
        ));
        if chunk.len() == CHUNK {
            progress.inc(CHUNK as u64);
            send(producer, std::mem::take(&mut chunk), summary).await?;
        }
    }
    send(producer, chunk, summary).await?;
    progress.finish_and_clear();
    Ok(())
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} jobs, {per_sec}")
        .expect("the template is constant");
    ProgressBar::new_spinner().with_style(style)
}

async fn send(
    producer: &Producer<Connection>,
    chunk: Vec<(u64, Result<Message, ProduceError>)>,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut messages = Vec::with_capacity(chunk.len());
    let mut indices = Vec::with_capacity(chunk.len());
    for (index, message) in chunk {
        match message {
            Ok(message) => {
                messages.push(message);
                indices.push(index);
            }
            Err(error) => summary.reject(index, &error),
        }
    }
    for (index, enqueued) in indices
        .into_iter()
        .zip(producer.enqueue_many(messages).await)
    {
        summary.count(index, enqueued)?;
    }
    Ok(())
}

impl Summary {
    fn count(&mut self, index: u64, enqueued: Enqueued) -> anyhow::Result<()> {
        match enqueued {
            Ok(receipt) => match receipt.outcome {
                Outcome::Accepted => self.accepted += 1,
                Outcome::Duplicate => self.duplicates += 1,
            },
            Err(error @ ProduceError::Invalid(_)) => self.reject(index, &error),
            Err(error) => {
                return Err(anyhow::Error::new(error).context(format!(
                    "stopped at line {} after {} accepted; enqueue the same file again, ids that were accepted count as duplicates",
                    index + 1,
                    self.accepted
                )));
            }
        }
        Ok(())
    }

    fn reject(&mut self, index: u64, error: &ProduceError) {
        self.rejected_count += 1;
        if self.rejected.len() < EXPLAINED_MAX {
            let detail = match error {
                ProduceError::Invalid(invalid) => invalid.to_string(),
                ProduceError::Redis(_) => error.to_string(),
            };
            self.rejected.push(Rejected { index, detail });
        }
    }
}
