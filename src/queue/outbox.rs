//! What services put on Redis themselves: internal follow-ups, and dead letters of jobs that were settled before.

use super::connection::Connection;
use super::settle::Reason;
use jiff::Timestamp;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script, cmd};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::sleep;

// The first write of each script frees memory, so that Redis runs them at maxmemory too: without the follow-up of what
// Klaviyo has accepted, nothing could be settled, and no memory would ever be freed.
static DELAY: LazyLock<Script> = LazyLock::new(|| {
    Script::new("redis.call('ZREM', KEYS[1], '') redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])")
});
static BURY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('XDEL', KEYS[1], '0-1') redis.call('XADD', KEYS[1], '*', unpack(ARGV)) redis.call('DEL', KEYS[2])",
    )
});

/// Where a job came from that was settled before.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its queue.
    pub queue: &'a str,
    /// The text of its lane, with what a replay wrote behind it.
    pub lane: &'a str,
    /// Its first stream id.
    pub sid: &'a str,
    /// The text it may have claimed: whoever sends a dead job again must not be told that it is a duplicate.
    pub claim: Option<&'a str>,
}

/// Writes for one account.
#[derive(Clone)]
pub struct Outbox {
    redis: Connection,
    keys: Keys,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Outbox({})", self.keys.account())
    }
}

impl Outbox {
    /// Creates the outbox of an account.
    pub fn new(redis: Connection, keys: Keys) -> Self {
        Self { redis, keys }
    }

    /// Puts an internal job on a queue, to run after `delay`. Tries until Redis takes it: the caller holds leases
    /// meanwhile, and when they lapse its jobs are delivered again.
    pub async fn delay(&self, queue: &str, job: &[u8], delay: Duration) {
        let due = Timestamp::now() + delay;
        let unique = format!("{:032x}", rand::random::<u128>());
        let mut member = format!("{unique}:0:{}:::", Lane::Live.as_str()).into_bytes();
        member.extend_from_slice(job);
        let mut call = DELAY.key(self.keys.delayed(queue));
        call.arg(due.as_millisecond()).arg(member);
        while let Err(error) = call.invoke_async::<()>(&mut self.redis.clone()).await {
            self.redis.health().complain("write a follow-up", &error);
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Puts a job on the live lane unchecked, as an application in any language does.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn add_unchecked(&self, queue: &str, job: &str) -> RedisResult<()> {
        let stream = self.keys.queue(queue, Lane::Live);
        cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg("job")
            .arg(job)
            .query_async(&mut self.redis.clone())
            .await
    }

    /// Writes a dead letter for a job that was accepted and later refused.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn bury(&self, place: Place<'_>, job: &str, reason: &Reason) -> RedisResult<()> {
        let mut call = BURY.key(self.keys.dead(place.queue));
        // Without a claim an empty name, of the account all the same, is deleted.
        call.key(self.keys.claim(place.claim.unwrap_or_default()));
        call.arg("job")
            .arg(job)
            .arg("sid")
            .arg(place.sid)
            .arg("n")
            .arg(1)
            .arg("lane")
            .arg(place.lane);
        call.arg("code")
            .arg(reason.code)
            .arg("status")
            .arg(reason.status.map(|it| it.to_string()).unwrap_or_default());
        call.arg("detail")
            .arg(&*reason.detail)
            .arg("pointer")
            .arg(reason.pointer.as_deref().unwrap_or_default());
        call.invoke_async(&mut self.redis.clone()).await
    }
}
