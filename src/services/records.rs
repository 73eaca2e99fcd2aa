//! Keeps records in the database: the audit, and what operators did, which waits in Redis.
//!
//! It also watches that Redis and the database belong together: two databases beside one Redis would each hold half.

use super::audit::{Audit, Keep, Outage, write};
use crate::queue::{
    Connection, OperatorAction, RedisResult, forget_actions, recorded_actions, register_deployment,
};
use crate::store::{Action, Store};
use klaviyo_jobs::Keys;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const COPY_EVERY: Duration = Duration::from_secs(5);
const ACTIONS_PER_COPY: usize = 500;
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// Another database is registered in Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "Redis belongs to the database {registered}, and this one is {ours}; give every daemon the same \
     KLAVIYOD_DATABASE_URL (several machines need PostgreSQL), or, if the old database is lost, run `klaviyod migrate --adopt`"
)]
pub struct OtherDatabase {
    registered: String,
    ours: String,
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// For how long the audit is kept.
    pub time: Duration,
    /// How large it may become.
    pub bytes_max: u64,
}

/// What keeps records while the daemon runs.
#[derive(Debug)]
pub struct Records {
    audit: Audit,
    outage: Arc<Outage>,
    store: Store,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Records {
    /// Registers the database and starts to keep records for the accounts.
    ///
    /// # Errors
    /// Redis' own outside; [`OtherDatabase`] inside.
    pub async fn start(
        store: Store,
        mut redis: Connection,
        accounts: Vec<Keys>,
        retention: Retention,
    ) -> RedisResult<Result<Self, OtherDatabase>> {
        for keys in &accounts {
            if let Err(other) = compare(&store, &mut redis, keys).await? {
                return Ok(Err(other));
            }
        }
        let (audit, outage) = (Audit::default(), Arc::new(Outage::default()));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let keep = Keep {
            retention: retention.time,
            bytes_max: retention.bytes_max,
        };
        tasks.spawn({
            let (audit, store, outage) = (audit.clone(), store.clone(), Arc::clone(&outage));
            async move { write(&audit, &store, keep, &outage).await }
        });
        tasks.spawn({
            let (store, stop, outage) = (store.clone(), stop.clone(), Arc::clone(&outage));
            async move {
                let copying = copy(&store, redis, &accounts, &outage);
                stop.run_until_cancelled(copying).await;
            }
        });
        Ok(Ok(Self {
            audit,
            outage,
            store,
            stop,
            tasks,
        }))
    }

    /// The audit, for whoever feeds it or looks at it.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Whether the database is away.
    pub fn outage(&self) -> &Arc<Outage> {
        &self.outage
    }

    /// The database, for whoever looks things up.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes what waits, for `within` at most.
    pub async fn stop(self, within: Duration) {
        self.stop.cancel();
        self.audit.close();
        self.tasks.close();
        let written = tokio::time::timeout(within, async {
            self.tasks.wait().await;
            self.store.close().await;
        });
        if written.await.is_err() {
            tracing::warn!("the database did not take the rest of the audit in time");
        }
    }
}

async fn compare(
    store: &Store,
    redis: &mut Connection,
    keys: &Keys,
) -> RedisResult<Result<(), OtherDatabase>> {
    let ours = store.deployment();
    let registered = register_deployment(redis, keys, ours).await?;
    Ok(if registered == ours {
        Ok(())
    } else {
        Err(OtherDatabase {
            registered,
            ours: ours.to_owned(),
        })
    })
}

/// Copies what operators did, and looks now and then whether Redis still belongs to this database.
async fn copy(store: &Store, mut redis: Connection, accounts: &[Keys], outage: &Outage) {
    let mut compare_at = Instant::now() + COMPARE_EVERY;
    loop {
        for keys in accounts {
            if let Err(error) = copy_account(store, &mut redis, keys, outage).await {
                redis.health().complain("copy what operators did", &error);
            }
        }
        if Instant::now() >= compare_at
            && let Some(keys) = accounts.first()
        {
            compare_at = Instant::now() + COMPARE_EVERY;
            match compare(store, &mut redis, keys).await {
                Ok(Ok(())) => {}
                // Jobs are worth more than records: it is said, and delivery goes on.
                Ok(Err(other)) => tracing::error!(error = %other, "another database took over"),
                Err(error) => redis.health().complain("compare databases", &error),
            }
        }
        sleep(COPY_EVERY).await;
    }
}

async fn copy_account(
    store: &Store,
    redis: &mut Connection,
    keys: &Keys,
    outage: &Outage,
) -> RedisResult<()> {
    loop {
        let recorded = recorded_actions(redis, keys, ACTIONS_PER_COPY).await?;
        if recorded.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = recorded.iter().map(|(id, _)| id.clone()).collect();
        let (ended, others): (Vec<_>, Vec<_>) = recorded
            .into_iter()
            .partition(|(_, recorded)| recorded.began.is_some());
        let actions = |recorded: Vec<_>| recorded.into_iter().map(action).collect::<Vec<Action>>();
        let kept = async {
            store.keep_actions(&actions(others)).await?;
            store.complete_actions(&actions(ended)).await
        };
        if let Err(error) = kept.await {
            outage.failed(&error);
            return Ok(());
        }
        outage.worked();
        forget_actions(redis, keys, &ids).await?;
    }
}

fn action((id, recorded): (String, OperatorAction)) -> Action {
    Action {
        account: recorded.account,
        // What began and what ended are one row.
        stream_id: recorded.began.unwrap_or(id),
        at: recorded.at,
        actor: recorded.actor,
        action: recorded.action,
        target: recorded.target,
        touched: recorded.touched,
        detail: recorded.detail.to_string(),
    }
}
