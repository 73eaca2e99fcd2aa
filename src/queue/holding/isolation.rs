//! Who may run beside whom: lots beside each other, or suspects with nothing else in the process.
//!
//! Neither keeps the other out: suspects begin when everything else has ended, and then the others have as long as they
//! had to wait.

use crate::queue::holding::clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long suspects wait for everything else to end; then they let others pass.
const ALONE_PATIENCE: Duration = Duration::from_secs(2);
/// After that they do not try again for a while: each try makes others wait.
const ALONE_PAUSE: Duration = Duration::from_secs(20);
/// A process is young for one lease, and no longer than this.
const YOUNG_MAX: Duration = Duration::from_secs(30);
const ALL: u32 = 1 << 20;
const LOCKED: &str = "nothing panics while it holds this lock";

/// Lets lots run beside each other, or suspects alone.
#[derive(Debug)]
pub(crate) struct Isolation {
    permits: Arc<Semaphore>,
    alone_not_before: Arc<Mutex<Instant>>,
    gathering: AtomicBool,
}

/// The right to run a lot.
#[derive(Debug)]
pub(crate) struct Access {
    /// It is dropped first: whoever enters next has to know when it may.
    alone: Option<Alone>,
    _permit: OwnedSemaphorePermit,
}

/// Others wait for suspects.
#[derive(Debug)]
struct Alone {
    since: Instant,
    not_before: Arc<Mutex<Instant>>,
}

impl Access {
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let now = clock::now();
        *self.not_before.lock().expect(LOCKED) = now + (now - self.since);
    }
}

impl Isolation {
    /// Suspects have to wait until the process has lived for one lease: while something else keeps ending processes, the
    /// end of a young one says nothing about them. A process that took the place of one that died is nearly that old when
    /// the jobs come to it.
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(ALL as usize)),
            alone_not_before: Arc::new(Mutex::new(clock::now() + lease.min(YOUNG_MAX))),
            gathering: AtomicBool::new(false),
        }
    }

    /// Whether jobs are being taken over: how many suspects there are is known when that has ended, and they wait for it.
    pub(crate) fn set_gathering(&self, gathering: bool) {
        self.gathering.store(gathering, Ordering::SeqCst);
    }

    /// Waits until a lot may run beside others.
    pub(crate) async fn enter(&self) -> Access {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        Access {
            _permit: permit.expect("this semaphore is never closed"),
            alone: None,
        }
    }

    /// Whether suspects may try to be alone.
    pub(crate) fn may_be_tried(&self) -> bool {
        !self.gathering.load(Ordering::SeqCst)
            && clock::now() >= *self.alone_not_before.lock().expect(LOCKED)
    }

    /// Suspects have waited for long enough.
    #[cfg(test)]
    pub(crate) fn end_wait(&self) {
        *self.alone_not_before.lock().expect(LOCKED) = clock::now();
    }

    /// Waits until everything else has ended, if that is soon.
    pub(crate) async fn enter_alone(&self) -> Option<Access> {
        if !self.may_be_tried() {
            return None;
        }
        let since = clock::now();
        let all = Arc::clone(&self.permits).acquire_many_owned(ALL);
        if let Ok(all) = timeout(ALONE_PATIENCE, all).await {
            // Suspects of another kind may have been alone meanwhile: then it is the turn of everything else.
            if !self.may_be_tried() {
                return None;
            }
            let not_before = Arc::clone(&self.alone_not_before);
            return Some(Access {
                _permit: all.expect("this semaphore is never closed"),
                alone: Some(Alone { since, not_before }),
            });
        }
        *self.alone_not_before.lock().expect(LOCKED) = clock::now() + ALONE_PAUSE;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn suspects_wait_until_the_process_has_lived_for_a_lease_and_all_are_there() {
        let isolation = Isolation::new(LEASE);
        clock::advance(LEASE / 2);
        assert!(isolation.enter_alone().await.is_none());
        clock::advance(LEASE / 2);
        isolation.set_gathering(true);
        assert!(isolation.enter_alone().await.is_none());
        isolation.set_gathering(false);
        assert!(isolation.enter_alone().await.unwrap().is_alone());
    }

    #[tokio::test]
    async fn others_have_as_long_as_they_waited_for_suspects() {
        let isolation = Isolation::new(Duration::ZERO);
        let alone = isolation.enter_alone().await.unwrap();
        clock::advance(LEASE);
        drop(alone);
        clock::advance(LEASE / 2);
        assert!(isolation.enter_alone().await.is_none());
        assert!(!isolation.enter().await.is_alone());
        clock::advance(LEASE);
        assert!(isolation.enter_alone().await.is_some());
    }
}
