//! Jobs that may kill the process that runs them.
//!
//! A job whose holder vanished is *watched*: each time it is about to run, a mark is set in Redis, which goes when the
//! job is settled. Marks that are left tell how many processes died while they ran it; jobs that only waited in a dead
//! process get none. With one mark it runs among other suspects and nothing else, from two on all alone; only a job
//! that took [`DEATHS_ALONE_MAX`] processes down while it was alone is poison.
//!
//! A panic of a handler makes suspects of the jobs of its lot in the same way, but kills none: the job that panics when it
//! is alone has made an attempt.

use crate::queue::connection::Connection;
use crate::queue::job::entry::{EntryId, QueuedJob};
use crate::queue::job::verdict::Reason;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Suspects with one mark that run together.
const TOGETHER_MAX: usize = 100;
/// With so many marks a job runs alone.
const ALONE_FROM: u32 = 2;
/// Processes that one job may take down while it is alone.
pub(crate) const DEATHS_ALONE_MAX: u32 = 3;
/// How long suspects wait for everything else to end; then they let others pass.
const ALONE_PATIENCE: Duration = Duration::from_secs(2);
/// After that they do not try again for a while: each try makes others wait.
const ALONE_PAUSE: Duration = Duration::from_secs(20);
/// Marks outlive every lease and every restart by far.
const MARKS_KEPT_S: i64 = 8 * 24 * 60 * 60;
const ALL: u32 = 1 << 20;
const LOCKED: &str = "nothing panics while it holds this lock";

/// Whether a job has to be by itself.
pub(crate) fn is_suspect(job: &QueuedJob) -> bool {
    job.marks.is_some_and(|marks| marks > 0)
}

/// One of the jobs that ran with this one ended their handler: it is watched, as if a process had died.
pub(crate) fn suspect(job: &mut QueuedJob) {
    job.marks = Some(job.marks.unwrap_or_default().saturating_add(1));
}

/// How many suspects like this one may run together.
pub(crate) fn together(job: &QueuedJob) -> usize {
    if job.marks.is_some_and(|marks| marks >= ALONE_FROM) {
        1
    } else {
        TOGETHER_MAX
    }
}

/// Why a job is given up, if it is.
pub(crate) fn poison(job: &QueuedJob) -> Option<Reason> {
    let deaths = job.marks?.checked_sub(ALONE_FROM)?;
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

/// Lets lots run beside each other, or suspects alone.
#[derive(Debug)]
pub(crate) struct Isolation {
    permits: Arc<Semaphore>,
    alone_not_before: Mutex<Instant>,
}

/// The right to run a lot.
#[derive(Debug)]
pub(crate) struct Access {
    permit: OwnedSemaphorePermit,
}

impl Access {
    pub(crate) fn is_alone(&self) -> bool {
        self.permit.num_permits() == ALL as usize
    }
}

impl Isolation {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(ALL as usize)),
            alone_not_before: Mutex::new(Instant::now()),
        }
    }

    /// Waits until a lot may run beside others.
    pub(crate) async fn enter(&self) -> Access {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        Access {
            permit: permit.expect("this semaphore is never closed"),
        }
    }

    /// Whether suspects may try to be alone.
    pub(crate) fn may_be_tried(&self) -> bool {
        Instant::now() >= *self.alone_not_before.lock().expect(LOCKED)
    }

    /// Waits until everything else has ended, if that is soon.
    pub(crate) async fn enter_alone(&self) -> Option<Access> {
        if !self.may_be_tried() {
            return None;
        }
        let all = Arc::clone(&self.permits).acquire_many_owned(ALL);
        if let Ok(all) = timeout(ALONE_PATIENCE, all).await {
            let permit = all.expect("this semaphore is never closed");
            return Some(Access { permit });
        }
        *self.alone_not_before.lock().expect(LOCKED) = Instant::now() + ALONE_PAUSE;
        None
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
        format!("{}:running-suspects", self.keys.base())
    }

    fn field(&self, id: EntryId) -> String {
        format!("{}|{id}", self.stream)
    }

    /// Sets one more mark on each job.
    pub(crate) async fn add(&self, redis: &mut Connection, ids: &[EntryId]) -> RedisResult<()> {
        // The first write needs no memory: also a full Redis must find out what kills.
        static ADD: LazyLock<Script> = LazyLock::new(|| {
            Script::new(
                "redis.call('HDEL', KEYS[1], '') \
                 for i = 2, #ARGV do redis.call('HINCRBY', KEYS[1], ARGV[i], 1) end \
                 redis.call('EXPIRE', KEYS[1], ARGV[1])",
            )
        });
        let mut call = ADD.key(self.key());
        call.arg(MARKS_KEPT_S);
        for id in ids {
            call.arg(self.field(*id));
        }
        call.invoke_async(redis).await
    }

    /// Reads how many marks each job has.
    pub(crate) async fn read(
        &self,
        redis: &mut Connection,
        ids: &[EntryId],
    ) -> RedisResult<Vec<u32>> {
        let fields: Vec<String> = ids.iter().map(|id| self.field(*id)).collect();
        let mut call = redis::cmd("HMGET");
        let marks: Vec<Option<u32>> = call.arg(self.key()).arg(fields).query_async(redis).await?;
        Ok(marks.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Removes all marks of jobs that are settled.
    pub(crate) async fn clear(&self, redis: &mut Connection, ids: &[EntryId]) -> RedisResult<()> {
        let fields: Vec<String> = ids.iter().map(|id| self.field(*id)).collect();
        let mut call = redis::cmd("HDEL");
        call.arg(self.key()).arg(fields).query_async(redis).await
    }
}
