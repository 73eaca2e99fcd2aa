//! What Redis says about itself: version, persistence, memory, replicas, clock.
//!
//! Read from `INFO` alone, because hosted servers forbid `CONFIG`. A server whose `INFO` is forbidden too is not ill,
//! only unknown: every fact is optional. The surprising thing: a master knows where its replicas are, not whether they
//! persist, so they are asked themselves.

use crate::queue::connection::{Connection, Redis};
use futures::future::join_all;
use jiff::Timestamp;
use redis::{RedisError, RedisResult, Value};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A replica that takes longer is one that could not be asked.
const REPLICA_PATIENCE: Duration = Duration::from_millis(500);
/// More replicas than these are not asked.
const REPLICAS_ASKED_MAX: usize = 5;

/// The facts of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Redis' own version, or the one a Valkey is compatible with, as (major, minor).
    pub version: Option<(u32, u32)>,
    /// The version in words, such as `Valkey 8.1.0`.
    pub version_text: Option<String>,
    /// Whether every write is appended to a file.
    pub append_only: Option<bool>,
    /// Whether the last write to that file worked.
    pub append_works: Option<bool>,
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// The most bytes it may use; 0 is no limit.
    pub memory_max: Option<u64>,
    /// What it does when they are used up.
    pub memory_policy: Option<String>,
    /// Whether it is a master.
    pub is_master: Option<bool>,
    /// Where its replicas are.
    pub replicas: Vec<(String, u16)>,
    /// Its clock.
    pub time: Option<Timestamp>,
    /// How long it took to answer.
    pub took: Duration,
}

/// A replica and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it is.
    pub address: String,
    /// Whether it appends every write to a file; unknown if it could not be asked.
    pub append_only: Option<bool>,
}

impl Server {
    /// Asks a server.
    ///
    /// # Errors
    /// Redis' own; that `INFO` or `TIME` is forbidden is none.
    pub async fn ask(redis: &mut Connection) -> RedisResult<Self> {
        let started = Instant::now();
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        pipe.cmd("TIME");
        for section in ["server", "persistence", "memory", "replication"] {
            pipe.cmd("INFO").arg(section);
        }
        let answers: Vec<RedisResult<Value>> = pipe.query_async(redis).await?;
        let mut answers = answers.into_iter();
        let time = answers.next().and_then(allowed).transpose()?;
        let mut text = String::new();
        for answer in answers {
            if let Some(section) = allowed(answer).transpose()? {
                text.push_str(&redis::from_redis_value::<String>(section)?);
            }
        }
        let time: Option<(i64, i32)> = time.map(redis::from_redis_value).transpose()?;
        Ok(Self {
            time: time.and_then(|(s, us)| Timestamp::new(s, us.checked_mul(1000)?).ok()),
            took: started.elapsed(),
            ..Self::read(&text)
        })
    }

    /// Whether it throws jobs away when its memory is used up.
    pub fn evicts(&self) -> Option<bool> {
        let policy = self.memory_policy.as_deref()?;
        Some(policy != "noeviction" && self.memory_max? > 0)
    }

    fn read(info: &str) -> Self {
        let facts: HashMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let number = |name: &str| facts.get(name)?.parse().ok();
        let flag = |name: &str| number(name).map(|it: u64| it == 1);
        let redis_version = facts.get("redis_version").copied();
        let valkey = facts.get("valkey_version");
        Self {
            version: redis_version.and_then(version),
            version_text: valkey
                .map(|it| format!("Valkey {it}"))
                .or_else(|| redis_version.map(|it| format!("Redis {it}"))),
            append_only: flag("aof_enabled"),
            append_works: facts.get("aof_last_write_status").map(|it| *it == "ok"),
            memory_used: number("used_memory"),
            memory_max: number("maxmemory"),
            memory_policy: facts.get("maxmemory_policy").map(|it| (*it).to_owned()),
            is_master: facts.get("role").map(|it| *it == "master"),
            replicas: (0..REPLICAS_ASKED_MAX)
                .map_while(|index| facts.get(format!("slave{index}").as_str()))
                .filter_map(|line| replica(line))
                .collect(),
            time: None,
            took: Duration::ZERO,
        }
    }
}

/// Asks the replicas of a server whether they persist, with the login that was given for the server.
pub async fn replicas(redis: &Redis, server: &Server) -> Vec<Replica> {
    let ask = server.replicas.iter().map(|(host, port)| async move {
        let asked = timeout(REPLICA_PATIENCE, ask_replica(redis, host, *port)).await;
        Replica {
            address: format!("{host}:{port}"),
            append_only: asked
                .ok()
                .and_then(Result::ok)
                .and_then(|it| it.append_only),
        }
    });
    join_all(ask).await
}

async fn ask_replica(redis: &Redis, host: &str, port: u16) -> RedisResult<Server> {
    let beside = redis.beside(host, port).await?;
    Server::ask(&mut beside.try_connect().await?).await
}

/// An answer, unless the command is forbidden or unknown.
fn allowed(answer: RedisResult<Value>) -> Option<RedisResult<Value>> {
    let forbidden = |error: &RedisError| matches!(error.code(), Some("NOPERM" | "ERR"));
    match answer {
        Err(error) if forbidden(&error) => None,
        answer => Some(answer),
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

/// Reads `ip=10.0.0.2,port=6379,state=online,offset=1,lag=0`.
fn replica(line: &str) -> Option<(String, u16)> {
    let field = |name: &str| {
        line.split(',')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    Some((field("ip")?.to_owned(), field("port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_redis_and_of_valkey_is_understood() {
        let server = Server::read(
            "# Server\r\nredis_version:7.0.15\r\n# Persistence\r\naof_enabled:1\r\naof_last_write_status:err\r\n\
             # Memory\r\nused_memory:10\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n# Replication\r\n\
             role:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.2,port=6380,state=online,offset=1,lag=0\r\n",
        );
        assert_eq!(server.version, Some((7, 0)));
        assert_eq!(server.version_text.as_deref(), Some("Redis 7.0.15"));
        assert_eq!(
            (server.append_only, server.append_works),
            (Some(true), Some(false))
        );
        assert_eq!(server.evicts(), Some(true));
        assert_eq!(server.replicas, [("10.0.0.2".to_owned(), 6380)]);
        let valkey = Server::read("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n");
        assert_eq!(valkey.version_text.as_deref(), Some("Valkey 8.1.0"));
    }

    #[test]
    fn a_server_without_a_memory_limit_evicts_nothing_and_one_that_says_nothing_is_unknown() {
        let unlimited = Server::read("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n");
        assert_eq!(unlimited.evicts(), Some(false));
        let limited = Server::read("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!(limited.evicts(), Some(false));
        assert_eq!(Server::read("").evicts(), None);
    }
}
