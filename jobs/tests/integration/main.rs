//! The producer and the examples against a Redis of their own.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod examples;
mod producer;
mod server;
