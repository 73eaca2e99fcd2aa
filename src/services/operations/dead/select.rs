//! Which dead jobs are meant.

use super::super::QueueName;
use crate::queue::{DeadJob, DeadRange, EntryId};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Which dead jobs are meant: all that meet every condition given.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only those that died at this time or later.
    pub since: Option<Timestamp>,
    /// Only those that died at this time or earlier, and were not edited since.
    pub until: Option<Timestamp>,
    /// Only with this text in the id, the detail or the payload, just as it is written there.
    pub text: Option<String>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Dead jobs by name or by condition.
#[derive(Clone, Debug)]
pub enum DeadSelection {
    /// These, each of which must be there.
    Entries {
        /// Only of this queue: an entry is unique within its queue.
        queue: Option<QueueName>,
        /// Their places.
        entries: Vec<EntryId>,
    },
    /// All that match.
    Matching(DeadFilter),
}

/// Entries that are named in the record of an action; of more only the count is.
const ENTRIES_RECORDED_MAX: usize = 100;

impl DeadFilter {
    pub(super) fn matches(&self, job: &DeadJob) -> bool {
        let is = |wanted: &Option<String>, seen: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| seen == Some(wanted))
        };
        self.since.is_none_or(|since| job.died_at >= since)
            && is(&self.kind, job.kind.as_deref())
            && is(&self.code, Some(&job.code))
            && self.text.as_deref().is_none_or(|text| {
                job.id.contains(text) || job.detail.contains(text) || job.job.contains(text)
            })
    }

    /// Where the entries may be. They are ordered by the time they were written: when the job died, or later, if it was
    /// edited.
    pub(super) fn range(&self) -> DeadRange {
        DeadRange {
            from: self.since.map_or(EntryId::ZERO, EntryId::first_at),
            to: self.until.map_or(EntryId::LAST, EntryId::last_at),
        }
    }
}

impl DeadSelection {
    /// How many are meant at most.
    pub(super) fn limit(&self) -> u64 {
        match self {
            Self::Entries { .. } => u64::MAX,
            Self::Matching(filter) => filter.limit.unwrap_or(u64::MAX),
        }
    }

    /// Returns what the record of an action says it was done to. A searched text may be of a person and is left out.
    pub(super) fn recorded(&self) -> (String, Value) {
        let all = |queue: &Option<QueueName>| {
            queue.map_or_else(|| "all queues".to_owned(), |queue| queue.to_string())
        };
        match self {
            Self::Entries { queue, entries } => {
                let named = entries.iter().take(ENTRIES_RECORDED_MAX);
                let named: Vec<String> = named.map(EntryId::to_string).collect();
                (
                    all(queue),
                    json!({"entries": named, "entries_count": entries.len()}),
                )
            }
            Self::Matching(filter) => {
                let detail = json!({
                    "kind": filter.kind,
                    "code": filter.code,
                    "since": filter.since,
                    "until": filter.until,
                    "match": filter.text.is_some(),
                    "limit": filter.limit,
                });
                (all(&filter.queue), detail)
            }
        }
    }
}
