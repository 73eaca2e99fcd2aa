//! A faithful local Klaviyo: what it answers, what it counts, how it fails.
//!
//! One [`Simulator`] is one account. It keeps profiles, events, metrics, lists, segments and import jobs in
//! memory, enforces the published rate limits in real fixed windows and refuses what Klaviyo refuses, with the
//! same error documents. What it leaves out stands in its README.
//!
//! The surprising thing: nothing runs in the background. An import job that is due is applied by the next
//! request that looks at the state.

mod admin;
mod answer;
mod clock;
mod config;
mod cursor;
mod dispatch;
mod document;
mod event_body;
mod faults;
mod filter;
mod handlers;
mod hostile;
mod ledger;
mod listener;
mod operation;
mod problem;
mod profile_patch;
mod query;
mod server;
mod state;
mod validate;
mod windows;

pub use config::{Config, Limits, LimitsError};
pub use faults::{Fault, FaultKind, Faults};
pub use hostile::HostileBody;
pub use ledger::{OperationStats, Recorded, Stats};
pub use server::Simulator;
pub use state::segments::{Rule, SegmentConfig};
