//! Which database belongs to this Redis.
//!
//! Two daemons with one Redis and two databases would each keep half of the audit and of the ledger. So the first
//! registers the id of its database, and the others compare. A Redis that lost everything takes the next that comes.

use super::connection::Connection;
use klaviyo_jobs::Keys;
use redis::{RedisResult, cmd};

/// Registers a database where none is, and returns the one that is registered.
///
/// # Errors
/// Redis' own.
pub async fn register_deployment(
    redis: &mut Connection,
    keys: &Keys,
    id: &str,
) -> RedisResult<String> {
    let key = keys.deployment();
    loop {
        // At maxmemory Redis refuses even a SET that would change nothing, so we look first.
        let registered: Option<String> = cmd("GET").arg(&key).query_async(redis).await?;
        if let Some(registered) = registered {
            return Ok(registered);
        }
        let set: Option<String> = cmd("SET")
            .arg(&key)
            .arg(id)
            .arg("NX")
            .query_async(redis)
            .await?;
        if set.is_some() {
            return Ok(id.to_owned());
        }
    }
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
