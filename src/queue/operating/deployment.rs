//! Which database belongs to this Redis.
//!
//! Two daemons with one Redis and two databases would each keep half of the audit and of the ledger. So the first
//! registers the id of its database, and the others compare. A Redis that lost everything takes the next that comes.

use crate::queue::connection::Connection;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script, cmd};
use std::sync::LazyLock;

/// Registers a database where none is, and returns the one that is registered.
///
/// # Errors
/// Redis' own.
pub async fn register_deployment(
    redis: &mut Connection,
    keys: &Keys,
    id: &str,
) -> RedisResult<String> {
    // The first write needs no memory: a daemon must be able to start when Redis is full, for it is what empties it.
    static REGISTER: LazyLock<Script> = LazyLock::new(|| {
        Script::new(
            "redis.call('PERSIST', KEYS[1]) redis.call('SET', KEYS[1], ARGV[1], 'NX') return redis.call('GET', KEYS[1])",
        )
    });
    let mut call = REGISTER.key(keys.deployment());
    call.arg(id).invoke_async(redis).await
}

/// Returns the database that is registered, if one is.
///
/// # Errors
/// Redis' own.
pub async fn registered_deployment(
    redis: &mut Connection,
    keys: &Keys,
) -> RedisResult<Option<String>> {
    cmd("GET").arg(keys.deployment()).query_async(redis).await
}

/// Registers a database in place of whichever is; returns the one that was.
///
/// # Errors
/// Redis' own.
pub async fn adopt_deployment(
    redis: &mut Connection,
    keys: &Keys,
    id: &str,
) -> RedisResult<Option<String>> {
    let key = keys.deployment();
    cmd("GETSET").arg(key).arg(id).query_async(redis).await
}
