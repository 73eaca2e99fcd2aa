//! What is told about the work: logs to standard error, numbers to Prometheus.
//!
//! Numbers are counted where the work is done, through the observers that `klaviyo` and `queue` declare; what only
//! Redis knows is looked at when somebody asks. Every name is spelled once, in [`names`], and every label comes from a
//! closed set: nothing of a person can become one.

mod account;
mod log;
pub mod names;
mod recorder;
mod scrape;

pub use account::AccountMeters;
pub use log::start;
pub use recorder::Telemetry;
pub use scrape::{Scrape, Scraped};
