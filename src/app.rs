//! Joins the parts, in the order in which they need one another; and takes them apart again.

use crate::config::Config;
use crate::klaviyo::{Client, LocalBudget, Settings};
use crate::queue::{Engine, EngineConfig, Outbox, Redis};
use crate::services::{Events, Profiles, Services};
use crate::worker::{Workers, routes};
use anyhow::Context;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// A running daemon.
#[derive(Debug)]
pub struct App {
    client: Arc<Client>,
    workers: Workers,
    drain_timeout: Duration,
}

impl App {
    /// Starts everything.
    ///
    /// # Errors
    /// [`crate::queue::Unreachable`] in the chain if Redis does not answer.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let key = config
            .klaviyo
            .private_key
            .clone()
            .context("a private key is needed to call Klaviyo")?;
        let redis = Redis::at(config.redis_url.expose_secret())?;
        let outbox = Outbox::new(redis.connect().await?, config.keys.clone());
        let mut settings = Settings::new(config.klaviyo.base_url.clone(), key);
        settings.revision.clone_from(&config.klaviyo.revision);
        let client = Arc::new(Client::new(
            settings,
            Arc::new(LocalBudget::new(config.klaviyo.limits)),
        )?);
        let services = Arc::new(Services {
            events: Events::new(Arc::clone(&client)),
            profiles: Profiles::new(
                Arc::clone(&client),
                outbox,
                config.klaviyo.import_poll_first,
            ),
        });
        let engine = Engine::start(
            &redis,
            EngineConfig {
                keys: config.keys.clone(),
                consumer: format!("{}-{:016x}", std::process::id(), rand::random::<u64>()),
                lease: config.worker.lease,
                routes: routes(),
            },
        )
        .await?;
        let workers = Workers::start(&engine, &services);
        tracing::info!(account = config.keys.account(), revision = %config.klaviyo.revision, "delivering");
        Ok(Self {
            client,
            workers,
            drain_timeout: config.worker.drain_timeout,
        })
    }

    /// The client, for whoever wants to see calls and budgets.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Stops: takes nothing new, finishes or hands back what runs.
    pub async fn stop(self) {
        self.workers.stop(self.drain_timeout).await;
        tracing::info!("stopped; what was not delivered is back on the queue");
    }
}
