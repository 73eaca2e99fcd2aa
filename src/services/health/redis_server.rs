//! How Redis is: whether it answers, and whether it may lose jobs.
//!
//! Losing jobs while everything works is worth a warning, never an outage: a daemon that stops delivering because a
//! replica has no file would make things worse. At the start in production it is the other way round.

use super::{Fresh, Part, State};
use crate::queue::{Connection, Redis, Replica, Server, replicas};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Redis must answer within this time.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long what Redis said is good enough for a health page.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Replicas are asked over connections of their own, so more rarely.
const REPLICAS_EVERY: Duration = Duration::from_mins(1);
/// The oldest Redis with what we use (`XPENDING … IDLE`, exclusive ranges).
const VERSION_MIN: (u32, u32) = (6, 2);
/// Above this share of its memory Redis is nearly full.
const MEMORY_SHARE_MAX: u64 = 80;
/// Clocks that differ by more make ages and due times wrong enough to be seen.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

const PERSISTENCE: &str = "redis persistence";
const MEMORY: &str = "redis memory";
const POLICY: &str = "redis eviction";
const ROLE: &str = "redis role";

/// How strictly a policy that evicts is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// It is worth a warning.
    Warn,
    /// It is refused, as `run` refuses it in production.
    Refuse,
}

/// What was seen of Redis.
#[derive(Clone, Debug)]
pub enum Look {
    /// It did not answer, for this reason.
    Away(String),
    /// It answered.
    Here {
        /// What it said.
        server: Server,
        /// What its replicas said.
        replicas: Vec<Replica>,
    },
}

/// Looks at Redis for the health pages, on a connection of its own.
#[derive(Debug)]
pub struct RedisWatch {
    look: Fresh<Look>,
}

impl RedisWatch {
    /// Creates a watch; it asks nothing yet.
    pub fn new(redis: Redis, connection: Connection) -> Self {
        let asked = connection.clone();
        let replicas_of = Arc::new(Fresh::new(REPLICAS_EVERY, move || {
            let (redis, mut connection) = (redis.clone(), asked.clone());
            async move {
                match Server::ask(&mut connection).await {
                    Ok(server) => replicas(&redis, &server).await,
                    Err(_) => Vec::new(),
                }
            }
            .boxed()
        }));
        let look = Fresh::new(LOOK_EVERY, move || {
            let mut connection = connection.clone();
            let replicas_of = Arc::clone(&replicas_of);
            async move {
                let server = match timeout(ANSWER_MAX, Server::ask(&mut connection)).await {
                    Ok(Ok(server)) => server,
                    Ok(Err(error)) => return Look::Away(error.to_string()),
                    Err(_) => return Look::Away(no_answer()),
                };
                let replicas = timeout(ANSWER_MAX, replicas_of.get()).await;
                let replicas = replicas.unwrap_or_default();
                Look::Here { server, replicas }
            }
            .boxed()
        });
        Self { look }
    }

    /// Looks, at most once a second.
    pub async fn look(&self) -> Look {
        self.look.get().await
    }
}

/// What `/health/ready` says about Redis: all warnings, and bad only when it does not answer.
pub(super) fn ready_redis(look: &Look) -> Vec<Part> {
    match look {
        Look::Away(reason) => vec![away(reason)],
        Look::Here { server, replicas } => {
            let mut parts = vec![Part::ok("redis", answered(server))];
            parts.extend(may_lose_jobs(server, replicas, Strictness::Warn));
            parts
        }
    }
}

/// What `doctor` says about Redis: everything, also what is well. Gives up within a few seconds.
pub async fn doctor_redis(redis: &Redis, strictness: Strictness) -> Vec<Part> {
    let look = async {
        let mut connection = redis.try_connect().await?;
        Server::ask(&mut connection).await
    };
    // Connecting has a limit of its own, this one is for a server that then says nothing.
    let server = match timeout(5 * ANSWER_MAX, look).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return vec![away(&error.to_string())],
        Err(_) => return vec![away(&no_answer())],
    };
    let replicas = replicas(redis, &server).await;
    let mut parts = vec![Part::ok("redis", answered(&server)), version(&server)];
    let mut doubtful = may_lose_jobs(&server, &replicas, strictness);
    // A daemon waits for the failover to end; whoever asks now is told that nothing can work like this.
    for role in doubtful.iter_mut().filter(|it| it.name == ROLE) {
        role.state = State::Bad;
    }
    parts.append(&mut doubtful);
    for (name, well) in [
        (PERSISTENCE, "every write is appended to a file"),
        (POLICY, "no job is ever evicted"),
    ] {
        if parts.iter().all(|part| part.name != name) {
            parts.push(Part::ok(name, well));
        }
    }
    parts.push(memory(&server));
    parts.push(clock(&server, Timestamp::now()));
    parts
}

/// What may lose jobs although everything works; empty when nothing may.
pub fn may_lose_jobs(server: &Server, replicas: &[Replica], strictness: Strictness) -> Vec<Part> {
    let mut parts = Vec::new();
    match (server.append_only, server.append_works) {
        (Some(false), _) => parts.push(Part::warn(
            PERSISTENCE,
            "AOF is off: a crash of Redis loses the jobs of the last minutes, or all",
            "set `appendonly yes` (and `appendfsync everysec`) in redis.conf",
        )),
        (Some(true), Some(false)) => parts.push(Part::warn(
            PERSISTENCE,
            "the last write to the append-only file failed",
            "look for a full disk on the machine of Redis",
        )),
        (Some(true), _) => {}
        (None, _) => parts.push(unknown(PERSISTENCE)),
    }
    match server.evicts() {
        Some(true) => {
            let policy = server.memory_policy.as_deref().unwrap_or_default();
            let reason = format!("maxmemory-policy is {policy}: a full Redis throws jobs away");
            let what_to_do = "set `maxmemory-policy noeviction` in redis.conf, or give this Redis to jobs alone without `maxmemory`";
            parts.push(match strictness {
                Strictness::Warn => Part::warn(POLICY, reason, what_to_do),
                Strictness::Refuse => Part::bad(POLICY, reason, what_to_do),
            });
        }
        Some(false) => {}
        None => parts.push(unknown(POLICY)),
    }
    if server.is_master == Some(false) {
        parts.push(Part::warn(
            ROLE,
            "this is a replica: it refuses writes",
            "point KLAVIYOD_REDIS_URL at the master, or at the Sentinels",
        ));
    }
    for replica in replicas {
        let what_to_do = "set `appendonly yes` on the replica: after a failover it is the master";
        match replica.append_only {
            Some(true) => {}
            Some(false) => parts.push(Part::warn(
                "redis replica",
                format!("the replica {} has no AOF", replica.address),
                what_to_do,
            )),
            None => parts.push(Part::warn(
                "redis replica",
                format!(
                    "the replica {} could not be asked whether it persists",
                    replica.address
                ),
                what_to_do,
            )),
        }
    }
    parts
}

fn away(reason: &str) -> Part {
    Part::bad(
        "redis",
        format!("Redis does not answer: {reason}"),
        "check KLAVIYOD_REDIS_URL and that the server runs; jobs wait meanwhile",
    )
}

fn no_answer() -> String {
    format!("nothing within {} s", ANSWER_MAX.as_secs())
}

fn answered(server: &Server) -> String {
    format!("answered in {} ms", server.took.as_millis())
}

fn unknown(name: &str) -> Part {
    Part::warn(
        name,
        "Redis does not say (INFO is forbidden or shortened)",
        "allow the user of klaviyod the command INFO, or check it at your provider",
    )
}

fn version(server: &Server) -> Part {
    let name = "redis version";
    let text = server.version_text.clone().unwrap_or_default();
    match server.version {
        Some(version) if version >= VERSION_MIN => Part::ok(name, text),
        Some(_) => Part::bad(
            name,
            format!("{text} is too old"),
            "use Redis 6.2 or later, or Valkey",
        ),
        None => unknown(name),
    }
}

fn memory(server: &Server) -> Part {
    let (Some(used), Some(max)) = (server.memory_used, server.memory_max) else {
        return unknown(MEMORY);
    };
    let used_mib = used >> 20;
    let Some(share) = (used.saturating_mul(100)).checked_div(max) else {
        return Part::ok(MEMORY, format!("{used_mib} MiB in use, no limit set"));
    };
    let reason = format!("{share} % of {} MiB in use", max >> 20);
    if share < MEMORY_SHARE_MAX {
        return Part::ok(MEMORY, reason);
    }
    Part::warn(
        MEMORY,
        reason,
        "see which queue grows with `klaviyod queue list`; raise maxmemory before Redis refuses new jobs",
    )
}

fn clock(server: &Server, now: Timestamp) -> Part {
    let name = "redis clock";
    let Some(time) = server.time else {
        return unknown(name);
    };
    let skew = now.duration_since(time).abs();
    let reason = format!("differs by {} ms from this machine", skew.as_millis());
    if skew <= SKEW_MAX {
        return Part::ok(name, reason);
    }
    Part::warn(
        name,
        reason,
        "let both machines follow a time server (NTP): ages and due times are wrong meanwhile",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::health::State;

    fn safe() -> Server {
        Server {
            version: Some((7, 0)),
            append_only: Some(true),
            append_works: Some(true),
            memory_used: Some(1 << 20),
            memory_max: Some(100 << 20),
            memory_policy: Some("noeviction".to_owned()),
            is_master: Some(true),
            ..Server::default()
        }
    }

    #[test]
    fn a_safe_redis_is_not_warned_about() {
        assert_eq!(may_lose_jobs(&safe(), &[], Strictness::Refuse), []);
    }

    #[test]
    fn aof_off_eviction_and_a_careless_replica_are_warned_about() {
        let server = Server {
            append_only: Some(false),
            memory_policy: Some("allkeys-lru".to_owned()),
            ..safe()
        };
        let replica = |append_only| Replica {
            address: "10.0.0.2:6379".to_owned(),
            append_only,
        };
        let replicas = [replica(Some(true)), replica(Some(false)), replica(None)];
        let parts = may_lose_jobs(&server, &replicas, Strictness::Warn);
        assert_eq!(parts.len(), 4, "{parts:?}");
        assert!(parts.iter().all(|part| part.state == State::Warn));
        assert!(parts.iter().all(|part| part.what_to_do.is_some()));
        let refused = may_lose_jobs(&server, &[], Strictness::Refuse);
        assert_eq!(refused[1].state, State::Bad);
    }

    #[test]
    fn a_redis_that_says_nothing_is_warned_about_and_never_refused() {
        let parts = may_lose_jobs(&Server::default(), &[], Strictness::Refuse);
        assert!(parts.iter().all(|part| part.state == State::Warn));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn an_old_version_is_bad_a_full_memory_and_a_wrong_clock_are_warned_about() {
        let old = Server {
            version: Some((6, 0)),
            ..safe()
        };
        assert_eq!(version(&old).state, State::Bad);
        let full = Server {
            memory_used: Some(95 << 20),
            ..safe()
        };
        assert_eq!(memory(&full).state, State::Warn);
        assert_eq!(memory(&safe()).state, State::Ok);
        let now = Timestamp::UNIX_EPOCH;
        let late = Server {
            time: Some(now + SignedDuration::from_secs(6)),
            ..safe()
        };
        assert_eq!(clock(&late, now).state, State::Warn);
    }
}
