//! Queues on Redis Streams: reading, leases, settling, delayed and dead jobs, and the apalis backend over them.
//!
//! A queue knows the envelope of a job, never its payload: which kinds there are it is told. Every move of a job is
//! one script that Redis runs as a whole. The surprising thing: jobs are settled when the last handle of their lot
//! is dropped, so that success, error, panic and cancellation share one way out.

mod connection;
mod dead;
mod engine;
mod fleet;
mod holding;
mod job;
mod lot;
#[cfg(test)]
mod model;
pub(crate) mod operating;
pub(crate) mod reading;
mod settling;
mod vital;

pub use connection::server::{Replica, Server, replicas};
pub use connection::{BadAddress, Connection, Health, Redis, Unreachable, is_unreachable};
pub use dead::{
    DeadJob, DeadRange, MoveBack, Payload, dead_job, dead_page, discard_dead, edit_dead,
    newest_dead, replay_dead,
};
pub use engine::{BYTES_IN_FLIGHT_MAX, Engine, EngineConfig, Outlook, Route};
pub use fleet::{BarrierState, Fleet, OperationLimits, operation_limits};
pub use job::entry::{Backfill, EntryId, QueuedJob};
pub use job::replayed::Replayed;
pub use job::verdict::{Reason, Retries, Verdict};
pub use lot::backend::LotBackend;
pub use lot::open::Lot;
pub use operating::actions::{OperatorAction, forget_actions, record_action, recorded_actions};
pub use operating::deployment::{adopt_deployment, register_deployment, registered_deployment};
pub use operating::overview::{Overview, overview};
pub use redis::{RedisError, RedisResult};
pub use settling::attempted::{Attempted, Call};
pub use settling::observe::{Fate, Observer, Settled};
pub use settling::outbox::{LateDeath, Outbox};
