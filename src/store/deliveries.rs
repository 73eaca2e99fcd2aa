//! The audit: what became of every job, written in batches and cleaned in chunks.
//!
//! A batch that fails at its very end may have been written all the same; writing it again then leaves rows twice, which
//! an audit bears better than a gap.

use super::database::{Statement, Value};
use super::deployment::Store;
use super::error::Error;
use super::hash::blob;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

/// Rows one statement inserts.
const ROWS_PER_INSERT: usize = 50;
/// Rows one cleaning deletes: nobody else writes to a `SQLite` file meanwhile.
const ROWS_PER_CLEANING: i64 = 500;
/// The rows of what time share an entry of `delivery_spans`.
const SPAN_MS: i64 = 600_000;
/// What a row costs beside its texts and hashes, with its places in the indexes.
const ROW_BYTES: usize = 200;

const COLUMNS: [&str; 15] = [
    "account",
    "queue",
    "kind",
    "call_id",
    "started_ms",
    "ended_ms",
    "jobs",
    "outcome",
    "id_hashes",
    "job_id",
    "id_hash",
    "attempt",
    "code",
    "status",
    "pointer",
];

/// What a call did to one or more jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The account.
    pub account: Arc<str>,
    /// The queue.
    pub queue: Arc<str>,
    /// The kind; empty where the job had none.
    pub kind: Arc<str>,
    /// What the rows of one call share.
    pub call: u64,
    /// When the call took its jobs.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// Which jobs.
    pub jobs: Jobs,
}

/// The jobs of a [`Delivery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// Delivered at the first try; sorted hashes of their ids.
    Delivered(Vec<u64>),
    /// One attempt of one job that took more, or went otherwise.
    One(Box<Fate>),
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Its id.
    pub id: String,
    /// The hash of its id.
    pub id_hash: u64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// `delivered`, `retry`, `snooze` or `bury`.
    pub outcome: &'static str,
    /// The stable code of what went wrong.
    pub code: Option<&'static str>,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Where in the job.
    pub pointer: Option<Arc<str>>,
}

impl Delivery {
    /// About how many bytes it takes in the database.
    pub fn bytes(&self) -> usize {
        let names = self.account.len() + self.queue.len() + self.kind.len();
        let own = match &self.jobs {
            Jobs::Delivered(hashes) => 8 * hashes.len(),
            Jobs::One(fate) => fate.id.len() + fate.pointer.as_ref().map_or(0, |it| it.len()),
        };
        ROW_BYTES + names + own
    }

    /// How many jobs it is about.
    pub fn jobs(&self) -> usize {
        match &self.jobs {
            Jobs::Delivered(hashes) => hashes.len(),
            Jobs::One(_) => 1,
        }
    }

    fn values(&self) -> [Value; COLUMNS.len()] {
        let int = |number: u64| Value::from(number.cast_signed());
        let jobs = i64::try_from(self.jobs()).unwrap_or(i64::MAX);
        let fate = match &self.jobs {
            Jobs::Delivered(_) => None,
            Jobs::One(fate) => Some(fate),
        };
        let hashes = match &self.jobs {
            Jobs::Delivered(hashes) => Some(blob(hashes)),
            Jobs::One(_) => None,
        };
        [
            Value::from(&*self.account),
            Value::from(&*self.queue),
            Value::from(&*self.kind),
            int(self.call),
            self.started.as_millisecond().into(),
            self.ended.as_millisecond().into(),
            jobs.into(),
            fate.map_or("delivered", |it| it.outcome).into(),
            Value::Blob(hashes),
            fate.map(|it| it.id.clone()).into(),
            fate.map_or(Value::Int(None), |it| int(it.id_hash)),
            Value::Int(fate.map(|it| it.attempt.into())),
            fate.and_then(|it| it.code).map(str::to_owned).into(),
            Value::Int(fate.and_then(|it| it.status).map(i64::from)),
            fate.and_then(|it| it.pointer.as_deref())
                .map(str::to_owned)
                .into(),
        ]
    }
}

impl Store {
    /// Writes a batch: all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn write_deliveries(&self, batch: &[Delivery]) -> Result<(), Error> {
        let mut spans: BTreeMap<i64, usize> = BTreeMap::new();
        for delivery in batch {
            *spans.entry(span(delivery.ended)).or_default() += delivery.bytes();
        }
        let inserts = batch.chunks(ROWS_PER_INSERT).map(insert);
        let spans = spans.into_iter().map(|(span, bytes)| {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            Statement::new(
                "INSERT INTO delivery_spans (span_ms, bytes) VALUES ($1, $2) \
                 ON CONFLICT (span_ms) DO UPDATE SET bytes = delivery_spans.bytes + excluded.bytes",
                [span.into(), bytes.into()],
            )
        });
        let written = self.database.write(inserts.chain(spans).collect()).await;
        written.map(|_| ()).map_err(Error::query("write the audit"))
    }

    /// Deletes some of the oldest deliveries that ended before `before`, or that make the audit larger than
    /// `bytes_max`; returns how many. Zero means that nothing is left to delete, or that another daemon was faster.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn clean_deliveries(&self, before: Timestamp, bytes_max: u64) -> Result<u64, Error> {
        let cleaned = self.clean(before.as_millisecond(), bytes_max).await;
        cleaned.map_err(Error::query("clean the audit"))
    }

    async fn clean(&self, before: i64, bytes_max: u64) -> sqlx::Result<u64> {
        let before = before.max(self.too_much_before(bytes_max).await?);
        let delete = Statement::new(
            "DELETE FROM deliveries WHERE entry IN \
             (SELECT entry FROM deliveries WHERE ended_ms < $1 ORDER BY ended_ms LIMIT $2)",
            [before.into(), ROWS_PER_CLEANING.into()],
        );
        let deleted = self.database.write(vec![delete]).await?;
        if deleted == 0 {
            // Zero is no proof: another daemon may have deleted the very rows that we chose, and what is left of a span
            // must go on counting.
            let emptied = Statement::new(
                "DELETE FROM delivery_spans WHERE span_ms <= $1 AND NOT EXISTS (SELECT 1 FROM deliveries \
                 WHERE ended_ms >= delivery_spans.span_ms AND ended_ms < delivery_spans.span_ms + $2)",
                [before.saturating_sub(SPAN_MS).into(), SPAN_MS.into()],
            );
            self.database.write(vec![emptied]).await?;
        }
        Ok(deleted)
    }

    /// Returns the end of the newest span that no longer fits.
    async fn too_much_before(&self, bytes_max: u64) -> sqlx::Result<i64> {
        let newest_first = Statement::new(
            "SELECT span_ms, bytes FROM delivery_spans ORDER BY span_ms DESC",
            [],
        );
        let mut sum = 0_u64;
        for row in self.database.read(newest_first).await? {
            sum = sum.saturating_add(u64::try_from(row.get::<i64>("bytes")?).unwrap_or(0));
            if sum > bytes_max {
                return Ok(row.get::<i64>("span_ms")? + SPAN_MS);
            }
        }
        Ok(i64::MIN)
    }
}

fn span(ended: Timestamp) -> i64 {
    let ms = ended.as_millisecond();
    ms - ms.rem_euclid(SPAN_MS)
}

fn insert(rows: &[Delivery]) -> Statement {
    static FULL: LazyLock<SqlStr> = LazyLock::new(|| insert_text(ROWS_PER_INSERT));
    let values = rows.iter().flat_map(Delivery::values).collect();
    if rows.len() == ROWS_PER_INSERT {
        Statement::made(FULL.clone(), values, true)
    } else {
        // Every length is a text of its own: preparing them all would push out what is used often.
        Statement::made(insert_text(rows.len()), values, false)
    }
}

fn insert_text(rows: usize) -> SqlStr {
    let mut text = format!("INSERT INTO deliveries ({}) VALUES", COLUMNS.join(", "));
    for row in 0..rows {
        text.push_str(if row == 0 { " (" } else { ", (" });
        for column in 1..=COLUMNS.len() {
            let comma = if column == 1 { "" } else { ", " };
            write!(text, "{comma}${}", row * COLUMNS.len() + column)
                .expect("writing to a text cannot fail");
        }
        text.push(')');
    }
    AssertSqlSafe(text).into_sql_str()
}
