//! Sends rows in bulk so that one bad row harms only itself.
//!
//! A refusal with a pointer names the offender: it is taken out and the rest leaves again at once. Without one the rows
//! are halved. After [`EXTRA_CALLS_MAX`] refusals what is left goes singly. What is left when the lot has to end goes
//! later.

use super::outcome::{Failure, Outcome};
use super::rows::Ledger;
use crate::klaviyo::{Client, Error, ErrorDetail, ErrorKind, Operation, Permit};
use crate::queue::Lot;
use futures::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Calls beyond the first that one lot may cost.
const EXTRA_CALLS_MAX: usize = 25;
/// Up to this many waiting jobs go singly.
pub(crate) const SINGLY_MAX: usize = 10;
/// How long they wait for that before a bulk call is as good. A budget that is shared takes a moment to answer.
const SINGLY_WAIT: Duration = Duration::from_millis(100);
/// How long one wait for a permit lasts before the state of things is looked at again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest pause after a refusal by a gate.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Rows that can be sent together or one by one.
pub(crate) trait Rows {
    const BULK: Operation;
    const SINGLE: Operation;
    /// Sends the chosen rows in one call.
    async fn send(&self, permit: Permit, rows: &[usize]) -> Result<(), Error>;
    /// Sends one row alone.
    async fn send_one(&self, permit: Permit, row: usize) -> Result<(), Error>;
    /// Finds which of the chosen rows a pointer speaks about.
    fn offenders(&self, rows: &[usize], pointer: &str) -> Vec<usize>;
}

/// How a lot leaves.
pub(crate) enum Way {
    Bulk(Permit),
    Single(Permit),
}

/// Waits until the lot may leave: singly while little waits, else with whichever budget is free first.
pub(crate) async fn way(client: &Client, lot: &Lot, bulk: Operation, single: Operation) -> Way {
    loop {
        let deadline = Instant::now() + PATIENCE;
        // A first read brings few of many.
        lot.fill(SINGLY_MAX + 1).await;
        if lot.waiting() <= SINGLY_MAX
            && let Ok(permit) = client.permit(single, Instant::now() + SINGLY_WAIT).await
        {
            return Way::Single(permit);
        }
        match either(client, bulk, single, deadline).await {
            Ok(way) => return way,
            Err(error) => pause(&error).await,
        }
    }
}

/// Takes whichever permit comes first; while one operation is refused the other still counts.
async fn either(
    client: &Client,
    bulk: Operation,
    single: Operation,
    deadline: Instant,
) -> Result<Way, Error> {
    // Both may be cancelled: a permit that is dropped gives back what it took.
    let in_bulk = pin!(client.permit(bulk, deadline));
    let singly = pin!(client.permit(single, deadline));
    match select(in_bulk, singly).await {
        Either::Left((Ok(permit), _)) => Ok(Way::Bulk(permit)),
        Either::Right((Ok(permit), _)) => Ok(Way::Single(permit)),
        Either::Left((Err(refused), singly)) => singly
            .await
            .map(Way::Single)
            .map_err(|other| sooner(refused, other)),
        Either::Right((Err(refused), in_bulk)) => in_bulk
            .await
            .map(Way::Bulk)
            .map_err(|other| sooner(refused, other)),
    }
}

fn sooner(one: Error, other: Error) -> Error {
    if until(&one) <= until(&other) {
        one
    } else {
        other
    }
}

/// Waits for a permit as long as it takes. The jobs stay leased meanwhile, and nothing more is read than fits.
pub(crate) async fn permit(client: &Client, operation: Operation) -> Permit {
    loop {
        match client.permit(operation, Instant::now() + PATIENCE).await {
            Ok(permit) => return permit,
            Err(error) => pause(&error).await,
        }
    }
}

/// Waits for a permit until the lot has to end.
pub(crate) async fn permit_by(
    client: &Client,
    operation: Operation,
    end_by: Instant,
) -> Option<Permit> {
    if Instant::now() >= end_by {
        return None;
    }
    timeout_at(end_by, permit(client, operation)).await.ok()
}

async fn pause(error: &Error) {
    let now = Instant::now();
    sleep_until(until(error).clamp(now + PAUSE_MIN, now + PATIENCE)).await;
}

fn until(error: &Error) -> Instant {
    match error.kind() {
        ErrorKind::BreakerOpen { until }
        | ErrorKind::BudgetSpent { until, .. }
        | ErrorKind::GateClosed { until, .. } => *until,
        _ => Instant::now(),
    }
}

/// Sends all rows, writing what becomes of each into the ledger.
pub(crate) async fn deliver<R: Rows>(
    client: &Client,
    rows: &R,
    parts: Vec<Vec<usize>>,
    first: Permit,
    end_by: Instant,
    ledger: &mut Ledger,
) {
    let mut parts = parts;
    parts.reverse();
    let mut first = Some(first);
    let mut extra_calls = 0;
    while let Some(mut part) = parts.pop() {
        let granted = match first.take() {
            Some(granted) => Some(granted),
            None => permit_by(client, R::BULK, end_by).await,
        };
        let Some(granted) = granted else {
            for row in &part {
                ledger.row(*row, &Outcome::Later(Duration::ZERO));
            }
            continue;
        };
        let Err(error) = rows.send(granted, &part).await else {
            for row in &part {
                ledger.row(*row, &Outcome::Accepted);
            }
            continue;
        };
        if !matches!(
            error.kind(),
            ErrorKind::Invalid { .. }
                | ErrorKind::TooLarge
                | ErrorKind::Conflict { .. }
                | ErrorKind::NotFound { .. }
        ) {
            let failed = Outcome::Failed(Failure::of(&error));
            for row in &part {
                ledger.row(*row, &failed);
            }
            continue;
        }
        let offenders = offenders(rows, &part, error.details());
        extra_calls += 1;
        for (row, detail) in &offenders {
            let failure = Failure::with_detail(&error, Some(*detail));
            ledger.row(*row, &Outcome::Failed(failure));
        }
        part.retain(|row| !offenders.iter().any(|(offender, _)| offender == row));
        if part.is_empty() {
            continue;
        }
        if part.len() == 1 && offenders.is_empty() {
            ledger.row(part[0], &Outcome::Failed(Failure::of(&error)));
        } else if extra_calls > EXTRA_CALLS_MAX {
            deliver_singly(client, rows, &part, None, end_by, ledger).await;
        } else if offenders.is_empty() {
            let second = part.split_off(part.len() / 2);
            parts.push(second);
            parts.push(part);
        } else {
            parts.push(part);
        }
    }
}

/// Sends the chosen rows one after another.
pub(crate) async fn deliver_singly<R: Rows>(
    client: &Client,
    rows: &R,
    chosen: &[usize],
    first: Option<Permit>,
    end_by: Instant,
    ledger: &mut Ledger,
) {
    let mut first = first;
    for row in chosen {
        let granted = match first.take() {
            Some(granted) => Some(granted),
            None => permit_by(client, R::SINGLE, end_by).await,
        };
        let outcome = match granted {
            None => Outcome::Later(Duration::ZERO),
            Some(granted) => match rows.send_one(granted, *row).await {
                Ok(()) => Outcome::Accepted,
                Err(error) => Outcome::Failed(Failure::of(&error)),
            },
        };
        ledger.row(*row, &outcome);
    }
}

fn offenders<'e, R: Rows>(
    rows: &R,
    part: &[usize],
    details: &'e [ErrorDetail],
) -> Vec<(usize, &'e ErrorDetail)> {
    let mut found: Vec<(usize, &ErrorDetail)> = Vec::new();
    for detail in details {
        for row in detail
            .pointer
            .iter()
            .flat_map(|pointer| rows.offenders(part, pointer))
        {
            if !found.iter().any(|(known, _)| *known == row) {
                found.push((row, detail));
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "bulk_tests.rs"]
mod tests;
