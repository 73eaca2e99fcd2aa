//! A job on a stream: what is read of it, how it came back from the dead letters, and what may become of it.

pub(crate) mod entry;
pub(crate) mod replayed;
pub(crate) mod verdict;
