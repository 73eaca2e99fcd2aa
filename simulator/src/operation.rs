//! The operations that are served: name, method, path and limits, as published for revision 2026-07-15.
//!
//! A new operation is one variant, one line in [`TABLE`] and one arm in `handlers`.

/// Klaviyo's own operation names, in the order of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    AddProfilesToList,
    BulkCreateEvents,
    BulkImportProfiles,
    CreateEvent,
    CreateList,
    CreateOrUpdateProfile,
    CreateProfile,
    GetAccounts,
    GetBulkImportProfilesJob,
    GetErrorsForBulkImportProfilesJob,
    GetEvent,
    GetEvents,
    GetList,
    GetLists,
    GetMetric,
    GetMetrics,
    GetProfile,
    GetProfileIdsForList,
    GetProfiles,
    GetProfilesForList,
    GetProfilesForSegment,
    GetSegment,
    GetSegments,
    RemoveProfilesFromList,
    UpdateProfile,
}

pub(crate) struct Entry {
    pub(crate) operation: Operation,
    pub(crate) name: &'static str,
    method: &'static str,
    path: &'static str,
    pub(crate) per_second: u32,
    pub(crate) per_minute: u32,
    pub(crate) per_day: Option<u32>,
}

const fn entry(
    operation: Operation,
    name: &'static str,
    method: &'static str,
    path: &'static str,
    (per_second, per_minute): (u32, u32),
) -> Entry {
    Entry {
        operation,
        name,
        method,
        path,
        per_second,
        per_minute,
        per_day: None,
    }
}

const XS: (u32, u32) = (1, 15);
const M: (u32, u32) = (10, 150);
const L: (u32, u32) = (75, 750);
const XL: (u32, u32) = (350, 3500);

use Operation as O;

#[rustfmt::skip]
pub(crate) static TABLE: [Entry; 25] = [
    entry(O::AddProfilesToList, "add_profiles_to_list", "POST", "/api/lists/{id}/relationships/profiles", M),
    entry(O::BulkCreateEvents, "bulk_create_events", "POST", "/api/event-bulk-create-jobs", M),
    entry(O::BulkImportProfiles, "bulk_import_profiles", "POST", "/api/profile-bulk-import-jobs", M),
    entry(O::CreateEvent, "create_event", "POST", "/api/events", XL),
    Entry { per_day: Some(150), ..entry(O::CreateList, "create_list", "POST", "/api/lists", M) },
    entry(O::CreateOrUpdateProfile, "create_or_update_profile", "POST", "/api/profile-import", L),
    entry(O::CreateProfile, "create_profile", "POST", "/api/profiles", L),
    entry(O::GetAccounts, "get_accounts", "GET", "/api/accounts", XS),
    entry(O::GetBulkImportProfilesJob, "get_bulk_import_profiles_job", "GET", "/api/profile-bulk-import-jobs/{id}", M),
    entry(O::GetErrorsForBulkImportProfilesJob, "get_errors_for_bulk_import_profiles_job", "GET", "/api/profile-bulk-import-jobs/{id}/import-errors", M),
    entry(O::GetEvent, "get_event", "GET", "/api/events/{id}", M),
    entry(O::GetEvents, "get_events", "GET", "/api/events", XL),
    entry(O::GetList, "get_list", "GET", "/api/lists/{id}", L),
    entry(O::GetLists, "get_lists", "GET", "/api/lists", L),
    entry(O::GetMetric, "get_metric", "GET", "/api/metrics/{id}", M),
    entry(O::GetMetrics, "get_metrics", "GET", "/api/metrics", M),
    entry(O::GetProfile, "get_profile", "GET", "/api/profiles/{id}", L),
    entry(O::GetProfileIdsForList, "get_profile_ids_for_list", "GET", "/api/lists/{id}/relationships/profiles", L),
    entry(O::GetProfiles, "get_profiles", "GET", "/api/profiles", L),
    entry(O::GetProfilesForList, "get_profiles_for_list", "GET", "/api/lists/{id}/profiles", L),
    entry(O::GetProfilesForSegment, "get_profiles_for_segment", "GET", "/api/segments/{id}/profiles", L),
    entry(O::GetSegment, "get_segment", "GET", "/api/segments/{id}", L),
    entry(O::GetSegments, "get_segments", "GET", "/api/segments", L),
    entry(O::RemoveProfilesFromList, "remove_profiles_from_list", "DELETE", "/api/lists/{id}/relationships/profiles", M),
    entry(O::UpdateProfile, "update_profile", "PATCH", "/api/profiles/{id}", L),
];

pub(crate) enum Route<'p> {
    /// The operation, and the id in its path.
    Found(Operation, &'p str),
    WrongMethod,
    Unknown,
}

impl Operation {
    pub(crate) fn entry(self) -> &'static Entry {
        &TABLE[self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    /// The profile writes that are limited to 100 KB.
    pub(crate) fn is_profile_write(self) -> bool {
        matches!(
            self,
            Self::CreateOrUpdateProfile | Self::CreateProfile | Self::UpdateProfile
        )
    }
}

pub(crate) fn route<'p>(method: &str, path: &'p str) -> Route<'p> {
    let path = path.trim_end_matches('/');
    let mut known_path = false;
    for entry in &TABLE {
        if let Some(id) = id_in(entry.path, path) {
            if entry.method == method {
                return Route::Found(entry.operation, id);
            }
            known_path = true;
        }
    }
    if known_path {
        Route::WrongMethod
    } else {
        Route::Unknown
    }
}

/// The id that `path` has in the place of `{id}`, or an empty one where `pattern` has none.
fn id_in<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some("");
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_finds_its_own_line_of_the_table() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.operation as usize, index, "{}", entry.name);
        }
    }

    #[test]
    fn paths_are_known_with_and_without_a_trailing_slash() {
        assert!(matches!(
            route("POST", "/api/events/"),
            Route::Found(O::CreateEvent, "")
        ));
        assert!(matches!(
            route("GET", "/api/lists/AbC/profiles"),
            Route::Found(O::GetProfilesForList, "AbC")
        ));
        assert!(matches!(route("DELETE", "/api/events"), Route::WrongMethod));
        assert!(matches!(route("GET", "/api/flows"), Route::Unknown));
        assert!(matches!(route("GET", "/api/profiles/a/b"), Route::Unknown));
    }
}
