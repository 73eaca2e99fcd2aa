//! What services put on Redis themselves: internal follow-ups, and dead letters of jobs that were settled before.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::Reason;
use crate::queue::settling::attempted::Attempted;
use crate::queue::settling::observe::{Fate, Observer, Settled};
use jiff::Timestamp;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisResult, Script, cmd};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::sleep;

// The first write of each script frees memory, so that Redis runs them at maxmemory too: without the follow-up of what
// Klaviyo has accepted, nothing could be settled, and no memory would ever be freed.
static DELAY: LazyLock<Script> = LazyLock::new(|| {
    Script::new("redis.call('ZREM', KEYS[1], '') redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])")
});
static BURY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("bury_late.lua")));

/// Dead letters per call, unless more jobs than that are one: Redis serves nobody else meanwhile.
const DEATHS_PER_CALL: usize = 500;
/// The attempt a late death is counted as: the one that was accepted.
const ATTEMPT: u32 = 1;
/// How long it is remembered which jobs of a burial are buried: for longer than anything asks to bury them again.
const BURIED_KEPT: Duration = Duration::from_hours(14 * 24);

/// A job that dies after it was settled.
#[derive(Clone, Debug)]
pub struct LateDeath<'a> {
    /// Its kind.
    pub kind: &'static str,
    /// Tells the deaths of one burial apart; jobs that share it share their fate and stand beside each other.
    pub number: usize,
    /// The text of its lane, with what a replay wrote behind it.
    pub lane: &'a str,
    /// Its first stream id.
    pub sid: &'a str,
    /// The text it may have claimed: whoever sends a dead job again must not be told that it is a duplicate.
    pub claim: Option<String>,
    /// The whole job.
    pub job: &'a str,
    /// Why.
    pub reason: &'a Reason,
}

/// Writes for one account.
#[derive(Clone)]
pub struct Outbox {
    redis: Connection,
    keys: Keys,
    observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Outbox({})", self.keys.account())
    }
}

impl Outbox {
    /// Creates the outbox of an account.
    pub fn new(redis: Connection, keys: Keys) -> Self {
        Self {
            redis,
            keys,
            observer: None,
        }
    }

    /// Lets somebody hear what is buried here.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        let observer = Some(observer);
        Self { observer, ..self }
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

    /// Writes dead letters for jobs that were accepted and later refused, each only once however often the burial of
    /// that name is repeated.
    ///
    /// # Errors
    /// Redis' own. Some may be buried by then; a repetition buries the rest.
    pub async fn bury(
        &self,
        queue: &str,
        burial: &str,
        deaths: &[LateDeath<'_>],
    ) -> RedisResult<()> {
        let mut rest = deaths;
        while !rest.is_empty() {
            let mut end = rest.len().min(DEATHS_PER_CALL);
            while end < rest.len() && rest[end].number == rest[end - 1].number {
                end += 1;
            }
            let (now, later) = rest.split_at(end);
            self.bury_now(queue, burial, now).await?;
            rest = later;
        }
        Ok(())
    }

    async fn bury_now(
        &self,
        queue: &str,
        burial: &str,
        deaths: &[LateDeath<'_>],
    ) -> RedisResult<()> {
        let mut call = BURY.key(self.keys.dead(queue));
        call.key(format!("{}:buried:{burial}", self.keys.base()));
        call.arg(BURIED_KEPT.as_secs()).arg(ATTEMPT);
        for death in deaths {
            let LateDeath { reason, claim, .. } = death;
            // Without a claim an empty name, of the account all the same, is deleted.
            call.key(self.keys.claim(claim.as_deref().unwrap_or_default()));
            call.arg(death.number)
                .arg(death.job)
                .arg(death.sid)
                .arg(death.lane)
                .arg(reason.code)
                .arg(reason.status.map(|it| it.to_string()).unwrap_or_default())
                .arg(&*reason.detail)
                .arg(reason.pointer.as_deref().unwrap_or_default());
        }
        let buried: Vec<usize> = call.invoke_async(&mut self.redis.clone()).await?;
        self.tell(queue, buried.iter().filter_map(|place| deaths.get(*place)));
        Ok(())
    }

    fn tell<'a>(&self, queue: &'a str, buried: impl Iterator<Item = &'a LateDeath<'a>>) {
        let Some(observer) = &self.observer else {
            return;
        };
        let attempts: Vec<Attempted<'_>> = buried
            .map(|death| Attempted {
                queue,
                kind: Some(death.kind),
                fate: Fate::Buried(death.reason.code),
                attempt: ATTEMPT,
                call: None,
                reason: Some(death.reason),
                payload: death.job.as_bytes(),
                sid: EntryId::parse(death.sid).unwrap_or(EntryId::ZERO),
            })
            .collect();
        let settled: Vec<Settled<'_>> = attempts
            .iter()
            .map(|it| Settled {
                queue,
                kind: it.kind,
                fate: it.fate,
                enqueued: it.sid,
            })
            .collect();
        observer.settled(&settled);
        observer.attempted(&attempts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_redis::PrivateRedis;
    use crate::queue::Redis;
    use tempfile::TempDir;

    #[tokio::test]
    async fn a_burial_that_redis_refused_in_the_middle_is_made_up_for() {
        let folder = TempDir::new().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        let mut redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
        let dead = Keys::default().dead("lists");
        // One place is left on the stream.
        let mut last = cmd("XADD");
        last.arg(&dead)
            .arg(format!("{0}-{1}", u64::MAX, u64::MAX - 1));
        let last = last.arg("job").arg("{}");
        last.query_async::<()>(&mut redis).await.unwrap();

        let outbox = Outbox::new(redis.clone(), Keys::default());
        let reason = Reason::expired();
        let deaths = [0, 1, 1].map(|number| death(number, &reason));
        outbox.bury("lists", "import", &deaths).await.unwrap_err();
        let mut delete = cmd("DEL");
        delete.arg(&dead);
        delete.query_async::<()>(&mut redis).await.unwrap();
        outbox.bury("lists", "import", &deaths).await.unwrap();
        // The first was written, and went with the stream.
        assert_eq!(letters(&mut redis).await, 2);
    }

    fn death(number: usize, reason: &Reason) -> LateDeath<'_> {
        LateDeath {
            kind: "list.add",
            number,
            lane: "live",
            sid: "1-1",
            claim: None,
            job: "{}",
            reason,
        }
    }

    async fn letters(redis: &mut Connection) -> usize {
        let mut length = cmd("XLEN");
        length.arg(Keys::default().dead("lists"));
        length.query_async(redis).await.unwrap()
    }

    #[tokio::test]
    async fn a_burial_that_is_repeated_adds_only_what_is_missing_also_at_maxmemory() {
        let folder = TempDir::new().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        let mut redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
        let mut full = cmd("CONFIG");
        full.arg("SET").arg("maxmemory").arg(1);
        full.query_async::<()>(&mut redis).await.unwrap();

        let outbox = Outbox::new(redis.clone(), Keys::default());
        let reason = Reason::expired();
        // Two jobs share each number, so that a call ends between numbers only.
        let deaths: Vec<LateDeath<'_>> = (1..=2 * DEATHS_PER_CALL + 1)
            .map(|place| death(place / 2, &reason))
            .collect();
        for part in [&deaths[..3], &deaths, &deaths] {
            outbox.bury("lists", "import", part).await.unwrap();
        }
        outbox.bury("lists", "other", &deaths[..1]).await.unwrap();
        assert_eq!(letters(&mut redis).await, deaths.len() + 1);
        let mut left = cmd("TTL");
        left.arg(format!("{}:buried:import", Keys::default().base()));
        let left: u64 = left.query_async(&mut redis).await.unwrap();
        assert!(left > 7 * 24 * 60 * 60);
    }
}
