//! Configuration: file, then environment; read once, all mistakes reported at once.
//!
//! Every setting has one line in [`SETTINGS`].
//! The surprising thing: an unknown `KLAVIYOD_…` variable is a mistake too, because a misspelt limit is no limit.

mod settings;

pub use settings::{SETTINGS, Setting};

use crate::klaviyo::BudgetScale;
use jiff::SignedDuration;
use klaviyo_jobs::Keys;
use secrecy::{ExposeSecret, SecretString};
use settings::{find, long_name};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::{Host, Url};

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logging.
    pub log: Log,
    /// The keys of the account.
    pub keys: Keys,
    /// Klaviyo.
    pub klaviyo: Klaviyo,
    /// Where Redis is.
    pub redis_url: SecretString,
    /// The workers.
    pub worker: Worker,
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
    /// The revision.
    pub revision: String,
    /// How the published limits apply.
    pub limits: BudgetScale,
    /// When a bulk import is first looked at.
    pub import_poll_first: Duration,
}

/// The workers.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// How long a silent consumer keeps its jobs.
    pub lease: Duration,
    /// From SIGTERM to exit.
    pub drain_timeout: Duration,
}

/// What a command needs to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Redis only.
    Redis,
    /// Redis, and a key for Klaviyo.
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

/// The texts of all settings that were given, by name, before they are understood.
#[derive(Debug, Default)]
pub struct Given {
    texts: BTreeMap<&'static str, SecretString>,
    mistakes: Vec<String>,
}

impl Given {
    /// Reads the file and then the environment over it.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut given = Self::default();
        let found = file.map(Path::to_path_buf).or_else(default_file);
        if let Some(path) = found {
            match std::fs::read_to_string(&path) {
                Ok(text) => given.add_file(&text),
                Err(error) => given.mistakes.push(format!(
                    "the configuration file cannot be read ({error}); check --config"
                )),
            }
        }
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.sort();
        for (name, value) in environment {
            given.add_variable(&name, value);
        }
        given
    }

    fn add_file(&mut self, text: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // The error's own text may quote a line with a key in it.
            Err(_) => {
                return self.mistakes.push(
                    "the configuration file is not TOML; check quotes and brackets".to_owned(),
                );
            }
        };
        for (section, value) in table {
            match value {
                toml::Value::Table(keys) => keys
                    .into_iter()
                    .for_each(|(key, value)| self.add(&format!("{section}.{key}"), &value)),
                value => self.add(&section, &value),
            }
        }
    }

    fn add(&mut self, name: &str, value: &toml::Value) {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(_) | toml::Value::Table(_) => {
                return self.mistakes.push(format!("`{name}` must be one value"));
            }
            other => other.to_string(),
        };
        let (name, is_file) = match name.strip_suffix("_file") {
            Some(short) if find(short).is_some() => (short, true),
            _ => (name, false),
        };
        match find(name) {
            Some(setting) => self.set(setting, text, is_file),
            None => self
                .mistakes
                .push(unknown(name, SETTINGS.iter().map(|it| it.name.to_owned()))),
        }
    }

    fn add_variable(&mut self, variable: &str, value: String) {
        if !variable.starts_with("KLAVIYOD_") && !variable.starts_with("KLAVIYO_") {
            return;
        }
        let named = |name: &str| {
            SETTINGS
                .iter()
                .find(|it| it.alias == Some(name) || long_name(it) == name)
        };
        let (setting, is_file) = match (
            named(variable),
            variable.strip_suffix("_FILE").and_then(named),
        ) {
            (Some(setting), _) => (setting, false),
            (None, Some(setting)) => (setting, true),
            (None, None) if variable.starts_with("KLAVIYO_") => return,
            (None, None) => {
                let known = SETTINGS.iter().flat_map(|it| {
                    it.alias
                        .map(str::to_owned)
                        .into_iter()
                        .chain([long_name(it)])
                });
                return self.mistakes.push(unknown(variable, known));
            }
        };
        self.set(setting, value, is_file);
    }

    fn set(&mut self, setting: &'static Setting, text: String, is_file: bool) {
        let text = if is_file {
            std::fs::read_to_string(&text).map(|it| it.trim().to_owned())
        } else {
            Ok(text)
        };
        match text {
            Ok(text) => drop(self.texts.insert(setting.name, text.into())),
            Err(error) => self.mistakes.push(format!(
                "the file for `{}` cannot be read ({error})",
                setting.name
            )),
        }
    }

    /// Returns each setting with its effective text, secrets hidden.
    pub fn shown(&self) -> Vec<(&'static Setting, String)> {
        let text = |setting: &'static Setting| match self.text(setting.name) {
            // A Redis URL may hold a password.
            Some(_) if setting.is_secret => "(hidden)".to_owned(),
            Some(text) if setting.name == "redis.url" => without_password(&text),
            Some(text) => text,
            None => "(not set)".to_owned(),
        };
        SETTINGS
            .iter()
            .map(|setting| (setting, text(setting)))
            .collect()
    }

    fn text(&self, name: &str) -> Option<String> {
        let default = || {
            find(name)
                .and_then(|setting| setting.default)
                .map(str::to_owned)
        };
        self.texts
            .get(name)
            .map(|text| text.expose_secret().to_owned())
            .or_else(default)
    }

    /// Understands everything.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn config(mut self, account: &str, need: Need) -> Result<Config, Mistakes> {
        let keys = Keys::new(&self.text("redis.prefix").unwrap_or_default(), account)
            .map_err(|invalid| invalid.to_string());
        let environment = self.one_of("environment", &["development", "staging", "production"]);
        let log_format = self.one_of("log.format", &["json", "pretty"]);
        let log_json = log_format == "json"
            || (environment == "production" && !self.texts.contains_key("log.format"));
        let base_url = self.base_url();
        let limits = self.limits(base_url.as_ref());
        let redis_url = self.redis_url();
        let lease = self.duration("worker.lease", Duration::from_secs(1));
        let drain_timeout = self.duration("worker.drain_timeout", Duration::ZERO);
        let import_poll_first =
            self.duration("klaviyo.import_poll_first", Duration::from_millis(100));
        let private_key = self
            .texts
            .get("klaviyo.private_key")
            .filter(|key| !key.expose_secret().is_empty())
            .cloned();
        if need == Need::Key && private_key.is_none() {
            self.mistakes.push("no private key; set KLAVIYO_PRIVATE_KEY or KLAVIYO_PRIVATE_KEY_FILE (or try `klaviyod dev`, which needs none)".to_owned());
        }
        let text = |name| self.text(name).unwrap_or_default();
        let (filter, revision) = (text("log.filter"), text("klaviyo.revision"));
        if let Err(mistake) = &keys {
            self.mistakes.push(mistake.clone());
        }
        match (keys, base_url) {
            (Ok(keys), Some(base_url)) if self.mistakes.is_empty() => Ok(Config {
                log: Log {
                    filter,
                    json: log_json,
                },
                keys,
                klaviyo: Klaviyo {
                    base_url,
                    private_key,
                    revision,
                    limits,
                    import_poll_first,
                },
                redis_url,
                worker: Worker {
                    lease,
                    drain_timeout,
                },
            }),
            _ => Err(Mistakes(self.mistakes)),
        }
    }

    fn one_of(&mut self, name: &str, allowed: &[&str]) -> String {
        let text = self.text(name).unwrap_or_default();
        if !allowed.contains(&text.as_str()) {
            self.mistakes
                .push(format!("`{name}` must be one of {}", allowed.join(", ")));
        }
        text
    }

    fn base_url(&mut self) -> Option<Url> {
        let text = self.text("klaviyo.base_url").unwrap_or_default();
        let Ok(url) = text.parse::<Url>() else {
            self.mistakes.push(
                "`klaviyo.base_url` is not an address; write https://a.klaviyo.com".to_owned(),
            );
            return None;
        };
        if !(url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url))) {
            self.mistakes.push("`klaviyo.base_url` must be https://; http:// is allowed to this machine only, for the key would travel in the clear".to_owned());
        }
        Some(url)
    }

    fn limits(&mut self, base_url: Option<&Url>) -> BudgetScale {
        let scale = match self.text("klaviyo.limits").unwrap_or_default().as_str() {
            "real" => BudgetScale::Real,
            "off" => BudgetScale::Off,
            factor => match factor.parse::<f64>() {
                Ok(factor) if factor.is_finite() && factor > 0.0 => BudgetScale::Factor(factor),
                _ => {
                    self.mistakes
                        .push("`klaviyo.limits` must be real, off or a factor above 0".to_owned());
                    BudgetScale::Real
                }
            },
        };
        if scale != BudgetScale::Real && base_url.is_some_and(|url| !is_loopback(url)) {
            self.mistakes.push(
                "`klaviyo.limits` must be real for a Klaviyo that is not on this machine"
                    .to_owned(),
            );
        }
        scale
    }

    fn redis_url(&mut self) -> SecretString {
        let text = self.text("redis.url").unwrap_or_default();
        let known = text
            .parse::<Url>()
            .is_ok_and(|url| ["redis", "rediss"].contains(&url.scheme()));
        if !known {
            self.mistakes.push("`redis.url` is not an address of Redis; write redis://127.0.0.1:6379 or rediss://…".to_owned());
        }
        text.into()
    }

    fn duration(&mut self, name: &str, least: Duration) -> Duration {
        let text = self.text(name).unwrap_or_default();
        match text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|it| Duration::try_from(it).ok())
        {
            Some(duration) if duration >= least => duration,
            _ => {
                self.mistakes.push(format!(
                    "`{name}` must be a duration such as 30s, at least {}ms",
                    least.as_millis()
                ));
                least
            }
        }
    }
}

fn default_file() -> Option<PathBuf> {
    ["klaviyod.toml", "/etc/klaviyod/klaviyod.toml"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

fn unknown(name: &str, known: impl Iterator<Item = String>) -> String {
    let nearest = known.max_by(|left, right| {
        strsim::jaro_winkler(name, left).total_cmp(&strsim::jaro_winkler(name, right))
    });
    let advice = nearest
        .map(|nearest| format!("; did you mean `{nearest}`?"))
        .unwrap_or_default();
    format!("unknown setting `{name}`{advice}")
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn without_password(text: &str) -> String {
    let Ok(mut url) = text.parse::<Url>() else {
        return "(not an address)".to_owned();
    };
    if url.password().is_some() && url.set_password(Some("hidden")).is_err() {
        return "(hidden)".to_owned();
    }
    url.to_string()
}

#[cfg(test)]
mod tests;
