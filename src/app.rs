//! Joins the parts, in the order in which they need one another; and takes them apart again.

pub use crate::klaviyo::SetupError;

use crate::config::{Account, Config};
use crate::credentials;
use crate::edge::{Edge, Prepared, Shown, check_redis};
use crate::klaviyo::{Client, Settings};
use crate::queue::{BYTES_IN_FLIGHT_MAX, Engine, EngineConfig, Fleet, Observer, Outbox, Redis};
use crate::services::{AccountAudit, Audit, Events, Profiles, Records, Retention, Services};
use crate::store::{Database, Store};
use crate::telemetry::{AccountMeters, Telemetry};
use crate::worker::{Gates, Workers, routes, routes_of};
use anyhow::Context;
use futures::FutureExt;
use futures::future::{join_all, select_all};
use secrecy::ExposeSecret;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the audit gets to write its rest, however long the workers took to stop.
const FLUSH_MIN: Duration = Duration::from_secs(1);

/// A running daemon.
#[derive(Debug)]
pub struct App {
    accounts: Vec<Delivering>,
    edge: Edge,
    drain_timeout: Duration,
    records: Records,
}

/// One account at work.
#[derive(Debug)]
struct Delivering {
    client: Arc<Client>,
    fleet: Fleet,
    meters: Arc<AccountMeters>,
    audit: Arc<AccountAudit>,
    watching: JoinSet<()>,
    workers: Workers,
}

impl App {
    /// Starts everything.
    ///
    /// # Errors
    /// In the chain: [`crate::queue::Unreachable`] if Redis does not answer, [`crate::store::Error`] about the database,
    /// [`crate::services::OtherDatabase`] if the two do not belong together, [`crate::http::CannotListen`] if the
    /// address is taken, [`crate::edge::Refused`] if Redis would throw jobs away.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let prepared = Prepared::new(config).await?;
        let redis = Redis::at(config.redis_url.expose_secret())?;
        check_redis(config, &redis).await?;
        let records = records(config, &redis).await?;
        let consumer = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let mut accounts = Vec::new();
        for account in &config.accounts {
            let told = (&prepared.telemetry, records.audit());
            accounts.push(Delivering::start(config, account, &redis, &consumer, told).await?);
        }
        let shown = config.accounts.iter().zip(&accounts);
        let shown = shown.map(|(account, delivering)| Shown {
            keys: account.keys.clone(),
            client: Arc::clone(&delivering.client),
            meters: Arc::clone(&delivering.meters),
            audit: Arc::clone(&delivering.audit),
            revision: account.klaviyo.revision.clone(),
        });
        let edge = prepared
            .open(&redis, records.outage(), shown.collect())
            .await?;
        Ok(Self {
            accounts,
            edge,
            drain_timeout: config.worker.drain_timeout,
            records,
        })
    }

    /// The clients, one for each account, for whoever wants to see calls and budgets.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.accounts.iter().map(|account| &account.client)
    }

    /// Where HTTP is answered, if it is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.edge.address()
    }

    /// What is kept in the database.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Waits until an account is not delivered any more, whatever Redis and Klaviyo do: a task has ended that must not.
    /// Only another process helps; what this one holds is taken over after the lease.
    pub async fn broken(&self) {
        let vital = self.accounts.iter();
        let vital = vital.flat_map(|it| [it.workers.broken().boxed(), it.fleet.broken().boxed()]);
        select_all(vital).await;
        self.edge.broken();
    }

    /// Stops: takes nothing new, finishes or hands back what runs; health is answered to the end.
    pub async fn stop(self) {
        let asked = Instant::now();
        self.edge.stopping();
        let stops = self.accounts.into_iter();
        join_all(stops.map(|account| account.stop(self.drain_timeout))).await;
        let left = self.drain_timeout.saturating_sub(asked.elapsed());
        self.records.stop(left.max(FLUSH_MIN)).await;
        self.edge.close().await;
        tracing::info!("stopped; what was not delivered is back on the queue");
    }
}

/// Opens the database and starts to keep records in it.
async fn records(config: &Config, redis: &Redis) -> anyhow::Result<Records> {
    let redis = redis.connect().await?;
    let database = Database::connect(config.database_url.expose_secret()).await?;
    if config.database_migrates {
        for migration in database.migrate().await? {
            tracing::info!(version = migration.version, what = %migration.description, "migrated the database");
        }
    }
    let store = Store::open(database, config.hash_key.as_ref()).await?;
    let accounts = config.accounts.iter().map(|it| it.keys.clone()).collect();
    let retention = Retention {
        time: config.audit.retention,
        bytes_max: config.audit.bytes_max,
    };
    Ok(Records::start(store, redis, accounts, retention).await??)
}

impl Delivering {
    async fn start(
        config: &Config,
        account: &Account,
        redis: &Redis,
        consumer: &str,
        (telemetry, audit): (&Telemetry, &Audit),
    ) -> anyhow::Result<Self> {
        let klaviyo = &account.klaviyo;
        let key = klaviyo
            .private_key
            .clone()
            .context("a private key is needed to call Klaviyo")?;
        let mut settings = Settings::new(klaviyo.base_url.clone(), key);
        settings.revision.clone_from(&klaviyo.revision);
        let mut fleet = Fleet::new(
            redis.connect().await?,
            account.keys.clone(),
            klaviyo.limits,
            klaviyo.reserve,
        );
        let meters = telemetry.account(account.keys.account(), &routes());
        let client = Client::new(settings, fleet.budget())?.with_fleet(&fleet.line());
        let client = Arc::new(client.with_observer(Arc::<AccountMeters>::clone(&meters)));
        fleet.join(&client).await;
        let mut watching = JoinSet::new();
        watching.spawn(credentials::watch(
            Arc::clone(&client),
            account.keys.account().to_owned(),
            klaviyo.private_key_file.clone(),
        ));
        let audit = audit.of_account(account.keys.account());
        let observers: Arc<dyn Observer> = Arc::new(vec![
            Arc::<AccountMeters>::clone(&meters) as Arc<dyn Observer>,
            Arc::<AccountAudit>::clone(&audit),
        ]);
        let outbox = Outbox::new(redis.connect().await?, account.keys.clone())
            .with_observer(Arc::clone(&observers));
        let services = Arc::new(Services {
            events: Events::new(Arc::clone(&client)),
            profiles: Profiles::new(Arc::clone(&client), outbox, klaviyo.import_poll_first),
        });
        let engine = EngineConfig {
            bytes_in_flight_max: BYTES_IN_FLIGHT_MAX / config.accounts.len().max(1),
            crash_on_id: config.worker.crash_on_id.clone(),
            lease: config.worker.lease,
            observer: Some(observers),
            outlook: Some(Arc::new(Gates::new(Arc::clone(&client)))),
            retries: config.worker.retries.clone(),
            ..EngineConfig::new(
                account.keys.clone(),
                consumer.to_owned(),
                routes_of(config.worker.queues.as_deref()),
            )
        };
        let engine = Engine::start(redis, engine).await?;
        let workers = Workers::start(&engine, &services);
        tracing::info!(account = account.keys.account(), revision = %klaviyo.revision, "delivering");
        Ok(Self {
            client,
            fleet,
            meters,
            audit,
            watching,
            workers,
        })
    }

    async fn stop(mut self, drain_timeout: Duration) {
        self.workers.stop(drain_timeout).await;
        self.watching.shutdown().await;
        self.fleet.leave().await;
    }
}
