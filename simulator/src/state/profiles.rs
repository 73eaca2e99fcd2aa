//! Profiles, found by any of their identifiers.
//!
//! Profiles are never removed, so their position is a stable key ([`ProfileKey`]) and an offset a stable cursor.

use std::collections::HashMap;

use rand::Rng;
use serde_json::{Map, Value};

use crate::clock::Moment;
use crate::profile_patch::{Change, LOCATION, ProfilePatch};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProfileKey(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) id: String,
    pub(crate) email: Option<String>,
    pub(crate) phone_number: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) location: Map<String, Value>,
    pub(crate) properties: Map<String, Value>,
    pub(crate) created: Moment,
    pub(crate) updated: Moment,
    pub(crate) last_event: Option<Moment>,
}

#[derive(Debug, Default)]
pub(crate) struct Profiles {
    rows: Vec<Profile>,
    by_id: HashMap<String, ProfileKey>,
    by_email: HashMap<String, ProfileKey>,
    by_phone_number: HashMap<String, ProfileKey>,
    by_external_id: HashMap<String, ProfileKey>,
    by_anonymous_id: HashMap<String, ProfileKey>,
}

/// Why a patch cannot be applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Its identifiers belong to several profiles; this is one of them.
    Duplicate(ProfileKey),
    /// It names an id that no profile has.
    UnknownId,
}

impl Profiles {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn get(&self, key: ProfileKey) -> &Profile {
        &self.rows[key.0 as usize]
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<ProfileKey> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = ProfileKey> + use<> {
        (0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX)).map(ProfileKey)
    }

    /// Looks a profile up by a field that can be filtered for equality.
    pub(crate) fn find(&self, field: &str, value: &str) -> Option<ProfileKey> {
        match field {
            "id" | "profile_id" => self.by_id.get(value),
            "email" => self.by_email.get(&value.to_ascii_lowercase()),
            "phone_number" => self.by_phone_number.get(value),
            "external_id" => self.by_external_id.get(value),
            "_kx" => self.by_anonymous_id.get(value),
            _ => None,
        }
        .copied()
    }

    /// The one profile that the identifiers of a patch belong to, or none.
    pub(crate) fn resolve(&self, patch: &ProfilePatch) -> Result<Option<ProfileKey>, Conflict> {
        let mut found = match &patch.id {
            None => None,
            Some(id) => Some(self.by_id(id).ok_or(Conflict::UnknownId)?),
        };
        for key in self.matches(patch) {
            match found {
                Some(other) if other != key => return Err(Conflict::Duplicate(key)),
                _ => found = Some(key),
            }
        }
        Ok(found)
    }

    /// The profile of an event: where identifiers disagree the first one decides.
    pub(crate) fn resolve_leniently(&self, patch: &ProfilePatch) -> Option<ProfileKey> {
        patch
            .id
            .as_deref()
            .and_then(|id| self.by_id(id))
            .or_else(|| self.matches(patch).next())
    }

    fn matches(&self, patch: &ProfilePatch) -> impl Iterator<Item = ProfileKey> {
        let identifiers = [
            ("email", &patch.email),
            ("phone_number", &patch.phone_number),
            ("external_id", &patch.external_id),
            ("_kx", &patch.anonymous_id),
        ];
        identifiers
            .into_iter()
            .filter_map(|(field, change)| match change {
                Some(Change::Set(value)) => self.find(field, value),
                _ => None,
            })
    }

    pub(crate) fn create(&mut self, patch: &ProfilePatch, now: Moment) -> ProfileKey {
        let key = ProfileKey(u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        let id = ulid(now);
        self.by_id.insert(id.clone(), key);
        self.rows.push(Profile {
            id,
            email: None,
            phone_number: None,
            external_id: None,
            attributes: Map::new(),
            location: Map::new(),
            properties: Map::new(),
            created: now,
            updated: now,
            last_event: None,
        });
        self.apply(key, patch, now);
        key
    }

    /// Applies a patch, but leaves alone what identifies another profile.
    pub(crate) fn apply(&mut self, key: ProfileKey, patch: &ProfilePatch, now: Moment) {
        let row = &mut self.rows[key.0 as usize];
        row.updated = now;
        identify(
            key,
            &mut row.email,
            patch.email.as_ref(),
            &mut self.by_email,
            str::to_ascii_lowercase,
        );
        identify(
            key,
            &mut row.phone_number,
            patch.phone_number.as_ref(),
            &mut self.by_phone_number,
            str::to_owned,
        );
        identify(
            key,
            &mut row.external_id,
            patch.external_id.as_ref(),
            &mut self.by_external_id,
            str::to_owned,
        );
        if let Some(Change::Set(anonymous_id)) = &patch.anonymous_id {
            self.by_anonymous_id
                .entry(anonymous_id.clone())
                .or_insert(key);
        }
        for email in &patch.append_emails {
            self.by_email
                .entry(email.to_ascii_lowercase())
                .or_insert(key);
        }
        for email in &patch.unappend_emails {
            let email = email.to_ascii_lowercase();
            let is_primary = row
                .email
                .as_ref()
                .is_some_and(|primary| primary.eq_ignore_ascii_case(&email));
            if self.by_email.get(&email) == Some(&key) && !is_primary {
                self.by_email.remove(&email);
            }
        }
        row.attributes.extend(patch.attributes.clone());
        row.location.extend(patch.location.clone());
        row.apply_properties(patch);
    }

    pub(crate) fn note_event(&mut self, key: ProfileKey, time: Moment) {
        let row = &mut self.rows[key.0 as usize];
        row.last_event = row.last_event.max(Some(time));
    }
}

impl Profile {
    fn apply_properties(&mut self, patch: &ProfilePatch) {
        self.properties.extend(patch.properties.clone());
        for (name, added) in &patch.append {
            let mut items = list(self.properties.remove(name));
            items.extend(list(Some(added.clone())));
            self.properties.insert(name.clone(), Value::Array(items));
        }
        for (name, removed) in &patch.unappend {
            if let Some(Value::Array(items)) = self.properties.get_mut(name) {
                let removed = list(Some(removed.clone()));
                items.retain(|item| !removed.contains(item));
            }
        }
        for name in &patch.unset {
            self.properties.remove(name);
        }
    }

    pub(crate) fn attributes_document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        put("email", self.email.clone().into());
        put("phone_number", self.phone_number.clone().into());
        put("external_id", self.external_id.clone().into());
        for name in [
            "first_name",
            "last_name",
            "organization",
            "locale",
            "title",
            "image",
        ] {
            put(name, self.attributes.get(name).cloned().unwrap_or_default());
        }
        put("created", self.created.rfc3339().into());
        put("updated", self.updated.rfc3339().into());
        put(
            "last_event_date",
            self.last_event.map(Moment::rfc3339).into(),
        );
        let place = |field: &&str| {
            (
                (*field).to_owned(),
                self.location.get(*field).cloned().unwrap_or_default(),
            )
        };
        put(
            "location",
            Value::Object(LOCATION.iter().map(place).collect()),
        );
        put("properties", Value::Object(self.properties.clone()));
        document
    }
}

fn identify(
    key: ProfileKey,
    current: &mut Option<String>,
    change: Option<&Change>,
    index: &mut HashMap<String, ProfileKey>,
    normal: impl Fn(&str) -> String,
) {
    let Some(change) = change else { return };
    let wanted = match change {
        Change::Clear => None,
        Change::Set(value) if index.get(&normal(value)).is_some_and(|owner| *owner != key) => {
            return;
        }
        Change::Set(value) => Some(value),
    };
    if let Some(old) = current.take() {
        index.remove(&normal(&old));
    }
    if let Some(value) = wanted {
        index.insert(normal(value), key);
        *current = Some(value.clone());
    }
}

/// A property that is appended to becomes a list.
fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(single) => vec![single],
    }
}

/// A profile id as Klaviyo makes them: 48 bits of time, 80 of randomness, Crockford's base 32.
fn ulid(now: Moment) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let random: u128 = rand::rng().random();
    let bits = (u128::from(now.0.unsigned_abs()) << 80) | (random >> 48);
    (0..26)
        .rev()
        .map(|digit| char::from(ALPHABET[(bits >> (digit * 5)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::profile_patch::MetaPlace;

    fn patch(attributes: &Value) -> ProfilePatch {
        ProfilePatch::parse(
            json!({"type": "profile", "attributes": attributes}),
            MetaPlace::Beside,
        )
        .unwrap()
    }

    #[test]
    fn a_known_email_with_a_new_phone_number_changes_the_phone_number() {
        let mut profiles = Profiles::default();
        let key = profiles.create(
            &patch(&json!({"email": "A@shop.io", "phone_number": "+15005550006"})),
            Moment(0),
        );
        let change = patch(&json!({"email": "a@shop.io", "phone_number": "+15005550007"}));
        assert_eq!(profiles.resolve(&change), Ok(Some(key)));
        profiles.apply(key, &change, Moment(1));
        assert_eq!(
            profiles.get(key).phone_number.as_deref(),
            Some("+15005550007")
        );
        assert_eq!(profiles.find("phone_number", "+15005550006"), None);
    }

    #[test]
    fn identifiers_of_two_profiles_are_a_conflict() {
        let mut profiles = Profiles::default();
        profiles.create(&patch(&json!({"email": "a@shop.io"})), Moment(0));
        let second = profiles.create(&patch(&json!({"external_id": "2"})), Moment(0));
        let both = patch(&json!({"email": "a@shop.io", "external_id": "2"}));
        assert_eq!(profiles.resolve(&both), Err(Conflict::Duplicate(second)));
    }

    #[test]
    fn properties_are_merged_by_key_and_patched_as_lists() {
        let mut profiles = Profiles::default();
        let key = profiles.create(
            &patch(&json!({"email": "a@shop.io", "properties": {"a": 1, "skus": "x"}})),
            Moment(0),
        );
        let mut change = patch(&json!({"properties": {"b": 2}}));
        change.append.insert("skus".to_owned(), json!(["y", "z"]));
        change.unappend.insert("skus".to_owned(), json!("x"));
        change.unset.push("a".to_owned());
        profiles.apply(key, &change, Moment(1));
        assert_eq!(
            Value::Object(profiles.get(key).properties.clone()),
            json!({"b": 2, "skus": ["y", "z"]})
        );
    }

    #[test]
    fn null_clears_an_identifier_and_frees_it() {
        let mut profiles = Profiles::default();
        let key = profiles.create(
            &patch(&json!({"email": "a@shop.io", "external_id": "1"})),
            Moment(0),
        );
        profiles.apply(key, &patch(&json!({"external_id": null})), Moment(1));
        assert_eq!(profiles.get(key).external_id, None);
        assert_eq!(profiles.find("external_id", "1"), None);
    }
}
