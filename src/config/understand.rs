//! Makes values of texts, and a mistake of every text that is none.

use super::{Account, Config, Environment, Given, Http, Klaviyo, Log, Mistakes, Need, Worker};
use crate::klaviyo::BudgetScale;
use crate::queue::Retries;
use jiff::SignedDuration;
use klaviyo_jobs::Keys;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

const TOKEN_BYTES_MIN: usize = 16;

impl Given {
    /// Understands everything.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn config(mut self, need: Need) -> Result<Config, Mistakes> {
        let environment = self.environment();
        let log = self.log(environment);
        let redis_url = self.redis_url();
        let (database_url, database_migrates) = (self.database_url(), self.database_migrates());
        let audit = self.audit();
        let hash_key = self.hash_key();
        let http = self.http();
        let worker = self.worker(environment);
        let accounts = self.accounts(need);
        match (log, http) {
            (Some(log), Some(http)) if self.mistakes.is_empty() => Ok(Config {
                accounts,
                audit,
                database_url,
                database_migrates,
                environment,
                hash_key,
                http,
                log,
                redis_url,
                worker,
            }),
            _ => Err(Mistakes(self.mistakes)),
        }
    }

    fn mistake(&mut self, text: String) {
        self.mistakes.push(text);
    }

    fn environment(&mut self) -> Environment {
        match self.text("environment").as_deref() {
            Some("development") => Environment::Development,
            Some("staging") => Environment::Staging,
            Some("production") => Environment::Production,
            _ => {
                self.mistake(
                    "`environment` must be one of development, staging, production".to_owned(),
                );
                Environment::Production
            }
        }
    }

    fn log(&mut self, environment: Environment) -> Option<Log> {
        let json = match self.given("log.format").as_deref() {
            None => environment == Environment::Production,
            Some("json") => true,
            Some("pretty") => false,
            Some(_) => {
                self.mistake("`log.format` must be one of json, pretty".to_owned());
                return None;
            }
        };
        let filter = self.text("log.filter").unwrap_or_default();
        if EnvFilter::try_new(&filter).is_err() {
            self.mistake(
                "`log.filter` is not a filter; write info, or klaviyod=debug,warn".to_owned(),
            );
        }
        // A word alone would be taken for the name of a module, and everything else be silent.
        let mut words = filter.split(',').map(str::trim);
        let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
        if let Some(word) = words.find(|word| !word.contains(['=', '[']) && !is_level(word)) {
            self.mistake(format!(
                "`log.filter`: `{word}` is no level; write one of off, error, warn, info, debug, trace, or {word}=debug if it is a module"
            ));
        }
        Some(Log { filter, json })
    }

    fn accounts(&mut self, need: Need) -> Vec<Account> {
        let mut names = self.names_in("accounts");
        // Without a key of its own the default account exists only where there is no other.
        let has_default = names.is_empty() || self.secret("klaviyo.private_key").is_some();
        names.retain(|name| name != klaviyo_jobs::keys::ACCOUNT_DEFAULT);
        if has_default {
            names.insert(0, klaviyo_jobs::keys::ACCOUNT_DEFAULT.to_owned());
        }
        let accounts = names.iter().filter_map(|name| self.account(name, need));
        accounts.collect()
    }

    fn account(&mut self, name: &str, need: Need) -> Option<Account> {
        let prefix = self.text("redis.prefix").unwrap_or_default();
        let keys = match Keys::new(&prefix, name) {
            Ok(keys) => keys,
            Err(invalid) => {
                self.mistake(format!("account `{name}`: {invalid}"));
                return None;
            }
        };
        let klaviyo = self.klaviyo(name, need)?;
        Some(Account { keys, klaviyo })
    }

    /// The setting of an account, else the one of all accounts.
    fn of_account(&self, account: &str, key: &str) -> String {
        let own = format!("accounts.{account}.{key}");
        if find_given(self, &own) {
            own
        } else {
            format!("klaviyo.{key}")
        }
    }

    fn klaviyo(&mut self, account: &str, need: Need) -> Option<Klaviyo> {
        let is_default = account == klaviyo_jobs::keys::ACCOUNT_DEFAULT;
        let own_key = format!("accounts.{account}.private_key");
        let key_name = if is_default && !find_given(self, &own_key) {
            "klaviyo.private_key".to_owned()
        } else {
            own_key
        };
        let private_key = self.secret(&key_name);
        if need == Need::Key && private_key.is_none() {
            self.mistake(if is_default {
                "no private key; set KLAVIYO_PRIVATE_KEY or KLAVIYO_PRIVATE_KEY_FILE (or try `klaviyod dev`, which needs none)".to_owned()
            } else {
                format!("no private key for the account `{account}`; set `{key_name}` or `{key_name}_file`")
            });
        }
        let base_url_name = self.of_account(account, "base_url");
        let base_url = self.base_url(&base_url_name);
        let limits_name = self.of_account(account, "limits");
        let limits = self.limits(&limits_name, base_url.as_ref());
        let reserve_name = self.of_account(account, "reserve");
        let reserve = self.share(&reserve_name);
        let poll_name = self.of_account(account, "import_poll_first");
        let import_poll_first = self.duration(&poll_name, Duration::from_millis(100));
        let revision = self.text(&self.of_account(account, "revision"));
        Some(Klaviyo {
            base_url: base_url?,
            private_key_file: self.file(&key_name),
            private_key,
            revision: revision.unwrap_or_default(),
            limits,
            reserve,
            import_poll_first,
        })
    }

    fn http(&mut self) -> Option<Http> {
        let text = self.text("http.listen").unwrap_or_default();
        let read_token = self.token("http.read_token");
        let admin_token = self.token("http.admin_token");
        let Ok(listen) = text.parse::<SocketAddr>() else {
            self.mistake("`http.listen` is not an address; write 127.0.0.1:8686".to_owned());
            return None;
        };
        if !listen.ip().is_loopback() && read_token.is_none() && admin_token.is_none() {
            self.mistake("`http.listen` is not on this machine only; set KLAVIYOD_READ_TOKEN or KLAVIYOD_ADMIN_TOKEN, or listen on 127.0.0.1".to_owned());
        }
        Some(Http {
            serve: true,
            listen,
            read_token,
            admin_token,
        })
    }

    fn token(&mut self, name: &str) -> Option<SecretString> {
        let token = self.secret(name)?;
        if token.expose_secret().len() < TOKEN_BYTES_MIN {
            self.mistake(format!(
                "`{name}` must have at least {TOKEN_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"
            ));
        }
        Some(token)
    }

    fn worker(&mut self, environment: Environment) -> Worker {
        let crash_on_id = self.given("worker.crash_on_id");
        if crash_on_id.is_some() && environment == Environment::Production {
            self.mistake(
                "`worker.crash_on_id` is for tests and must not be set in production".to_owned(),
            );
        }
        let lease = self.duration("worker.lease", Duration::from_secs(1));
        let drain_timeout = self.duration("worker.drain_timeout", Duration::ZERO);
        let mut queues: Vec<&str> = klaviyo_jobs::kinds().iter().map(|it| it.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        for name in self.names_in("queues") {
            if !queues.contains(&name.as_str()) {
                self.mistake(format!(
                    "there is no queue `{name}`; the queues are {}",
                    queues.join(", ")
                ));
            }
        }
        let retries: BTreeMap<_, _> = queues
            .into_iter()
            .map(|queue| (queue, self.retries(queue)))
            .collect();
        Worker {
            crash_on_id,
            lease,
            drain_timeout,
            queues: None,
            retries,
        }
    }

    fn retries(&mut self, queue: &str) -> Retries {
        let mut retries = Retries::of_queue(queue);
        let name = |key| format!("queues.{queue}.{key}");
        if self.given(&name("attempts_max")).is_some() {
            retries.attempts_max = self.count(&name("attempts_max"));
        }
        for (key, value) in [
            ("age_max", &mut retries.age_max),
            ("backoff_first", &mut retries.backoff_first),
            ("backoff_max", &mut retries.backoff_max),
        ] {
            if self.given(&name(key)).is_some() {
                *value = self.duration(&name(key), Duration::from_millis(1));
            }
        }
        retries
    }

    fn count(&mut self, name: &str) -> u32 {
        let text = self.text(name).unwrap_or_default();
        match text.parse() {
            Ok(count) if count > 0 => count,
            _ => {
                self.mistake(format!("`{name}` must be a whole number, at least 1"));
                1
            }
        }
    }

    fn share(&mut self, name: &str) -> f64 {
        let text = self.text(name).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(share) if (0.0..1.0).contains(&share) => share,
            _ => {
                self.mistake(format!("`{name}` must be a share from 0 to below 1"));
                0.0
            }
        }
    }

    fn base_url(&mut self, name: &str) -> Option<Url> {
        let text = self.text(name).unwrap_or_default();
        let Ok(url) = text.parse::<Url>() else {
            self.mistake(format!(
                "`{name}` is not an address; write https://a.klaviyo.com"
            ));
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            // It would be shown with the address, and the key is all that Klaviyo asks for.
            self.mistake(format!(
                "`{name}` must not hold a user or a password; leave out what stands before the @"
            ));
            return None;
        }
        if !(url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url))) {
            self.mistake(format!("`{name}` must be https://; http:// is allowed to this machine only, for the key would travel in the clear"));
        }
        Some(url)
    }

    fn limits(&mut self, name: &str, base_url: Option<&Url>) -> BudgetScale {
        let scale = match self.text(name).unwrap_or_default().as_str() {
            "real" => BudgetScale::Real,
            "off" => BudgetScale::Off,
            factor => match factor.parse::<f64>() {
                Ok(factor) if factor.is_finite() && factor > 0.0 => BudgetScale::Factor(factor),
                _ => {
                    self.mistake(format!("`{name}` must be real, off or a factor above 0"));
                    BudgetScale::Real
                }
            },
        };
        if scale != BudgetScale::Real && base_url.is_some_and(|url| !is_loopback(url)) {
            self.mistake(format!(
                "`{name}` must be real for a Klaviyo that is not on this machine"
            ));
        }
        scale
    }

    fn redis_url(&mut self) -> SecretString {
        let text = self.text("redis.url").unwrap_or_default();
        if let Err(why) = crate::queue::Redis::at(&text) {
            self.mistake(format!("`redis.url` is not an address of Redis ({why}); write redis://127.0.0.1:6379, rediss://… or redis+sentinel://host:26379/<master name>"));
        }
        text.into()
    }

    pub(super) fn duration(&mut self, name: &str, least: Duration) -> Duration {
        let text = self.text(name).unwrap_or_default();
        let parsed = text.parse::<SignedDuration>().ok();
        match parsed.and_then(|it| Duration::try_from(it).ok()) {
            Some(duration) if duration >= least => duration,
            _ => {
                self.mistake(format!(
                    "`{name}` must be a duration such as 30s, at least {}ms",
                    least.as_millis()
                ));
                least
            }
        }
    }
}

fn find_given(given: &Given, name: &str) -> bool {
    given.given(name).is_some()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
