//! From Redis into lines: when there is room, when a queue is not paused, when something could leave; and what is due comes back.

pub(crate) mod delayed;
pub(crate) mod intake;
pub(crate) mod pause;
pub(crate) mod read;
