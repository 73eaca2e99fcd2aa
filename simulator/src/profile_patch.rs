//! What a profile document in a body asks for: identifiers, attributes, properties and patches.
//!
//! Every writer reads profiles here: upsert, create, update, import rows and the profile parts of events. Absent
//! keeps, `null` clears, so an absent field never becomes a [`Change`]. Pointers start at the profile document.

use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::validate;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Clear,
    Set(String),
}

/// Where a document may carry `meta`: beside the attributes, or (in single events of older revisions) inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaPlace {
    Beside,
    Inside,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ProfilePatch {
    pub(crate) id: Option<String>,
    pub(crate) email: Option<Change>,
    pub(crate) phone_number: Option<Change>,
    pub(crate) external_id: Option<Change>,
    pub(crate) anonymous_id: Option<Change>,
    /// Plain attributes such as `first_name`.
    pub(crate) attributes: Map<String, Value>,
    pub(crate) location: Map<String, Value>,
    pub(crate) properties: Map<String, Value>,
    pub(crate) append: Map<String, Value>,
    pub(crate) unappend: Map<String, Value>,
    pub(crate) unset: Vec<String>,
    pub(crate) append_emails: Vec<String>,
    pub(crate) unappend_emails: Vec<String>,
}

pub(crate) const LOCATION: [&str; 10] = [
    "address1",
    "address2",
    "city",
    "country",
    "ip",
    "latitude",
    "longitude",
    "region",
    "timezone",
    "zip",
];

impl ProfilePatch {
    pub(crate) fn parse(document: Value, meta_place: MetaPlace) -> Result<Self, Problem> {
        let mut document = object(document, "")?;
        match document.remove("type") {
            Some(Value::String(kind)) if kind == "profile" => {}
            None => return Err(Problem::required("/type", "type")),
            Some(_) => return Err(Problem::invalid("/type", "Expected the type 'profile'.")),
        }
        let mut patch = Self {
            id: string(document.remove("id"), "/id")?,
            ..Self::default()
        };
        let Some(attributes) = document.remove("attributes") else {
            return match patch.id {
                Some(_) => Ok(patch),
                None => Err(Problem::required("/attributes", "attributes")),
            };
        };
        for (name, value) in object(attributes, "/attributes")? {
            patch.take_attribute(name, value, meta_place)?;
        }
        match document.remove("meta") {
            None | Some(Value::Null) => {}
            Some(meta) if meta_place == MetaPlace::Beside => {
                patch.take_meta(meta).map_err(|p| p.under("/meta"))?;
            }
            Some(_) => return Err(Problem::unknown_field("/meta", "meta", "profile")),
        }
        Ok(patch)
    }

    /// Whether anything in the document says which profile it is about.
    pub(crate) fn is_identified(&self) -> bool {
        let identifiers = [
            &self.email,
            &self.phone_number,
            &self.external_id,
            &self.anonymous_id,
        ];
        self.id.is_some()
            || identifiers
                .iter()
                .any(|change| matches!(change, Some(Change::Set(_))))
    }

    pub(crate) fn require_identifier(&self) -> Result<(), Problem> {
        if self.is_identified() {
            return Ok(());
        }
        let detail = "One of 'id', 'email', 'phone_number' or 'external_id' is required.";
        Err(Problem::invalid("/attributes", detail))
    }

    pub(crate) fn is_dropped(&self) -> bool {
        matches!(&self.email, Some(Change::Set(email)) if validate::is_dropped_address(email))
    }

    fn take_attribute(
        &mut self,
        name: String,
        value: Value,
        meta_place: MetaPlace,
    ) -> Result<(), Problem> {
        let pointer = format!("/attributes/{name}");
        match name.as_str() {
            "email" => self.email = email_change(value, &pointer)?,
            "phone_number" => self.phone_number = phone_change(value, &pointer)?,
            "external_id" => self.external_id = change(value, &pointer)?,
            // The web cookie names a visitor, as an anonymous id does.
            "anonymous_id" | "_kx" => self.anonymous_id = change(value, &pointer)?,
            "first_name" | "last_name" | "organization" | "locale" | "title" | "image" => {
                if !matches!(value, Value::Null | Value::String(_)) {
                    return Err(Problem::invalid(pointer, "Not a valid string."));
                }
                self.attributes.insert(name, value);
            }
            "location" if value.is_null() => {
                self.location = LOCATION
                    .iter()
                    .map(|field| ((*field).to_owned(), Value::Null))
                    .collect();
            }
            "location" => {
                self.location = object(value, &pointer)?;
                if let Some(unknown) = self
                    .location
                    .keys()
                    .find(|field| !LOCATION.contains(&field.as_str()))
                {
                    return Err(Problem::unknown_field(
                        format!("{pointer}/{unknown}"),
                        unknown,
                        "location",
                    ));
                }
            }
            "properties" if value.is_null() => {}
            "properties" => {
                self.properties = object(value, &pointer)?;
                refuse_long_strings(&self.properties, &pointer)?;
            }
            "meta" if meta_place == MetaPlace::Inside => {
                self.take_meta(value).map_err(|p| p.under(&pointer))?;
            }
            "subscriptions" => {
                return Err(Problem::invalid(
                    pointer,
                    "Consent is not set here; use the subscription jobs.",
                ));
            }
            unknown => return Err(Problem::unknown_field(pointer.clone(), unknown, "profile")),
        }
        Ok(())
    }

    fn take_meta(&mut self, meta: Value) -> Result<(), Problem> {
        let mut meta = object(meta, "")?;
        if let Some(patches) = meta
            .remove("patch_properties")
            .filter(|patches| !patches.is_null())
        {
            let mut patches = object(patches, "/patch_properties")?;
            self.append = optional_object(patches.remove("append"), "/patch_properties/append")?;
            self.unappend =
                optional_object(patches.remove("unappend"), "/patch_properties/unappend")?;
            self.unset = strings(patches.remove("unset"), "/patch_properties/unset")?;
        }
        if let Some(patches) = meta
            .remove("patch_identifiers")
            .filter(|patches| !patches.is_null())
        {
            let mut patches = object(patches, "/patch_identifiers")?;
            for (verb, emails) in [
                ("append", &mut self.append_emails),
                ("unappend", &mut self.unappend_emails),
            ] {
                let pointer = format!("/patch_identifiers/{verb}");
                let mut identifiers = optional_object(patches.remove(verb), &pointer)?;
                *emails = strings(identifiers.remove("email"), &format!("{pointer}/email"))?;
                if let Some(wrong) = emails.iter().find(|email| !validate::is_email(email)) {
                    return Err(Problem::invalid(
                        format!("{pointer}/email"),
                        format!("'{wrong}' is not a valid email."),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn object(value: Value, pointer: &str) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Problem::invalid(pointer, "Expected an object.")),
    }
}

fn optional_object(value: Option<Value>, pointer: &str) -> Result<Map<String, Value>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(value) => object(value, pointer),
    }
}

fn string(value: Option<Value>, pointer: &str) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::invalid(pointer, "Not a valid string.")),
    }
}

/// One string or a list of them.
fn strings(value: Option<Value>, pointer: &str) -> Result<Vec<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(items)) => {
            let texts = items
                .into_iter()
                .map(|item| string(Some(item), pointer))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(texts.into_iter().flatten().collect())
        }
        Some(_) => Err(Problem::invalid(
            pointer,
            "Expected a string or a list of strings.",
        )),
    }
}

fn change(value: Value, pointer: &str) -> Result<Option<Change>, Problem> {
    match value {
        Value::Null => Ok(Some(Change::Clear)),
        Value::String(text) if text.is_empty() => {
            Err(Problem::invalid(pointer, "This field may not be blank."))
        }
        Value::String(text) => Ok(Some(Change::Set(text))),
        _ => Err(Problem::invalid(pointer, "Not a valid string.")),
    }
}

fn email_change(value: Value, pointer: &str) -> Result<Option<Change>, Problem> {
    match change(value, pointer)? {
        Some(Change::Set(email)) if !validate::is_email(&email) => {
            Err(Problem::invalid(pointer, "Invalid email address"))
        }
        change => Ok(change),
    }
}

fn phone_change(value: Value, pointer: &str) -> Result<Option<Change>, Problem> {
    match change(value, pointer)? {
        Some(Change::Set(phone)) if !validate::is_phone_number(&phone) => Err(Problem::invalid(
            pointer,
            "Invalid phone number format (Example of a valid format: +12345678901)",
        )),
        change => Ok(change),
    }
}

fn refuse_long_strings(properties: &Map<String, Value>, pointer: &str) -> Result<(), Problem> {
    for (name, value) in properties {
        if value
            .as_str()
            .is_some_and(|text| text.len() > validate::STRING_BYTES_MAX)
        {
            return Err(Problem::invalid(
                format!("{pointer}/{name}"),
                "Strings are limited to 100 KB.",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(document: Value) -> Value {
        ProfilePatch::parse(document, MetaPlace::Beside)
            .unwrap_err()
            .to_json()
    }

    #[test]
    fn absent_null_and_set_are_three_different_things() {
        let document =
            json!({"type": "profile", "attributes": {"email": "a@shop.io", "phone_number": null}});
        let patch = ProfilePatch::parse(document, MetaPlace::Beside).unwrap();
        assert_eq!(patch.email, Some(Change::Set("a@shop.io".to_owned())));
        assert_eq!(patch.phone_number, Some(Change::Clear));
        assert_eq!(patch.external_id, None);
    }

    #[test]
    fn a_refusal_points_to_the_field() {
        let pointer = |attributes: Value| {
            refused(json!({"type": "profile", "attributes": attributes}))["source"]["pointer"]
                .clone()
        };
        assert_eq!(pointer(json!({"email": "nope"})), "/attributes/email");
        assert_eq!(
            pointer(json!({"phone_number": "123"})),
            "/attributes/phone_number"
        );
        assert_eq!(pointer(json!({"first_name": 1})), "/attributes/first_name");
        assert_eq!(pointer(json!({"nickname": "x"})), "/attributes/nickname");
        assert_eq!(
            pointer(json!({"location": {"planet": "x"}})),
            "/attributes/location/planet"
        );
    }

    #[test]
    fn meta_belongs_where_the_revision_puts_it() {
        let meta = json!({"patch_properties": {"append": {"skus": "1"}, "unset": "old"}});
        let beside = json!({"type": "profile", "attributes": {"email": "a@shop.io"}, "meta": meta});
        let inside = json!({"type": "profile", "attributes": {"email": "a@shop.io", "meta": meta}});
        let patch = ProfilePatch::parse(beside.clone(), MetaPlace::Beside).unwrap();
        assert_eq!(patch.unset, ["old"]);
        assert_eq!(
            ProfilePatch::parse(inside.clone(), MetaPlace::Inside)
                .unwrap()
                .append["skus"],
            "1"
        );
        assert!(ProfilePatch::parse(beside, MetaPlace::Inside).is_err());
        assert!(ProfilePatch::parse(inside, MetaPlace::Beside).is_err());
    }
}
