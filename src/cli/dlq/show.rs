//! `dlq show`: everything known about one dead job, and what to do.

use super::super::Global;
use super::editor::indented;
use super::output::{self, Output, harmless};
use crate::queue::{DeadJob, EntryId};
use crate::services::operations::{Operations, QueueName, remedies};
use serde::Serialize;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its entry, or its id; of several with one id the youngest is shown
    #[arg(value_name = "ENTRY|ID")]
    wanted: String,
    /// Only of this queue
    #[arg(long)]
    queue: Option<QueueName>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    job: DeadJob,
    meaning: Option<&'static str>,
    acts: Option<&'static str>,
    remedy: &'static str,
    doc: Option<String>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    let job = find(&mut operations, arguments).await?;
    let known = remedies::find(&job.code);
    let shown = Shown {
        meaning: known.map(|it| it.meaning),
        acts: known.map(|it| it.acts.as_str()),
        remedy: remedies::remedy(&job.code),
        doc: known.map(remedies::Remedy::doc),
        job,
    };
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&shown)?,
        Output::Table => lines(&shown)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(operations: &mut Operations, arguments: &Arguments) -> anyhow::Result<DeadJob> {
    let Arguments { wanted, queue } = arguments;
    if let Some(entry) = EntryId::parse(wanted) {
        return Ok(operations.dead_job(*queue, entry).await?);
    }
    match operations.dead_job_by_id(*queue, wanted).await? {
        Some((job, count)) => {
            if count > 1 {
                output::complain(&format!(
                    "{count} dead jobs have this id, this is the youngest; `klaviyod dlq list --match` shows all"
                ));
            }
            Ok(job)
        }
        None => anyhow::bail!("no dead job has this entry or id; see `klaviyod dlq list`"),
    }
}

fn lines(shown: &Shown) -> anyhow::Result<()> {
    let job = &shown.job;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let replays = match job.replayed_at {
        Some(at) => format!("{}, last {at:.0}", job.replays),
        None => "never".to_owned(),
    };
    for (name, value) in [
        ("entry", job.entry.to_string()),
        ("account", job.account.clone()),
        ("queue", job.queue.clone()),
        ("lane", job.lane.clone()),
        ("kind", or_dash(job.kind.clone())),
        ("id", job.id.clone()),
        ("enqueued", format!("{:.3}", job.enqueued_at)),
        ("died", format!("{:.3}", job.died_at)),
        ("attempts", job.attempts.to_string()),
        ("replayed", replays),
        ("code", job.code.clone()),
        ("meaning", or_dash(shown.meaning.map(str::to_owned))),
        (
            "status",
            or_dash(job.status.map(|status| status.to_string())),
        ),
        ("detail", job.detail.clone()),
        ("pointer", or_dash(job.pointer.clone())),
        ("acts", or_dash(shown.acts.map(str::to_owned))),
        ("remedy", shown.remedy.to_owned()),
        ("more", or_dash(shown.doc.clone())),
    ] {
        output::line(&format!("{name:<9} {}", harmless(&value)))?;
    }
    output::line("")?;
    let payload = match job.job.json() {
        Some(json) => indented(json.get()),
        None => harmless(&String::from_utf8_lossy(job.job.as_bytes())),
    };
    output::line(&payload)
}
