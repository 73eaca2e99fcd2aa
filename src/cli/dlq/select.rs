//! Which dead jobs a command is about.

use crate::config::Mistakes;
use crate::queue::EntryId;
use crate::services::operations::{DeadFilter, DeadSelection, QueueName};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use std::str::FromStr;

/// The filters of every command that selects.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Filters {
    /// Only of this queue
    #[arg(long)]
    pub(super) queue: Option<QueueName>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only with this code
    #[arg(long)]
    code: Option<String>,
    /// Only dead since: RFC 3339, or so long ago, such as 2h
    #[arg(long, value_name = "T|DUR", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only dead until, and not edited since: RFC 3339, or so long ago, such as 2h
    #[arg(long, value_name = "T|DUR", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only with this text in the id, the detail or the job, just as it is written there
    #[arg(long = "match", value_name = "TEXT")]
    text: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

/// The dead jobs of a command that changes something: by name, all, or by filter.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Chosen {
    /// Entries, as `dlq list` shows them
    #[arg(value_name = "ENTRY", value_parser = entry,
        conflicts_with_all = ["all", "kind", "code", "since", "until", "text", "limit"])]
    entries: Vec<EntryId>,
    /// All that the filters leave
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

impl Filters {
    pub(super) fn filter(self) -> DeadFilter {
        DeadFilter {
            queue: self.queue,
            kind: self.kind,
            code: self.code,
            since: self.since,
            until: self.until,
            text: self.text,
            limit: self.limit,
        }
    }

    /// A limit alone does not say which.
    fn say_nothing(&self) -> bool {
        self.queue.is_none()
            && self.kind.is_none()
            && self.code.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.text.is_none()
    }
}

impl Chosen {
    /// Returns what is meant.
    ///
    /// # Errors
    /// [`Mistakes`] if nothing was said: that could mean everything.
    pub(super) fn selection(self) -> Result<DeadSelection, Mistakes> {
        if !self.entries.is_empty() {
            return Ok(DeadSelection::Entries {
                queue: self.filters.queue,
                entries: self.entries,
            });
        }
        if !self.all && self.filters.say_nothing() {
            return Err(Mistakes(vec![
                "say which dead jobs: entries as `klaviyod dlq list` shows them, a filter such as --code, or --all"
                    .to_owned(),
            ]));
        }
        Ok(DeadSelection::Matching(self.filters.filter()))
    }
}

pub(super) fn entry(text: &str) -> Result<EntryId, String> {
    EntryId::parse(text).ok_or_else(|| {
        "an entry looks like 1700000000000-0; `klaviyod dlq list` shows them".to_owned()
    })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = Span::from_str(text)
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .filter(|ago| *ago >= SignedDuration::ZERO);
    ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| {
            "a time looks like 2026-11-24T09:00:00Z, or like 2h for two hours ago".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        let time = moment("2026-11-24T09:00:00+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-11-24T08:00:00Z");
        for (text, hours) in [("2h", 2), ("90m", 1), ("7d", 168)] {
            let then = moment(text).unwrap();
            let ago = Timestamp::now().duration_since(then);
            assert_eq!(ago.as_hours(), hours, "{text}");
        }
        for nonsense in ["", "yesterday", "-2h", "2"] {
            assert!(moment(nonsense).is_err(), "{nonsense}");
        }
    }
}
