//! Lists and who is on them, in the order of joining.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::profiles::ProfileKey;
use super::short_id;
use crate::clock::Moment;

#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) rows: Vec<List>,
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) id: String,
    pub(crate) name: String,
    opt_in_process: String,
    created: Moment,
    updated: Moment,
    pub(crate) members: Vec<(ProfileKey, Moment)>,
    present: HashSet<ProfileKey>,
}

impl Lists {
    pub(crate) fn get(&self, id: &str) -> Option<&List> {
        self.rows.iter().find(|list| list.id == id)
    }

    pub(crate) fn create(&mut self, name: String, opt_in_process: String, now: Moment) -> &List {
        self.rows.push(List {
            id: short_id(),
            name,
            opt_in_process,
            created: now,
            updated: now,
            members: Vec::new(),
            present: HashSet::new(),
        });
        &self.rows[self.rows.len() - 1]
    }

    /// Adds those who are not on the list yet; does nothing for an unknown list.
    pub(crate) fn add(&mut self, id: &str, profiles: &[ProfileKey], now: Moment) {
        let Some(list) = self.rows.iter_mut().find(|list| list.id == id) else {
            return;
        };
        list.updated = now;
        for profile in profiles {
            if list.present.insert(*profile) {
                list.members.push((*profile, now));
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &str, profiles: &[ProfileKey], now: Moment) {
        let Some(list) = self.rows.iter_mut().find(|list| list.id == id) else {
            return;
        };
        list.updated = now;
        for profile in profiles {
            list.present.remove(profile);
        }
        list.members
            .retain(|(profile, _)| list.present.contains(profile));
    }
}

impl List {
    pub(crate) fn document(&self, with_count: bool, base_url: &str) -> Value {
        let mut document = json!({
            "type": "list",
            "id": self.id,
            "attributes": {
                "name": self.name,
                "created": self.created.rfc3339(),
                "updated": self.updated.rfc3339(),
                "opt_in_process": self.opt_in_process,
            },
            "relationships": {"profiles": {"links": {
                "self": format!("{base_url}/api/lists/{}/relationships/profiles", self.id),
                "related": format!("{base_url}/api/lists/{}/profiles", self.id),
            }}},
            "links": {"self": format!("{base_url}/api/lists/{}", self.id)},
        });
        if with_count {
            document["attributes"]["profile_count"] = Value::from(self.members.len());
        }
        document
    }
}
