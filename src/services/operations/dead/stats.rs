//! Dead jobs by what killed them: a thousand letters of one cause are one line with one remedy.

use super::super::{Operations, remedies};
use super::error::DeadError;
use super::select::{DeadFilter, DeadSelection};
use crate::queue::{DeadJob, EntryId};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

/// Causes that are told apart; the rest is counted together.
const GROUPS_MAX: usize = 1_000;
const POINTER_CHARS_MAX: usize = 200;
/// Stands for the number of a row in a pointer.
const ANY_ROW: &str = "*";
const OTHER: &str = "(other)";

/// Dead jobs of one cause.
#[derive(Clone, Debug, Serialize)]
pub struct DeadGroup {
    /// The account.
    pub account: String,
    /// The queue.
    pub queue: String,
    /// The kind, where there is one.
    pub kind: Option<String>,
    /// Why they died.
    pub code: String,
    /// Where in the job, with `*` for the number of a row.
    pub pointer: Option<String>,
    /// How many there are.
    pub count: u64,
    /// When the first of them died.
    pub first_seen: Timestamp,
    /// When the last of them died.
    pub last_seen: Timestamp,
    /// The entry of one of them, the last.
    pub sample: String,
    /// What to do.
    pub remedy: &'static str,
}

type Fingerprint = (String, Option<String>, String, Option<String>);

impl Operations {
    /// Groups dead jobs by queue, kind, code and pointer, the largest group first.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn dead_stats(&mut self, filter: &DeadFilter) -> Result<Vec<DeadGroup>, DeadError> {
        let mut walk = self
            .dead_walk(&DeadSelection::Matching(filter.clone()))
            .await?;
        let mut groups = Groups::default();
        while let Some(page) = walk.next_page().await? {
            for job in page {
                groups.add(job);
            }
        }
        Ok(groups.sorted())
    }
}

#[derive(Default)]
struct Groups(HashMap<Fingerprint, DeadGroup>);

impl Groups {
    fn add(&mut self, job: DeadJob) {
        let pointer = job.pointer.as_deref().map(any_row);
        let mut fingerprint = (job.queue, job.kind, job.code, pointer);
        if self.0.len() >= GROUPS_MAX && !self.0.contains_key(&fingerprint) {
            fingerprint = (fingerprint.0, None, OTHER.to_owned(), None);
        }
        let group = self.0.entry(fingerprint).or_insert_with_key(|key| {
            let (queue, kind, code, pointer) = key.clone();
            DeadGroup {
                account: job.account,
                queue,
                kind,
                remedy: remedies::remedy(&code),
                code,
                pointer,
                count: 0,
                first_seen: job.died_at,
                last_seen: job.died_at,
                sample: String::new(),
            }
        });
        group.count += 1;
        group.first_seen = group.first_seen.min(job.died_at);
        if group.last_seen <= job.died_at {
            group.last_seen = job.died_at;
            group.sample = EntryId::to_string(&job.entry);
        }
    }

    fn sorted(self) -> Vec<DeadGroup> {
        let mut groups: Vec<DeadGroup> = self.0.into_values().collect();
        groups.sort_by(|one, other| {
            let by_name = (&one.queue, &one.code, &one.pointer);
            let by_count = other.count.cmp(&one.count);
            by_count.then_with(|| by_name.cmp(&(&other.queue, &other.code, &other.pointer)))
        });
        groups
    }
}

/// Generalises the numbers of rows in a pointer.
fn any_row(pointer: &str) -> String {
    let is_row = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let general: Vec<&str> = pointer
        .split('/')
        .map(|part| if is_row(part) { ANY_ROW } else { part })
        .collect();
    general.join("/").chars().take(POINTER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_row_does_not_make_another_cause() {
        assert_eq!(
            any_row("/data/attributes/profiles/data/17/attributes/email"),
            "/data/attributes/profiles/data/*/attributes/email"
        );
        assert_eq!(any_row("/data/properties/v2"), "/data/properties/v2");
        assert_eq!(any_row(""), "");
    }
}
