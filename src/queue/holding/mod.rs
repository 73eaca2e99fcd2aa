//! What this process holds: jobs in flight, their leases, and who runs beside whom.

pub(crate) mod clock;
pub(crate) mod deaths;
pub(crate) mod flight;
pub(crate) mod isolation;
pub(crate) mod leases;
pub(crate) mod lines;
pub(crate) mod suspects;
