//! The internal job that follows a bulk import: the import's id, and the accepted envelopes, compressed.
//!
//! It cannot be enqueued from outside: the queue takes this kind only from entries that the engine wrote itself.

use crate::queue::QueuedJob;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use klaviyo_jobs::{Envelope, Invalid, Job, Lane, UpsertProfile, decode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{Read, Write};

/// The internal kind.
#[derive(Debug)]
pub struct FollowImport;

impl FollowImport {
    /// The wire name.
    pub const KIND: &'static str = "profile.import.follow";
    /// The queue it travels on.
    pub const QUEUE: &'static str = UpsertProfile::QUEUE;

    /// How every such job begins: so it is recognized where payloads are not parsed.
    pub(crate) fn begin() -> String {
        format!("{{\"kind\":\"{}\",", Self::KIND)
    }
}

/// The largest follow-up once unpacked: two lots.
const UNPACKED_BYTES_MAX: u64 = 16_000_000;

/// An import under way.
#[derive(Debug)]
pub(crate) struct FollowUp {
    pub(crate) import_id: String,
    pub(crate) rows: Vec<FollowedRow>,
}

/// A row of the import and the jobs behind it: origin and envelope.
#[derive(Debug, Deserialize)]
pub(crate) struct FollowedRow {
    pub(crate) jobs: Vec<(Origin, Box<RawValue>)>,
}

/// Where a job came from: its first stream id and, behind a space, the text of its lane.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Origin(String);

impl Origin {
    fn of(job: &QueuedJob) -> Self {
        Self(format!("{} {}", job.sid, job.lane_text()))
    }

    /// Returns the first stream id and the text of the lane.
    pub(crate) fn parts(&self) -> (&str, &str) {
        // Earlier versions wrote the lane of replayed jobs only.
        let parts = self.0.split_once(' ');
        parts.unwrap_or((&self.0, Lane::Live.as_str()))
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    import_id: String,
    rows_gzip: String,
}

/// The envelope; `kind` comes first, see [`FollowImport::begin`].
#[derive(Serialize)]
struct Internal {
    kind: &'static str,
    data: Written,
}

#[derive(Serialize)]
struct RowToWrite<'a> {
    jobs: &'a [(Origin, Box<RawValue>)],
}

impl FollowUp {
    /// Creates the follow-up of an import.
    pub(crate) fn new(import_id: String, rows: &[Vec<&QueuedJob>]) -> Self {
        let job = |queued: &&QueuedJob| -> (Origin, Box<RawValue>) {
            let payload = serde_json::from_slice(&queued.payload)
                .expect("the envelope was read before it was sent");
            (Origin::of(queued), payload)
        };
        let row = |jobs: &Vec<&QueuedJob>| FollowedRow {
            jobs: jobs.iter().map(job).collect(),
        };
        Self {
            import_id,
            rows: rows.iter().map(row).collect(),
        }
    }

    /// Writes the job.
    pub(crate) fn json(&self) -> String {
        self.json_without(|_| false)
    }

    /// Writes the job without what is in some of its rows; the others keep their place.
    pub(crate) fn json_without(&self, is_left_out: impl Fn(usize) -> bool) -> String {
        let rows: Vec<RowToWrite<'_>> = (0..)
            .zip(&self.rows)
            .map(|(row, it)| RowToWrite {
                jobs: if is_left_out(row) { &[] } else { &it.jobs },
            })
            .collect();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed
            .write_all(&serde_json::to_vec(&rows).expect("texts serialize"))
            .expect("a vector takes all bytes");
        let rows_gzip = BASE64_STANDARD.encode(packed.finish().expect("a vector takes all bytes"));
        let data = Written {
            import_id: self.import_id.clone(),
            rows_gzip,
        };
        let job = Internal {
            kind: FollowImport::KIND,
            data,
        };
        serde_json::to_string(&job).expect("texts serialize")
    }

    /// Reads the job.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Invalid> {
        let envelope = Envelope::parse(json)?;
        let unreadable =
            || Invalid::internal("the follow-up of an import cannot be read; this is a bug");
        let written: Written =
            serde_json::from_str(envelope.data.get()).map_err(|_| unreadable())?;
        let packed = BASE64_STANDARD
            .decode(written.rows_gzip)
            .map_err(|_| unreadable())?;
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.as_slice())
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut unpacked)
            .map_err(|_| unreadable())?;
        let rows = serde_json::from_slice(&unpacked).map_err(|_| unreadable())?;
        Ok(Self {
            import_id: written.import_id,
            rows,
        })
    }

    /// Finds the place of the row that was sent for a refused payload, by its identifiers.
    pub(crate) fn row_of_payload(&self, refused: &Value) -> Option<usize> {
        let attributes = refused.get("attributes").unwrap_or(refused);
        let says = |name: &str, own: Option<&str>| {
            own.is_some_and(|own| {
                attributes
                    .get(name)
                    .and_then(Value::as_str)
                    .is_some_and(|it| it.eq_ignore_ascii_case(own))
            })
        };
        self.rows.iter().position(|row| {
            row.jobs.iter().any(|(_, payload)| {
                let Ok(envelope) = Envelope::parse(payload.get().as_bytes()) else {
                    return false;
                };
                let Ok(upsert) = decode::<UpsertProfile>(envelope.data) else {
                    return false;
                };
                let profile = &upsert.profile;
                says(
                    "email",
                    profile.email.as_ref().map(klaviyo_jobs::Email::as_str),
                ) || says(
                    "phone_number",
                    profile
                        .phone_number
                        .as_ref()
                        .map(klaviyo_jobs::Phone::as_str),
                ) || says(
                    "external_id",
                    profile
                        .external_id
                        .as_ref()
                        .map(klaviyo_jobs::ExternalId::as_str),
                ) || refused
                    .get("id")
                    .and_then(Value::as_str)
                    .is_some_and(|id| profile.id.as_deref() == Some(id))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::EntryId;

    #[test]
    fn a_job_of_any_lane_is_remembered_with_its_lane() {
        for lane in Lane::ALL {
            let mut job = QueuedJob::for_test(0, EntryId { ms: 7, seq: 1 }, 0);
            job.payload = b"{}".to_vec();
            job.lane = lane;
            let json = FollowUp::new("import".to_owned(), &[vec![&job]]).json();
            let read = FollowUp::parse(json.as_bytes()).unwrap();
            let (origin, _) = &read.rows[0].jobs[0];
            assert_eq!(origin.parts(), ("7-1", lane.as_str()));
        }
    }

    #[test]
    fn an_origin_that_was_written_without_a_lane_is_of_the_live_lane() {
        let origin = Origin("7-1".to_owned());
        assert_eq!(origin.parts(), ("7-1", "live"));
        let origin = Origin("7-1 backfill+1.1700000000000".to_owned());
        assert_eq!(origin.parts(), ("7-1", "backfill+1.1700000000000"));
    }
}
