//! The documents of profiles, single and bulk.
//!
//! An attribute that is absent stays as it was; `null` clears it. The attributes are therefore a
//! map, in which the caller writes exactly what shall be sent.

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::document::{Data, Resource, write};

/// A profile to create or update, by its id or the identifiers among its attributes.
#[derive(Clone, Copy, Debug)]
pub struct ProfileDocument<'a> {
    /// Klaviyo's own id.
    pub id: Option<&'a str>,
    /// Identifiers and fields; `null` clears. `properties` are merged key by key.
    pub attributes: &'a Map<String, Value>,
    /// Values to add to properties that are lists.
    pub append: &'a Map<String, Value>,
    /// Values to take from properties that are lists.
    pub unappend: &'a Map<String, Value>,
    /// Properties to remove.
    pub unset: &'a [String],
}

/// A written bulk document.
#[derive(Clone)]
pub struct BulkProfiles(Bytes);

impl BulkProfiles {
    /// Returns the document.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::fmt::Debug for BulkProfiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "BulkProfiles({} bytes)", self.0.len())
    }
}

/// Writes the document of [`CreateOrUpdateProfile`](super::Operation::CreateOrUpdateProfile).
pub fn profile_document(profile: &ProfileDocument<'_>) -> Bytes {
    write(
        &Data {
            data: Row::of(profile),
        },
        1024,
    )
}

/// Writes the document of [`BulkImportProfiles`](super::Operation::BulkImportProfiles): at most
/// 10,000 profiles and 5 MB, added to `list_id` if given (which subscribes nobody).
pub fn bulk_profiles_document(
    profiles: &[ProfileDocument<'_>],
    list_id: Option<&str>,
) -> BulkProfiles {
    let relationships = list_id.map(|id| Relationships {
        lists: Data {
            data: [ListReference { r#type: "list", id }],
        },
    });
    let job = ImportJobResource {
        r#type: "profile-bulk-import-job",
        attributes: ImportAttributes {
            profiles: Data {
                data: Rows(profiles),
            },
        },
        relationships,
    };
    BulkProfiles(write(&Data { data: job }, 256 + 512 * profiles.len()))
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    resource: Resource<'a, &'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta<'a>>,
}

#[derive(Serialize)]
struct Meta<'a> {
    patch_properties: PatchProperties<'a>,
}

#[derive(Serialize)]
struct PatchProperties<'a> {
    #[serde(skip_serializing_if = "Map::is_empty")]
    append: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    unappend: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unset: &'a [String],
}

impl<'a> Row<'a> {
    fn of(profile: &ProfileDocument<'a>) -> Self {
        let ProfileDocument {
            id,
            attributes,
            append,
            unappend,
            unset,
        } = *profile;
        let nothing = append.is_empty() && unappend.is_empty() && unset.is_empty();
        let meta = Meta {
            patch_properties: PatchProperties {
                append,
                unappend,
                unset,
            },
        };
        Self {
            resource: Resource {
                r#type: "profile",
                id,
                attributes,
            },
            meta: if nothing { None } else { Some(meta) },
        }
    }
}

#[derive(Serialize)]
struct ImportJobResource<'a> {
    r#type: &'static str,
    attributes: ImportAttributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relationships: Option<Relationships<'a>>,
}

#[derive(Serialize)]
struct ImportAttributes<'a> {
    profiles: Data<Rows<'a>>,
}

#[derive(Serialize)]
struct Relationships<'a> {
    lists: Data<[ListReference<'a>; 1]>,
}

#[derive(Serialize)]
struct ListReference<'a> {
    r#type: &'static str,
    id: &'a str,
}

struct Rows<'a>(&'a [ProfileDocument<'a>]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Row::of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn cleared_fields_are_null_and_absent_ones_are_absent() {
        let attributes = object(json!({"email": "a@shop.io", "title": null}));
        let (append, nothing) = (object(json!({"skus": "92538"})), Map::new());
        let unset = ["old_key".to_owned()];
        let profile = ProfileDocument {
            id: Some("01G"),
            attributes: &attributes,
            append: &append,
            unappend: &nothing,
            unset: &unset,
        };
        let written: Value = serde_json::from_slice(&profile_document(&profile)).unwrap();
        let expected = json!({"data": {
            "type": "profile", "id": "01G",
            "attributes": {"email": "a@shop.io", "title": null},
            "meta": {"patch_properties": {"append": {"skus": "92538"}, "unset": ["old_key"]}},
        }});
        assert_eq!(written, expected);
    }

    #[test]
    fn bulk_import_names_its_list_only_when_there_is_one() {
        let (attributes, nothing) = (object(json!({"email": "a@shop.io"})), Map::new());
        let profile = ProfileDocument {
            id: None,
            attributes: &attributes,
            append: &nothing,
            unappend: &nothing,
            unset: &[],
        };
        let written = bulk_profiles_document(&[profile], Some("Y6nRLr"));
        let written: Value = serde_json::from_slice(written.as_bytes()).unwrap();
        let expected = json!({"data": {"type": "profile-bulk-import-job",
            "attributes": {"profiles": {"data": [
                {"type": "profile", "attributes": {"email": "a@shop.io"}},
            ]}},
            "relationships": {"lists": {"data": [{"type": "list", "id": "Y6nRLr"}]}},
        }});
        assert_eq!(written, expected);
        let without = bulk_profiles_document(&[], None);
        assert!(!String::from_utf8_lossy(without.as_bytes()).contains("relationships"));
    }
}
