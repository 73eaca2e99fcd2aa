//! The audit: what became of every job, told by the queue and written to the database behind its back.
//!
//! Nothing here makes a delivery wait. What the database does not take in time is counted as dropped, and said aloud.

mod inbox;
mod observe;
mod outage;
mod write;

pub use observe::AccountAudit;
pub use outage::Outage;
pub(crate) use write::{Keep, write};

use inbox::Inbox;
use std::sync::Arc;
use std::time::Duration;

/// Where attempts wait to be written. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    inbox: Arc<Inbox>,
}

impl Audit {
    /// Creates who listens to the queue of an account.
    pub fn of_account(&self, account: &str) -> Arc<AccountAudit> {
        Arc::new(AccountAudit::new(Arc::clone(&self.inbox), account))
    }

    /// Attempts of all accounts that are not in the audit, because the database did not take them in time.
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    /// How long the oldest attempt has waited to be written.
    pub fn lag(&self) -> Duration {
        self.inbox.lag()
    }

    /// Takes nothing more; what waits is written, and then writing ends.
    pub(crate) fn close(&self) {
        self.inbox.close();
    }
}
