//! Configuration: file, then environment; read once, all mistakes reported at once.
//!
//! Every setting has one line in [`SETTINGS`]. Texts are read by [`Given`], and understood in `understand`.
//! The surprising thing: an unknown `KLAVIYOD_…` variable is a mistake too, because a misspelt limit is no limit.

mod given;
mod records;
mod settings;
#[cfg(test)]
mod tests;
mod understand;

pub use given::Given;
pub use settings::{SETTINGS, Setting};

use crate::klaviyo::BudgetScale;
use crate::queue::Retries;
use klaviyo_jobs::Keys;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use url::Url;

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every account, `default` first.
    pub accounts: Vec<Account>,
    /// What the audit keeps.
    pub audit: Audit,
    /// Where the audit and the records of operators are.
    pub database_url: SecretString,
    /// Whether `run` applies migrations.
    pub database_migrates: bool,
    /// How strict checks are.
    pub environment: Environment,
    /// The key of the hashes that stand for ids in the audit.
    pub hash_key: Option<SecretString>,
    /// The HTTP surface.
    pub http: Http,
    /// Logging.
    pub log: Log,
    /// Where Redis is.
    pub redis_url: SecretString,
    /// The workers.
    pub worker: Worker,
}

/// One account of Klaviyo and its queues.
#[derive(Clone, Debug)]
pub struct Account {
    /// The keys of the account in Redis.
    pub keys: Keys,
    /// How to reach Klaviyo.
    pub klaviyo: Klaviyo,
}

/// What the audit keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// For how long.
    pub retention: Duration,
    /// How much.
    pub bytes_max: u64,
}

/// Where the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// On somebody's machine: checks warn.
    Development,
    /// As production, but for others' eyes: checks warn.
    Staging,
    /// For real: what would lose jobs is refused.
    Production,
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        })
    }
}

/// The HTTP surface.
#[derive(Clone, Debug)]
pub struct Http {
    /// Whether there is one; `--no-http` switches it off.
    pub serve: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may read; without it only this machine is listened to.
    pub read_token: Option<SecretString>,
    /// Who may do everything.
    pub admin_token: Option<SecretString>,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// The filter.
    pub filter: String,
    /// Whether as JSON.
    pub json: bool,
}

/// How to reach Klaviyo.
#[derive(Clone, Debug)]
pub struct Klaviyo {
    /// Where it is.
    pub base_url: Url,
    /// The private key; only what calls Klaviyo needs one.
    pub private_key: Option<SecretString>,
    /// The file the key came from, which may change while we run.
    pub private_key_file: Option<std::path::PathBuf>,
    /// The revision.
    pub revision: String,
    /// How the published limits apply.
    pub limits: BudgetScale,
    /// The share of every limit (0 to 1) that is left to other integrations.
    pub reserve: f64,
    /// When a bulk import is first looked at.
    pub import_poll_first: Duration,
}

/// The workers.
#[derive(Clone, Debug)]
pub struct Worker {
    /// For tests of recovery: the process aborts when it is about to run the job with this id.
    pub crash_on_id: Option<String>,
    /// How long a silent consumer keeps its jobs.
    pub lease: Duration,
    /// From SIGTERM to exit.
    pub drain_timeout: Duration,
    /// The queues this process works on; all without a choice.
    pub queues: Option<Vec<&'static str>>,
    /// How often and how long a job is tried, by queue.
    pub retries: BTreeMap<&'static str, Retries>,
}

/// What a command needs to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Redis only.
    Redis,
    /// Redis, and a key for every account.
    Key,
}

/// All mistakes of a configuration, one line each.
#[derive(Debug)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Finds an account by its name.
    ///
    /// # Errors
    /// [`Mistakes`] that name the accounts there are.
    pub fn account(&self, name: &str) -> Result<&Account, Mistakes> {
        let found = self.accounts.iter().find(|it| it.keys.account() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.accounts.iter().map(|it| it.keys.account()).collect();
            Mistakes(vec![format!(
                "there is no account `{name}`; configured: {} (add a section [accounts.{name}])",
                known.join(", ")
            )])
        })
    }
}
