//! One dead letter, as people and programs read it.
//!
//! The job is shown as it is, digit by digit: a number that went through a float would be another number, and whoever
//! edits or enqueues it again would never know.

use crate::queue::job::entry::EntryId;
use crate::queue::job::replayed::Replayed;
use jiff::Timestamp;
use klaviyo_jobs::Envelope;
use redis::streams::StreamId;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Characters of a payload that is not JSON that are shown.
const RAW_CHARS_MAX: usize = 200;

/// One dead job.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJob {
    /// The account.
    pub account: String,
    /// Its place in the dead letters.
    #[serde(serialize_with = "as_text")]
    pub entry: EntryId,
    /// The queue it was read from.
    pub queue: String,
    /// Its kind, where it has one.
    pub kind: Option<String>,
    /// Its identifier.
    pub id: String,
    /// Why it died; stable.
    pub code: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What is wrong and what to do.
    pub detail: String,
    /// Where in the job.
    pub pointer: Option<String>,
    /// Attempts made since it was enqueued or replayed.
    pub attempts: u32,
    /// When it died.
    pub died_at: Timestamp,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// The lane it was on.
    pub lane: String,
    /// How often it was replayed.
    pub replays: u32,
    /// When it was last replayed.
    pub replayed_at: Option<Timestamp>,
    /// The parsed job, or the raw text, shortened, when it is not JSON.
    pub job: Payload,
    /// The first stream id, from which the defaults of `id` and `at` come.
    #[serde(skip)]
    pub sid: EntryId,
}

/// The job of a dead letter, whatever it is.
#[derive(Clone)]
pub struct Payload(Vec<u8>);

impl DeadJob {
    pub(crate) fn of_entry(entry: &StreamId, account: &str, queue: &str) -> Option<Self> {
        let place = EntryId::parse(&entry.id)?;
        let payload: Vec<u8> = entry.get("job").unwrap_or_default();
        let given = |field: &str| entry.get::<String>(field).filter(|text| !text.is_empty());
        let place_in = |field: &str| given(field).and_then(|text| EntryId::parse(&text));
        let sid = place_in("sid").unwrap_or(place);
        let lane = given("lane").unwrap_or_default();
        let replayed = Replayed::of_lane(&lane);
        let envelope = Envelope::parse(&payload).ok();
        Some(Self {
            account: account.to_owned(),
            entry: place,
            queue: queue.to_owned(),
            kind: envelope.as_ref().map(|it| it.kind.to_string()),
            id: envelope
                .and_then(|it| it.id)
                .map_or_else(|| format!("{queue}/{sid}"), String::from),
            code: given("code").unwrap_or_default(),
            status: entry.get("status"),
            detail: given("detail").unwrap_or_default(),
            pointer: given("pointer"),
            attempts: entry.get("n").unwrap_or(0),
            // An edit gave it another entry.
            died_at: place_in("died").unwrap_or(place).time(),
            enqueued_at: sid.time(),
            lane: lane.split('+').next().unwrap_or_default().to_owned(),
            replays: replayed.map_or(0, |replayed| replayed.times),
            replayed_at: replayed.map(|replayed| replayed.at),
            job: Payload(payload),
            sid,
        })
    }

    /// Returns when its age began: at its last replay, else when it was enqueued.
    pub fn since(&self) -> Timestamp {
        self.replayed_at.unwrap_or(self.enqueued_at)
    }
}

impl Payload {
    /// Returns the bytes the application wrote.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the JSON the application wrote, if it is some.
    pub fn json(&self) -> Option<&RawValue> {
        serde_json::from_slice(&self.0).ok()
    }

    /// Whether the bytes hold a text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0).contains(text)
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Payload({} bytes)", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.json() {
            // As most producers write it.
            Some(json) if !json.get().contains(['\n', '\r']) => json.serialize(serializer),
            Some(json) => match RawValue::from_string(on_one_line(json.get())) {
                Ok(json) => json.serialize(serializer),
                Err(error) => Err(serde::ser::Error::custom(error)),
            },
            None => serializer.serialize_str(&shortened(&self.0)),
        }
    }
}

fn as_text<S: Serializer>(entry: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(entry)
}

/// Takes out the white space between tokens, so that one job stays one line, and nothing else.
fn on_one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for char in json.chars() {
        if in_text {
            in_text = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char.is_ascii_whitespace() {
            continue;
        } else {
            in_text = char == '"';
        }
        line.push(char);
    }
    line
}

fn shortened(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(4 * RAW_CHARS_MAX)])
        .chars()
        .take(RAW_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_shown_on_one_line_digit_by_digit() {
        let job = Payload(b"{\n \"a b\": \"x \\\" y\\\\\",\t\"n\": 9007199254740993.10 }".to_vec());
        assert_eq!(
            serde_json::to_string(&job).unwrap(),
            r#"{"a b":"x \" y\\","n":9007199254740993.10}"#
        );
    }

    #[test]
    fn what_is_not_json_is_a_shortened_text() {
        let job = Payload([b"\xff{".as_slice(), &[b'x'; 1000]].concat());
        let shown: String = serde_json::from_slice(&serde_json::to_vec(&job).unwrap()).unwrap();
        assert_eq!(shown.chars().count(), RAW_CHARS_MAX);
    }
}
