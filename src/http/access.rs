//! Who may ask: bearer tokens and their role.
//!
//! Without a configured token everybody may who reaches us, and configuration sees to it that only this machine does.
//! Tokens are kept as digests, which makes comparing them take the same time whatever was sent.

use crate::config::Http;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;

/// The tokens of whoever may read.
#[derive(Clone)]
pub(super) struct Readers(Vec<[u8; 32]>);

impl Readers {
    /// Who may do everything may read too.
    pub(super) fn of(config: &Http) -> Self {
        let tokens = [&config.read_token, &config.admin_token];
        let digests = tokens.into_iter().flatten().map(digest);
        Self(digests.collect())
    }

    /// Whether somebody with this `Authorization` header may read.
    pub(super) fn admit(&self, authorization: Option<&[u8]>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(token) = authorization.and_then(bearer) else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(token).into();
        // Every token is compared, whatever the first one says.
        self.0
            .iter()
            .fold(false, |admitted, known| same(known, &given) | admitted)
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Readers({} tokens)", self.0.len())
    }
}

fn digest(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret()).into()
}

/// The token behind `Bearer`, a word that is written in any case.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// Compares without saying where the first difference is.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(read: Option<&str>, admin: Option<&str>) -> Readers {
        Readers::of(&Http {
            admin_token: admin.map(Into::into),
            listen: ([127, 0, 0, 1], 0).into(),
            read_token: read.map(Into::into),
            serve: true,
        })
    }

    #[test]
    fn without_a_token_everybody_reads() {
        assert!(readers(None, None).admit(None));
    }

    #[test]
    fn only_a_configured_token_opens() {
        let readers = readers(Some("0123456789abcdef"), Some("fedcba9876543210"));
        for good in ["Bearer 0123456789abcdef", "bearer fedcba9876543210 "] {
            assert!(readers.admit(Some(good.as_bytes())), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789abcde",
        ] {
            assert!(!readers.admit(Some(bad.as_bytes())), "{bad}");
        }
        assert!(!readers.admit(None));
        assert!(!format!("{readers:?}").contains("0123"));
    }
}
