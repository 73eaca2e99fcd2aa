//! The HTTP surface: health for whoever runs us, numbers for Prometheus.
//!
//! It answers from memory or from a look that many share, so that no request slows delivery. Whatever a client does or
//! leaves undone has a limit with a name, in [`server`]. It is the last to end: while the daemon drains it says so.

mod access;
mod error;
mod health;
mod metrics;
mod router;
mod server;

pub use router::Surface;
pub use server::{CannotListen, Server};
