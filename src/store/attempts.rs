//! Finds what became of one job.
//!
//! Attempts that went otherwise than smoothly are found by an index. For the rest the calls of its kind are searched,
//! newest first, as far back as any are kept, until one holds the id; that search has a limit in time, and its result
//! says how far it came.

use super::database::{Row, Statement, Value};
use super::deployment::Store;
use super::error::Error;
use super::hash::holds;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Attempts of one job that are returned: the newest.
const ATTEMPTS_MAX: i64 = 500;
/// How long calls are searched.
const SEARCH_MAX: Duration = Duration::from_secs(10);
/// How much the clocks of Redis and of a daemon may differ.
const CLOCKS_DIFFER_MAX: SignedDuration = SignedDuration::from_mins(10);
/// Calls of one page; the largest have 1,000 hashes.
const CALLS_PER_PAGE: i64 = 200;

/// One attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// `delivered`, `retry`, `snooze` or `bury`.
    pub outcome: String,
    /// The stable code of what went wrong.
    pub code: Option<String>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Where in the job.
    pub pointer: Option<String>,
    /// When the call took the job.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
    /// What the jobs of one call share.
    pub call: String,
}

/// What was found of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// The attempts, oldest first.
    pub found: Vec<Attempt>,
    /// Calls that ended before this were not searched.
    pub searched_back_to: Timestamp,
    /// Whether the search ended early: an older call may hold the job.
    pub is_cut: bool,
}

impl Store {
    /// Finds the attempts of a job; of every kind if none is given.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn attempts(
        &self,
        account: &str,
        kind: Option<&str>,
        id: &str,
    ) -> Result<Attempts, Error> {
        let found = self.find(account, kind, id, Timestamp::now()).await;
        found.map_err(Error::query("read the audit"))
    }

    async fn find(
        &self,
        account: &str,
        kind: Option<&str>,
        id: &str,
        now: Timestamp,
    ) -> sqlx::Result<Attempts> {
        // A job without an id of its own is named after its place on the queue, which tells when it came.
        let since = named_at(id).unwrap_or(Timestamp::UNIX_EPOCH);
        let kinds = match kind {
            Some(kind) => vec![kind.to_owned()],
            None => self.kinds(account).await?,
        };
        let mut attempts = Attempts {
            found: Vec::new(),
            searched_back_to: since,
            is_cut: false,
        };
        let deadline = Instant::now() + SEARCH_MAX;
        for kind in &kinds {
            let hash = self.hasher().hash(kind, id);
            for row in self.indexed(account, kind, id, hash).await? {
                attempts.found.push(attempt(&row)?);
            }
            let mut search = Search {
                store: self,
                account,
                kind,
                hash,
                since,
                before: (i64::MAX, i64::MAX),
            };
            if let Some(row) = search.run(deadline).await? {
                attempts.found.push(attempt(&row)?);
            } else if search.before.0 > since.as_millisecond() && Instant::now() >= deadline {
                attempts.is_cut = true;
                let reached = Timestamp::from_millisecond(search.before.0).unwrap_or(now);
                attempts.searched_back_to = attempts.searched_back_to.max(reached.min(now));
            }
        }
        attempts.found.sort_by_key(|it| (it.ended_at, it.attempt));
        Ok(attempts)
    }

    async fn indexed(
        &self,
        account: &str,
        kind: &str,
        id: &str,
        hash: u64,
    ) -> sqlx::Result<Vec<Row>> {
        let select = Statement::new(
            "SELECT queue, kind, attempt, outcome, code, status, pointer, started_ms, ended_ms, call_id \
             FROM deliveries WHERE id_hash = $1 AND account = $2 AND kind = $3 AND job_id = $4 \
             ORDER BY ended_ms DESC LIMIT $5",
            [
                hash.cast_signed().into(),
                Value::from(account),
                kind.into(),
                id.into(),
                ATTEMPTS_MAX.into(),
            ],
        );
        self.database.read(select).await
    }

    /// The kinds of an account, each found by one step along the index.
    async fn kinds(&self, account: &str) -> sqlx::Result<Vec<String>> {
        let mut kinds: Vec<String> = Vec::new();
        let mut next = Statement::new(
            "SELECT MIN(kind) AS kind FROM deliveries WHERE account = $1",
            [account.into()],
        );
        loop {
            let rows = self.database.read(next).await?;
            let found: Option<String> = rows.first().map_or(Ok(None), |row| row.get("kind"))?;
            let Some(kind) = found else { return Ok(kinds) };
            next = Statement::new(
                "SELECT MIN(kind) AS kind FROM deliveries WHERE account = $1 AND kind > $2",
                [account.into(), kind.as_str().into()],
            );
            kinds.push(kind);
        }
    }
}

/// A search through the calls of a kind, newest first.
struct Search<'a> {
    store: &'a Store,
    account: &'a str,
    kind: &'a str,
    hash: u64,
    since: Timestamp,
    /// The end and the entry of the last call that was searched.
    before: (i64, i64),
}

impl Search<'_> {
    async fn run(&mut self, deadline: Instant) -> sqlx::Result<Option<Row>> {
        while Instant::now() < deadline {
            let page = self.page().await?;
            for row in &page {
                self.before = (row.get("ended_ms")?, row.get("entry")?);
            }
            let is_last = i64::try_from(page.len()).unwrap_or(i64::MAX) < CALLS_PER_PAGE;
            for row in page {
                let hashes: Vec<u8> = row.get("id_hashes")?;
                if holds(&hashes, self.hash) {
                    return Ok(Some(row));
                }
            }
            if is_last {
                self.before.0 = self.since.as_millisecond();
                return Ok(None);
            }
        }
        Ok(None)
    }

    async fn page(&self) -> sqlx::Result<Vec<Row>> {
        let select = Statement::new(
            "SELECT entry, queue, kind, attempt, outcome, code, status, pointer, started_ms, ended_ms, call_id, id_hashes \
             FROM deliveries WHERE account = $1 AND kind = $2 AND ended_ms >= $3 AND ended_ms <= $4 \
             AND (ended_ms < $4 OR entry < $5) AND id_hashes IS NOT NULL \
             ORDER BY ended_ms DESC, entry DESC LIMIT $6",
            [
                Value::from(self.account),
                self.kind.into(),
                self.since.as_millisecond().into(),
                self.before.0.into(),
                self.before.1.into(),
                CALLS_PER_PAGE.into(),
            ],
        );
        self.store.database.read(select).await
    }
}

fn attempt(row: &Row) -> sqlx::Result<Attempt> {
    let time = |column| {
        let ms = row.get::<i64>(column)?;
        Ok::<_, sqlx::Error>(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH))
    };
    let number = |column| row.get::<Option<i64>>(column);
    Ok(Attempt {
        queue: row.get("queue")?,
        kind: row.get("kind")?,
        // A call that delivered many did so at the first try.
        attempt: number("attempt")?
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(1),
        outcome: row.get("outcome")?,
        code: row.get("code")?,
        status: number("status")?.and_then(|it| u16::try_from(it).ok()),
        pointer: row.get("pointer")?,
        started_at: time("started_ms")?,
        ended_at: time("ended_ms")?,
        call: format!("{:016x}", row.get::<i64>("call_id")?),
    })
}

/// Reads the time out of `<queue>/<milliseconds>-<number>`.
fn named_at(id: &str) -> Option<Timestamp> {
    let (_, place) = id.rsplit_once('/')?;
    let (ms, number) = place.split_once('-')?;
    number.parse::<u64>().ok()?;
    let came = Timestamp::from_millisecond(ms.parse().ok()?).ok()?;
    came.checked_sub(CLOCKS_DIFFER_MAX).ok()
}
