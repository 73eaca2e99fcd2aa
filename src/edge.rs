//! What the daemon shows of itself: numbers, health, and the HTTP surface over both. [`crate::app`] opens it first and
//! closes it last.

use crate::config::{Config, Environment, Klaviyo};
use crate::http::{Server, Surface};
use crate::klaviyo::{BudgetScale, Client, LocalBudget, Settings};
use crate::queue::{self, Redis};
use crate::services::health::{Part, RedisWatch, State, Strictness, Watch, may_lose_jobs};
use crate::services::{AccountAudit, Outage};
use crate::telemetry::{AccountMeters, Scrape, Scraped, Telemetry};
use anyhow::Context;
use klaviyo_jobs::Keys;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often histograms are emptied: until then they hold every single value.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// What is prepared before anything else starts.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) telemetry: Telemetry,
    serving: Option<(Server, Arc<Surface>)>,
}

/// An account as the edge shows it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) keys: Keys,
    pub(crate) client: Arc<Client>,
    pub(crate) meters: Arc<AccountMeters>,
    pub(crate) audit: Arc<AccountAudit>,
    pub(crate) revision: String,
}

/// The open edge of a running daemon.
#[derive(Debug)]
pub(crate) struct Edge {
    watch: Arc<Watch>,
    server: Option<Server>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Prepared {
    /// Answers that the daemon starts; a taken port is told before a job is taken.
    ///
    /// # Errors
    /// [`crate::http::CannotListen`].
    pub(crate) async fn new(config: &Config) -> anyhow::Result<Self> {
        let serving = if config.http.serve {
            let surface = Arc::new(Surface::new(&config.http));
            let server = Server::start(config.http.listen, Arc::clone(&surface)).await?;
            Some((server, surface))
        } else {
            None
        };
        Ok(Self {
            telemetry: Telemetry::new(),
            serving,
        })
    }

    /// Answers from now on how everything is, and looks after the numbers.
    ///
    /// # Errors
    /// [`crate::queue::Unreachable`].
    pub(crate) async fn open(
        self,
        redis: &Redis,
        database: &Arc<Outage>,
        accounts: Vec<Shown>,
    ) -> anyhow::Result<Edge> {
        // A connection of its own: a question from outside never waits behind jobs, nor they behind it.
        let connection = redis.connect().await?;
        let named = accounts.iter().map(|shown| {
            let name = shown.keys.account().to_owned();
            (name, Arc::clone(&shown.client))
        });
        let redis_watch = RedisWatch::new(redis.clone(), connection.clone());
        let watch = Arc::new(Watch::new(
            redis_watch,
            Arc::clone(database),
            named.collect(),
        ));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(upkeep(self.telemetry.clone(), stop.clone()));
        let scraped = accounts.into_iter().map(|shown| {
            let redis = connection.clone();
            Scraped::new(
                shown.meters,
                shown.audit,
                shown.client,
                shown.revision,
                redis,
                shown.keys,
            )
        });
        let scrape = Scrape::new(self.telemetry, connection.clone(), scraped.collect());
        let server = self.serving.map(|(server, surface)| {
            surface.open(Arc::clone(&watch), scrape);
            server
        });
        Ok(Edge {
            watch,
            server,
            tasks,
            stop,
        })
    }
}

impl Edge {
    /// Where HTTP is answered.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Says from now on that the daemon is stopping.
    pub(crate) fn stopping(&self) {
        self.watch.stopping();
    }

    /// Says from now on that the daemon delivers nothing any more.
    pub(crate) fn broken(&self) {
        self.watch.broken();
    }

    /// Ends.
    pub(crate) async fn close(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn upkeep(telemetry: Telemetry, stop: CancellationToken) {
    while !stop.is_cancelled() {
        telemetry.upkeep();
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(UPKEEP_EVERY) => {}
        }
    }
}

/// Redis would throw jobs away.
#[derive(Debug, thiserror::Error)]
#[error("refused to start in production: {reason}; {what_to_do}")]
pub struct Refused {
    reason: String,
    what_to_do: String,
}

/// Warns about a Redis that may lose jobs, and refuses one that surely would in production.
///
/// # Errors
/// [`Refused`], and [`crate::queue::Unreachable`].
pub(crate) async fn check_redis(config: &Config, redis: &Redis) -> anyhow::Result<()> {
    let mut connection = redis.connect().await?;
    let server = match queue::Server::ask(&mut connection).await {
        Ok(server) => server,
        Err(error) => {
            tracing::warn!(%error, "failed to ask Redis how it keeps jobs; see `klaviyod doctor`");
            return Ok(());
        }
    };
    let replicas = queue::replicas(redis, &server).await;
    for part in may_lose_jobs(&server, &replicas, strictness(config.environment)) {
        let what_to_do = part.what_to_do.unwrap_or_default();
        if part.state == State::Bad {
            let reason = part.reason;
            return Err(Refused { reason, what_to_do }.into());
        }
        tracing::warn!(part = part.name, what_to_do, "{}", part.reason);
    }
    Ok(())
}

/// How strictly the environment judges a Redis that evicts.
pub(crate) fn strictness(environment: Environment) -> Strictness {
    match environment {
        Environment::Production => Strictness::Refuse,
        Environment::Development | Environment::Staging => Strictness::Warn,
    }
}

/// Asks Klaviyo about an account once, outside of any running daemon's budget.
pub(crate) async fn ask_klaviyo(klaviyo: &Klaviyo) -> anyhow::Result<Vec<Part>> {
    let key = klaviyo.private_key.clone().context("there is no key")?;
    let mut settings = Settings::new(klaviyo.base_url.clone(), key);
    settings.revision.clone_from(&klaviyo.revision);
    let client = Client::new(settings, Arc::new(LocalBudget::new(BudgetScale::Real)))?;
    Ok(crate::services::health::ask_klaviyo(&client).await)
}
