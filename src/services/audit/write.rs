//! Writes what waits to the database, in batches, and deletes what has become too old or too much.

use super::inbox::{Inbox, Note, Noted};
use super::{Audit, Outage};
use crate::store::{Delivery, Error, IdHasher, Jobs, Store};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(250);
/// What one transaction takes.
const BATCH_BYTES: usize = 4 << 20;
/// A database that takes longer is away.
const WRITE_MAX: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_secs(1);
const CLEAN_EVERY: Duration = Duration::from_mins(1);
/// Between two chunks of one cleaning: others want to write too.
const CLEAN_PAUSE: Duration = Duration::from_millis(100);

/// What the audit keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// For how long.
    pub(crate) retention: Duration,
    /// How much.
    pub(crate) bytes_max: u64,
}

/// Writes until the audit is closed and empty. A closed audit whose database is away is given up.
pub(crate) async fn write(audit: &Audit, store: &Store, keep: Keep, outage: &Outage) {
    let inbox = &*audit.inbox;
    let mut clean_at = Instant::now() + CLEAN_PAUSE;
    loop {
        tokio::select! {
            () = something(inbox) => {}
            () = sleep_until(clean_at) => {
                clean_at = Instant::now() + clean(store, keep, outage).await;
            }
        }
        let batch = inbox.take(BATCH_BYTES);
        if !batch.is_empty() {
            write_batch(inbox, store, batch, outage).await;
        } else if inbox.is_closed() {
            return;
        }
    }
}

/// Waits until something is there and had time to gather, or nothing more can come.
async fn something(inbox: &Inbox) {
    while inbox.is_empty() && !inbox.is_closed() {
        inbox.arrived.notified().await;
    }
    if !inbox.is_closed() {
        // Who closes does not wait for the gathering.
        drop(timeout(GATHER, closed(inbox)).await);
    }
}

async fn closed(inbox: &Inbox) {
    while !inbox.is_closed() {
        inbox.arrived.notified().await;
    }
}

async fn write_batch(inbox: &Inbox, store: &Store, batch: Vec<Note>, outage: &Outage) {
    let accounts = batch
        .iter()
        .map(|note| (Arc::clone(&note.account), note.count()));
    let accounts: Vec<_> = accounts.collect();
    let hasher = store.hasher();
    let batch: Vec<Delivery> = batch.into_iter().map(|it| delivery(it, hasher)).collect();
    loop {
        match within(WRITE_MAX, store.write_deliveries(&batch)).await {
            Ok(()) => {
                outage.worked();
                return inbox.done();
            }
            Err(error) => {
                outage.failed(&error);
                if error.is_about_data() || inbox.is_closed() {
                    return inbox.drop_taken(&accounts);
                }
                // The end of waiting is the next try: a stop need not wait for it.
                drop(timeout(TRY_AGAIN, closed(inbox)).await);
            }
        }
    }
}

/// Deletes one chunk, and returns after what time to go on.
async fn clean(store: &Store, keep: Keep, outage: &Outage) -> Duration {
    let before = Timestamp::now()
        .checked_sub(keep.retention)
        .unwrap_or(Timestamp::MIN);
    match within(WRITE_MAX, store.clean_deliveries(before, keep.bytes_max)).await {
        Ok(deleted) => {
            // Without jobs nothing else asks the database, and an outage must end all the same.
            outage.worked();
            if deleted == 0 {
                CLEAN_EVERY
            } else {
                CLEAN_PAUSE
            }
        }
        Err(error) => {
            outage.failed(&error);
            TRY_AGAIN
        }
    }
}

async fn within<T>(
    most: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(most, asked).await.unwrap_or(Err(Error::NoAnswer))
}

fn delivery(note: Note, hasher: &IdHasher) -> Delivery {
    let hash = |id: &str| hasher.hash(note.kind, id);
    let jobs = match note.jobs {
        Noted::Delivered(ids) => {
            let mut hashes: Vec<u64> = ids.iter().map(hash).collect();
            hashes.sort_unstable();
            Jobs::Delivered(hashes)
        }
        Noted::One(mut fate) => {
            fate.id_hash = hash(&fate.id);
            Jobs::One(fate)
        }
    };
    Delivery {
        account: Arc::clone(&note.account.name),
        queue: note.queue,
        kind: note.kind.into(),
        call: note.call,
        started: note.started,
        ended: note.ended,
        jobs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Database;

    #[tokio::test]
    async fn an_outage_ends_without_a_job_once_the_database_can_be_cleaned() {
        let folder = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let database = Database::connect(&url).await.unwrap();
        database.migrate().await.unwrap();
        let store = Store::open(database, None).await.unwrap();
        let keep = Keep {
            retention: Duration::from_hours(1),
            bytes_max: u64::MAX,
        };
        let outage = Outage::default();
        outage.failed(&Error::NoAnswer);
        assert_eq!(clean(&store, keep, &outage).await, CLEAN_EVERY);
        assert_eq!(outage.away_for(), None);
        store.close().await;
        // While it is away it is asked again soon.
        assert_eq!(clean(&store, keep, &outage).await, TRY_AGAIN);
        assert!(outage.away_for().is_some());
    }
}
