//! Understands the settings of the database and of what is kept there.

use super::{Audit, Given};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

const HASH_KEY_BYTES_MIN: usize = 16;
const UNITS: [(&str, u64); 4] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl Given {
    pub(super) fn audit(&mut self) -> Audit {
        Audit {
            retention: self.duration("audit.retention", Duration::from_mins(1)),
            bytes_max: self.bytes("audit.bytes_max"),
        }
    }

    pub(super) fn database_url(&mut self) -> SecretString {
        let text = self.text("database.url").unwrap_or_default();
        let known = ["sqlite:", "postgres://", "postgresql://"];
        if !known.iter().any(|scheme| text.starts_with(scheme)) {
            self.mistakes
                .push("`database.url` must begin with sqlite:// or postgres://".to_owned());
        }
        text.into()
    }

    pub(super) fn database_migrates(&mut self) -> bool {
        match self.text("database.migrate").unwrap_or_default().as_str() {
            "auto" => true,
            "off" => false,
            _ => {
                self.mistakes
                    .push("`database.migrate` must be one of auto, off".to_owned());
                true
            }
        }
    }

    pub(super) fn hash_key(&mut self) -> Option<SecretString> {
        let key = self.secret("hash.key")?;
        if key.expose_secret().len() < HASH_KEY_BYTES_MIN {
            self.mistakes.push(format!(
                "`hash.key` must have at least {HASH_KEY_BYTES_MIN} bytes; make one with `openssl rand -hex 32`"
            ));
        }
        Some(key)
    }

    fn bytes(&mut self, name: &str) -> u64 {
        let text = self.text(name).unwrap_or_default().to_uppercase();
        let unit = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((&text, 1));
        match number
            .trim()
            .parse::<u64>()
            .ok()
            .and_then(|it| it.checked_mul(bytes))
        {
            Some(bytes) if bytes > 0 => bytes,
            _ => {
                self.mistakes
                    .push(format!("`{name}` must be a size such as 500MB or 10GB"));
                1
            }
        }
    }
}
