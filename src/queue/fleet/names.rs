//! The keys of what a fleet shares.

use crate::klaviyo::{Barrier, Operation};
use klaviyo_jobs::Keys;

/// Why an operation is closed, where Klaviyo said so.
pub(super) const RETRY_AFTER: &str = "retry_after";

pub(super) fn budget(keys: &Keys, operation: Operation) -> String {
    format!("{}:budget:{}", keys.base(), operation.name())
}

pub(super) fn barrier(keys: &Keys, barrier: Barrier) -> String {
    let sort = match barrier {
        Barrier::Credentials | Barrier::Operation(_) => "gate",
        Barrier::Group(_) => "breaker",
    };
    format!("{}:{sort}:{}", keys.base(), barrier.name())
}

/// A number that changes with everything else.
pub(super) fn version(keys: &Keys) -> String {
    format!("{}:fleet", keys.base())
}
