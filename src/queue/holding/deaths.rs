//! How many processes died while they ran a job.
//!
//! A job whose holder vanished is *watched*: each time it is about to run, a mark is set in Redis, which goes when the
//! job is settled. Marks that are left tell how many processes died while they ran it; jobs that only waited in a dead
//! process get none.

use crate::queue::connection::Connection;
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::Reason;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script};
use std::sync::LazyLock;

/// Processes that one job may take down while it is alone.
pub(crate) const DEATHS_ALONE_MAX: u32 = 3;
/// A mark that is set while the job is alone; in one number with the others, so that one command sets and reads both.
const ALONE: u32 = 1 << 16;
/// Suspects that run together after a second death beside others.
const FEW: usize = 32;
/// Marks outlive every lease and every restart by far.
const MARKS_KEPT_S: i64 = 8 * 24 * 60 * 60;

/// The marks of a job. More deaths while it was alone are more than any while it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deaths(u32);

impl Deaths {
    pub(crate) const NONE: Self = Self(0);

    /// With how many others a job may run after so many deaths: as many as there are, few, none. However many jobs kill,
    /// each death leads on.
    pub(crate) fn together_max(self) -> usize {
        match self.0 {
            0 | 1 => usize::MAX,
            2 => FEW,
            _ => 1,
        }
    }

    fn alone(self) -> u32 {
        self.0 / ALONE
    }

    /// One of the jobs that ran with this one ended their handler: it counts as if a process had died.
    pub(crate) fn one_more(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Why the job is given up, if it is.
    pub(crate) fn poison(self) -> Option<Reason> {
        let deaths = self.alone();
        (deaths >= DEATHS_ALONE_MAX).then(|| Reason {
            code: "poison",
            status: None,
            detail: format!(
                "{deaths} processes ended while they ran this job and nothing else; look at their last log lines, and discard or edit the job"
            )
            .into(),
            pointer: None,
        })
    }
}

impl From<u32> for Deaths {
    fn from(marks: u32) -> Self {
        Self(marks)
    }
}

/// The marks of an account.
pub(crate) struct Marks<'a> {
    pub(crate) keys: &'a Keys,
    /// The stream that the jobs are on.
    pub(crate) stream: &'a str,
}

impl Marks<'_> {
    pub(crate) fn key(&self) -> String {
        format!("{}:deaths", self.keys.base())
    }

    fn field(&self, id: EntryId) -> String {
        format!("{}|{id}", self.stream)
    }

    /// Sets one more mark on each job.
    pub(crate) async fn add(
        &self,
        redis: &mut Connection,
        ids: &[EntryId],
        alone: bool,
    ) -> RedisResult<()> {
        // The first write needs no memory: also a full Redis must find out what kills.
        static ADD: LazyLock<Script> = LazyLock::new(|| {
            Script::new(
                "redis.call('HDEL', KEYS[1], '') \
                 for i = 3, #ARGV do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[2]) end \
                 redis.call('EXPIRE', KEYS[1], ARGV[1])",
            )
        });
        let mut call = ADD.key(self.key());
        call.arg(MARKS_KEPT_S).arg(if alone { ALONE } else { 1 });
        for id in ids {
            call.arg(self.field(*id));
        }
        call.invoke_async(redis).await
    }

    /// Reads the marks of each job.
    pub(crate) async fn read(
        &self,
        redis: &mut Connection,
        ids: &[EntryId],
    ) -> RedisResult<Vec<Deaths>> {
        let fields: Vec<String> = ids.iter().map(|id| self.field(*id)).collect();
        let mut call = redis::cmd("HMGET");
        let marks: Vec<Option<u32>> = call.arg(self.key()).arg(fields).query_async(redis).await?;
        let deaths = |marks: Option<u32>| marks.map_or(Deaths::NONE, Deaths::from);
        Ok(marks.into_iter().map(deaths).collect())
    }

    /// Removes all marks of jobs that are settled.
    pub(crate) async fn clear(&self, redis: &mut Connection, ids: &[EntryId]) -> RedisResult<()> {
        let fields: Vec<String> = ids.iter().map(|id| self.field(*id)).collect();
        let mut call = redis::cmd("HDEL");
        call.arg(self.key()).arg(fields).query_async(redis).await
    }
}
