//! Brings everything up to date when somebody asks for the numbers, however often that is.
//!
//! What the client knows is in memory; what Redis knows is looked at once in ten seconds at most, and given up after
//! one second: then its gauges are `NaN`, for old numbers would lie.

use super::account::AccountMeters;
use super::recorder::Telemetry;
use crate::klaviyo::Client;
use crate::queue::{Connection, Overview};
use crate::services::AccountAudit;
use crate::services::health::{Fresh, days_to_retirement};
use crate::services::operations::Operations;
use futures::FutureExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use klaviyo_jobs::Keys;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const QUEUES_EVERY: Duration = Duration::from_secs(10);
const QUEUES_PATIENCE: Duration = Duration::from_secs(1);

/// The numbers of a daemon and where they come from.
#[derive(Debug)]
pub struct Scrape {
    telemetry: Telemetry,
    redis: Connection,
    accounts: Vec<Scraped>,
}

/// One account that is scraped.
#[derive(Debug)]
pub struct Scraped {
    meters: Arc<AccountMeters>,
    audit: Arc<AccountAudit>,
    client: Arc<Client>,
    revision: String,
    queues: Fresh<Option<Vec<Overview>>>,
}

impl Scraped {
    /// Creates what is needed to look at an account.
    pub fn new(
        meters: Arc<AccountMeters>,
        audit: Arc<AccountAudit>,
        client: Arc<Client>,
        revision: String,
        redis: Connection,
        keys: Keys,
    ) -> Self {
        let operations = Operations::new(redis, keys);
        let queues = Fresh::new(QUEUES_EVERY, move || {
            let mut operations = operations.clone();
            async move {
                let seen = timeout(QUEUES_PATIENCE, operations.queues()).await;
                seen.ok()?.ok()
            }
            .boxed()
        });
        Self {
            meters,
            audit,
            client,
            revision,
            queues,
        }
    }
}

impl Scrape {
    /// Creates the scrape of a daemon; `redis` knows how often it was connected anew.
    pub fn new(telemetry: Telemetry, redis: Connection, accounts: Vec<Scraped>) -> Self {
        Self {
            telemetry,
            redis,
            accounts,
        }
    }

    /// Returns all numbers, up to date, as Prometheus reads them.
    pub async fn page(&self) -> String {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        for account in &self.accounts {
            let meters = &account.meters;
            meters.see_queues(account.queues.get().await.as_deref());
            meters.see_client(&account.client);
            meters.see_audit(&account.audit);
            meters.see_revision(days_to_retirement(&account.revision, today));
        }
        // The accounts share Redis. It is told once, for the first of them, so that sums stay true.
        if let Some(first) = self.accounts.first() {
            let reconnects = self.redis.health().reconnects();
            first.meters.see_reconnects(reconnects);
        }
        self.telemetry.page()
    }
}
