//! Shapes that all answers share: collections, sparse fieldsets, and the profile document.

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::query::Query;
use crate::state::profiles::Profile;

pub(crate) fn collection(data: &[Value], links: &Value) -> Value {
    json!({ "data": data, "links": links })
}

pub(crate) fn single(data: &Value) -> Value {
    let link = data["links"]["self"].clone();
    json!({ "data": data, "links": {"self": link} })
}

pub(crate) fn profile(profile: &Profile, query: &Query, base_url: &str) -> Value {
    let mut attributes = profile.attributes_document();
    if query.has("additional-fields[profile]", "subscriptions") {
        attributes.insert("subscriptions".to_owned(), never_subscribed());
    }
    let link = format!("{base_url}/api/profiles/{}", profile.id);
    json!({
        "type": "profile",
        "id": profile.id,
        "attributes": attributes,
        "relationships": {
            "lists": {"links": {"self": format!("{link}/relationships/lists"), "related": format!("{link}/lists")}},
            "segments": {"links": {"self": format!("{link}/relationships/segments"), "related": format!("{link}/segments")}},
        },
        "links": {"self": link},
    })
}

/// A profile in the list of a group's members.
pub(crate) fn member(row: &Profile, joined: Moment, query: &Query, base_url: &str) -> Value {
    let mut document = profile(row, query, base_url);
    document["attributes"]["joined_group_at"] = joined.rfc3339().into();
    document
}

/// Reduces every resource to the fields that `fields[type]` asks for; that drops relationships, too.
pub(crate) fn keep_asked_fields(document: &mut Value, query: &Query) {
    for place in ["data", "included"] {
        match document.get_mut(place) {
            Some(Value::Array(rows)) => rows
                .iter_mut()
                .for_each(|row| keep_asked_fields_of(row, query)),
            Some(row @ Value::Object(_)) => keep_asked_fields_of(row, query),
            _ => {}
        }
    }
}

fn keep_asked_fields_of(row: &mut Value, query: &Query) {
    let Some(name) = row["type"].as_str().map(|kind| format!("fields[{kind}]")) else {
        return;
    };
    if query.get(&name).is_none() {
        return;
    }
    if let Some(attributes) = row.get_mut("attributes").and_then(Value::as_object_mut) {
        attributes.retain(|field, _| query.has(&name, field));
    }
    if let Some(resource) = row.as_object_mut() {
        resource.remove("relationships");
    }
}

fn never_subscribed() -> Value {
    json!({
        "email": {"marketing": {
            "can_receive_email_marketing": true, "consent": "NEVER_SUBSCRIBED", "consent_timestamp": null,
            "last_updated": null, "method": null, "method_detail": null, "custom_method_detail": null,
            "double_optin": null, "suppression": [], "list_suppressions": [],
        }},
        "sms": {"marketing": {
            "can_receive_sms_marketing": false, "consent": "NEVER_SUBSCRIBED", "consent_timestamp": null,
            "method": null, "method_detail": null, "last_updated": null,
        }},
    })
}
