//! Bulk imports of profiles, their jobs and the errors of their rows.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Call, Reply, invalid_json};
use crate::cursor::Page;
use crate::document;
use crate::event_body::{Body, Document};
use crate::problem::{Problem, Refusal};
use crate::profile_patch::{MetaPlace, ProfilePatch};
use crate::state::imports::ImportRow;

const PROFILES_MAX: usize = 10_000;
const PROFILE_BYTES_MAX: usize = 100_000;
const PROBLEMS_MAX: usize = 20;

#[derive(Deserialize)]
struct ImportAttributes<'b> {
    #[serde(borrow)]
    profiles: Option<Body<Vec<&'b RawValue>>>,
}

pub(super) fn bulk_import_profiles(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = std::str::from_utf8(call.body).map_err(|_| invalid_json())?;
    let body: Body<Document<'_, ImportAttributes<'_>>> =
        serde_json::from_str(body).map_err(|_| invalid_json())?;
    let Some(data) = body.data else {
        return Err(Problem::required("/data", "data").into());
    };
    data.require_kind("profile-bulk-import-job")
        .map_err(|problem| problem.under("/data"))?;
    let profiles = data
        .attributes
        .and_then(|attributes| attributes.profiles)
        .and_then(|body| body.data);
    let Some(profiles) = profiles else {
        return Err(Problem::required("/data/attributes/profiles", "profiles").into());
    };
    if !(1..=PROFILES_MAX).contains(&profiles.len()) {
        let detail = format!(
            "A job holds 1 to {PROFILES_MAX} profiles; this one has {}.",
            profiles.len()
        );
        return Err(Problem::invalid("/data/attributes/profiles", detail).into());
    }
    let rows = check_rows(&profiles)?;
    let list_ids = list_ids(data.relationships.as_ref());
    let total = rows.len() as u64;
    let mut state = call.state.at(call.now);
    if let Some(unknown) = list_ids.iter().find(|id| state.lists.get(id).is_none()) {
        return Err(Problem::not_found("list", unknown).into());
    }
    let job = state
        .imports
        .queue(rows, list_ids, call.import_delay, call.now);
    let body = Some(document::single(&job.document(call.now, call.base_url)));
    Ok(Reply {
        status: 202,
        body,
        rows: total,
    })
}

fn check_rows(profiles: &[&RawValue]) -> Result<Vec<ImportRow>, Refusal> {
    let mut rows = Vec::with_capacity(profiles.len());
    let mut problems = Vec::new();
    for (place, raw) in profiles.iter().enumerate() {
        match check_row(raw) {
            Ok(patch) => rows.push(ImportRow {
                patch,
                payload: raw.get().into(),
            }),
            Err(problem) => {
                problems.push(problem.under(&format!("/data/attributes/profiles/data/{place}")));
            }
        }
        if problems.len() == PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() {
        Ok(rows)
    } else {
        Err(Refusal(problems))
    }
}

fn check_row(raw: &RawValue) -> Result<ProfilePatch, Problem> {
    if raw.get().len() > PROFILE_BYTES_MAX {
        return Err(Problem::invalid("", "A profile is limited to 100 KB."));
    }
    let document = serde_json::from_str(raw.get())
        .map_err(|_| Problem::invalid("", "Expected a profile document."))?;
    let patch = ProfilePatch::parse(document, MetaPlace::Beside)?;
    patch.require_identifier()?;
    Ok(patch)
}

fn list_ids(relationships: Option<&Value>) -> Vec<String> {
    let lists = relationships.and_then(|relationships| relationships["lists"]["data"].as_array());
    let ids = lists
        .into_iter()
        .flatten()
        .filter_map(|list| list["id"].as_str());
    ids.map(str::to_owned).collect()
}

pub(super) fn get_job(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(job) = state.imports.get(call.id) else {
        return Err(Problem::not_found("job", call.id).into());
    };
    Ok(Reply::read(document::single(
        &job.document(call.now, call.base_url),
    )))
}

pub(super) fn get_errors(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = Page::of(call.query, 20, 100)?;
    let state = call.state.at(call.now);
    let Some(job) = state.imports.get(call.id) else {
        return Err(Problem::not_found("job", call.id).into());
    };
    let (rows, more) = page.cut(job.errors.iter().cloned());
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}
