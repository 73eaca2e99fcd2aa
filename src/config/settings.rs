//! Every setting, one line each: its name, its short environment name, its default, what it means.
//!
//! The long environment name follows from the name: `[worker] lease` is `KLAVIYOD_WORKER__LEASE`.

use crate::klaviyo::REVISION;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.key`.
    pub name: &'static str,
    /// The short environment name; the long one is `KLAVIYOD_<SECTION>__<KEY>`.
    pub alias: Option<&'static str>,
    /// The default in text.
    pub default: Option<&'static str>,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// What it means.
    pub meaning: &'static str,
}

impl Setting {
    /// The environment variable that people use: the short name, else the long one.
    pub fn variable(&self) -> String {
        self.alias.map_or_else(|| self.long_name(), str::to_owned)
    }

    pub(super) fn long_name(&self) -> String {
        let name = self.name.to_uppercase().replace('.', "__");
        format!("KLAVIYOD_{name}")
    }
}

const fn setting(
    name: &'static str,
    alias: Option<&'static str>,
    default: Option<&'static str>,
    meaning: &'static str,
) -> Setting {
    Setting {
        name,
        alias,
        default,
        is_secret: false,
        meaning,
    }
}

const fn secret(name: &'static str, alias: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        alias: Some(alias),
        default: None,
        is_secret: true,
        meaning,
    }
}

/// Every setting; those in use first, alphabetical. `*` stands for the name of an account or a queue.
pub static SETTINGS: &[Setting] = &[
    setting(
        "accounts.*.base_url",
        None,
        None,
        "as klaviyo.base_url, for this account",
    ),
    setting(
        "accounts.*.import_poll_first",
        None,
        None,
        "as klaviyo.import_poll_first, for this account",
    ),
    setting(
        "accounts.*.limits",
        None,
        None,
        "as klaviyo.limits, for this account",
    ),
    Setting {
        name: "accounts.*.private_key",
        alias: None,
        default: None,
        is_secret: true,
        meaning: "the private key of this account",
    },
    setting(
        "accounts.*.reserve",
        None,
        None,
        "as klaviyo.reserve, for this account",
    ),
    setting(
        "accounts.*.revision",
        None,
        None,
        "as klaviyo.revision, for this account",
    ),
    setting(
        "audit.bytes_max",
        None,
        Some("10GB"),
        "how large the audit may become before its oldest rows are deleted",
    ),
    setting(
        "audit.retention",
        None,
        Some("168h"),
        "how long the audit is kept",
    ),
    setting(
        "database.migrate",
        None,
        Some("auto"),
        "auto or off; with off `run` refuses to start until `klaviyod migrate` was run",
    ),
    setting(
        "database.url",
        Some("KLAVIYOD_DATABASE_URL"),
        Some("sqlite://klaviyod.db"),
        "where the audit and the records of operators are: sqlite:// or postgres://",
    ),
    setting(
        "environment",
        Some("KLAVIYOD_ENVIRONMENT"),
        Some("development"),
        "development, staging or production",
    ),
    secret(
        "hash.key",
        "KLAVIYOD_HASH_KEY",
        "the key of the hashes that stand for ids in the audit; with another, older rows are not found by id",
    ),
    secret(
        "http.admin_token",
        "KLAVIYOD_ADMIN_TOKEN",
        "bearer token of who may do everything, at least 16 bytes",
    ),
    setting(
        "http.listen",
        Some("KLAVIYOD_HTTP_LISTEN"),
        Some("127.0.0.1:8686"),
        "where health and metrics are served; elsewhere than on this machine a token is required",
    ),
    secret(
        "http.read_token",
        "KLAVIYOD_READ_TOKEN",
        "bearer token of who may read, at least 16 bytes",
    ),
    setting(
        "klaviyo.base_url",
        Some("KLAVIYOD_KLAVIYO_BASE_URL"),
        Some("https://a.klaviyo.com"),
        "where Klaviyo is; http only on this machine",
    ),
    setting(
        "klaviyo.import_poll_first",
        None,
        Some("30s"),
        "when a bulk import is first looked at",
    ),
    setting(
        "klaviyo.limits",
        None,
        Some("real"),
        "real, off or a factor; other than real only for a Klaviyo on this machine",
    ),
    secret(
        "klaviyo.private_key",
        "KLAVIYO_PRIVATE_KEY",
        "the account's private key",
    ),
    setting(
        "klaviyo.reserve",
        None,
        Some("0"),
        "the share of every limit that is left to other integrations of the account, 0 to below 1",
    ),
    setting(
        "klaviyo.revision",
        None,
        Some(REVISION),
        "the revision of Klaviyo's API",
    ),
    setting(
        "log.filter",
        Some("KLAVIYOD_LOG"),
        Some("info"),
        "what is logged",
    ),
    setting(
        "log.format",
        Some("KLAVIYOD_LOG_FORMAT"),
        None,
        "json or pretty; else json in production, pretty elsewhere",
    ),
    setting(
        "queues.*.age_max",
        None,
        None,
        "how old a job of this queue may become; 168h, campaigns 1h, consent 720h",
    ),
    setting(
        "queues.*.attempts_max",
        None,
        None,
        "attempts of a job of this queue before it is dead; 20",
    ),
    setting(
        "queues.*.backoff_first",
        None,
        None,
        "the interval before the second attempt, doubled with each; 1s",
    ),
    setting(
        "queues.*.backoff_max",
        None,
        None,
        "the longest such interval; 15m",
    ),
    setting(
        "redis.prefix",
        None,
        Some("klaviyod"),
        "what every key begins with",
    ),
    setting(
        "redis.url",
        Some("KLAVIYOD_REDIS_URL"),
        Some("redis://127.0.0.1:6379"),
        "redis://, rediss:// or redis+sentinel://host:26379,host:26379/<master name>",
    ),
    setting(
        "worker.crash_on_id",
        None,
        None,
        "for tests of recovery: the process aborts when it is about to run the job with this id",
    ),
    setting(
        "worker.drain_timeout",
        Some("KLAVIYOD_DRAIN_TIMEOUT"),
        Some("25s"),
        "from SIGTERM to exit",
    ),
    setting(
        "worker.lease",
        Some("KLAVIYOD_LEASE"),
        Some("30s"),
        "how long a silent consumer keeps its jobs",
    ),
    // Names of the interface that this version accepts and does not use yet.
    setting(
        "export.dir",
        Some("KLAVIYOD_EXPORT_DIR"),
        Some("./exports"),
        "not used yet",
    ),
    secret(
        "http.enqueue_token",
        "KLAVIYOD_ENQUEUE_TOKEN",
        "not used yet",
    ),
    secret(
        "klaviyo.webhook_signing_secret",
        "KLAVIYO_WEBHOOK_SIGNING_SECRET",
        "not used yet",
    ),
];

/// Finds a setting by its name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|setting| match setting.name.split_once(".*.") {
            None => setting.name == name,
            Some((section, key)) => {
                let rest = name
                    .strip_prefix(section)
                    .and_then(|it| it.strip_prefix('.'));
                let parts = rest.and_then(|it| it.split_once('.'));
                parts.is_some_and(|(named, its_key)| !named.is_empty() && its_key == key)
            }
        })
}
