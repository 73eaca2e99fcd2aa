//! What is well and what is not, with the reason and what to do: shared by `doctor` and the health pages.
//!
//! A check looks and judges, it repairs nothing. A part is `warn` when jobs are delivered but may be lost or late, and
//! `bad` when they are not delivered. Nothing here names a person, a key or a password.

mod database;
mod fresh;
mod klaviyo;
mod redis_server;
mod watch;

pub use database::doctor_database;
use database::ready_database;
pub use fresh::Fresh;
pub use klaviyo::{ask_klaviyo, days_to_retirement, key_is_missing, klaviyo, revision, scopes};
pub use redis_server::{RedisWatch, Strictness, doctor_redis, may_lose_jobs};
pub use watch::{Watch, starting};

use redis_server::ready_redis;

use jiff::Timestamp;
use serde::Serialize;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Well.
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// It does not work.
    Bad,
}

impl State {
    /// Returns the word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One part, how it is and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is, such as `redis persistence`.
    pub name: String,
    /// The account it belongs to; absent when it belongs to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// How it is.
    pub state: State,
    /// Why.
    pub reason: String,
    /// Since when, where somebody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What to do; absent when nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
}

impl Part {
    /// Creates a part that is well.
    pub fn ok(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            account: None,
            state: State::Ok,
            reason: reason.into(),
            since: None,
            what_to_do: None,
        }
    }

    /// Creates a part that works and that somebody should look at.
    pub fn warn(
        name: impl Into<String>,
        reason: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Warn,
            what_to_do: Some(what_to_do.into()),
            ..Self::ok(name, reason)
        }
    }

    /// Creates a part that does not work.
    pub fn bad(
        name: impl Into<String>,
        reason: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Bad,
            ..Self::warn(name, reason, what_to_do)
        }
    }

    /// Names the account the part belongs to.
    #[must_use]
    pub fn of(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }
}

/// All parts, and the worst of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The state of the worst part.
    pub status: State,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Report {
    /// Sums up.
    pub fn of(parts: Vec<Part>) -> Self {
        let worst = parts.iter().map(|part| part.state).max();
        Self {
            status: worst.unwrap_or(State::Ok),
            parts,
        }
    }
}
