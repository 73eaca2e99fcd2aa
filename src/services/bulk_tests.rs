//! What becomes of rows when refusals do not end or time is short, with a clock that stands still.

use super::*;
use crate::klaviyo::memory::Memory;
use crate::klaviyo::{BudgetScale, LocalBudget, Settings};
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of which the even ones are bad: the first of a call is named, and the call refused.
#[derive(Default)]
struct EvenBad {
    bulk: AtomicUsize,
    single: AtomicUsize,
}

impl Rows for EvenBad {
    const BULK: Operation = Operation::BulkCreateEvents;
    const SINGLE: Operation = Operation::CreateEvent;

    async fn send(&self, _: Permit, rows: &[usize]) -> Result<(), Error> {
        self.bulk.fetch_add(1, Ordering::Relaxed);
        match rows.iter().find(|row| *row % 2 == 0) {
            Some(bad) => Err(refusal(*bad)),
            None => Ok(()),
        }
    }

    async fn send_one(&self, _: Permit, row: usize) -> Result<(), Error> {
        self.single.fetch_add(1, Ordering::Relaxed);
        if row.is_multiple_of(2) {
            Err(refusal(row))
        } else {
            Ok(())
        }
    }

    fn offenders(&self, _: &[usize], pointer: &str) -> Vec<usize> {
        pointer.parse().into_iter().collect()
    }
}

fn refusal(row: usize) -> Error {
    let detail = ErrorDetail {
        pointer: Some(row.to_string()),
        ..ErrorDetail::default()
    };
    let errors = vec![detail];
    Error::new(
        Operation::BulkCreateEvents,
        ErrorKind::Invalid {
            status: 400,
            errors,
        },
    )
}

/// Rows whose calls take a minute.
#[derive(Default)]
struct Slow {
    bulk: AtomicUsize,
    single: AtomicUsize,
}

impl Rows for Slow {
    const BULK: Operation = Operation::BulkCreateEvents;
    const SINGLE: Operation = Operation::CreateEvent;

    async fn send(&self, _: Permit, _: &[usize]) -> Result<(), Error> {
        self.bulk.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok(())
    }

    async fn send_one(&self, _: Permit, _: usize) -> Result<(), Error> {
        self.single.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok(())
    }

    fn offenders(&self, _: &[usize], _: &str) -> Vec<usize> {
        Vec::new()
    }
}

fn client() -> Client {
    let settings = Settings::new(
        "https://a.klaviyo.com".parse().unwrap(),
        SecretString::from("pk_test"),
    );
    let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
    Client::with_transport(settings, budget, Arc::new(Memory::new())).unwrap()
}

/// One row for each job, and one more for the first, sent last.
fn ledger(jobs: usize) -> Ledger {
    let mut ledger = Ledger::new(jobs);
    for job in (0..jobs).chain([0]) {
        ledger.add_row(job);
    }
    ledger
}

/// The first job has a row that was not sent, and is not delivered.
fn assert_ends_in_time(outcomes: &[Outcome]) {
    for (job, outcome) in outcomes.iter().enumerate() {
        let is_sent = (1..9).contains(&job);
        assert_eq!(matches!(outcome, Outcome::Accepted), is_sent, "{job}");
        assert_eq!(
            matches!(outcome, Outcome::Later(Duration::ZERO)),
            !is_sent,
            "{job}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_fit_before_the_deadline_go_later_and_the_others_keep_their_verdicts() {
    let (client, rows, mut ledger) = (client(), Slow::default(), ledger(20));
    let parts = (0..ledger.rows()).map(|row| vec![row]).collect();
    let end_by = Instant::now() + Duration::from_mins(9);
    let first = permit(&client, Slow::BULK).await;
    deliver(&client, &rows, parts, first, end_by, &mut ledger).await;
    assert_eq!(rows.bulk.into_inner(), 9);
    assert_ends_in_time(&ledger.close());
}

#[tokio::test(start_paused = true)]
async fn single_calls_that_do_not_fit_before_the_deadline_go_later() {
    let (client, rows, mut ledger) = (client(), Slow::default(), ledger(20));
    let all: Vec<usize> = (0..ledger.rows()).collect();
    let end_by = Instant::now() + Duration::from_mins(9);
    deliver_singly(&client, &rows, &all, None, end_by, &mut ledger).await;
    assert_eq!(rows.single.into_inner(), 9);
    assert_ends_in_time(&ledger.close());
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_refused_by_name_one_after_another_go_singly_in_the_end() {
    let (client, rows, mut ledger) = (client(), EvenBad::default(), Ledger::new(1_000));
    let all: Vec<usize> = (0..1_000).map(|job| ledger.add_row(job)).collect();
    let first = permit(&client, EvenBad::BULK).await;
    let end_by = Instant::now() + Duration::from_mins(9);
    deliver(&client, &rows, vec![all], first, end_by, &mut ledger).await;
    assert_eq!(rows.bulk.into_inner(), EXTRA_CALLS_MAX + 1);
    assert_eq!(rows.single.into_inner(), 1_000 - EXTRA_CALLS_MAX - 1);
    for (job, outcome) in ledger.close().iter().enumerate() {
        assert_eq!(matches!(outcome, Outcome::Accepted), job % 2 == 1, "{job}");
    }
}
