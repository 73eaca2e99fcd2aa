//! What a kind of job is, and the list of them.
//!
//! A kind is a payload type that implements [`Job`]; its wire name is a constant and never derived from the type.
//! [`KindInfo`] is the same without the type, for whoever meets jobs by name: the intake, the CLI, the schemas.

use crate::invalid::{code, listed, nearest, shown};
use crate::{Envelope, Invalid, PlaceOrder, TrackEvent, UpsertProfile, decode};
use jiff::Timestamp;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The payload of one kind of job: an order to do something.
pub trait Job: Serialize + DeserializeOwned + JsonSchema + Send + Sync + Sized + 'static {
    /// The stable wire name, such as `event.track`.
    const KIND: &'static str;
    /// The queue it travels on.
    const QUEUE: &'static str;
    /// Whether a repeated id is refused for a while unless the producer says otherwise.
    const UNIQUE_BY_DEFAULT: bool;

    /// Checks what no single value shows. `at` is when it happened, `now` the present.
    ///
    /// # Errors
    /// [`Invalid`] with what to change and where.
    fn validate(&self, at: Timestamp, now: Timestamp) -> Result<(), Invalid>;

    /// Returns the text that `unique_for` claims for a job of this id.
    fn claim(&self, id: &str) -> String {
        format!("{}:{id}", Self::KIND)
    }
}

/// A job that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What `unique_for` claims; `None` when the job has no id of its own and so cannot be repeated.
    pub claim: Option<String>,
}

/// A kind without its type.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// The stable wire name.
    pub kind: &'static str,
    /// The queue it travels on.
    pub queue: &'static str,
    /// See [`Job::UNIQUE_BY_DEFAULT`].
    pub unique_by_default: bool,
    /// Returns the JSON Schema of the kind's `data`.
    pub schema: fn() -> Schema,
    /// Decodes and validates the job; an absent `at` is `now`.
    pub check: fn(&Envelope<'_>, Timestamp) -> Result<Checked, Invalid>,
}

impl KindInfo {
    const fn of<J: Job>() -> Self {
        Self {
            kind: J::KIND,
            queue: J::QUEUE,
            unique_by_default: J::UNIQUE_BY_DEFAULT,
            schema: schema_of::<J>,
            check: check::<J>,
        }
    }

    /// Checks that jobs of this kind belong on `queue`.
    ///
    /// # Errors
    /// [`Invalid`] with `job.wrong_queue`.
    pub fn on_queue(&self, queue: &str) -> Result<(), Invalid> {
        if queue == self.queue {
            return Ok(());
        }
        let message = format!(
            "`{}` belongs on the queue `{}`; enqueue it there",
            self.kind, self.queue
        );
        Err(Invalid::new(code::WRONG_QUEUE, message).with_pointer("/kind"))
    }
}

/// Alphabetical.
static KINDS: [KindInfo; 3] = [
    KindInfo::of::<TrackEvent>(),
    KindInfo::of::<PlaceOrder>(),
    KindInfo::of::<UpsertProfile>(),
];

/// Returns all kinds, in alphabetical order.
pub fn kinds() -> &'static [KindInfo] {
    &KINDS
}

/// Finds a kind by its wire name.
///
/// # Errors
/// [`Invalid`] with `job.unknown_kind` and the nearest known name.
pub fn kind(name: &str) -> Result<&'static KindInfo, Invalid> {
    let names = || KINDS.iter().map(|info| info.kind);
    KINDS.iter().find(|info| info.kind == name).ok_or_else(|| {
        let advice = match nearest(name, names()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known kinds are {}", listed(names())),
        };
        Invalid::new(
            code::UNKNOWN_KIND,
            format!("unknown kind {}; {advice}", shown(name)),
        )
        .with_pointer("/kind")
    })
}

pub(crate) fn schema_of<J: Job>() -> Schema {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<J>();
    schema.insert("title".to_owned(), J::KIND.into());
    schema
}

fn check<J: Job>(envelope: &Envelope<'_>, now: Timestamp) -> Result<Checked, Invalid> {
    let job: J = decode(envelope.data)?;
    job.validate(envelope.at.unwrap_or(now), now)?;
    Ok(Checked {
        claim: envelope.id.as_deref().map(|id| job.claim(id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_alphabetical_and_found_by_name() {
        assert!(kinds().is_sorted_by_key(|info| info.kind));
        for info in kinds() {
            assert_eq!(kind(info.kind).unwrap().queue, info.queue);
        }
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_nearest() {
        let invalid = kind("event.trak").unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "unknown kind `event.trak`; did you mean `event.track`?"
        );
        assert_eq!(
            (invalid.code(), invalid.pointer()),
            ("job.unknown_kind", Some("/kind"))
        );
        assert!(!kind("a@shop.io").unwrap_err().to_string().contains('@'));
    }

    #[test]
    fn a_job_on_the_wrong_queue_is_told_the_right_one() {
        let invalid = kind("event.track")
            .unwrap()
            .on_queue("profile-sync")
            .unwrap_err();
        assert_eq!(invalid.code(), "job.wrong_queue");
        assert!(invalid.to_string().contains("`event-tracking`"));
    }
}
