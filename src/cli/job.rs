//! `job explain|cancel`.

use super::confirm::Confirmation;
use super::{Global, output};
use crate::services::operations::{CancelError, Explanation, JOBS_AHEAD_MAX, JobState, LocatedJob};
use crate::store::Attempt;
use clap::Subcommand;
use output::{Output, harmless};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print where a job is, what was tried, what happens next and why
    Explain {
        /// The job's id, a stream id, `<queue>/<stream id>` or `<queue>:<lane>/<stream id>`
        id: String,
        /// Show the job itself too, which may hold people's data
        #[arg(long)]
        payload: bool,
    },
    /// Take a waiting or delayed job off its queue
    Cancel {
        /// The job's id, a stream id, `<queue>/<stream id>` or `<queue>:<lane>/<stream id>`
        id: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut operations = global.operations().await?;
    let output = Output::or_fitting(global.output);
    match arguments.action {
        Action::Explain { id, payload } => {
            let explanation = operations.explain(&id, payload).await?;
            match output {
                Output::Json => output::json(&explanation)?,
                Output::Table => print(&explanation)?,
            }
            Ok(
                if explanation.found.is_empty() && explanation.attempts.is_empty() {
                    ExitCode::FAILURE
                } else {
                    ExitCode::SUCCESS
                },
            )
        }
        Action::Cancel { id, confirmation } => {
            let seen = operations.explain(&id, false).await?;
            if !seen.ambiguous.is_empty() {
                return Err(CancelError::Ambiguous(seen.ambiguous).into());
            }
            let waits = |it: &&LocatedJob| {
                matches!(it.state, JobState::Ready | JobState::Delayed) && !it.is_follow_up
            };
            let waiting = seen.found.iter().filter(waits).count();
            // The dead come last: behind one of them nothing waits.
            let ends_dead = seen
                .found
                .last()
                .is_some_and(|it| it.state == JobState::Dead);
            if waiting == 0 && (seen.more == 0 || ends_dead) {
                anyhow::bail!("nothing was cancelled: {}", why_not(&seen));
            }
            let more = match seen.more {
                0 => String::new(),
                more => format!(", and those that wait among {more} more"),
            };
            let question = format!("cancel {waiting} waiting or delayed job(s) of this id{more}");
            if !confirmation.given(&question)? {
                anyhow::bail!("nothing was cancelled");
            }
            let done = operations.cancel(&id).await?;
            match output {
                Output::Json => output::json(&done)?,
                Output::Table => {
                    output::line(&format!("cancelled {}", done.cancelled))?;
                    if done.in_flight > 0 {
                        output::line(&format!(
                            "{} in flight by now: what is being delivered cannot be cancelled",
                            done.in_flight
                        ))?;
                    }
                    if done.more > 0 {
                        output::line(&format!("and {} more; run it again for them", done.more))?;
                    }
                }
            }
            Ok(if done.cancelled == 0 {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

/// Why nothing can be cancelled, and what can be done instead.
fn why_not(seen: &Explanation) -> String {
    let Some(job) = seen.found.first() else {
        return match seen.delivered_at {
            Some(at) => format!("it was delivered at {at}"),
            None => not_found(seen),
        };
    };
    if job.is_follow_up {
        return "it is the follow-up of an import that Klaviyo has accepted: only through it is known what became of its jobs"
            .to_owned();
    }
    let entry = job.entry.as_deref().unwrap_or("-");
    match job.state {
        JobState::Dead => format!("it is dead already; `klaviyod dlq discard {entry}` deletes it"),
        _ => format!(
            "it is in flight, taken by {}; what is being delivered cannot be cancelled",
            job.consumer.as_deref().unwrap_or("a daemon")
        ),
    }
}

fn not_found(seen: &Explanation) -> String {
    let entries: usize = seen.searched.iter().map(|it| it.entries).sum();
    let places: Vec<&str> = seen.searched.iter().map(|it| it.place.as_str()).collect();
    let mut text = format!(
        "no job has this id in the account {}; {entries} entries were searched in {}",
        seen.account,
        places.join(", ")
    );
    if !seen.not_searched.is_empty() {
        text.push_str("; not searched: ");
        text.push_str(&seen.not_searched.join("; "));
    }
    text
}

fn print(seen: &Explanation) -> anyhow::Result<()> {
    if seen.found.is_empty() && seen.attempts.is_empty() {
        output::complain(&not_found(seen));
        return Ok(());
    }
    let fact = |name: &str, value: &str| output::line(&format!("{name:<10}  {}", harmless(value)));
    if seen.found.is_empty() {
        fact("job", &seen.id)?;
        match seen.delivered_at {
            Some(at) => fact("state", &format!("delivered at {at}"))?,
            None => fact("state", "not on a queue and not dead any more")?,
        }
    }
    for (number, job) in seen.found.iter().enumerate() {
        if number > 0 {
            output::line("")?;
        }
        for (name, value) in facts(job) {
            fact(name, &value)?;
        }
    }
    if seen.more > 0 {
        output::line(&format!("and {} more of this id", seen.more))?;
    }
    for attempt in &seen.attempts {
        fact("attempt", &told(attempt))?;
    }
    for rest in &seen.not_searched {
        fact("not seen", rest)?;
    }
    Ok(())
}

/// One attempt in one line.
fn told(attempt: &Attempt) -> String {
    let (number, at) = (attempt.attempt, attempt.ended_at);
    let mut parts = vec![format!("{number} at {at}: {}", attempt.outcome)];
    parts.extend(attempt.code.clone());
    parts.extend(attempt.status.map(|status| format!("status {status}")));
    parts.extend(
        attempt
            .pointer
            .as_ref()
            .map(|pointer| format!("at {pointer}")),
    );
    parts.join(", ")
}

/// What a person needs to know about one copy, line by line.
fn facts(job: &LocatedJob) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let mut facts = vec![
        ("job", text(&job.id)),
        ("kind", text(&job.kind)),
        ("state", state(job)),
        ("queue", format!("{}, lane {}", job.queue, job.lane)),
        ("entry", text(&job.entry)),
    ];
    if let Some(at) = job.enqueued_at {
        facts.push(("enqueued", at.to_string()));
    }
    facts.push(("attempts", job.attempts.to_string()));
    if let Some(code) = &job.code {
        facts.push(("code", code.clone()));
    }
    if let Some(detail) = &job.detail {
        facts.push(("detail", detail.clone()));
    }
    facts.push(("next", job.next.clone()));
    if let Some(payload) = &job.payload {
        facts.push(("payload", payload.to_string()));
    }
    facts
}

fn state(job: &LocatedJob) -> String {
    match job.state {
        JobState::Ready => match job.ahead {
            None => "ready".to_owned(),
            Some(JOBS_AHEAD_MAX) => {
                format!("ready, at least {JOBS_AHEAD_MAX} before it in its lane")
            }
            Some(ahead) => format!("ready, {ahead} before it in its lane"),
        },
        JobState::InFlight => format!(
            "in flight: {} holds it, lease renewed {} ms ago, taken {} time(s)",
            job.consumer.as_deref().unwrap_or("-"),
            job.renewed_ms.unwrap_or(0),
            job.times_taken.unwrap_or(0)
        ),
        JobState::Delayed => format!(
            "delayed until {}",
            job.due_at
                .map_or_else(|| "-".to_owned(), |at| at.to_string())
        ),
        JobState::Dead => format!(
            "dead since {}",
            job.died_at
                .map_or_else(|| "-".to_owned(), |at| at.to_string())
        ),
    }
}
