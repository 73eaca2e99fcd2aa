//! What happens next with a job and why, in words for people at night.

use super::Operations;
use crate::queue::RedisResult;
use crate::queue::pause::paused;
use crate::queue::place::reader_seen;
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
}

impl Operations {
    pub(super) async fn outlook(&mut self, queue: &str) -> RedisResult<Outlook> {
        Ok(Outlook {
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
        match self.reader_seen {
            Some(seen) if seen < SILENT_AFTER => {
                "it is read as soon as a daemon has room and what is before it has left".to_owned()
            }
            seen => no_reader(queue, seen),
        }
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
