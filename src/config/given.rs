//! The texts of all settings that were given, by name, before they are understood.

use super::settings::{SETTINGS, Setting, find};
use crate::queue::Redis;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use url::Url;

/// What the names of our variables begin with; all others are nothing to us.
const PREFIXES: [&str; 2] = ["KLAVIYOD_", "KLAVIYO_"];

/// What was given; and the mistakes so far.
#[derive(Debug, Default)]
pub struct Given {
    texts: BTreeMap<String, SecretString>,
    files: BTreeMap<String, PathBuf>,
    pub(super) mistakes: Vec<String>,
}

impl Given {
    /// Reads the file and then the environment over it.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
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
        given.add_environment(environment);
        given
    }

    /// Reads the text of a file and then the environment over it.
    pub fn of_text(
        text: &str,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Self {
        let mut given = Self::default();
        given.add_file(text);
        given.add_environment(environment);
        given
    }

    fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) {
        let ours = |name: &OsString| {
            PREFIXES
                .iter()
                .any(|it| name.as_encoded_bytes().starts_with(it.as_bytes()))
        };
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let mut environment: Vec<(OsString, OsString)> =
            environment.filter(|(name, _)| ours(name)).collect();
        environment.sort();
        for (name, value) in environment {
            match (name.to_str(), value.into_string()) {
                (Some(name), Ok(value)) => self.add_variable(name, &value),
                _ => self
                    .mistakes
                    .push(format!("the variable {} is not UTF-8", name.display())),
            }
        }
    }

    fn add_file(&mut self, text: &str) {
        match text.parse::<toml::Table>() {
            Ok(table) => self.add_table("", table),
            // The error's own text may quote a line with a key in it.
            Err(_) => self
                .mistakes
                .push("the configuration file is not TOML; check quotes and brackets".to_owned()),
        }
    }

    fn add_table(&mut self, section: &str, table: toml::Table) {
        for (key, value) in table {
            let name = if section.is_empty() {
                key
            } else {
                format!("{section}.{key}")
            };
            match value {
                // An account may be a section without a line.
                toml::Value::Table(inner) => {
                    if let Some(account) = name.strip_prefix("accounts.") {
                        self.texts.entry(format!("accounts.{account}")).or_default();
                    }
                    self.add_table(&name, inner);
                }
                toml::Value::Array(_) => {
                    self.mistakes.push(format!("`{name}` must be one value"));
                }
                toml::Value::String(text) => self.add(&name, &text),
                other => self.add(&name, &other.to_string()),
            }
        }
    }

    fn add(&mut self, name: &str, text: &str) {
        match (find(name), name.strip_suffix("_file")) {
            (Some(_), _) => self.set(name, text),
            (None, Some(short)) if find(short).is_some() => self.set_from_file(short, text),
            (None, _) => {
                let known = SETTINGS.iter().map(|it| it.name.to_owned());
                self.mistakes.push(unknown(name, known));
            }
        }
    }

    fn add_variable(&mut self, variable: &str, value: &str) {
        if let Some(name) = name_of_variable(variable) {
            return self.set(&name, value);
        }
        let of_file = variable.strip_suffix("_FILE").and_then(name_of_variable);
        if let Some(name) = of_file {
            return self.set_from_file(&name, value);
        }
        if variable.starts_with("KLAVIYOD_") {
            let known = SETTINGS.iter().flat_map(|it| {
                let alias = it.alias.map(str::to_owned);
                alias.into_iter().chain([it.long_name()])
            });
            self.mistakes.push(unknown(variable, known));
        }
    }

    fn set(&mut self, name: &str, text: &str) {
        // A line break behind a key is nobody's wish.
        self.texts
            .insert(name.to_owned(), text.trim().to_owned().into());
        self.files.remove(name);
    }

    fn set_from_file(&mut self, name: &str, path: &str) {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                self.set(name, &text);
                self.files.insert(name.to_owned(), path.into());
            }
            Err(error) => self
                .mistakes
                .push(format!("the file for `{name}` cannot be read ({error})")),
        }
    }

    /// Returns each setting with its effective text, secrets hidden.
    pub fn shown(&self) -> Vec<(String, String, &'static Setting)> {
        // A name with a star stands for all queues or accounts.
        let plain = SETTINGS.iter();
        let plain = plain.map(|setting| (setting.name.to_owned(), setting));
        let named = self.texts.keys();
        let named = named.filter_map(|name| Some((name.clone(), find(name)?)));
        let named = named.filter(|(_, setting)| setting.name.contains('*'));
        plain
            .chain(named)
            .map(|(name, setting)| {
                let text = match self.text(&name) {
                    Some(_) if setting.is_secret => "(hidden)".to_owned(),
                    // The URL of a server may hold a password.
                    Some(text)
                        if name
                            .rsplit_once('.')
                            .is_some_and(|(_, key)| key.ends_with("url")) =>
                    {
                        without_password(&text)
                    }
                    Some(text) => text,
                    None => "(not set)".to_owned(),
                };
                (name, text, setting)
            })
            .collect()
    }

    /// The text of a setting, else its default.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let given = self.given(name);
        given.or_else(|| find(name)?.default.map(str::to_owned))
    }

    /// The text of a setting if somebody gave one.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        let text = self.texts.get(name)?;
        Some(text.expose_secret().to_owned())
    }

    /// A secret, if it was given and is not empty.
    pub(super) fn secret(&self, name: &str) -> Option<SecretString> {
        let text = self.texts.get(name)?;
        (!text.expose_secret().is_empty()).then(|| text.clone())
    }

    /// The file that a setting came from.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        self.files.get(name).cloned()
    }

    /// The names that stand for `*` in the settings of a section such as `accounts`.
    pub(super) fn names_in(&self, section: &str) -> Vec<String> {
        let inside = |name: &String| {
            let rest = name.strip_prefix(section)?.strip_prefix('.')?;
            Some(rest.split('.').next()?.to_owned())
        };
        // A set: `shop`, `shop-eu.limits`, `shop.limits` is how texts are sorted, so equal names are no neighbours.
        let names: BTreeSet<String> = self.texts.keys().filter_map(inside).collect();
        names.into_iter().collect()
    }
}

/// The setting that an environment variable gives.
fn name_of_variable(variable: &str) -> Option<String> {
    if let Some(setting) = SETTINGS.iter().find(|it| it.alias == Some(variable)) {
        return Some(setting.name.to_owned());
    }
    let long = variable.strip_prefix("KLAVIYOD_")?;
    let mut name = long.to_lowercase().replace("__", ".");
    // A shell allows no hyphen in a variable, and no queue has an underscore.
    if let Some((queue, key)) = name
        .strip_prefix("queues.")
        .and_then(|rest| rest.split_once('.'))
    {
        name = format!("queues.{}.{key}", queue.replace('_', "-"));
    }
    find(&name).map(|_| name)
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

/// Redacts text, not what a parser makes of it: Redis, Sentinels, PostgreSQL and Klaviyo are each read in a way of its own.
fn without_password(text: &str) -> String {
    // What is no address may be anything, such as a password whose host was forgotten.
    let is_address = text.parse::<Url>().is_ok() || Redis::at(text).is_ok();
    let (scheme, login, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_address && is_plain(scheme) => match rest.rsplit_once('@') {
            Some((login, rest)) => (scheme, Some(login), rest),
            None => (scheme, None, rest),
        },
        None if is_address && !text.contains('@') && !text.contains("password") => {
            return text.to_owned();
        }
        _ => return "(not an address)".to_owned(),
    };
    let login = match login.map(|login| (login.split_once(':'), login)) {
        None => String::new(),
        Some((Some((user, _)), _)) if is_plain(user) => format!("{user}:hidden@"),
        // One word is the password of Sentinels, and the user of everything else.
        Some((None, user)) if is_plain(user) && !scheme.contains("sentinel") => format!("{user}@"),
        Some(_) => "hidden@".to_owned(),
    };
    // PostgreSQL takes a password from the query too.
    let rest = match rest.split_once(['?', '#']) {
        Some((rest, tail)) if tail.contains("password") => format!("{rest}?hidden"),
        _ => rest.to_owned(),
    };
    format!("{scheme}://{login}{rest}")
}

/// Whether it can be nothing but a scheme or a user: a second `://` or `@` would make half an address look like one.
fn is_plain(part: &str) -> bool {
    !part.contains(['/', '?', '#', '@'])
}
