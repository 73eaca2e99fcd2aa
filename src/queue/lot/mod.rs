//! Work for one call of one kind, from opening to its last handle, and the apalis backend that hands it out.

pub(crate) mod backend;
pub(crate) mod open;
pub(crate) mod seal;
