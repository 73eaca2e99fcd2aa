//! Replay: dead jobs go back to the lane they came from.
//!
//! Nothing is raised from the dead only to die again: what has expired, what breaks a rule and what was replayed too
//! often stays, and the report says so. `id` and time never change, so Klaviyo records an event once however often it
//! is replayed. The surprising thing: a job on the wrong queue goes to the right one.

use super::super::Operations;
use super::super::remedies::INTERNAL_FROM_OUTSIDE;
use super::error::DeadError;
use super::select::DeadSelection;
use super::walk::{DeadWalk, Ends};
use crate::queue::{DeadJob, MoveBack, Retries, replay_dead};
use crate::services::FollowImport;
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::{Envelope, Job, PlaceOrder, TrackEvent, decode, kind};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A job that was replayed this often is not mended by another replay.
pub const REPLAYS_MAX: u32 = 10;
/// A flow that greets somebody for what happened longer ago than this does harm.
const FLOWS_AGE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Jobs per script call: Redis serves nobody else meanwhile.
const CHUNK: usize = 100;
/// With a rate, chunks are a tenth of a second.
const CHUNKS_PER_SECOND: u32 = 10;

/// Whether replayed events may start flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flows {
    /// Unless they happened more than a day ago.
    #[default]
    Auto,
    /// No event, whatever the job itself asks for.
    Never,
    /// As if they had not died: the job and its lane decide.
    Always,
}

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Only count.
    pub dry_run: bool,
    /// Jobs a second, at most.
    pub rate: Option<NonZeroU32>,
    /// Whether events may start flows.
    pub flows: Flows,
    /// Also what is older than its queue allows.
    pub include_too_old: bool,
    /// Also what was replayed [`REPLAYS_MAX`] times.
    pub include_often_replayed: bool,
    /// Of what this report counted, nothing else.
    pub counted: Option<ReplayReport>,
}

impl Replay {
    /// What the record of a replay says of how it was done.
    fn recorded(&self) -> Value {
        let flows = match self.flows {
            Flows::Auto => "auto",
            Flows::Never => "never",
            Flows::Always => "always",
        };
        json!({
            "flows": flows,
            "rate": self.rate,
            "include_too_old": self.include_too_old,
            "force": self.include_often_replayed,
        })
    }
}

/// What a replay did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Whether it only counted.
    pub dry_run: bool,
    /// How many were chosen; those that stay count towards no `limit`.
    pub selected: u64,
    /// How many of them can go back.
    pub eligible: u64,
    /// How many stay because their `expires_at` is over.
    pub expired: u64,
    /// How many stay because they are older than their queue allows.
    pub too_old: u64,
    /// How many stay because they were replayed [`REPLAYS_MAX`] times.
    pub replayed_too_often: u64,
    /// How many stay because they break a rule and would die at once.
    pub invalid: u64,
    /// How many of the eligible are told to start no flows.
    pub without_flows: u64,
    /// How many went back.
    pub replayed: u64,
    /// The last that were chosen.
    #[serde(skip)]
    last: Ends,
}

/// What becomes of one dead job in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Back {
        to: &'static str,
        without_flows: bool,
    },
    Expired,
    Invalid,
    OftenReplayed,
    TooOld,
}

impl Operations {
    /// Replays the chosen dead jobs, until `stop` is cancelled. Done so far is done, on record, and in the report.
    ///
    /// # Errors
    /// [`DeadError`].
    pub async fn replay(
        &mut self,
        selection: &DeadSelection,
        how: &Replay,
        stop: &CancellationToken,
    ) -> Result<ReplayReport, DeadError> {
        let mut report = ReplayReport {
            dry_run: how.dry_run,
            ..ReplayReport::default()
        };
        let (mut walk, limit) = (
            self.dead_walk(selection).await?.unlimited(),
            selection.limit(),
        );
        if let Some(counted) = &how.counted {
            walk = walk.until(counted.last.clone());
        }
        if how.dry_run {
            self.replay_pages(walk, limit, how, stop, &mut report)
                .await?;
            return Ok(report);
        }
        let (target, mut detail) = selection.recorded();
        detail["how"] = how.recorded();
        let begun = self.begin("dlq.replay", &target, detail).await?;
        let ended = self.replay_pages(walk, limit, how, stop, &mut report).await;
        let result = Some(("report", json!(report)));
        self.ended(begun, ended, stop, report.replayed, result)
            .await?;
        Ok(report)
    }

    async fn replay_pages(
        &mut self,
        mut walk: DeadWalk,
        limit: u64,
        how: &Replay,
        stop: &CancellationToken,
        report: &mut ReplayReport,
    ) -> Result<(), DeadError> {
        let mut pace = Pace::new(how.rate);
        while report.eligible < limit
            && let Some(page) = walk.next_page().await?
        {
            if stop.is_cancelled() {
                return Ok(());
            }
            for ((queue, to), jobs) in self.sort(&page, limit, how, report) {
                if how.dry_run {
                    continue;
                }
                for chunk in jobs.chunks(chunk_of(how.rate)) {
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    let begun = Instant::now();
                    let replayed =
                        replay_dead(&mut self.redis, &self.keys, queue, to, chunk).await?;
                    report.replayed += replayed;
                    pace.hold(begun, replayed, stop).await;
                }
            }
        }
        Ok(())
    }

    /// Counts a page until enough can go back, and returns what can from which queue to which.
    fn sort<'p>(
        &self,
        page: &'p [DeadJob],
        limit: u64,
        how: &Replay,
        report: &mut ReplayReport,
    ) -> BTreeMap<(&'p str, &'static str), Vec<MoveBack>> {
        let now = Timestamp::now();
        let mut back: BTreeMap<_, Vec<MoveBack>> = BTreeMap::new();
        let mut last = None;
        for job in page {
            if report.eligible == limit {
                break;
            }
            last = Some(job);
            report.selected += 1;
            match fate(job, how, self.retries(&job.queue), now) {
                Fate::Back { to, without_flows } => {
                    report.eligible += 1;
                    report.without_flows += u64::from(without_flows);
                    back.entry((job.queue.as_str(), to))
                        .or_default()
                        .push(MoveBack {
                            entry: job.entry,
                            without_flows,
                        });
                }
                Fate::Expired => report.expired += 1,
                Fate::Invalid => report.invalid += 1,
                Fate::OftenReplayed => report.replayed_too_often += 1,
                Fate::TooOld => report.too_old += 1,
            }
        }
        if let Some(job) = last {
            report.last.insert(job.queue.clone(), job.entry);
        }
        back
    }
}

fn fate(job: &DeadJob, how: &Replay, retries: Retries, now: Timestamp) -> Fate {
    let Ok(envelope) = Envelope::parse(job.job.as_bytes()) else {
        return Fate::Invalid;
    };
    let Some(to) = destination(job, &envelope, now) else {
        return Fate::Invalid;
    };
    if envelope.expires_at.is_some_and(|expires| expires <= now) {
        return Fate::Expired;
    }
    let age = Duration::try_from(now.duration_since(job.since())).unwrap_or_default();
    if age > retries.age_max && !how.include_too_old {
        return Fate::TooOld;
    }
    if job.replays >= REPLAYS_MAX && !how.include_often_replayed {
        return Fate::OftenReplayed;
    }
    let without_flows = match (how.flows, happened_at(job, &envelope)) {
        (Flows::Always, _) | (_, None) => false,
        (Flows::Never, Some(_)) => true,
        (Flows::Auto, Some(at)) => now.duration_since(at) > FLOWS_AGE_MAX,
    };
    Fate::Back { to, without_flows }
}

/// The queue where a job belongs; `None` if it would die at once.
fn destination(job: &DeadJob, envelope: &Envelope<'_>, now: Timestamp) -> Option<&'static str> {
    if envelope.kind == FollowImport::KIND {
        // A daemon wrote it, unless it was refused because somebody else did.
        return (job.code != INTERNAL_FROM_OUTSIDE).then_some(FollowImport::QUEUE);
    }
    let info = kind(&envelope.kind).ok()?;
    let envelope = Envelope {
        at: Some(envelope.at.unwrap_or_else(|| job.sid.time())),
        ..envelope.clone()
    };
    (info.check)(&envelope, now).ok().map(|_| info.queue)
}

/// When the event of a job happened; `None` if it is no event.
fn happened_at(job: &DeadJob, envelope: &Envelope<'_>) -> Option<Timestamp> {
    let enqueued = envelope.at.unwrap_or_else(|| job.sid.time());
    match &*envelope.kind {
        TrackEvent::KIND => {
            let event: TrackEvent = decode(envelope.data).ok()?;
            Some(event.time.unwrap_or(enqueued))
        }
        PlaceOrder::KIND => Some(enqueued),
        _ => None,
    }
}

fn chunk_of(rate: Option<NonZeroU32>) -> usize {
    rate.map_or(CHUNK, |rate| {
        let tenth = usize::try_from(rate.get() / CHUNKS_PER_SECOND).unwrap_or(CHUNK);
        tenth.clamp(1, CHUNK)
    })
}

/// Holds a replay back to its rate.
#[derive(Debug)]
struct Pace {
    rate: Option<NonZeroU32>,
    due: Instant,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        Self {
            rate,
            due: Instant::now(),
        }
    }

    /// Waits after so many jobs have left, beginning at `begun`, until the next may.
    async fn hold(&mut self, begun: Instant, jobs: u64, stop: &CancellationToken) {
        let Some(rate) = self.rate else { return };
        #[expect(clippy::cast_precision_loss, reason = "a wait need not be exact")]
        let takes = Duration::from_secs_f64(jobs as f64 / f64::from(rate.get()));
        // Time that was spent on something else, such as pages without a match, is no credit.
        self.due = self.due.max(begun) + takes;
        tokio::select! {
            () = sleep_until(self.due) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    #[tokio::test(start_paused = true)]
    async fn time_without_a_replay_is_no_credit() {
        let stop = CancellationToken::new();
        let mut pace = Pace::new(NonZeroU32::new(10));
        advance(Duration::from_mins(1)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            pace.hold(Instant::now(), 10, &stop).await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_replay_itself_takes_is_within_its_rate() {
        let stop = CancellationToken::new();
        let mut pace = Pace::new(NonZeroU32::new(10));
        let begun = Instant::now();
        for _ in 0..3 {
            let chunk_begun = Instant::now();
            sleep(Duration::from_millis(900)).await;
            pace.hold(chunk_begun, 10, &stop).await;
        }
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}
