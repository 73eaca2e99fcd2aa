//! The internal job that follows a bulk import: the import's id, and the accepted envelopes, compressed.
//!
//! It cannot be enqueued from outside: the queue takes this kind only from entries that the engine wrote itself.

use crate::queue::QueuedJob;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use klaviyo_jobs::{Email, Envelope, ExternalId, Invalid, Job, Lane, Phone, UpsertProfile, decode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
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
}

/// The rows of an import by the identifiers of their jobs.
#[derive(Debug, Default)]
pub(crate) struct Whose {
    /// None where several rows share the identifier.
    rows: HashMap<(Named, String), Option<usize>>,
}

/// What identifies a profile, the strongest first. Two people may share a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Named {
    Id,
    ExternalId,
    Email,
    Phone,
}

impl Whose {
    /// Reads the jobs of all rows.
    pub(crate) fn of(follow_up: &FollowUp) -> Self {
        let mut whose = Self::default();
        for (row, followed) in follow_up.rows.iter().enumerate() {
            for (_, payload) in &followed.jobs {
                let upsert = Envelope::parse(payload.get().as_bytes())
                    .and_then(|envelope| decode::<UpsertProfile>(envelope.data));
                let Ok(UpsertProfile { profile, .. }) = upsert else {
                    continue;
                };
                let email = profile.email.as_ref().map(Email::as_str);
                let phone = profile.phone_number.as_ref().map(Phone::as_str);
                let external_id = profile.external_id.as_ref().map(ExternalId::as_str);
                whose.add(Named::Id, profile.id.as_deref(), row);
                whose.add(Named::ExternalId, external_id, row);
                whose.add(Named::Email, email, row);
                whose.add(Named::Phone, phone, row);
            }
        }
        whose
    }

    fn add(&mut self, named: Named, identifier: Option<&str>, row: usize) {
        if let Some(identifier) = identifier {
            let seat = self.rows.entry(key(named, identifier)).or_insert(Some(row));
            *seat = seat.filter(|known| *known == row);
        }
    }

    /// Finds the place of the row that was sent for a refused payload: the strongest identifier that any row has
    /// decides, if only one row has it.
    pub(crate) fn row_of_payload(&self, refused: &Value) -> Option<usize> {
        let attributes = refused.get("attributes").unwrap_or(refused);
        let identifiers = [
            (Named::Id, refused.get("id")),
            (Named::ExternalId, attributes.get("external_id")),
            (Named::Email, attributes.get("email")),
            (Named::Phone, attributes.get("phone_number")),
        ];
        let known = identifiers.into_iter().find_map(|(named, identifier)| {
            let identifier = identifier.and_then(Value::as_str)?;
            self.rows.get(&key(named, identifier))
        });
        known.copied().flatten()
    }
}

fn key(named: Named, identifier: &str) -> (Named, String) {
    let identifier = match named {
        Named::Email => identifier.to_lowercase(),
        Named::Id | Named::ExternalId | Named::Phone => identifier.to_owned(),
    };
    (named, identifier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::EntryId;
    use serde_json::json;

    fn import_of(profiles: &[Value]) -> FollowUp {
        let job = |profile: &Value| {
            let mut job = QueuedJob::for_test(0, EntryId { ms: 7, seq: 1 }, 0);
            let upsert = json!({"kind": UpsertProfile::KIND, "data": {"profile": profile}});
            job.payload = upsert.to_string().into_bytes();
            job
        };
        let jobs: Vec<QueuedJob> = profiles.iter().map(job).collect();
        let rows: Vec<Vec<&QueuedJob>> = jobs.iter().map(|job| vec![job]).collect();
        FollowUp::new("import".to_owned(), &rows)
    }

    #[test]
    fn a_refused_payload_is_of_the_one_row_that_has_its_strongest_identifier() {
        let phone = "+491711234567";
        let whose = Whose::of(&import_of(&[
            json!({"external_id": "a", "phone_number": phone}),
            json!({"external_id": "A", "phone_number": phone}),
            json!({"email": "a@klqtest.dev"}),
            json!({"id": "01HX", "email": "b@klqtest.dev"}),
        ]));
        let attributes = |it: Value| whose.row_of_payload(&json!({"attributes": it}));
        let of_both = json!({"external_id": "A", "phone_number": phone});
        assert_eq!(attributes(of_both), Some(1));
        assert_eq!(attributes(json!({"phone_number": phone})), None);
        assert_eq!(attributes(json!({"email": "A@KLQtest.dev"})), Some(2));
        assert_eq!(attributes(json!({"external_id": "b"})), None);
        let with_id = json!({"id": "01HX", "attributes": {"email": "a@klqtest.dev"}});
        assert_eq!(whose.row_of_payload(&with_id), Some(3));
    }

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
