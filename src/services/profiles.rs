//! Profiles: upserts of one identity merged, single or in bulk, and imports followed to their end.
//!
//! "Accepted" is not "applied": Klaviyo refuses single rows of an import after its 202. So a follow-up job with the
//! accepted envelopes is put on Redis *before* the lot is settled; a crash between the two repeats a harmless upsert.

use super::bulk::{Rows, Way, deliver, deliver_singly, permit, way};
use super::outcome::{Failure, Outcome};
use super::received::Received;
use super::refused::Refused;
use super::rows::Ledger;
use crate::klaviyo::{
    Client, Error, Operation, Permit, ProfileDocument, Recovery, bulk_profiles_document,
    row_of_pointer,
};
use crate::queue::{LateDeath, Lot, Outbox, QueuedJob, Reason};
use crate::services::follow_up::{FollowImport, FollowUp};
use crate::services::merge::MergedProfile;
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Identity, Job, UpsertProfile, decode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Klaviyo takes no more profiles in one call.
const PROFILES_MAX: usize = 10_000;
/// Payload bytes of one call.
const BYTES_MAX: usize = 4_000_000;
/// How long an import may stay unfinished: Klaviyo forgets it then.
const FOLLOW_MAX: Duration = Duration::from_hours(7 * 24);
const POLL_MAX: Duration = Duration::from_mins(10);
/// How long a follow-up waits for a Redis that did not take its dead letters.
const BURIAL_PAUSE: Duration = Duration::from_secs(5);

/// The service of profiles.
#[derive(Debug)]
pub struct Profiles {
    client: Arc<Client>,
    outbox: Outbox,
    poll_first: Duration,
}

impl Profiles {
    /// Creates the service; imports are looked at after `poll_first`, then ever more rarely.
    pub fn new(client: Arc<Client>, outbox: Outbox, poll_first: Duration) -> Self {
        Self {
            client,
            outbox,
            poll_first,
        }
    }

    /// Delivers a lot of `profile.upsert`.
    pub async fn upsert(&self, lot: &Lot) -> Vec<Outcome> {
        let way = way(
            &self.client,
            lot,
            Operation::BulkImportProfiles,
            Operation::CreateOrUpdateProfile,
        )
        .await;
        let now = Timestamp::now();
        let queued = match &way {
            Way::Bulk(_) => {
                lot.fill(PROFILES_MAX).await;
                lot.seal(PROFILES_MAX, BYTES_MAX).await
            }
            Way::Single(_) => lot.seal(1, BYTES_MAX).await,
        };
        let mut ledger = Ledger::new(queued.len());
        let mut received = Vec::with_capacity(queued.len());
        for (index, job) in queued.iter().enumerate() {
            match Received::<UpsertProfile>::decode(job, lot.queue(), now) {
                Ok(it) => received.push((index, it)),
                Err(outcome) => ledger.job(index, outcome),
            }
        }
        let rows = merge(received, &mut ledger);
        if rows.is_empty() {
            return ledger.close();
        }
        let jobs_of_row = (0..rows.len())
            .map(|row| ledger.jobs(row).to_vec())
            .collect();
        let batch = Batch {
            profiles: self,
            rows,
            jobs_of_row,
            queued,
        };
        let (client, end_by) = (&self.client, lot.end_by());
        let all: Vec<usize> = (0..batch.rows.len()).collect();
        match way {
            Way::Bulk(granted) => {
                deliver(client, &batch, vec![all], granted, end_by, &mut ledger).await;
            }
            Way::Single(granted) => {
                deliver_singly(client, &batch, &all, Some(granted), end_by, &mut ledger).await;
            }
        }
        ledger.close()
    }

    /// Looks how far an import is; buries the rows that Klaviyo refused.
    pub async fn follow_import(&self, lot: &Lot) -> Vec<Outcome> {
        let granted = permit(&self.client, Operation::GetBulkImportProfilesJob).await;
        let mut outcomes = Vec::new();
        let mut granted = Some(granted);
        for queued in lot.seal(1, BYTES_MAX).await {
            let granted = granted.take().expect("a sealed lot of one has one job");
            let outcome = self.follow(queued, granted, lot.queue(), lot.end_by());
            outcomes.push(outcome.await);
        }
        outcomes
    }

    /// Looks at an import, more and more rarely; a look that failed is no attempt while Klaviyo may still answer.
    async fn follow(
        &self,
        queued: &QueuedJob,
        granted: Permit,
        queue: &str,
        end_by: Instant,
    ) -> Outcome {
        let outcome = self.look(queued, granted, queue, end_by).await;
        let may_work_later = matches!(
            &outcome,
            Outcome::Failed(failure) if failure.recovery == Recovery::Retry
        );
        if may_work_later {
            self.next_look(queued).unwrap_or(outcome)
        } else {
            outcome
        }
    }

    /// Says when to look again; never once Klaviyo has forgotten the import.
    fn next_look(&self, queued: &QueuedJob) -> Option<Outcome> {
        let age = Timestamp::now()
            .duration_since(queued.sid.time())
            .unsigned_abs();
        let pause = age.clamp(self.poll_first.min(POLL_MAX), POLL_MAX);
        (age <= FOLLOW_MAX).then_some(Outcome::Later(pause))
    }

    async fn look(
        &self,
        queued: &QueuedJob,
        granted: Permit,
        queue: &str,
        end_by: Instant,
    ) -> Outcome {
        let follow_up = match FollowUp::parse(&queued.payload) {
            Ok(follow_up) => follow_up,
            Err(invalid) => return Outcome::Invalid(invalid),
        };
        let job = match self
            .client
            .get_bulk_import_profiles_job(granted, &follow_up.import_id)
            .await
        {
            Ok(job) => job,
            Err(error) => return Outcome::Failed(Failure::of(&error)),
        };
        if !matches!(job.status.as_str(), "complete" | "cancelled") {
            let unfinished = || Outcome::Failed(unfinished(&follow_up.import_id));
            return self.next_look(queued).unwrap_or_else(unfinished);
        }
        let buried = match job.status.as_str() {
            "cancelled" => self.bury_cancelled(&follow_up, queue).await,
            _ if job.failed_count == 0 => Ok(()),
            _ => self.bury_refused(&follow_up, queued, queue, end_by).await,
        };
        match buried {
            Ok(()) => Outcome::Accepted,
            Err(outcome) => outcome,
        }
    }

    /// Nobody knows which rows of a cancelled import were applied, so all of them are shown to an operator.
    async fn bury_cancelled(&self, follow_up: &FollowUp, queue: &str) -> Result<(), Outcome> {
        let reason = Reason {
            code: "klaviyo.import_cancelled",
            status: None,
            detail: "Klaviyo cancelled the import; replay the job unless something newer was sent for this profile"
                .into(),
            pointer: None,
        };
        let rows = 0..follow_up.rows.len();
        let deaths = rows.flat_map(|row| deaths(follow_up, row, &reason));
        self.bury(follow_up, queue, deaths.collect()).await
    }

    async fn bury_refused(
        &self,
        follow_up: &FollowUp,
        queued: &QueuedJob,
        queue: &str,
        end_by: Instant,
    ) -> Result<(), Outcome> {
        let refused = Refused::read(&self.client, follow_up, end_by).await?;
        let rows = refused.rows.iter();
        let mut deaths: Vec<LateDeath<'_>> = rows
            .flat_map(|(row, reason)| deaths(follow_up, *row, reason))
            .collect();
        // What matches no row shows itself in a follow-up of the rows that are left: they may have been meant.
        let (rest, lane, sid);
        let unclear = refused.unclear().map(|it| Reason::from(&it));
        if let Some(reason) = &unclear {
            rest = follow_up.json_without(|row| refused.rows.contains_key(&row));
            (lane, sid) = (queued.lane_text(), queued.sid.to_string());
            let replays = queued.replayed.map_or(0, |it| it.times as usize);
            deaths.push(LateDeath {
                kind: FollowImport::KIND,
                // Whoever replays it and gets the same answer must find it in the dead letters again.
                number: follow_up.rows.len() + replays,
                lane: &lane,
                sid: &sid,
                claim: None,
                job: &rest,
                reason,
            });
        }
        self.bury(follow_up, queue, deaths).await
    }

    async fn bury(
        &self,
        follow_up: &FollowUp,
        queue: &str,
        deaths: Vec<LateDeath<'_>>,
    ) -> Result<(), Outcome> {
        let buried = self.outbox.bury(queue, &follow_up.import_id, &deaths);
        buried.await.map_err(|_| Outcome::Later(BURIAL_PAUSE))
    }
}

/// The jobs of a row, which all die of the same.
fn deaths<'f>(
    follow_up: &'f FollowUp,
    row: usize,
    reason: &'f Reason,
) -> impl Iterator<Item = LateDeath<'f>> {
    let jobs = follow_up.rows[row].jobs.iter();
    jobs.map(move |(origin, payload)| {
        let (sid, lane) = origin.parts();
        LateDeath {
            kind: UpsertProfile::KIND,
            number: row,
            lane,
            sid,
            claim: claim(payload.get()),
            job: payload.get(),
            reason,
        }
    })
}

/// Returns what the job may have claimed; it was settled since, and its claim is no longer with it.
fn claim(payload: &str) -> Option<String> {
    let envelope = Envelope::parse(payload.as_bytes()).ok()?;
    let upsert: UpsertProfile = decode(envelope.data).ok()?;
    Some(upsert.claim(&envelope.id?))
}

/// Merges the upserts of one identity field by field, the later `at` winning.
fn merge(
    mut received: Vec<(usize, Received<UpsertProfile>)>,
    ledger: &mut Ledger,
) -> Vec<MergedProfile> {
    received.sort_by_key(|(_, it)| it.at);
    let mut rows: Vec<MergedProfile> = Vec::new();
    let mut row_of: HashMap<Identity<'_>, usize> = HashMap::with_capacity(received.len());
    for (job, it) in &received {
        if let Some(row) = row_of.get(&it.job.profile.identity()) {
            rows[*row].merge(&it.job);
            ledger.share_row(*row, *job);
        } else {
            row_of.insert(it.job.profile.identity(), ledger.add_row(*job));
            rows.push(MergedProfile::of(&it.job));
        }
    }
    rows
}

struct Batch<'a> {
    profiles: &'a Profiles,
    rows: Vec<MergedProfile>,
    jobs_of_row: Vec<Vec<usize>>,
    queued: &'a [QueuedJob],
}

impl Rows for Batch<'_> {
    const BULK: Operation = Operation::BulkImportProfiles;
    const SINGLE: Operation = Operation::CreateOrUpdateProfile;

    async fn send(&self, permit: Permit, rows: &[usize]) -> Result<(), Error> {
        let documents: Vec<ProfileDocument<'_>> =
            rows.iter().map(|row| self.rows[*row].document()).collect();
        let import = self
            .profiles
            .client
            .bulk_import_profiles(permit, bulk_profiles_document(&documents, None))
            .await?;
        let jobs_of = |row: &usize| {
            self.jobs_of_row[*row]
                .iter()
                .map(|job| &self.queued[*job])
                .collect()
        };
        let rows: Vec<Vec<&QueuedJob>> = rows.iter().map(jobs_of).collect();
        let follow_up = FollowUp::new(import.id, &rows).json();
        self.profiles
            .outbox
            .delay(
                UpsertProfile::QUEUE,
                follow_up.as_bytes(),
                self.profiles.poll_first,
            )
            .await;
        Ok(())
    }

    async fn send_one(&self, permit: Permit, row: usize) -> Result<(), Error> {
        self.profiles
            .client
            .create_or_update_profile(permit, &self.rows[row].document())
            .await
            .map(drop)
    }

    fn offenders(&self, rows: &[usize], pointer: &str) -> Vec<usize> {
        row_of_pointer(pointer)
            .and_then(|(row, _)| rows.get(row))
            .copied()
            .into_iter()
            .collect()
    }
}

fn unfinished(import_id: &str) -> Failure {
    Failure {
        recovery: Recovery::Never,
        code: "klaviyo.import_unfinished",
        status: None,
        detail: format!("Klaviyo has not ended the import {import_id} within 7 days").into(),
        pointer: None,
    }
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
