//! The rules: which jobs become which calls, and what an answer means for each job.
//!
//! Services report [`Outcome`]s; what becomes of a job is decided in `worker::verdict` alone.

mod audit;
mod bulk;
mod events;
mod follow_up;
pub mod health;
mod merge;
pub mod operations;
mod outcome;
mod profiles;
mod received;
mod records;
mod refused;
mod rows;
mod ways;

pub use audit::{AccountAudit, Audit, Outage};
pub use events::Events;
pub use follow_up::FollowImport;
pub use outcome::{Failure, Outcome};
pub use profiles::Profiles;
pub use records::{OtherDatabase, Records, Retention};
pub use ways::{no_way_left, ways_of};

/// All services of one account.
#[derive(Debug)]
pub struct Services {
    /// Events.
    pub events: Events,
    /// Profiles.
    pub profiles: Profiles,
}
