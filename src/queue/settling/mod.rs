//! What becomes of jobs, made so on Redis and told to whoever listens.

pub(crate) mod attempted;
pub(crate) mod observe;
pub(crate) mod outbox;
pub(crate) mod rate;
pub(crate) mod settle;
