//! What a newcomer wants to know at the end of the demo: counted at the local Klaviyo, not by the daemon itself.

use super::day::{CUSTOMERS, Day};
use crate::app::App;
use crate::cli::output::{self, Output};
use crate::queue::DeadJob;
use klaviyo_simulator::Stats;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    jobs: usize,
    delivered: usize,
    dead: Vec<Dead>,
    events_expected: u64,
    events_arrived: u64,
    profiles_expected: u64,
    profiles_arrived: u64,
    lost: u64,
    calls: Vec<Calls>,
    rate_limited: u64,
    refused_while_down: u64,
    #[serde(skip)]
    dead_as_expected: bool,
}

#[derive(Debug, Serialize)]
struct Dead {
    id: String,
    code: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Calls {
    operation: &'static str,
    sent: u64,
    rows: u64,
    budget_a_minute: Option<u32>,
    share_of_minute_percent: f64,
}

impl Summary {
    pub(super) fn of(day: &Day, stats: &Stats, app: &App, dead: Vec<DeadJob>) -> Self {
        let client = app.clients().next().expect("the demo has one account");
        let calls = client
            .calls()
            .into_iter()
            .filter(|(_, counts)| counts.sent > 0)
            .map(|(operation, counts)| {
                let budget = client.budget(operation);
                let steady = budget.limits.map(|limits| limits.steady);
                let share = steady.map_or(0.0, |steady| {
                    100.0 * f64::from(budget.used_minute) / f64::from(steady)
                });
                Calls {
                    operation: operation.name(),
                    sent: counts.sent,
                    rows: stats
                        .operations
                        .get(operation.name())
                        .map_or(0, |it| it.rows),
                    budget_a_minute: steady,
                    share_of_minute_percent: (share * 10.0).round() / 10.0,
                }
            });
        let missing_events = day.events().saturating_sub(stats.distinct_events);
        let missing_profiles = CUSTOMERS.saturating_sub(stats.profiles);
        Self {
            jobs: day.jobs(),
            delivered: day.jobs().saturating_sub(dead.len()),
            dead_as_expected: dead.len() == day.broken(),
            events_expected: day.events(),
            events_arrived: stats.distinct_events,
            profiles_expected: CUSTOMERS,
            profiles_arrived: stats.profiles,
            lost: missing_events + missing_profiles,
            calls: calls.collect(),
            rate_limited: stats.rate_limited,
            refused_while_down: stats.faulted,
            dead: dead
                .into_iter()
                .map(|job| Dead {
                    id: job.id,
                    code: job.code,
                    detail: job.detail,
                })
                .collect(),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.lost == 0
            && self.rate_limited == 0
            && self.dead_as_expected
            && self.events_arrived == self.events_expected
    }

    pub(super) fn print(&self, asked: Option<Output>) -> anyhow::Result<()> {
        // The demo is for people; JSON only when it was asked for.
        if asked == Some(Output::Json) {
            return output::json(self);
        }
        output::line("")?;
        output::line(&format!(
            "delivered       {} of {} jobs",
            self.delivered, self.jobs
        ))?;
        output::line(&format!(
            "arrived         {} events of {}, {} profiles of {}",
            self.events_arrived,
            self.events_expected,
            self.profiles_arrived,
            self.profiles_expected
        ))?;
        output::line(&format!("lost            {}", self.lost))?;
        output::line(&format!(
            "429s            {}  (Klaviyo refused {} calls while it was down)",
            self.rate_limited, self.refused_while_down
        ))?;
        output::line(&format!(
            "dead            {}, each with its reason:",
            self.dead.len()
        ))?;
        for dead in &self.dead {
            output::line(&format!(
                "                {}: {} ({})",
                dead.id, dead.detail, dead.code
            ))?;
        }
        output::line("")?;
        let row = |calls: &Calls| {
            let budget = calls
                .budget_a_minute
                .map_or_else(|| "-".to_owned(), |it| it.to_string());
            vec![
                calls.operation.to_owned(),
                calls.sent.to_string(),
                calls.rows.to_string(),
                budget,
                format!("{} %", calls.share_of_minute_percent),
            ]
        };
        output::table(
            &[
                "OPERATION",
                "CALLS",
                "ROWS",
                "BUDGET A MINUTE",
                "USED OF THE LAST MINUTE",
            ],
            &self.calls.iter().map(row).collect::<Vec<_>>(),
        )
    }
}
