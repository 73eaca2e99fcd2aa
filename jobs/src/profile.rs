//! Who a job is about.
//!
//! A [`ProfileRef`] names a person by one identifier or several; [`Identity`] is the strongest of them, by which jobs
//! about the same person are grouped. Nothing here can be printed with `{:?}`.

use crate::value::check_id;
use crate::{Email, ExternalId, Invalid, Phone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A person, by at least one identifier. More identifiers are more ways to hit the wrong person: send only those you
/// trust.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct ProfileRef {
    /// Their email address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Their phone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Phone>,
    /// The application's own identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<ExternalId>,
    /// Klaviyo's profile id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// The identifier of an anonymous visitor; only events accept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<Box<str>>,
}

/// The strongest identifier of a [`ProfileRef`]: equal identities are the same person. Email addresses are compared
/// in lower case, as Klaviyo does.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// Klaviyo's profile id.
    Id(&'a str),
    /// The application's own identifier.
    External(&'a str),
    /// An email address in lower case.
    Email(Cow<'a, str>),
    /// A phone number.
    Phone(&'a str),
    /// An anonymous visitor.
    Anonymous(&'a str),
    /// No identifier at all; validation refuses such a reference.
    Nobody,
}

impl ProfileRef {
    /// Creates a reference by email address.
    pub fn by_email(email: Email) -> Self {
        Self {
            email: Some(email),
            ..Self::default()
        }
    }

    /// Creates a reference by the application's own identifier.
    pub fn by_external_id(external_id: ExternalId) -> Self {
        Self {
            external_id: Some(external_id),
            ..Self::default()
        }
    }

    /// Returns the strongest identifier: `id`, then `external_id`, `email`, `phone_number`, `anonymous_id`.
    pub fn identity(&self) -> Identity<'_> {
        if let Some(id) = &self.id {
            return Identity::Id(id);
        }
        if let Some(external_id) = &self.external_id {
            return Identity::External(external_id.as_str());
        }
        if let Some(email) = &self.email {
            return Identity::Email(lower_case(email.as_str()));
        }
        if let Some(phone) = &self.phone_number {
            return Identity::Phone(phone.as_str());
        }
        self.anonymous_id
            .as_deref()
            .map_or(Identity::Nobody, Identity::Anonymous)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        for (name, id) in [("id", &self.id), ("anonymous_id", &self.anonymous_id)] {
            if let Some(id) = id {
                check_id(id).map_err(|rule| {
                    Invalid::at(format!("/data/profile/{name}"), format!("`{name}` {rule}"))
                })?;
            }
        }
        if self.identity() == Identity::Nobody {
            let message = "`profile` names nobody; give `email`, `phone_number`, `external_id`, `id` or `anonymous_id`";
            return Err(Invalid::at("/data/profile", message));
        }
        Ok(())
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text
        .chars()
        .any(|letter| !letter.is_ascii() || letter.is_ascii_uppercase())
    {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

impl Identity<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Id(_) => "Id",
            Self::External(_) => "External",
            Self::Email(_) => "Email",
            Self::Phone(_) => "Phone",
            Self::Anonymous(_) => "Anonymous",
            Self::Nobody => "Nobody",
        }
    }
}

impl fmt::Debug for Identity<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity::{}(..)", self.name())
    }
}

impl fmt::Debug for ProfileRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ProfileRef({})", self.identity().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> ProfileRef {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_strongest_identifier_is_the_identity() {
        let all = r#"{"email": "a@shop.io", "phone_number": "+15005550006", "external_id": "c-1", "id": "01G"}"#;
        assert_eq!(profile(all).identity(), Identity::Id("01G"));
        assert_eq!(
            profile(r#"{"email": "a@shop.io", "external_id": "c-1"}"#).identity(),
            Identity::External("c-1")
        );
        assert_eq!(
            profile(r#"{"phone_number": "+15005550006"}"#).identity(),
            Identity::Phone("+15005550006")
        );
        assert_eq!(
            profile(r#"{"anonymous_id": "v"}"#).identity(),
            Identity::Anonymous("v")
        );
    }

    #[test]
    fn two_spellings_of_one_address_are_one_person() {
        assert_eq!(
            profile(r#"{"email": "A@Shop.io"}"#).identity(),
            profile(r#"{"email": "a@shop.io"}"#).identity()
        );
    }

    #[test]
    fn a_reference_to_nobody_is_refused() {
        assert!(profile("{}").validate().is_err());
        assert!(profile(r#"{"email": null}"#).validate().is_err());
        assert!(profile(r#"{"id": ""}"#).validate().is_err());
    }
}
