//! What operators see and do on Redis, while daemons run or not.

pub(crate) mod actions;
pub(crate) mod cancel;
pub(crate) mod deployment;
pub(crate) mod find;
pub(crate) mod overview;
pub(crate) mod place;
pub(crate) mod purge;
