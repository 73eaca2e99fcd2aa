//! Queues on Redis Streams: reading, leases, settling, delayed and dead jobs, and the apalis backend over them.
//!
//! A queue knows the envelope of a job, never its payload: which kinds there are it is told. Every move of a job is
//! one script that Redis runs as a whole. The surprising thing: jobs are settled when the last handle of their lot
//! is dropped, so that success, error, panic and cancellation share one way out.

mod actions;
mod attempted;
mod backend;
pub(crate) mod cancel;
mod clock;
mod connection;
mod dead;
mod delayed;
mod deployment;
mod engine;
mod entry;
pub(crate) mod find;
mod fleet;
mod flight;
mod intake;
mod leases;
mod lines;
mod lot;
#[cfg(test)]
mod model;
mod observe;
mod outbox;
mod overview;
pub(crate) mod pause;
pub(crate) mod place;
pub(crate) mod purge;
mod rate;
mod read;
mod replayed;
mod seal;
mod server;
mod settle;
mod suspects;

pub use actions::{OperatorAction, forget_actions, record_action, recorded_actions};
pub use attempted::{Attempted, Call};
pub use backend::LotBackend;
pub use connection::{BadAddress, Connection, Health, Redis, Unreachable, is_unreachable};
pub use dead::{
    DeadJob, DeadRange, MoveBack, Payload, dead_job, dead_page, discard_dead, edit_dead,
    newest_dead, replay_dead,
};
pub use deployment::{adopt_deployment, register_deployment, registered_deployment};
pub use engine::{BYTES_IN_FLIGHT_MAX, Engine, EngineConfig, Outlook, Route};
pub use entry::{EntryId, QueuedJob};
pub use fleet::{BarrierState, Fleet, OperationLimits, operation_limits};
pub use lot::Lot;
pub use observe::{Fate, Observer, Settled};
pub use outbox::{LateDeath, Outbox};
pub use overview::{Overview, overview};
pub use redis::{RedisError, RedisResult};
pub use replayed::Replayed;
pub use server::{Replica, Server, replicas};
pub use settle::{Reason, Retries, Verdict};
