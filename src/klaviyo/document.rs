//! The pieces that documents of several operations share, and the way back from a pointer.
//!
//! Documents borrow everything and are written straight into one buffer: a bulk call carries a
//! thousand events, and a tree of values between them and the bytes would cost more than the rest.

use bytes::Bytes;
use serde::Serialize;

/// A row of a bulk document: its place, and for events the place within its group.
pub type Row = (usize, Option<usize>);

/// What says whose profile it is. At least one must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Identifiers<'a> {
    /// Klaviyo's own id.
    #[serde(skip)]
    pub id: Option<&'a str>,
    /// An email address, under 100 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    /// A phone number in E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<&'a str>,
    /// The application's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<&'a str>,
    /// An id from before the person was known; in events only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<&'a str>,
}

/// Finds the row that a pointer of a bulk operation's error speaks about.
///
/// For events it is the group and the event in it, if the pointer goes that deep; for profiles
/// the profile.
pub fn row_of_pointer(pointer: &str) -> Option<Row> {
    let rest = pointer.strip_prefix("/data/attributes/")?;
    if let Some(rest) = rest.strip_prefix("profiles/data/") {
        return Some((index(rest)?.0, None));
    }
    let (group, rest) = index(rest.strip_prefix("events-bulk-create/data/")?)?;
    let event = rest
        .strip_prefix("attributes/")
        .unwrap_or(rest)
        .strip_prefix("events/data/")
        .and_then(index)
        .map(|(event, _)| event);
    Some((group, event))
}

#[derive(Serialize)]
pub(crate) struct Data<T> {
    pub(crate) data: T,
}

#[derive(Serialize)]
pub(crate) struct Resource<'a, T> {
    pub(crate) r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    pub(crate) attributes: T,
}

impl<'a> From<&Identifiers<'a>> for Data<Resource<'a, Identifiers<'a>>> {
    fn from(profile: &Identifiers<'a>) -> Self {
        Self {
            data: Resource {
                r#type: "profile",
                id: profile.id,
                attributes: *profile,
            },
        }
    }
}

pub(crate) fn write(document: &impl Serialize, bytes_about: usize) -> Bytes {
    let mut buffer = Vec::with_capacity(bytes_about);
    serde_json::to_writer(&mut buffer, document)
        .expect("strings, numbers and checked JSON always serialize into memory");
    buffer.into()
}

/// Reads the number that a pointer goes on with, and what follows it.
fn index(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once('/').unwrap_or((text, ""));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        Some((number.parse().ok()?, rest))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_leads_back_to_the_row() {
        let events = "/data/attributes/events-bulk-create/data";
        let profiles = "/data/attributes/profiles/data";
        let cases = [
            (format!("{events}/3"), Some((3, None))),
            (
                format!("{events}/3/attributes/profile/data/attributes/email"),
                Some((3, None)),
            ),
            (
                format!("{events}/0/attributes/events/data/12/attributes/time"),
                Some((0, Some(12))),
            ),
            (format!("{events}/0/events/data/12"), Some((0, Some(12)))),
            (
                format!("{events}/0/attributes/events/data/x"),
                Some((0, None)),
            ),
            (format!("{profiles}/7/attributes/email"), Some((7, None))),
            (format!("{profiles}/7"), Some((7, None))),
            (format!("{profiles}/+7"), None),
            (format!("{profiles}/"), None),
            (format!("{profiles}/-1"), None),
            (format!("{profiles}/99999999999999999999999"), None),
            ("/data/attributes/email".to_owned(), None),
            ("/data".to_owned(), None),
            (String::new(), None),
        ];
        for (pointer, row) in cases {
            assert_eq!(row_of_pointer(&pointer), row, "{pointer}");
        }
    }
}
