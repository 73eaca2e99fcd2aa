//! What a client needs to know before it can call.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::operation::Operation;

/// The revision of the API this client is written against.
pub const REVISION: &str = "2026-07-15";

/// Answers to writes hold one document at most.
const WRITE_ANSWER_BYTES_MAX: usize = 1 << 20;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.api+json");
// Klaviyo may answer for a retired revision with another one. A silent change of shape is worse
// than an error.
const FALL_FORWARD_OPT_OUT: HeaderName =
    HeaderName::from_static("x-klaviyo-revision-fall-forward-opt-out");

/// How to reach Klaviyo.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Klaviyo is; plain `http` only on this machine.
    pub base_url: Url,
    /// The account's private key.
    pub key: SecretString,
    /// The API's revision.
    pub revision: String,
    /// The longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// The longest time of a whole call. What gives up on it, and a busy machine, still end it within 30 s.
    pub call_timeout: Duration,
    /// The longest answer that is read.
    pub response_bytes_max: usize,
    /// How often one call probes whether the key is accepted again.
    pub credentials_probe_every: Duration,
    /// How often one call probes whether an operation is allowed again.
    pub operation_probe_every: Duration,
}

impl Settings {
    /// Creates settings with the defaults for everything but the place and the key.
    pub fn new(base_url: Url, key: SecretString) -> Self {
        Self {
            base_url,
            key,
            revision: REVISION.to_owned(),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(28),
            response_bytes_max: 16 * 1024 * 1024,
            credentials_probe_every: Duration::from_secs(10),
            operation_probe_every: Duration::from_mins(1),
        }
    }

    /// The longest answer of an operation that is read. Whoever writes gets a short one, or one that means harm.
    pub(crate) fn answer_bytes_max(&self, operation: Operation) -> usize {
        if operation.method() == Method::GET {
            self.response_bytes_max
        } else {
            self.response_bytes_max.min(WRITE_ANSWER_BYTES_MAX)
        }
    }

    /// Checks where calls go: `https`, or `http` to this machine.
    pub(crate) fn check_base_url(&self) -> Result<(), SetupError> {
        match self.base_url.scheme() {
            "https" => Ok(()),
            "http" if self.is_loopback() => Ok(()),
            "http" => Err(SetupError::PlainHttp),
            _ => Err(SetupError::BaseUrl),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self.base_url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Builds the headers that every call carries.
    pub(crate) fn headers(&self) -> Result<HeaderMap, SetupError> {
        let authorization = authorization(&self.key)?;
        let revision = HeaderValue::from_str(&self.revision).map_err(|_| SetupError::Revision)?;
        let agent = HeaderValue::from_static(concat!("klaviyod/", env!("CARGO_PKG_VERSION")));
        Ok(HeaderMap::from_iter([
            (ACCEPT, MEDIA_TYPE),
            (AUTHORIZATION, authorization),
            (CONTENT_TYPE, MEDIA_TYPE),
            (USER_AGENT, agent),
            (HeaderName::from_static("revision"), revision),
            (FALL_FORWARD_OPT_OUT, HeaderValue::from_static("1")),
        ]))
    }
}

/// Builds the header that carries the key, and is never printed.
pub(crate) fn authorization(key: &SecretString) -> Result<HeaderValue, SetupError> {
    let key = key.expose_secret();
    if key.is_empty() {
        return Err(SetupError::Key);
    }
    let mut authorization =
        HeaderValue::from_str(&format!("Klaviyo-API-Key {key}")).map_err(|_| SetupError::Key)?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The base URL is no web address.
    #[error("klaviyo's base URL is neither https nor http")]
    BaseUrl,
    /// The key is empty or has characters that no header can carry.
    #[error("klaviyo's key is empty or malformed")]
    Key,
    /// The key would travel in the clear.
    #[error("klaviyo's base URL is http to another machine")]
    PlainHttp,
    /// The revision has characters that no header can carry.
    #[error("klaviyo's revision is malformed")]
    Revision,
    /// The transport cannot start.
    #[error("the transport to klaviyo cannot start")]
    Transport(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str, key: &str) -> Settings {
        Settings::new(base_url.parse().unwrap(), SecretString::from(key))
    }

    #[test]
    fn plain_http_reaches_this_machine_only() {
        for good in [
            "https://a.klaviyo.com",
            "http://127.0.0.1:8899",
            "http://[::1]:1/",
            "http://localhost:8",
        ] {
            assert!(settings(good, "pk_1").check_base_url().is_ok(), "{good}");
        }
        for bad in [
            "http://a.klaviyo.com",
            "http://127.0.0.1.evil.io",
            "http://10.0.0.1",
            "ftp://localhost",
            "file:///x",
        ] {
            assert!(settings(bad, "pk_1").check_base_url().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_reads_gets_long_answers() {
        let settings = settings("https://a.klaviyo.com", "pk_1");
        let read = settings.answer_bytes_max(Operation::GetErrorsForBulkImportProfilesJob);
        let write = settings.answer_bytes_max(Operation::CreateOrUpdateProfile);
        assert_eq!((read, write), (16 << 20, 1 << 20));
    }

    #[test]
    fn key_is_never_printed() {
        let settings = settings("https://a.klaviyo.com", "pk_very_secret");
        let printed = format!("{settings:?} {:?}", settings.headers().unwrap());
        assert!(!printed.contains("pk_very_secret"), "{printed}");
    }

    #[test]
    fn malformed_key_is_refused_at_the_start() {
        for key in ["", "pk_1\n", "pk_\u{0}"] {
            assert!(matches!(
                settings("https://a.klaviyo.com", key).headers(),
                Err(SetupError::Key)
            ));
        }
    }
}
