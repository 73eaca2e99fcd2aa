//! Who listens to calls: counters, for example. Declared here so that the client need not know them.

use std::fmt;
use std::time::Duration;

use super::operation::Operation;

/// Hears what became of every call. It runs within the call and must not wait.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A call ended after `took`, with this status or without an answer.
    fn answered(&self, operation: Operation, status: Option<u16>, took: Duration);
}
