//! The rows of one lot and the jobs behind them.
//!
//! A job may make several rows (an order and its lines), several jobs may share one (repeats that were folded). A job
//! is delivered when all of its rows are.

use super::outcome::Outcome;

/// Which jobs stand behind which rows, and how each job fares.
#[derive(Debug)]
pub(crate) struct Ledger {
    outcomes: Vec<Option<Outcome>>,
    jobs_of_row: Vec<Vec<usize>>,
}

impl Ledger {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            outcomes: vec![None; jobs],
            jobs_of_row: Vec::new(),
        }
    }

    /// Adds a row for a job and returns its number.
    pub(crate) fn add_row(&mut self, job: usize) -> usize {
        self.jobs_of_row.push(vec![job]);
        self.jobs_of_row.len() - 1
    }

    /// Lets a job share a row that is there.
    pub(crate) fn share_row(&mut self, row: usize, job: usize) {
        if !self.jobs_of_row[row].contains(&job) {
            self.jobs_of_row[row].push(job);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.jobs_of_row.len()
    }

    /// Returns the jobs that share a row.
    pub(crate) fn jobs(&self, row: usize) -> &[usize] {
        &self.jobs_of_row[row]
    }

    /// Writes what became of one job.
    pub(crate) fn job(&mut self, job: usize, outcome: Outcome) {
        let seat = &mut self.outcomes[job];
        match seat {
            // Whatever went wrong with one row stands for the job.
            Some(
                Outcome::Expired | Outcome::Failed(_) | Outcome::Invalid(_) | Outcome::Later(_),
            ) => {}
            Some(Outcome::Accepted) | None => *seat = Some(outcome),
        }
    }

    /// Writes what became of a row.
    pub(crate) fn row(&mut self, row: usize, outcome: &Outcome) {
        for index in 0..self.jobs_of_row[row].len() {
            self.job(self.jobs_of_row[row][index], outcome.clone());
        }
    }

    /// Returns the outcome of each job, in order.
    pub(crate) fn close(self) -> Vec<Outcome> {
        let outcome =
            |outcome: Option<Outcome>| outcome.expect("every row of every job was decided");
        self.outcomes.into_iter().map(outcome).collect()
    }
}
