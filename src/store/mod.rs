//! The database: the audit of deliveries, the record of what operators did, and the id of the deployment.
//!
//! `SQLite` or `PostgreSQL`; every query is written once, in SQL that both understand. It knows nothing of queues or of
//! Klaviyo. The surprising thing: times are milliseconds since 1970 in every table, because the two databases agree on
//! no type for a moment.

mod actions;
mod attempts;
mod database;
mod deliveries;
mod deployment;
mod error;
mod hash;
mod migrations;

pub use actions::Action;
pub use attempts::{Attempt, Attempts};
pub use database::Database;
pub use deliveries::{Delivery, Fate, Jobs};
pub use deployment::Store;
pub use error::Error;
pub use hash::IdHasher;
pub use migrations::{Migration, State};
