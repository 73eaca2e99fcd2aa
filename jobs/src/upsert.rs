//! `profile.upsert`: create a profile or change one.
//!
//! Fields that are absent stay as they were, null clears, and nothing here can set consent. The second run is harmless:
//! it sets the same values, and the later `at` wins field by field.

use crate::{Amount, Change, Identity, Invalid, Job, ProfileRef, Properties};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The largest upsert in bytes.
const BYTES_MAX: usize = 100_000;

/// Creates a profile or changes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertProfile {
    /// Who; `anonymous_id` alone is not enough.
    pub profile: ProfileRef,
    /// Klaviyo's own fields.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Custom properties, merged by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
    /// Values to add to properties that are lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<Properties>,
    /// Values to remove from properties that are lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unappend: Option<Properties>,
    /// Names of properties to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<Box<str>>,
}

/// Klaviyo's own fields of a profile: absent keeps, null clears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Their first name.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub first_name: Change<Box<str>>,
    /// Their last name.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub last_name: Change<Box<str>>,
    /// Their job title.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub title: Change<Box<str>>,
    /// The company they work for.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub organization: Change<Box<str>>,
    /// Their language and country, such as `en-US`.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub locale: Change<Box<str>>,
    /// The address of their picture.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub image: Change<Box<str>>,
    /// Where they are; null clears all of it.
    #[serde(
        default,
        skip_serializing_if = "Location::is_empty",
        deserialize_with = "location"
    )]
    #[schemars(with = "Option<Location>")]
    pub location: Location,
}

/// Where a person is: absent keeps, null clears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// The street.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub address1: Change<Box<str>>,
    /// The second line of the street.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub address2: Change<Box<str>>,
    /// The city.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub city: Change<Box<str>>,
    /// The country.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub country: Change<Box<str>>,
    /// The state or region.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub region: Change<Box<str>>,
    /// The postal code.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub zip: Change<Box<str>>,
    /// The time zone, such as `Europe/Paris`.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub timezone: Change<Box<str>>,
    /// The latitude, -90 to 90.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub latitude: Change<Amount>,
    /// The longitude, -180 to 180.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub longitude: Change<Amount>,
    /// The IP address.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub ip: Change<Box<str>>,
}

impl UpsertProfile {
    /// Creates an upsert that changes nothing yet; set the other fields as needed.
    pub fn new(profile: ProfileRef) -> Self {
        Self {
            profile,
            attributes: Attributes::default(),
            properties: None,
            append: None,
            unappend: None,
            unset: Vec::new(),
        }
    }
}

impl Attributes {
    /// Returns whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Location {
    /// Returns whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Creates the change that clears every field.
    pub fn cleared() -> Self {
        Self {
            address1: Change::Clear,
            address2: Change::Clear,
            city: Change::Clear,
            country: Change::Clear,
            region: Change::Clear,
            zip: Change::Clear,
            timezone: Change::Clear,
            latitude: Change::Clear,
            longitude: Change::Clear,
            ip: Change::Clear,
        }
    }
}

fn location<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Location, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(Location::cleared))
}

impl Job for UpsertProfile {
    const KIND: &'static str = "profile.upsert";
    const QUEUE: &'static str = "profile-sync";
    const UNIQUE_BY_DEFAULT: bool = false;

    fn validate(&self, _at: Timestamp, _now: Timestamp) -> Result<(), Invalid> {
        self.profile.validate()?;
        if matches!(self.profile.identity(), Identity::Anonymous(_)) {
            let message = "`anonymous_id` alone cannot identify a profile; give `email`, `phone_number`, `external_id` or `id`";
            return Err(Invalid::at("/data/profile", message));
        }
        let location = &self.attributes.location;
        for (name, degrees, most) in [
            ("latitude", &location.latitude, 90.0),
            ("longitude", &location.longitude, 180.0),
        ] {
            if degrees
                .value()
                .is_some_and(|degrees| degrees.as_f64().abs() > most)
            {
                let pointer = format!("/data/attributes/location/{name}");
                return Err(Invalid::at(
                    pointer,
                    format!("`{name}` must be from -{most} to {most}"),
                ));
            }
        }
        // Serializing costs little beside the limits themselves, and it cannot forget a field.
        let bytes = serde_json::to_vec(self).map_or(0, |json| json.len());
        if bytes > BYTES_MAX {
            return Err(Invalid::new(
                crate::invalid::code::TOO_LARGE,
                "the profile is larger than 100 KB; send less of it",
            )
            .with_pointer("/data"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn upsert(json: serde_json::Value) -> UpsertProfile {
        serde_json::from_value(json).unwrap()
    }

    fn refused_at(upsert: &UpsertProfile) -> Option<String> {
        let now = Timestamp::UNIX_EPOCH;
        upsert
            .validate(now, now)
            .err()
            .map(|invalid| invalid.pointer().unwrap_or_default().to_owned())
    }

    #[test]
    fn absent_keeps_and_null_clears_and_both_survive_a_round_trip() {
        let json = json!({"profile": {"email": "a@shop.io"},
            "attributes": {"first_name": "A", "title": null, "location": {"city": null, "latitude": 48.85}}});
        let job = upsert(json.clone());
        assert_eq!(job.attributes.first_name, Change::Set("A".into()));
        assert_eq!(job.attributes.title, Change::Clear);
        assert_eq!(job.attributes.last_name, Change::Keep);
        assert_eq!(serde_json::to_value(&job).unwrap(), json);
    }

    #[test]
    fn a_null_location_clears_every_field_of_it() {
        let job = upsert(json!({"profile": {"id": "01G"}, "attributes": {"location": null}}));
        assert_eq!(job.attributes.location, Location::cleared());
    }

    #[test]
    fn an_anonymous_visitor_cannot_be_upserted() {
        assert_eq!(
            refused_at(&upsert(json!({"profile": {"anonymous_id": "v"}}))).unwrap(),
            "/data/profile"
        );
        assert_eq!(
            refused_at(&upsert(
                json!({"profile": {"anonymous_id": "v", "email": "a@shop.io"}})
            )),
            None
        );
    }

    #[test]
    fn a_profile_above_100_kb_is_refused() {
        let two = json!({"a": "x".repeat(60_000), "b": "x".repeat(60_000)});
        let job = upsert(json!({"profile": {"email": "a@shop.io"}, "properties": two}));
        assert_eq!(refused_at(&job).unwrap(), "/data");
    }

    #[test]
    fn a_place_that_is_not_on_earth_is_refused() {
        let job = upsert(
            json!({"profile": {"email": "a@shop.io"}, "attributes": {"location": {"latitude": 91}}}),
        );
        assert_eq!(
            refused_at(&job).unwrap(),
            "/data/attributes/location/latitude"
        );
    }
}
