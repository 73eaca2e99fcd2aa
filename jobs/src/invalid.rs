//! The one error for a job that cannot be accepted: what to change, where, and a code for machines.
//!
//! It must never carry a value of the payload: it is logged, shown to operators and answered over HTTP, and
//! payloads hold addresses and phone numbers. Names of fields are shown only when they look like names.

use std::borrow::Cow;
use std::fmt;

/// Codes of [`Invalid`], stable for machines.
pub(crate) mod code {
    pub(crate) const ACCOUNT: &str = "keys.account";
    pub(crate) const INVALID: &str = "job.invalid";
    pub(crate) const MISSING_FIELD: &str = "job.missing_field";
    pub(crate) const NOT_JSON: &str = "job.not_json";
    pub(crate) const PREFIX: &str = "keys.prefix";
    pub(crate) const TOO_LARGE: &str = "job.too_large";
    pub(crate) const UNKNOWN_FIELD: &str = "job.unknown_field";
    pub(crate) const UNKNOWN_KIND: &str = "job.unknown_kind";
    pub(crate) const WRONG_QUEUE: &str = "job.wrong_queue";
}

/// A job that cannot be accepted as it is, and what to change.
///
/// The text is a lower-case fragment without any value of the payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    code: &'static str,
    message: Box<str>,
    pointer: Option<Box<str>>,
}

impl Invalid {
    /// Creates the error for an entry that has no `job` field at all, which only a reader of the stream can see.
    pub fn no_job_field() -> Self {
        Self::new(
            "job.no_job_field",
            "the entry has no field `job`; write it with: XADD <queue> * job '<json>'",
        )
    }

    /// Creates the error for a job of the daemon's own that it cannot read.
    pub fn internal(message: &'static str) -> Self {
        Self::new("job.internal", message)
    }

    pub(crate) fn new(code: &'static str, message: impl Into<Box<str>>) -> Self {
        Self {
            code,
            message: message.into(),
            pointer: None,
        }
    }

    pub(crate) fn at(pointer: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self::new(code::INVALID, message).with_pointer(pointer)
    }

    pub(crate) fn with_pointer(mut self, pointer: impl Into<Box<str>>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Returns the stable code, such as `job.unknown_field`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Returns where in the job the mistake is, as a JSON pointer such as `/data/profile/email`.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Returns the name in backticks if it can only be a name, else a phrase without it: somebody may have used an
/// address or a phone number as a key.
pub(crate) fn shown(name: &str) -> Cow<'static, str> {
    if looks_like_a_name(name) {
        Cow::Owned(format!("`{name}`"))
    } else {
        Cow::Borrowed("(name not shown)")
    }
}

pub(crate) fn looks_like_a_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    (1..=48).contains(&name.len()) && digits < 5 && name.bytes().all(plain)
}

/// Returns the known name that was most likely meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// Lists names for a message: "`a`, `b`, `c`".
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_be_a_persons_identifier_is_not_shown() {
        assert_eq!(shown("emial"), "`emial`");
        assert_eq!(shown("a@shop.io"), "(name not shown)");
        assert_eq!(shown("15005550006"), "(name not shown)");
        assert_eq!(shown("Jane Doe"), "(name not shown)");
    }

    #[test]
    fn the_nearest_name_is_found_and_a_strange_one_has_none() {
        let known = ["email", "phone_number", "external_id"];
        assert_eq!(nearest("emial", known), Some("email"));
        assert_eq!(nearest("phone", known), Some("phone_number"));
        assert_eq!(nearest("zzz", known), None);
    }
}
