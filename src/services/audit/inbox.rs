//! What waits to be written, bounded in bytes.
//!
//! Putting something in never waits: when it is full, it is dropped and counted. Ids are kept as text here, one after the
//! other; the writer makes hashes of them, so that the queue need not.

use crate::store::Fate;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes that wait: minutes of an account's limit, seconds of a bench.
const BYTES_MAX: usize = 16 << 20;
const NOTE_BYTES: usize = 160;
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Whose jobs they are, and how many of them the audit lacks.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: Arc<str>,
    pub(super) dropped: AtomicU64,
}

/// Jobs of one call that share a way, or one job with a way of its own.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) account: Arc<Account>,
    pub(super) queue: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) call: u64,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) came: Instant,
    pub(super) jobs: Noted,
}

#[derive(Debug)]
pub(super) enum Noted {
    /// At the first try.
    Delivered(Ids),
    /// Its hash is not made yet.
    One(Box<Fate>),
}

/// Many texts in one.
#[derive(Debug, Default)]
pub(super) struct Ids {
    text: String,
    ends: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    pub(super) arrived: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<Note>,
    bytes: usize,
    /// When the oldest came that is taken out and not yet written.
    in_hand: Option<Instant>,
    warned: Option<Instant>,
    is_closed: bool,
}

impl Inbox {
    pub(super) fn put(&self, note: Note) {
        let mut waiting = self.waiting();
        let bytes = note.bytes();
        if waiting.is_closed || waiting.bytes + bytes > BYTES_MAX {
            note.drop_jobs();
            self.drop_jobs(note.count(), &mut waiting);
            return;
        }
        waiting.bytes += bytes;
        waiting.notes.push_back(note);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes the oldest out; they count as waiting until [`Self::done`].
    pub(super) fn take(&self, bytes_max: usize) -> Vec<Note> {
        let mut waiting = self.waiting();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(note) = waiting.notes.pop_front()
        {
            bytes += note.bytes();
            taken.push(note);
        }
        waiting.bytes -= bytes;
        waiting.in_hand = taken.first().map(|note| note.came);
        taken
    }

    /// What was taken is written.
    pub(super) fn done(&self) {
        self.waiting().in_hand = None;
    }

    /// What was taken cannot be written.
    pub(super) fn drop_taken(&self, taken: &[(Arc<Account>, usize)]) {
        let mut waiting = self.waiting();
        waiting.in_hand = None;
        for (account, jobs) in taken {
            account.drop_jobs(*jobs);
        }
        let jobs = taken.iter().map(|(_, jobs)| jobs).sum();
        self.drop_jobs(jobs, &mut waiting);
    }

    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.arrived.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting().is_closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().notes.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn lag(&self) -> Duration {
        let waiting = self.waiting();
        let oldest = waiting.notes.front().map(|note| note.came);
        let oldest = waiting.in_hand.or(oldest);
        oldest.map_or(Duration::ZERO, |came| came.elapsed())
    }

    fn drop_jobs(&self, jobs: usize, waiting: &mut Waiting) {
        let more = u64::try_from(jobs).unwrap_or(u64::MAX);
        let dropped = self.dropped.fetch_add(more, Ordering::Relaxed) + more;
        if waiting.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            waiting.warned = Some(Instant::now());
            tracing::warn!(
                dropped,
                "the database takes the audit too slowly: attempts are missing from it; delivery goes on"
            );
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding it")
    }
}

impl Account {
    fn drop_jobs(&self, jobs: usize) {
        let jobs = u64::try_from(jobs).unwrap_or(u64::MAX);
        self.dropped.fetch_add(jobs, Ordering::Relaxed);
    }
}

impl Note {
    fn drop_jobs(&self) {
        self.account.drop_jobs(self.count());
    }

    pub(super) fn count(&self) -> usize {
        match &self.jobs {
            Noted::Delivered(ids) => ids.ends.len(),
            Noted::One(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        let own = match &self.jobs {
            Noted::Delivered(ids) => ids.text.len() + ids.ends.len() * size_of::<u32>(),
            Noted::One(fate) => {
                fate.id.len() + fate.pointer.as_ref().map_or(0, |it| it.len()) + NOTE_BYTES
            }
        };
        NOTE_BYTES + own
    }
}

impl Ids {
    pub(super) fn push(&mut self, id: &str) {
        self.text.push_str(id);
        let end =
            u32::try_from(self.text.len()).expect("a lot has no 16 million ids of 255 characters");
        self.ends.push(end);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let ends = self.ends.iter().map(|end| *end as usize);
        let starts = [0].into_iter().chain(ends.clone());
        starts.zip(ends).map(|(start, end)| &self.text[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Account> {
        Arc::new(Account {
            name: "default".into(),
            dropped: AtomicU64::new(0),
        })
    }

    fn note(account: &Arc<Account>, ids: usize) -> Note {
        let mut delivered = Ids::default();
        for number in 0..ids {
            delivered.push(&format!("order-{number}"));
        }
        let now = Timestamp::UNIX_EPOCH;
        Note {
            account: Arc::clone(account),
            queue: "event-tracking".into(),
            kind: "event.track",
            call: 1,
            started: now,
            ended: now,
            came: Instant::now(),
            jobs: Noted::Delivered(delivered),
        }
    }

    #[test]
    fn a_full_inbox_drops_and_counts_what_comes_and_keeps_what_is_there() {
        let (inbox, account) = (Inbox::default(), account());
        while inbox.dropped() == 0 {
            inbox.put(note(&account, 1_000));
        }
        assert_eq!(inbox.dropped(), 1_000);
        assert_eq!(account.dropped.load(Ordering::Relaxed), 1_000);
        let kept = inbox.take(usize::MAX);
        assert!(kept.len() > 500, "{}", kept.len());
        inbox.put(note(&account, 1));
        assert_eq!((inbox.dropped(), inbox.take(usize::MAX).len()), (1_000, 1));
    }

    #[test]
    fn what_is_in_hand_still_waits_until_it_is_written() {
        let inbox = Inbox::default();
        assert_eq!(inbox.lag(), Duration::ZERO);
        inbox.put(note(&account(), 1));
        assert_eq!(inbox.take(1).len(), 1);
        assert!(inbox.lag() > Duration::ZERO);
        inbox.done();
        assert_eq!(inbox.lag(), Duration::ZERO);
    }

    #[test]
    fn ids_come_out_as_they_went_in() {
        let mut ids = Ids::default();
        for id in ["a", "", "bé"] {
            ids.push(id);
        }
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["a", "", "bé"]);
    }
}
