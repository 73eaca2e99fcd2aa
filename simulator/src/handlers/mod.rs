//! What each operation does once the request has passed headers, limits and faults.

mod events;
mod groups;
mod imports;
mod metrics;
mod profiles;

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::filter::Condition;
use crate::operation::Operation;
use crate::problem::{Problem, Refusal};
use crate::query::Query;
use crate::state::Shared;
use crate::validate;

/// One request, as its handler sees it.
pub(crate) struct Call<'c> {
    pub(crate) operation: Operation,
    /// The id in the path, or an empty one.
    pub(crate) id: &'c str,
    pub(crate) path: &'c str,
    pub(crate) query: &'c Query,
    pub(crate) body: &'c [u8],
    pub(crate) revision: &'c str,
    pub(crate) base_url: &'c str,
    pub(crate) now: Moment,
    pub(crate) import_delay: Duration,
    pub(crate) state: &'c Shared,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    /// Profiles, events or members that were accepted.
    pub(crate) rows: u64,
}

impl Reply {
    fn read(body: Value) -> Self {
        Self {
            status: 200,
            body: Some(body),
            rows: 0,
        }
    }

    fn empty(status: u16, rows: usize) -> Self {
        Self {
            status,
            body: None,
            rows: rows as u64,
        }
    }
}

pub(crate) fn carry_out(call: &Call<'_>) -> Result<Reply, Refusal> {
    match call.operation {
        Operation::AddProfilesToList => groups::add_profiles_to_list(call),
        Operation::BulkCreateEvents => events::bulk_create_events(call),
        Operation::BulkImportProfiles => imports::bulk_import_profiles(call),
        Operation::CreateEvent => events::create_event(call),
        Operation::CreateList => groups::create_list(call),
        Operation::CreateOrUpdateProfile => profiles::create_or_update_profile(call),
        Operation::CreateProfile => profiles::create_profile(call),
        Operation::GetAccounts => Ok(get_accounts(call)),
        Operation::GetBulkImportProfilesJob => imports::get_job(call),
        Operation::GetErrorsForBulkImportProfilesJob => imports::get_errors(call),
        Operation::GetEvent => events::get_event(call),
        Operation::GetEvents => events::get_events(call),
        Operation::GetList => groups::get_list(call),
        Operation::GetLists => groups::get_lists(call),
        Operation::GetMetric => metrics::get_metric(call),
        Operation::GetMetrics => metrics::get_metrics(call),
        Operation::GetProfile => profiles::get_profile(call),
        Operation::GetProfileIdsForList => groups::get_profile_ids_for_list(call),
        Operation::GetProfiles => profiles::get_profiles(call),
        Operation::GetProfilesForList => groups::get_profiles_for_list(call),
        Operation::GetProfilesForSegment => groups::get_profiles_for_segment(call),
        Operation::GetSegment => groups::get_segment(call),
        Operation::GetSegments => groups::get_segments(call),
        Operation::RemoveProfilesFromList => groups::remove_profiles_from_list(call),
        Operation::UpdateProfile => profiles::update_profile(call),
    }
}

impl Call<'_> {
    /// The `data` of the body.
    fn data(&self) -> Result<Value, Problem> {
        let mut body: Value = serde_json::from_slice(self.body).map_err(|_| invalid_json())?;
        match body.get_mut("data") {
            Some(data) if !data.is_null() => Ok(data.take()),
            _ => Err(Problem::required("/data", "data")),
        }
    }

    fn url(&self) -> String {
        format!("{}{}", self.base_url, self.path)
    }
}

fn invalid_json() -> Problem {
    Problem::invalid("/data", "The payload provided in the request is invalid.")
}

fn require_type(data: &Value, expected: &str) -> Result<(), Problem> {
    match data["type"].as_str() {
        Some(kind) if kind == expected => Ok(()),
        None => Err(Problem::required("/data/type", "type")),
        Some(_) => Err(Problem::invalid(
            "/data/type",
            format!("Expected the type '{expected}'."),
        )),
    }
}

/// Whether a time satisfies a condition such as `greater-than(updated,...)`.
fn holds(condition: &Condition, time: Moment) -> Result<bool, Problem> {
    let Some(bound) = validate::time(condition.value()) else {
        return Err(Problem::parameter(
            "filter",
            format!("'{}' is not a valid datetime.", condition.value()),
        ));
    };
    Ok(match condition.operator.as_str() {
        "greater-than" => time > bound,
        "greater-or-equal" => time >= bound,
        "less-than" => time < bound,
        _ => time <= bound,
    })
}

fn get_accounts(call: &Call<'_>) -> Reply {
    let account = json!({
        "type": "account",
        "id": "SIMLTR",
        "attributes": {
            "test_account": true,
            "contact_information": {
                "default_sender_name": "Simulator", "default_sender_email": "simulator@shop.io", "website_url": null,
                "organization_name": "Simulator", "street_address": {
                    "address1": null, "address2": null, "city": null, "region": null, "country": null, "zip": null,
                },
            },
            "industry": null,
            "timezone": "UTC",
            "preferred_currency": "USD",
            "public_api_key": "SIMLTR",
            "locale": "en-US",
        },
        "links": {"self": format!("{}/api/accounts/SIMLTR", call.base_url)},
    });
    Reply::read(
        json!({"data": [account], "links": {"self": call.url(), "next": null, "prev": null}}),
    )
}
