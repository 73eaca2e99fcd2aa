//! Dead letters: jobs that will not be delivered as they are, each with its reason.

use super::connection::Connection;
use super::entry::EntryId;
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Keys};
use redis::streams::StreamRangeReply;
use redis::{RedisResult, cmd};
use serde::Serialize;
use serde_json::Value;

/// Characters of a payload that is not JSON that are shown.
const RAW_CHARS_MAX: usize = 200;

/// One dead job.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJob {
    /// The account.
    pub account: String,
    /// Its place in the dead letters.
    pub entry: String,
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
    /// Attempts made.
    pub attempts: u32,
    /// When it died.
    pub died_at: Timestamp,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// The parsed job, or the raw text, shortened, when it is not JSON.
    pub job: Value,
}

/// Reads dead jobs of a queue, oldest first, after the entry `after`.
///
/// # Errors
/// Redis' own.
pub async fn dead_jobs(
    redis: &mut Connection,
    keys: &Keys,
    queue: &str,
    after: Option<&str>,
    limit: usize,
) -> RedisResult<Vec<DeadJob>> {
    let from = after.map_or_else(|| "-".to_owned(), |entry| format!("({entry}"));
    let reply: StreamRangeReply = cmd("XRANGE")
        .arg(keys.dead(queue))
        .arg(from)
        .arg("+")
        .arg("COUNT")
        .arg(limit)
        .query_async(redis)
        .await?;
    let dead = reply.ids.into_iter().map(|entry| {
        let payload: Vec<u8> = entry.get("job").unwrap_or_default();
        let place = EntryId::parse(&entry.id).unwrap_or(EntryId::ZERO);
        let sid = entry
            .get::<String>("sid")
            .and_then(|sid| EntryId::parse(&sid))
            .unwrap_or(place);
        let envelope = Envelope::parse(&payload).ok();
        let given = |field: &str| entry.get::<String>(field).filter(|text| !text.is_empty());
        DeadJob {
            account: keys.account().to_owned(),
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
            died_at: place.time(),
            enqueued_at: sid.time(),
            job: serde_json::from_slice(&payload)
                .unwrap_or_else(|_| Value::String(shortened(&payload))),
            entry: entry.id,
        }
    });
    Ok(dead.collect())
}

fn shortened(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(4 * RAW_CHARS_MAX)])
        .chars()
        .take(RAW_CHARS_MAX)
        .collect()
}
