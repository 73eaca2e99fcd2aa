//! Logging: to standard error, as text for people or as JSON for machines.

use crate::config::Log;
use tracing_subscriber::EnvFilter;

/// Starts logging. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).expect("the configuration checked it");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that somebody else has started logging already.
    if log.json {
        builder.json().try_init()
    } else {
        builder.try_init()
    }
    .unwrap_or(());
}
