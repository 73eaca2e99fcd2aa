//! Events: single or in bulk, repeats folded, one bad row harming only itself.
//!
//! Klaviyo fills a missing `unique_id` with the second of the event, so two orders of one second would become one: the
//! job's own `id` is always sent. Rows that repeat (profile, metric, `unique_id`) are folded before sending, because
//! Klaviyo may refuse a whole call for one repeat.

use super::bulk::{Rows, SINGLY_MAX, Way, deliver, deliver_singly, way};
use super::outcome::Outcome;
use super::received::Received;
use super::rows::Ledger;
use crate::klaviyo::{
    BulkEvents, Client, Error, Event, EventGroup, Identifiers, Operation, Permit,
    bulk_events_document, row_of_pointer,
};
use crate::queue::Lot;
use jiff::Timestamp;
use klaviyo_jobs::{Amount, Identity, Job, PlaceOrder, ProfileRef, TrackEvent};
use std::collections::HashMap;
use std::sync::Arc;

/// Klaviyo takes no more events in one call.
const EVENTS_MAX: usize = 1_000;
/// Payload bytes of one call: with what surrounds each event it stays below Klaviyo's 5 MB.
const BYTES_MAX: usize = 4_000_000;
/// Orders of one lot; each becomes several events.
const ORDERS_MAX: usize = 250;

/// The service of events.
#[derive(Debug)]
pub struct Events {
    client: Arc<Client>,
}

impl Events {
    /// Creates the service.
    pub fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// Delivers a lot of `event.track`.
    pub async fn track(&self, lot: &Lot) -> Vec<Outcome> {
        self.deliver(lot, EVENTS_MAX, |received: Received<TrackEvent>| {
            vec![Row::of(received)]
        })
        .await
    }

    /// Delivers a lot of `order.placed`.
    pub async fn place_orders(&self, lot: &Lot) -> Vec<Outcome> {
        self.deliver(lot, ORDERS_MAX, |received: Received<PlaceOrder>| {
            let Received {
                job,
                id,
                at,
                backfill,
            } = received;
            let row = |event| {
                Row::of(Received {
                    job: event,
                    id: id.clone(),
                    at,
                    backfill,
                })
            };
            job.events(at).into_iter().map(row).collect()
        })
        .await
    }

    async fn deliver<J: Job>(
        &self,
        lot: &Lot,
        jobs_max: usize,
        rows_of: impl Fn(Received<J>) -> Vec<Row>,
    ) -> Vec<Outcome> {
        let way = way(
            &self.client,
            lot,
            Operation::BulkCreateEvents,
            Operation::CreateEvent,
        )
        .await;
        let now = Timestamp::now();
        let queued = match &way {
            Way::Bulk(_) => {
                lot.fill(jobs_max).await;
                lot.seal(jobs_max, BYTES_MAX).await
            }
            Way::Single(_) => lot.seal(1, BYTES_MAX).await,
        };
        let mut ledger = Ledger::new(queued.len());
        let mut rows = Vec::with_capacity(queued.len());
        for (index, job) in queued.iter().enumerate() {
            match Received::decode(job, lot.queue(), now) {
                Ok(received) => rows.extend(rows_of(received).into_iter().map(|row| (index, row))),
                Err(outcome) => ledger.job(index, outcome),
            }
        }
        let batch = Batch {
            client: &self.client,
            rows: fold(rows, &mut ledger),
        };
        if batch.rows.is_empty() {
            return ledger.close();
        }
        let (client, end_by) = (&self.client, lot.end_by());
        let (bulk, single) = match way {
            Way::Bulk(granted) => (Some(granted), None),
            Way::Single(granted) if batch.rows.len() <= SINGLY_MAX => (None, Some(granted)),
            // One order may have thousands of lines; they go singly only if nothing may go in bulk.
            Way::Single(granted) => {
                drop(granted);
                let bulk = client.permit(Operation::BulkCreateEvents, end_by);
                (bulk.await.ok(), None)
            }
        };
        if let Some(granted) = bulk {
            deliver(client, &batch, batch.parts(), granted, end_by, &mut ledger).await;
        } else {
            let all: Vec<usize> = (0..ledger.rows()).collect();
            deliver_singly(client, &batch, &all, single, end_by, &mut ledger).await;
        }
        ledger.close()
    }
}

/// One event to send, with everything Klaviyo would otherwise make up.
#[derive(Debug)]
struct Row {
    event: TrackEvent,
    unique_id: String,
    time: Timestamp,
    backfill: bool,
}

impl Row {
    fn of(received: Received<TrackEvent>) -> Self {
        let Received {
            job,
            id,
            at,
            backfill,
        } = received;
        Self {
            unique_id: job
                .unique_id
                .as_ref()
                .map_or(id, |unique_id| unique_id.as_str().to_owned()),
            time: job.time.unwrap_or(at),
            backfill: backfill.of(job.backfill),
            event: job,
        }
    }

    fn document(&self) -> Event<'_> {
        Event {
            metric: self.event.metric.as_str(),
            profile: identifiers(&self.event.profile),
            properties: self
                .event
                .properties
                .as_ref()
                .map(klaviyo_jobs::Properties::as_raw),
            time: self.time,
            value: self.event.value.as_ref().map(Amount::as_raw),
            value_currency: self
                .event
                .value_currency
                .as_ref()
                .map(klaviyo_jobs::Currency::as_str),
            unique_id: &self.unique_id,
            backfill: self.backfill,
        }
    }
}

/// Keeps the first of each (profile, metric, `unique_id`); the jobs of the others share its row.
fn fold(rows: Vec<(usize, Row)>, ledger: &mut Ledger) -> Vec<Row> {
    let mut seen: HashMap<(Identity<'_>, &str, &str), usize> = HashMap::with_capacity(rows.len());
    let mut is_first = Vec::with_capacity(rows.len());
    for (job, row) in &rows {
        let key = (
            row.event.profile.identity(),
            row.event.metric.as_str(),
            row.unique_id.as_str(),
        );
        is_first.push(if let Some(first) = seen.get(&key) {
            ledger.share_row(*first, *job);
            false
        } else {
            seen.insert(key, ledger.add_row(*job));
            true
        });
    }
    drop(seen);
    rows.into_iter()
        .zip(is_first)
        .filter(|(_, first)| *first)
        .map(|((_, row), _)| row)
        .collect()
}

/// The events of one lot.
struct Batch<'a> {
    client: &'a Client,
    rows: Vec<Row>,
}

impl Batch<'_> {
    /// Splits the rows into calls. Most lots are one.
    fn parts(&self) -> Vec<Vec<usize>> {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for (index, row) in self.rows.iter().enumerate() {
            let size = row
                .event
                .properties
                .as_ref()
                .map_or(0, |it| it.as_str().len())
                + 256;
            let part = parts.last_mut().expect("there is always one");
            if part.len() == EVENTS_MAX || (!part.is_empty() && bytes + size > BYTES_MAX) {
                parts.push(vec![index]);
                bytes = size;
            } else {
                part.push(index);
                bytes += size;
            }
        }
        parts
    }

    /// Groups rows by profile, as the bulk document wants them: the rows of each group, in order of appearance.
    fn groups(&self, rows: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut group_of: HashMap<(Identifiers<'_>, bool), usize> =
            HashMap::with_capacity(rows.len());
        for row in rows {
            let key = (
                identifiers(&self.rows[*row].event.profile),
                self.rows[*row].backfill,
            );
            let group = *group_of.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(*row);
        }
        groups
    }

    fn document(&self, rows: &[usize]) -> BulkEvents {
        let groups: Vec<EventGroup<'_>> = self
            .groups(rows)
            .iter()
            .map(|group| EventGroup {
                profile: identifiers(&self.rows[group[0]].event.profile),
                backfill: self.rows[group[0]].backfill,
                events: group.iter().map(|row| self.rows[*row].document()).collect(),
            })
            .collect();
        bulk_events_document(&groups)
    }
}

impl Rows for Batch<'_> {
    const BULK: Operation = Operation::BulkCreateEvents;
    const SINGLE: Operation = Operation::CreateEvent;

    async fn send(&self, permit: Permit, rows: &[usize]) -> Result<(), Error> {
        self.client
            .bulk_create_events(permit, self.document(rows))
            .await
    }

    async fn send_one(&self, permit: Permit, row: usize) -> Result<(), Error> {
        self.client
            .create_event(permit, &self.rows[row].document())
            .await
    }

    fn offenders(&self, rows: &[usize], pointer: &str) -> Vec<usize> {
        let Some((group, event)) = row_of_pointer(pointer) else {
            return Vec::new();
        };
        let groups = self.groups(rows);
        let Some(group) = groups.get(group) else {
            return Vec::new();
        };
        match event {
            Some(event) => group.get(event).copied().into_iter().collect(),
            // The profile itself is wrong, and with it everything it did.
            None => group.clone(),
        }
    }
}

fn identifiers(profile: &ProfileRef) -> Identifiers<'_> {
    Identifiers {
        id: profile.id.as_deref(),
        email: profile.email.as_ref().map(klaviyo_jobs::Email::as_str),
        phone_number: profile
            .phone_number
            .as_ref()
            .map(klaviyo_jobs::Phone::as_str),
        external_id: profile
            .external_id
            .as_ref()
            .map(klaviyo_jobs::ExternalId::as_str),
        anonymous_id: profile.anonymous_id.as_deref(),
    }
}
