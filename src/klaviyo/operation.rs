//! The operations we use, with Klaviyo's names, paths and limits.
//!
//! The numbers are those of revision 2026-07-15. They are per account and per operation, and all
//! private keys of one account share them. Klaviyo's prose guide still says 700 a minute where
//! the reference and the live headers say 750; see `shrink` in `local_budget` for the difference.

use reqwest::Method;

use super::rate_limit::RateLimitHeaders;

/// An operation of Klaviyo's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [Bulk Create Events](https://developers.klaviyo.com/en/reference/bulk_create_events).
    BulkCreateEvents,
    /// [Bulk Import Profiles](https://developers.klaviyo.com/en/reference/bulk_import_profiles).
    BulkImportProfiles,
    /// [Create Event](https://developers.klaviyo.com/en/reference/create_event).
    CreateEvent,
    /// [Create or Update Profile](https://developers.klaviyo.com/en/reference/create_or_update_profile).
    CreateOrUpdateProfile,
    /// [Get Accounts](https://developers.klaviyo.com/en/reference/get_accounts).
    GetAccounts,
    /// [Get Bulk Import Profiles Job](https://developers.klaviyo.com/en/reference/get_bulk_import_profiles_job).
    GetBulkImportProfilesJob,
    /// [Get Errors for Bulk Import Profiles Job](https://developers.klaviyo.com/en/reference/get_errors_for_bulk_import_profiles_job).
    GetErrorsForBulkImportProfilesJob,
}

impl Operation {
    /// Lists every operation, in the order of their names.
    pub const ALL: [Self; 7] = [
        Self::BulkCreateEvents,
        Self::BulkImportProfiles,
        Self::CreateEvent,
        Self::CreateOrUpdateProfile,
        Self::GetAccounts,
        Self::GetBulkImportProfilesJob,
        Self::GetErrorsForBulkImportProfilesJob,
    ];

    /// Returns Klaviyo's own name of the operation.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns what Klaviyo allows an account per second, minute and day.
    pub const fn limits(self) -> Limits {
        self.row().limits
    }

    /// Returns the part of Klaviyo that answers the operation; parts fail one at a time.
    pub const fn group(self) -> Group {
        self.row().group
    }

    /// Returns the HTTP method.
    pub fn method(self) -> Method {
        if self.row().reads {
            Method::GET
        } else {
            Method::POST
        }
    }

    /// Returns the path, in which `{id}` stands for the one identifier it takes.
    pub const fn path(self) -> &'static str {
        self.row().path
    }

    /// Returns the operation's place in [`Operation::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    const fn row(self) -> Entry {
        match self {
            Self::BulkCreateEvents => Entry {
                name: "bulk_create_events",
                path: "/api/event-bulk-create-jobs",
                limits: M,
                group: Group::Events,
                reads: false,
            },
            Self::BulkImportProfiles => Entry {
                name: "bulk_import_profiles",
                path: "/api/profile-bulk-import-jobs",
                limits: M,
                group: Group::Profiles,
                reads: false,
            },
            Self::CreateEvent => Entry {
                name: "create_event",
                path: "/api/events",
                limits: XL,
                group: Group::Events,
                reads: false,
            },
            Self::CreateOrUpdateProfile => Entry {
                name: "create_or_update_profile",
                path: "/api/profile-import",
                limits: L,
                group: Group::Profiles,
                reads: false,
            },
            Self::GetAccounts => Entry {
                name: "get_accounts",
                path: "/api/accounts",
                limits: XS,
                group: Group::Accounts,
                reads: true,
            },
            Self::GetBulkImportProfilesJob => Entry {
                name: "get_bulk_import_profiles_job",
                path: "/api/profile-bulk-import-jobs/{id}",
                limits: M,
                group: Group::Profiles,
                reads: true,
            },
            Self::GetErrorsForBulkImportProfilesJob => Entry {
                name: "get_errors_for_bulk_import_profiles_job",
                path: "/api/profile-bulk-import-jobs/{id}/import-errors",
                limits: M,
                group: Group::Profiles,
                reads: true,
            },
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How many calls an account may make, per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls in one second.
    pub burst: u32,
    /// Calls in one minute.
    pub steady: u32,
    /// Calls in one day, for the few operations that have such a limit.
    pub daily: Option<u32>,
}

impl Limits {
    /// Multiplies every window by `factor`; none falls below one call.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            burst: scale(self.burst, factor),
            steady: scale(self.steady, factor),
            daily: self.daily.map(|limit| scale(limit, factor)),
        }
    }

    /// Returns the lower of these limits and those that an answer named, window by window.
    #[must_use]
    pub fn lowered_by(&self, headers: &RateLimitHeaders) -> Self {
        let least = |ours: u32, window| {
            headers
                .window(window)
                .filter(|limit| *limit > 0)
                .map_or(ours, |limit| limit.min(ours))
        };
        Self {
            burst: least(self.burst, 1),
            steady: least(self.steady, 60),
            daily: self.daily.map(|limit| least(limit, 86_400)),
        }
    }
}

/// The parts of Klaviyo that fail independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The account itself.
    Accounts,
    /// Events, single and bulk.
    Events,
    /// Profiles, single and bulk, and their import jobs.
    Profiles,
}

impl Group {
    /// Lists every group.
    pub const ALL: [Self; 3] = [Self::Accounts, Self::Events, Self::Profiles];

    /// Returns the group's name for people and telemetry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Events => "events",
            Self::Profiles => "profiles",
        }
    }
}

const XS: Limits = Limits {
    burst: 1,
    steady: 15,
    daily: None,
};
const M: Limits = Limits {
    burst: 10,
    steady: 150,
    daily: None,
};
const L: Limits = Limits {
    burst: 75,
    steady: 750,
    daily: None,
};
const XL: Limits = Limits {
    burst: 350,
    steady: 3500,
    daily: None,
};

struct Entry {
    name: &'static str,
    path: &'static str,
    limits: Limits,
    group: Group,
    reads: bool,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float beyond u32 saturates, and a negative or absurd factor becomes one call"
)]
fn scale(limit: u32, factor: f64) -> u32 {
    ((f64::from(limit) * factor) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_operation_at_its_own_index_and_by_name() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.index(), index);
        }
        assert!(Operation::ALL.is_sorted_by_key(|operation| operation.name()));
        for (index, group) in Group::ALL.into_iter().enumerate() {
            assert_eq!(group as usize, index);
        }
    }

    #[test]
    fn our_table_agrees_with_the_published_limits() {
        let path = "../shared/klaviyo/rate-limits.json";
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("skipped: there is no {path} to compare with");
            return;
        };
        let published: serde_json::Value = serde_json::from_str(&text).unwrap();
        for operation in Operation::ALL {
            let row = &published[operation.name()];
            let limits = operation.limits();
            assert_eq!(row["burst_per_second"], limits.burst, "{operation}");
            assert_eq!(row["steady_per_minute"], limits.steady, "{operation}");
            assert_eq!(row["method"], operation.method().as_str(), "{operation}");
            let path = row["path"].as_str().unwrap().replace("{job_id}", "{id}");
            assert_eq!(path, operation.path(), "{operation}");
        }
    }
}
