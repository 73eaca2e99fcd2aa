//! Listens to the queue of one account: one note for each call, and one for each job that went otherwise.

use super::inbox::{Account, Ids, Inbox, Note, Noted};
use crate::queue::{Attempted, Call, Fate as Way, Observer, Settled};
use crate::store::Fate;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The audit of one account.
#[derive(Debug)]
pub struct AccountAudit {
    inbox: Arc<Inbox>,
    account: Arc<Account>,
}

impl AccountAudit {
    pub(super) fn new(inbox: Arc<Inbox>, account: &str) -> Self {
        Self {
            inbox,
            account: Arc::new(Account {
                name: account.into(),
                dropped: AtomicU64::new(0),
            }),
        }
    }

    /// Attempts of the account that are not in the audit, because the database did not take them in time.
    pub fn dropped(&self) -> u64 {
        self.account.dropped.load(Ordering::Relaxed)
    }

    /// How long the oldest attempt, of whichever account, has waited to be written.
    pub fn lag(&self) -> Duration {
        self.inbox.lag()
    }

    fn note(&self, job: &Attempted<'_>, now: Timestamp, jobs: Noted) -> Note {
        // What no call took was decided at once.
        let call = job.call.unwrap_or_else(|| Call {
            id: rand::random(),
            at: now,
        });
        Note {
            account: Arc::clone(&self.account),
            queue: job.queue.into(),
            kind: job.kind.unwrap_or_default(),
            call: call.id,
            started: call.at,
            ended: now,
            came: Instant::now(),
            jobs,
        }
    }
}

impl Observer for AccountAudit {
    fn lot(&self, _: usize) {}

    fn settled(&self, _: &[Settled<'_>]) {}

    fn took_over(&self, _: usize) {}

    fn attempted(&self, attempts: &[Attempted<'_>]) {
        let now = Timestamp::now();
        // A settlement holds the jobs of one lot, so there is one call, rarely more.
        let mut calls: Vec<Note> = Vec::new();
        for job in attempts {
            match (job.fate, job.call) {
                (Way::Delivered, Some(call)) if job.attempt == 1 => {
                    let mut found = calls.iter_mut().rev();
                    let of_call = found.find(|note| note.call == call.id);
                    if let Some(Noted::Delivered(ids)) = of_call.map(|note| &mut note.jobs) {
                        ids.push(&job.id());
                    } else {
                        let mut ids = Ids::default();
                        ids.push(&job.id());
                        calls.push(self.note(job, now, Noted::Delivered(ids)));
                    }
                }
                // Handed back untouched when the daemon stopped: no attempt was made.
                (Way::Snoozed, None) => {}
                _ => {
                    let one = Noted::One(Box::new(fate(job)));
                    self.inbox.put(self.note(job, now, one));
                }
            }
        }
        for call in calls {
            self.inbox.put(call);
        }
    }
}

fn fate(job: &Attempted<'_>) -> Fate {
    Fate {
        id: job.id().into_owned(),
        id_hash: 0,
        attempt: job.attempt,
        outcome: match job.fate {
            Way::Delivered => "delivered",
            Way::Retried => "retry",
            Way::Snoozed => "snooze",
            Way::Buried(_) => "bury",
        },
        code: match job.fate {
            Way::Buried(code) => Some(code),
            _ => job.reason.map(|it| it.code),
        },
        status: job.reason.and_then(|it| it.status),
        pointer: job.reason.and_then(|it| it.pointer.clone()),
    }
}
