//! What operators did, kept beside the queues until a daemon has copied it to the database.
//!
//! The command line often reaches Redis and not the database, and what it did must be on record all the same. A record
//! leaves the stream only after the database has it, so it may be read twice: its stream id tells.
//!
//! What takes long is put on record when it begins and again when it ends. The second record replaces the first, and
//! carries its stream id for the case that the first was copied already.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use jiff::Timestamp;
use klaviyo_jobs::Keys;
use redis::streams::StreamRangeReply;
use redis::{RedisResult, Script, cmd};
use serde_json::Value;
use std::sync::LazyLock;

/// Records that are kept when no daemon comes for them.
const RECORDS_MAX: usize = 100_000;

/// What an operator did.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorAction {
    /// When.
    pub at: Timestamp,
    /// The account.
    pub account: String,
    /// Who: `user@host` of the process.
    pub actor: String,
    /// What, such as `dlq.replay`.
    pub action: String,
    /// On what: a queue, an entry, a filter; nothing of people.
    pub target: String,
    /// How many jobs it touched.
    pub touched: u64,
    /// What else is worth knowing; nothing of people.
    pub detail: Value,
    /// The stream id of the record that this one replaces, written when the action began.
    pub began: Option<String>,
}

/// Puts the record of an action into the outbox of its account, and returns its stream id.
///
/// # Errors
/// Redis' own.
pub async fn record_action(
    redis: &mut Connection,
    keys: &Keys,
    action: &OperatorAction,
) -> RedisResult<String> {
    // No record has it: nothing is replaced.
    const NO_RECORD: &str = "0-1";
    // The first write grows nothing, so that a purge at maxmemory, which makes room, is on record too.
    static RECORD: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "redis.call('XDEL', KEYS[1], ARGV[1])
            return redis.call('XADD', KEYS[1], 'MAXLEN', '~', unpack(ARGV, 2))",
        )
    });
    let mut call = RECORD.key(keys.operator_actions());
    call.arg(action.began.as_deref().unwrap_or(NO_RECORD))
        .arg(RECORDS_MAX)
        .arg("*")
        .arg("at")
        .arg(action.at.to_string())
        .arg("actor")
        .arg(&action.actor)
        .arg("action")
        .arg(&action.action)
        .arg("target")
        .arg(&action.target)
        .arg("touched")
        .arg(action.touched)
        .arg("detail")
        .arg(action.detail.to_string());
    if let Some(began) = &action.began {
        call.arg("began").arg(began);
    }
    call.invoke_async(redis).await
}

/// Reads the oldest records, each with its stream id.
///
/// # Errors
/// Redis' own.
pub async fn recorded_actions(
    redis: &mut Connection,
    keys: &Keys,
    limit: usize,
) -> RedisResult<Vec<(String, OperatorAction)>> {
    let reply: StreamRangeReply = cmd("XRANGE")
        .arg(keys.operator_actions())
        .arg("-")
        .arg("+")
        .arg("COUNT")
        .arg(limit)
        .query_async(redis)
        .await?;
    let read = reply.ids.into_iter().map(|entry| {
        let text = |field: &str| entry.get::<String>(field).unwrap_or_default();
        let written = EntryId::parse(&entry.id).map_or(Timestamp::UNIX_EPOCH, EntryId::time);
        let action = OperatorAction {
            at: text("at").parse().unwrap_or(written),
            account: keys.account().to_owned(),
            actor: text("actor"),
            action: text("action"),
            target: text("target"),
            touched: entry.get("touched").unwrap_or(0),
            detail: serde_json::from_str(&text("detail")).unwrap_or_default(),
            began: entry.get("began"),
        };
        (entry.id, action)
    });
    Ok(read.collect())
}

/// Deletes records that the database has.
///
/// # Errors
/// Redis' own.
pub async fn forget_actions(
    redis: &mut Connection,
    keys: &Keys,
    ids: &[String],
) -> RedisResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    cmd("XDEL")
        .arg(keys.operator_actions())
        .arg(ids)
        .query_async(redis)
        .await
}
