//! What happens next with a job and why, in words for people at night.

use super::Operations;
use crate::klaviyo::BudgetScale;
use crate::queue::pause::paused;
use crate::queue::place::reader_seen;
use crate::queue::{BarrierState, OperationLimits, RedisResult, operation_limits};
use jiff::Timestamp;
use std::time::Duration;

/// A queue with work that no daemon has touched for so long has none.
const SILENT_AFTER: Duration = Duration::from_mins(1);
/// Due jobs are promoted within a second.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);

/// What keeps jobs of a queue, or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    /// Since when an operator has paused it.
    pub(super) paused: Option<Timestamp>,
    /// How long ago a daemon last touched one of its streams; absent when none ever did.
    pub(super) reader_seen: Option<Duration>,
    /// What keeps calls of the account from leaving, in words.
    pub(super) shut: Vec<String>,
}

impl Operations {
    pub(super) async fn outlook(&mut self, queue: &str) -> RedisResult<Outlook> {
        // Only gates and breakers are looked at, which do not depend on the limits.
        let redis = &mut self.redis;
        let operations = operation_limits(redis, &self.keys, BudgetScale::Off, 0.0).await?;
        Ok(Outlook {
            shut: shut(&operations),
            paused: paused(&mut self.redis, &self.keys).await?.remove(queue),
            reader_seen: reader_seen(&mut self.redis, &self.keys, queue).await?,
        })
    }
}

impl Outlook {
    /// Of a job that waits to be read.
    pub(super) fn of_ready(&self, queue: &str) -> String {
        if let Some(paused) = self.paused(queue) {
            return paused;
        }
        if !self.shut.is_empty() {
            return format!("it waits: {}", self.shut.join("; "));
        }
        match self.reader_seen {
            Some(seen) if seen < SILENT_AFTER => {
                "it is read as soon as a daemon has room and what is before it has left".to_owned()
            }
            seen => no_reader(queue, seen),
        }
    }

    /// Of a job that a daemon holds.
    pub(super) fn of_held(&self) -> String {
        let shut = if self.shut.is_empty() {
            "it is being delivered, or waits in the daemon for its turn".to_owned()
        } else {
            format!("it waits in the daemon: {}", self.shut.join("; "))
        };
        format!("{shut}; if its holder falls silent for a lease, another daemon takes it over")
    }

    /// Of a job that waits for its time.
    pub(super) fn of_delayed(&self, queue: &str, due: Option<Timestamp>, now: Timestamp) -> String {
        let Some(due) = due else {
            return "its time is beyond every calendar; cancel it".to_owned();
        };
        let over = Duration::try_from(now.duration_since(due)).unwrap_or_default();
        if over > OVERDUE_AFTER {
            return format!(
                "it was due at {} and nobody has promoted it: {}",
                seconds(due),
                no_reader(queue, self.reader_seen)
            );
        }
        let then = self.paused(queue);
        let then = then.unwrap_or_else(|| "it is read from its lane".to_owned());
        format!("at {} it is due; then {then}", seconds(due))
    }

    fn paused(&self, queue: &str) -> Option<String> {
        let since = seconds(self.paused?);
        Some(format!(
            "nothing of {queue} is read: paused by an operator at {since}; `klaviyod queue resume {queue}`"
        ))
    }
}

/// What is shut, most general first.
fn shut(operations: &[OperationLimits]) -> Vec<String> {
    let is_shut = |state: BarrierState| state != BarrierState::Open;
    if operations.iter().any(|it| is_shut(it.credentials)) {
        return vec![
            "Klaviyo refuses the account's key; it is probed, and all goes on once the key works"
                .to_owned(),
        ];
    }
    let mut shut = Vec::new();
    for it in operations {
        let name = it.operation;
        if is_shut(it.gate) {
            shut.push(format!(
                "Klaviyo refuses the operation {name}, which is probed once a minute"
            ));
        } else if is_shut(it.breaker) {
            shut.push(format!(
                "the breaker of {name} has tripped, which is probed until Klaviyo answers"
            ));
        } else if it.closed_ms > 0 {
            let seconds = it.closed_ms.div_ceil(1_000);
            shut.push(format!(
                "{name} is closed for another {seconds} s, as Klaviyo asked"
            ));
        }
    }
    shut
}

fn no_reader(queue: &str, seen: Option<Duration>) -> String {
    let seen = seen.map_or_else(
        || "none has ever read it".to_owned(),
        |seen| format!("the last was seen {} s ago", seen.as_secs()),
    );
    format!("no daemon works on {queue} ({seen}); start `klaviyod run` with this account and queue")
}

fn seconds(time: Timestamp) -> String {
    let second = Timestamp::from_second(time.as_second());
    second.unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    #[test]
    fn a_pause_is_the_first_reason_and_a_missing_daemon_the_second() {
        let seen = |ms| Some(Duration::from_millis(ms));
        let outlook = |paused, reader_seen| Outlook {
            paused,
            reader_seen,
            shut: Vec::new(),
        };
        let ready = |outlook: Outlook| outlook.of_ready("lists");
        assert!(ready(outlook(Some(NOW), None)).contains("paused by an operator"));
        assert!(ready(outlook(None, None)).contains("none has ever read it"));
        assert!(ready(outlook(None, seen(61_000))).contains("seen 61 s ago"));
        assert!(ready(outlook(None, seen(100))).contains("as soon as"));
    }

    #[test]
    fn a_delayed_job_is_told_its_time_or_that_it_is_over() {
        let outlook = Outlook::default();
        let later = NOW + jiff::SignedDuration::from_secs(60);
        let told = outlook.of_delayed("lists", Some(later), NOW);
        assert!(
            told.starts_with("at 2023-11-14T22:14:20Z it is due"),
            "{told}"
        );
        let told = outlook.of_delayed("lists", Some(NOW), later);
        assert!(told.contains("nobody has promoted it"), "{told}");
    }
}
