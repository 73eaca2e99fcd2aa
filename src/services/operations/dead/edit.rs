//! Edit: a dead job gets another payload, checked before anything is changed.

use super::super::Operations;
use super::error::DeadError;
use crate::queue::{DeadJob, EntryId, edit_dead};
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Invalid, kind};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a dead job is to become.
#[derive(Clone)]
pub enum DeadEdit {
    /// Its `data` is replaced by this JSON; all else stays.
    Data(String),
    /// The whole job is replaced by this JSON.
    Job(String),
}

impl std::fmt::Debug for DeadEdit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Data(_) => "DeadEdit::Data",
            Self::Job(_) => "DeadEdit::Job",
        })
    }
}

impl Operations {
    /// Replaces the payload of a dead job and returns its new entry. It stays dead until it is replayed; what the
    /// defaults of `id` and `at` come from stays too.
    ///
    /// # Errors
    /// [`DeadError`]: the new job is not acceptable, or somebody replayed, edited or discarded the old one meanwhile.
    pub async fn edit(&mut self, dead: &DeadJob, edit: &DeadEdit) -> Result<EntryId, DeadError> {
        let job = edit.applied_to(dead)?;
        check(&job, dead).map_err(DeadError::Invalid)?;
        let edited = edit_dead(
            &mut self.redis,
            &self.keys,
            &dead.queue,
            dead.entry,
            job.as_bytes(),
        )
        .await?;
        let edited = edited.ok_or(DeadError::NoSuchEntry(dead.entry))?;
        let detail = json!({"entry": dead.entry.to_string(), "edited": edited.to_string()});
        self.recorded("dlq.edit", &dead.queue, 1, detail).await?;
        Ok(edited)
    }
}

impl DeadEdit {
    fn applied_to(&self, dead: &DeadJob) -> Result<String, DeadError> {
        match self {
            Self::Job(job) => Ok(job.clone()),
            Self::Data(data) => {
                let job = dead.job.json().map_or("", RawValue::get);
                let mut fields: BTreeMap<String, Box<RawValue>> =
                    serde_json::from_str(job).map_err(|_| DeadError::NotAnObject)?;
                let data = RawValue::from_string(data.clone());
                let data = data.map_err(|_| DeadError::NotJson)?;
                fields.insert("data".to_owned(), data);
                Ok(serde_json::to_string(&fields).expect("texts and JSON are JSON"))
            }
        }
    }
}

fn check(job: &str, dead: &DeadJob) -> Result<(), Invalid> {
    let mut envelope = Envelope::parse(job.as_bytes())?;
    envelope.at.get_or_insert_with(|| dead.sid.time());
    (kind(&envelope.kind)?.check)(&envelope, Timestamp::now()).map(drop)
}
