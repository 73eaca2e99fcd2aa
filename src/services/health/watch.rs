//! The health of a running daemon, for whoever asks from outside.

use super::{Part, RedisWatch, Report, klaviyo, ready_database, ready_redis};
use crate::klaviyo::Client;
use crate::services::Outage;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a daemon says of itself before it has all it needs.
pub fn starting() -> Report {
    Report::of(vec![Part::bad(
        "daemon",
        "starting: it waits for Redis or the database, and takes no job before it has both",
        "wait; if it takes long, its log says for what, and `klaviyod doctor` what to do",
    )])
}

/// What a running daemon can say about itself.
#[derive(Debug)]
pub struct Watch {
    redis: RedisWatch,
    database: Arc<Outage>,
    accounts: Vec<(String, Arc<Client>)>,
    stopping: AtomicBool,
    broken: AtomicBool,
}

impl Watch {
    /// Creates the watch over Redis, the database and the clients of the accounts.
    pub fn new(
        redis: RedisWatch,
        database: Arc<Outage>,
        accounts: Vec<(String, Arc<Client>)>,
    ) -> Self {
        Self {
            redis,
            database,
            accounts,
            stopping: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// From now on it is not ready any more.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// From now on it delivers nothing any more.
    pub fn broken(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Whether it does its work. Klaviyo's health is no part of it: another replica would have the same Klaviyo.
    pub async fn ready(&self) -> Report {
        let mut parts = Vec::new();
        if self.stopping.load(Ordering::SeqCst) {
            parts.push(Part::bad(
                "daemon",
                "stopping: it takes nothing new and finishes what runs",
                "wait for it to end; what it did not deliver stays on the queue",
            ));
        }
        if self.broken.load(Ordering::SeqCst) {
            parts.push(Part::bad(
                "daemon",
                "broken: a task that must not end has ended, and nothing is delivered any more",
                "start it again; what it holds is taken over after the lease. Report the log lines before it",
            ));
        }
        parts.extend(ready_redis(&self.redis.look().await));
        parts.push(ready_database(&self.database));
        Report::of(parts)
    }

    /// How Klaviyo is towards every account.
    pub fn klaviyo(&self) -> Report {
        let accounts = self.accounts.iter();
        Report::of(
            accounts
                .flat_map(|(account, client)| klaviyo(account, client))
                .collect(),
        )
    }
}
