//! Keeps each account's private key fresh, and asks whether a refused one works again: without a job, and without a
//! restart where the key came from a file.
//!
//! The file is read again on SIGHUP, and every second while Klaviyo refuses the key. A file that cannot be read or holds
//! no key changes nothing: it may be in the middle of being written. Who sent SIGHUP is told so each time; the look of
//! every second tells it once.

use crate::klaviyo::{Client, ErrorKind, SetupError};
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the key of one account for ever.
pub async fn watch(client: Arc<Client>, account: String, file: Option<PathBuf>) {
    let mut hang_ups = match signal(SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!(%error, "failed to listen for SIGHUP; restart to load a new key");
            None
        }
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaints = Complaints::default();
    loop {
        tokio::select! {
            () = hang_up(hang_ups.as_mut()) => {
                match reload(&client, file.as_deref()).await {
                    Ok(true) => tracing::info!(account, "loaded the private key anew"),
                    Ok(false) => tracing::info!(account, "SIGHUP: the private key is the same"),
                    Err(error) => tell(&account, "SIGHUP", &error),
                }
            }
            _ = ticks.tick() => {
                let Some(closed) = client.credentials_closed() else { continue };
                let loaded = reload(&client, file.as_deref()).await;
                if let Some(error) = complaints.new_one(&loaded) {
                    tell(&account, "the private key is refused", error);
                }
                if loaded.is_ok_and(|is_another| is_another) {
                    tracing::info!(account, "the file holds another private key; trying it");
                } else if closed.until > Instant::now() {
                    continue;
                }
                probe(&client, &account).await;
            }
        }
    }
}

async fn hang_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Why a file gave no key. Nothing of what it holds is in here.
#[derive(Debug, thiserror::Error)]
#[error("failed to load the private key")]
enum ReloadError {
    Read(#[source] io::Error),
    Malformed(#[source] SetupError),
}

/// Reads the file, and says whether it holds another key than before.
async fn reload(client: &Client, file: Option<&Path>) -> Result<bool, ReloadError> {
    let Some(file) = file else { return Ok(false) };
    let text = tokio::fs::read_to_string(file).await;
    let text = SecretString::from(text.map_err(ReloadError::Read)?);
    let key = SecretString::from(text.expose_secret().trim());
    client.replace_key(&key).map_err(ReloadError::Malformed)
}

fn tell(account: &str, when: &str, error: &ReloadError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(
        account,
        cause = cause.unwrap_or_default(),
        "{when}: {error}; the one before stays in use"
    );
}

/// Which complaint was made last, so that each is made once.
#[derive(Debug, Default)]
struct Complaints(Option<String>);

impl Complaints {
    /// Returns the error if the look before did not end with the same.
    fn new_one<'a>(&mut self, loaded: &'a Result<bool, ReloadError>) -> Option<&'a ReloadError> {
        let error = loaded.as_ref().err();
        let text = error.and_then(std::error::Error::source);
        let text = text.map(ToString::to_string);
        let is_new = text != self.0;
        self.0 = text;
        error.filter(|_| is_new)
    }
}

async fn probe(client: &Client, account: &str) {
    match client.probe_credentials().await {
        Ok(()) => tracing::debug!(account, "the private key works"),
        // Another daemon's turn, or another call's.
        Err(error) if matches!(error.kind(), ErrorKind::GateClosed { .. }) => {}
        Err(error) => {
            tracing::debug!(
                account,
                reason = error.reason(),
                "the private key is still refused"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_made_once_until_something_else_is_true() {
        let mut complaints = Complaints::default();
        let gone = Err(ReloadError::Read(io::ErrorKind::NotFound.into()));
        let malformed = Err(ReloadError::Malformed(SetupError::Key));
        let mut says = |loaded| complaints.new_one(loaded).is_some();
        assert!(!says(&Ok(false)));
        assert!(says(&gone));
        assert!(!says(&gone));
        assert!(says(&malformed));
        assert!(!says(&malformed));
        assert!(!says(&Ok(false)));
        assert!(says(&malformed));
    }
}
