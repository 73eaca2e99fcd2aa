//! Keeps each account's private key fresh, and asks whether a refused one works again: without a job, and without a
//! restart where the key came from a file.
//!
//! The file is read again on SIGHUP, and every second while Klaviyo refuses the key. A file that cannot be read or holds
//! nothing changes nothing: it may be in the middle of being written.

use crate::klaviyo::{Client, ErrorKind};
use secrecy::SecretString;
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
    loop {
        tokio::select! {
            () = hang_up(hang_ups.as_mut()) => {
                if reload(&client, &account, file.as_deref()).await {
                    tracing::info!(account, "loaded the private key anew");
                } else {
                    tracing::info!(account, "SIGHUP: the private key is the same");
                }
            }
            _ = ticks.tick() => {
                let Some(closed) = client.credentials_closed() else { continue };
                if reload(&client, &account, file.as_deref()).await {
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

/// Reads the file, and says whether it holds another key than before.
async fn reload(client: &Client, account: &str, file: Option<&Path>) -> bool {
    let Some(file) = file else { return false };
    let Ok(text) = tokio::fs::read_to_string(file).await else {
        return false;
    };
    let key = SecretString::from(text.trim());
    client.replace_key(&key).unwrap_or_else(|error| {
        tracing::debug!(account, %error, "the file holds no private key");
        false
    })
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
