//! `enqueue`: one job, or many from NDJSON.

use super::{Global, output};
use crate::config::Need;
use crate::queue::{Connection, Redis};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::{Lane, Message, Options, Outcome, ProduceError, Producer};
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
    let stopped = if let Some(from) = &arguments.ndjson {
        let stopped = enqueue_lines(&producer, source(from)?, &options, &mut summary).await?;
        stopped.map(|it| it.of_file(summary.accepted))
    } else {
        let data: serde_json::Value =
            serde_json::from_str(&payload(&arguments.data)?).context("--data is not JSON")?;
        let job = serde_json::json!({"kind": arguments.kind, "data": data});
        let message = Message::from_json(&serde_json::to_vec(&job)?, &options);
        let id = message.as_ref().map_or("", Message::id).to_owned();
        let message = message.map_err(ProduceError::Invalid);
        let stopped = send(&producer, vec![(0, message)], &mut summary).await;
        stopped.map(|it| it.of_one(&id))
    };
    report(global, &summary)?;
    if let Some(error) = stopped {
        return Err(error);
    }
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
) -> anyhow::Result<Option<Stopped>> {
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
            let stopped = send(producer, std::mem::take(&mut chunk), summary).await;
            if stopped.is_some() {
                progress.finish_and_clear();
                return Ok(stopped);
            }
        }
    }
    let stopped = send(producer, chunk, summary).await;
    progress.finish_and_clear();
    Ok(stopped)
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} jobs, {per_sec}")
        .expect("the template is constant");
    ProgressBar::new_spinner().with_style(style)
}

/// Enqueues a chunk and counts what became of every job of it, also behind one that Redis did not take.
async fn send(
    producer: &Producer<Connection>,
    chunk: Vec<(u64, Result<Message, ProduceError>)>,
    summary: &mut Summary,
) -> Option<Stopped> {
    let mut messages = Vec::with_capacity(chunk.len());
    let mut sent = Vec::with_capacity(chunk.len());
    for (index, message) in chunk {
        match message {
            Ok(message) => {
                sent.push((index, message.is_claimed()));
                messages.push(message);
            }
            Err(error) => summary.reject(index, &error),
        }
    }
    let mut stopped: Option<Stopped> = None;
    let answers = producer.enqueue_many(messages).await;
    for ((index, is_claimed), enqueued) in sent.into_iter().zip(answers) {
        if let (None, Err(error)) = (&stopped, &enqueued) {
            stopped = Some(Stopped::at(index, error.clone()));
        }
        if let Some(stopped) = &mut stopped {
            stopped.last = index;
            let may_be_there = enqueued
                .as_ref()
                .map_or_else(ProduceError::may_be_written, |_| true);
            stopped.repeatable += u64::from(may_be_there && !is_claimed);
            stopped.claimed += u64::from(may_be_there && is_claimed);
        }
        match enqueued.map(|receipt| receipt.outcome) {
            Ok(Outcome::Accepted) => summary.accepted += 1,
            Ok(Outcome::Duplicate) => summary.duplicates += 1,
            Err(_) => {}
        }
    }
    stopped
}

/// Where Redis stopped taking jobs, and what is known about the rest of that chunk.
#[derive(Debug)]
struct Stopped {
    first: u64,
    last: u64,
    /// Jobs from there on that are or may be on their queues, and that a repeat would put there again.
    repeatable: u64,
    /// Jobs from there on that are or may be on their queues, and whose repeat is a duplicate.
    claimed: u64,
    error: ProduceError,
}

impl Stopped {
    fn at(index: u64, error: ProduceError) -> Self {
        Self {
            first: index,
            last: index,
            repeatable: 0,
            claimed: 0,
            error,
        }
    }

    /// Says how to go on with a file.
    fn of_file(self, accepted: u64) -> anyhow::Error {
        let (first, last) = (self.first + 1, self.last + 1);
        let duplicates = match self.claimed {
            0 => "",
            _ => ", what was accepted behind it counts among the duplicates",
        };
        let twice = match self.repeatable {
            0 => String::new(),
            jobs => format!(
                ", but {jobs} of the lines {first} to {last} are or may be on their queues and would be there twice, \
                 because no id of theirs is claimed (`id` and --unique-for)"
            ),
        };
        let text = format!(
            "stopped at line {first}, {accepted} accepted; go on from line {first}{duplicates}{twice}"
        );
        anyhow::Error::new(self.error).context(text)
    }

    /// Says how to go on with a single job.
    fn of_one(self, id: &str) -> anyhow::Error {
        let text = if self.claimed > 0 {
            "enqueue it again with the same --id; if it is on its queue already, that is a duplicate".to_owned()
        } else if self.repeatable > 0 {
            format!(
                "it may be on its queue already; look with `klaviyod job explain {id}` before you enqueue it again"
            )
        } else {
            "nothing was enqueued".to_owned()
        };
        anyhow::Error::new(self.error).context(text)
    }
}

impl Summary {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(repeatable: u64, claimed: u64) -> Stopped {
        let lost = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        Stopped {
            last: 9,
            repeatable,
            claimed,
            ..Stopped::at(2, ProduceError::Redis(lost.into()))
        }
    }

    #[test]
    fn duplicates_are_promised_only_where_ids_are_claimed() {
        let text = stopped(0, 8).of_file(2).to_string();
        assert!(
            text.contains("line 3, 2 accepted") && text.contains("duplicates"),
            "{text}"
        );
        let text = stopped(8, 0).of_file(2).to_string();
        assert!(
            text.contains("8 of the lines 3 to 10") && !text.contains("duplicates"),
            "{text}"
        );
        assert!(
            stopped(0, 1)
                .of_one("o-1")
                .to_string()
                .contains("duplicate")
        );
        assert!(
            stopped(1, 0)
                .of_one("o-1")
                .to_string()
                .contains("job explain o-1")
        );
    }
}
