//! Bulk import jobs: queued, processing for the second half of the delay, complete.
//!
//! A row whose `properties.sim_reject` is truthy fails on purpose, and a row whose identifiers belong to several
//! profiles fails as it would for real.

use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use super::profiles::{Conflict, ProfileKey};
use crate::clock::Moment;
use crate::problem::{Problem, format_uuid};
use crate::profile_patch::ProfilePatch;

const EXPIRES_AFTER: Duration = Duration::from_hours(7 * 24);

#[derive(Debug, Default)]
pub(crate) struct Imports {
    jobs: Vec<ImportJob>,
    /// Jobs before this one are complete; all jobs take equally long.
    first_pending: usize,
}

#[derive(Debug)]
pub(crate) struct ImportJob {
    pub(crate) id: String,
    created: Moment,
    starts: Moment,
    due: Moment,
    total: usize,
    list_ids: Vec<String>,
    rows: Vec<ImportRow>,
    pub(crate) errors: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct ImportRow {
    pub(crate) patch: ProfilePatch,
    /// The row as it was sent, for the report about it.
    pub(crate) payload: Box<str>,
}

impl Imports {
    pub(crate) fn queue(
        &mut self,
        rows: Vec<ImportRow>,
        list_ids: Vec<String>,
        delay: Duration,
        now: Moment,
    ) -> &ImportJob {
        self.jobs.push(ImportJob {
            id: format!("sim-import-{}", format_uuid(rand::random())),
            created: now,
            starts: now.plus(delay / 2),
            due: now.plus(delay),
            total: rows.len(),
            list_ids,
            rows,
            errors: Vec::new(),
        });
        &self.jobs[self.jobs.len() - 1]
    }

    pub(crate) fn get(&self, id: &str) -> Option<&ImportJob> {
        self.jobs.iter().find(|job| job.id == id)
    }
}

impl State {
    pub(super) fn apply_due_imports(&mut self, now: Moment) {
        while self
            .imports
            .jobs
            .get(self.imports.first_pending)
            .is_some_and(|job| job.due <= now)
        {
            let index = self.imports.first_pending;
            self.imports.first_pending += 1;
            let rows = std::mem::take(&mut self.imports.jobs[index].rows);
            let list_ids = self.imports.jobs[index].list_ids.clone();
            let mut imported = Vec::with_capacity(rows.len());
            for (place, row) in rows.iter().enumerate() {
                match self.import(row, now) {
                    Ok(key) => imported.push(key),
                    Err(problem) => self.imports.jobs[index].report(place, row, &problem),
                }
            }
            for list_id in &list_ids {
                self.lists.add(list_id, &imported, now);
            }
        }
    }

    fn import(&mut self, row: &ImportRow, now: Moment) -> Result<ProfileKey, Problem> {
        if row
            .patch
            .properties
            .get("sim_reject")
            .is_some_and(is_truthy)
        {
            return Err(Problem::invalid(
                "/attributes/properties/sim_reject",
                "The row asked to be rejected.",
            ));
        }
        match self.profiles.resolve(&row.patch) {
            Ok(Some(key)) => {
                self.profiles.apply(key, &row.patch, now);
                Ok(key)
            }
            Ok(None) => Ok(self.profiles.create(&row.patch, now)),
            Err(Conflict::Duplicate(key)) => {
                Err(Problem::duplicate_profile(&self.profiles.get(key).id))
            }
            Err(Conflict::UnknownId) => Err(Problem::not_found(
                "profile",
                row.patch.id.as_deref().unwrap_or_default(),
            )),
        }
    }
}

impl ImportJob {
    fn report(&mut self, place: usize, row: &ImportRow, problem: &Problem) {
        let mut report = problem.to_json();
        let place = format!("/data/attributes/profiles/data/{place}");
        let pointer = report["source"]["pointer"]
            .as_str()
            .map(|pointer| format!("{place}{pointer}"));
        let original_payload = serde_json::from_str::<Value>(&row.payload).unwrap_or_default();
        self.errors.push(json!({
            "type": "import-error",
            "id": format_uuid(rand::random()),
            "attributes": {
                "code": report["code"].take(),
                "title": report["title"].take(),
                "detail": report["detail"].take(),
                "source": {"pointer": pointer},
                "original_payload": original_payload,
            },
            "links": {"self": ""},
        }));
    }

    pub(crate) fn document(&self, now: Moment, base_url: &str) -> Value {
        let is_complete = now >= self.due;
        let status = match now {
            _ if is_complete => "complete",
            _ if now >= self.starts => "processing",
            _ => "queued",
        };
        let failed = self.errors.len();
        json!({
            "type": "profile-bulk-import-job",
            "id": self.id,
            "attributes": {
                "status": status,
                "created_at": self.created.rfc3339(),
                "total_count": self.total,
                "completed_count": if is_complete { self.total - failed } else { 0 },
                "failed_count": failed,
                "started_at": (now >= self.starts).then(|| self.starts.rfc3339()),
                "completed_at": is_complete.then(|| self.due.rfc3339()),
                "expires_at": self.created.plus(EXPIRES_AFTER).rfc3339(),
            },
            "relationships": {
                "lists": {"data": self.list_ids.iter().map(|id| json!({"type": "list", "id": id})).collect::<Vec<_>>()},
            },
            "links": {"self": format!("{base_url}/api/profile-bulk-import-jobs/{}", self.id)},
        })
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}
