//! What happens next with a job and why, in words for people at night.

use super::Operations;
use crate::klaviyo::{BudgetScale, Operation};
use crate::queue::operating::place::reader_seen;
use crate::queue::reading::pause::paused;
use crate::queue::{BarrierState, OperationLimits, RedisResult, operation_limits};
use crate::services::{no_way_left, ways_of};
use jiff::Timestamp;
use std::collections::BTreeMap;
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
    /// What keeps calls of the account from leaving.
    shut: Shut,
}

/// What keeps calls of an account from leaving, in words.
#[derive(Clone, Debug, Default)]
struct Shut {
    /// Of all calls.
    credentials: Option<&'static str>,
    /// Of an operation, by its name.
    operations: BTreeMap<&'static str, String>,
}

impl Operations {
    pub(super) async fn outlook(&mut self, queue: &str) -> RedisResult<Outlook> {
        // Only gates and breakers are looked at, which do not depend on the limits.
        let redis = &mut self.redis;
        let operations = operation_limits(redis, &self.keys, BudgetScale::Off, 0.0).await?;
        Ok(Outlook {
            shut: Shut::of(&operations),
            paused: paused(&mut self.redis, &self.keys).await?.remove(queue),
            reader_seen: reader_seen(&mut self.redis, &self.keys, queue).await?,
        })
    }
}

impl Outlook {
    /// Of a job that waits to be read.
    pub(super) fn of_ready(&self, queue: &str, kind: Option<&str>) -> String {
        if let Some(paused) = self.paused(queue) {
            return paused;
        }
        if let Some(shut) = self.shut.of_kind(kind) {
            return format!("it waits: {shut}");
        }
        match self.reader_seen {
            Some(seen) if seen < SILENT_AFTER => {
                "it is read as soon as a daemon has room and what is before it has left".to_owned()
            }
            seen => no_reader(queue, seen),
        }
    }

    /// Of a job that a daemon holds.
    pub(super) fn of_held(&self, kind: Option<&str>) -> String {
        let shut = self.shut.of_kind(kind).map_or_else(
            || "it is being delivered, or waits in the daemon for its turn".to_owned(),
            |shut| format!("it waits in the daemon: {shut}"),
        );
        let unless = match self.paused {
            Some(_) => " when the queue is resumed, for it is paused",
            None => "",
        };
        format!(
            "{shut}; if its holder falls silent for a lease, another daemon takes it over{unless}"
        )
    }

    /// Of a job that waits for its time.
    pub(super) fn of_delayed(&self, queue: &str, due: Option<Timestamp>, now: Timestamp) -> String {
        let Some(due) = due else {
            return "its time is beyond every calendar; cancel it".to_owned();
        };
        let over = Duration::try_from(now.duration_since(due)).unwrap_or_default();
        if over > OVERDUE_AFTER {
            let why = match self.reader_seen {
                Some(seen) if seen < SILENT_AFTER => {
                    "a daemon works on the queue; either very many are due, or its log says why they stay".to_owned()
                }
                seen => no_reader(queue, seen),
            };
            return format!(
                "it was due at {} and nobody has promoted it: {why}",
                seconds(due)
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

impl Shut {
    fn of(operations: &[OperationLimits]) -> Self {
        let is_shut = |state: BarrierState| state != BarrierState::Open;
        let refused = operations.iter().any(|it| is_shut(it.credentials));
        let mut shut = Self {
            credentials: refused.then_some(
                "Klaviyo refuses the account's key; it is probed, and all goes on once the key works",
            ),
            operations: BTreeMap::new(),
        };
        for it in operations {
            let name = it.operation;
            let why = if is_shut(it.gate) {
                format!("Klaviyo refuses the operation {name}, which is probed once a minute")
            } else if is_shut(it.breaker) {
                format!("the breaker of {name} has tripped, which is probed until Klaviyo answers")
            } else if it.closed_ms > 0 {
                let seconds = it.closed_ms.div_ceil(1_000);
                format!("{name} is closed for another {seconds} s, as Klaviyo asked")
            } else {
                continue;
            };
            shut.operations.insert(name, why);
        }
        shut
    }

    /// What keeps the jobs of a kind, most general first; nothing while one of its ways is open.
    fn of_kind(&self, kind: Option<&str>) -> Option<String> {
        if let Some(credentials) = self.credentials {
            return Some(credentials.to_owned());
        }
        let kind = kind?;
        let why = |operation: Operation| self.operations.get(operation.name());
        if !no_way_left(kind, |operation| why(operation).is_some()) {
            return None;
        }
        let whys: Vec<&str> = ways_of(kind)
            .iter()
            .filter_map(|operation| why(*operation).map(String::as_str))
            .collect();
        Some(whys.join("; "))
    }
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
            shut: Shut::default(),
        };
        let ready = |outlook: Outlook| outlook.of_ready("lists", None);
        assert!(ready(outlook(Some(NOW), None)).contains("paused by an operator"));
        assert!(ready(outlook(None, None)).contains("none has ever read it"));
        assert!(ready(outlook(None, seen(61_000))).contains("seen 61 s ago"));
        assert!(ready(outlook(None, seen(100))).contains("as soon as"));
    }

    #[test]
    fn only_what_shuts_every_way_of_a_job_is_a_reason_for_it_to_wait() {
        let mut outlook = Outlook::default();
        let mut shut = |operation: Operation| {
            let why = format!("{} is shut", operation.name());
            outlook.shut.operations.insert(operation.name(), why);
            outlook.of_held(Some("event.track"))
        };
        let told = shut(Operation::CreateOrUpdateProfile);
        assert!(told.contains("being delivered"), "{told}");
        let told = shut(Operation::CreateEvent);
        assert!(told.contains("being delivered"), "{told}");
        let told = shut(Operation::BulkCreateEvents);
        assert!(told.contains("create_event is shut"), "{told}");
        assert!(!told.contains("profile"), "{told}");
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
        assert!(told.contains("no daemon works on lists"), "{told}");
        let outlook = Outlook {
            reader_seen: Some(Duration::ZERO),
            ..Outlook::default()
        };
        let told = outlook.of_delayed("lists", Some(NOW), later);
        assert!(told.contains("a daemon works on the queue"), "{told}");
    }
}
