//! Create, upsert, update and read profiles.

use serde_json::Value;

use super::{Call, Reply, holds};
use crate::clock::Moment;
use crate::cursor::Page;
use crate::document;
use crate::filter::Condition;
use crate::problem::{Problem, Refusal};
use crate::profile_patch::{MetaPlace, ProfilePatch};
use crate::state::State;
use crate::state::profiles::{Conflict, ProfileKey, Profiles};

pub(super) fn create_or_update_profile(call: &Call<'_>) -> Result<Reply, Refusal> {
    let patch = patch(call.data()?)?;
    patch
        .require_identifier()
        .map_err(|problem| problem.under("/data"))?;
    let mut state = call.state.at(call.now);
    match state.profiles.resolve(&patch) {
        Ok(Some(key)) => {
            state.profiles.apply(key, &patch, call.now);
            Ok(written(200, key, &state, call))
        }
        Ok(None) => {
            let key = state.profiles.create(&patch, call.now);
            Ok(written(201, key, &state, call))
        }
        Err(conflict) => Err(refused(&conflict, &patch, &state.profiles).into()),
    }
}

pub(super) fn create_profile(call: &Call<'_>) -> Result<Reply, Refusal> {
    let patch = patch(call.data()?)?;
    if patch.id.is_some() {
        return Err(Problem::unknown_field("/data/id", "id", "profile").into());
    }
    patch
        .require_identifier()
        .map_err(|problem| problem.under("/data"))?;
    let mut state = call.state.at(call.now);
    match state.profiles.resolve(&patch) {
        Ok(None) => {
            let key = state.profiles.create(&patch, call.now);
            Ok(written(201, key, &state, call))
        }
        Ok(Some(key)) => Err(refused(&Conflict::Duplicate(key), &patch, &state.profiles).into()),
        Err(conflict) => Err(refused(&conflict, &patch, &state.profiles).into()),
    }
}

pub(super) fn update_profile(call: &Call<'_>) -> Result<Reply, Refusal> {
    let patch = patch(call.data()?)?;
    match &patch.id {
        None => return Err(Problem::required("/data/id", "id").into()),
        Some(id) if id != call.id => {
            return Err(Problem::invalid("/data/id", "The id must be the one in the path.").into());
        }
        Some(_) => {}
    }
    let mut state = call.state.at(call.now);
    let Some(key) = state.profiles.by_id(call.id) else {
        return Err(Problem::not_found("profile", call.id).into());
    };
    state
        .profiles
        .resolve(&patch)
        .map_err(|conflict| refused(&conflict, &patch, &state.profiles))?;
    state.profiles.apply(key, &patch, call.now);
    Ok(written(200, key, &state, call))
}

pub(super) fn get_profile(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(key) = state.profiles.by_id(call.id) else {
        return Err(Problem::not_found("profile", call.id).into());
    };
    let row = document::profile(state.profiles.get(key), call.query, call.base_url);
    Ok(Reply::read(document::single(&row)))
}

pub(super) fn get_profiles(call: &Call<'_>) -> Result<Reply, Refusal> {
    const EXACT: &[&str] = &["equals", "any"];
    const RANGE: &[&str] = &["greater-than", "less-than"];
    let filters = call.query.filter(&[
        ("id", EXACT),
        ("email", EXACT),
        ("phone_number", EXACT),
        ("external_id", EXACT),
        ("_kx", &["equals"]),
        ("created", RANGE),
        ("updated", RANGE),
    ])?;
    let sort = call.query.sort(&["id", "created", "updated", "email"])?;
    let page = Page::of(call.query, 20, 100)?;
    let state = call.state.at(call.now);
    let mut keys = selected(&state.profiles, &filters)?;
    if let Some(sort) = sort {
        sort_by(&mut keys, sort, &state.profiles);
    }
    let (keys, more) = page.cut(keys.into_iter());
    let rows = keys
        .into_iter()
        .map(|key| document::profile(state.profiles.get(key), call.query, call.base_url));
    Ok(Reply::read(document::collection(
        &rows.collect::<Vec<_>>(),
        &page.links(&call.url(), call.query, more),
    )))
}

/// Starts from an index where there is one, and checks what remains.
fn selected(profiles: &Profiles, filters: &[Condition]) -> Result<Vec<ProfileKey>, Problem> {
    let is_range =
        |condition: &Condition| matches!(condition.field.as_str(), "created" | "updated");
    let found = |condition: &Condition| -> Vec<ProfileKey> {
        condition
            .values
            .iter()
            .filter_map(|value| profiles.find(&condition.field, value))
            .collect()
    };
    let mut exact = filters
        .iter()
        .filter(|condition| !is_range(condition))
        .map(found);
    let mut keys = exact.next().unwrap_or_else(|| profiles.keys().collect());
    for others in exact {
        keys.retain(|key| others.contains(key));
    }
    keys.sort_unstable();
    keys.dedup();
    for condition in filters.iter().filter(|condition| is_range(condition)) {
        holds(condition, Moment(0))?;
        let time = |key: ProfileKey| {
            let profile = profiles.get(key);
            if condition.field == "created" {
                profile.created
            } else {
                profile.updated
            }
        };
        keys.retain(|key| holds(condition, time(*key)).unwrap_or(false));
    }
    Ok(keys)
}

fn sort_by(keys: &mut [ProfileKey], sort: &str, profiles: &Profiles) {
    match sort.trim_start_matches('-') {
        "id" => keys.sort_by_key(|key| &profiles.get(*key).id),
        "email" => keys.sort_by_key(|key| profiles.get(*key).email.as_ref()),
        "created" => keys.sort_by_key(|key| profiles.get(*key).created),
        _ => keys.sort_by_key(|key| profiles.get(*key).updated),
    }
    if sort.starts_with('-') {
        keys.reverse();
    }
}

fn patch(data: Value) -> Result<ProfilePatch, Problem> {
    ProfilePatch::parse(data, MetaPlace::Beside).map_err(|problem| problem.under("/data"))
}

fn written(status: u16, key: ProfileKey, state: &State, call: &Call<'_>) -> Reply {
    let row = document::profile(state.profiles.get(key), call.query, call.base_url);
    Reply {
        status,
        body: Some(document::single(&row)),
        rows: 1,
    }
}

fn refused(conflict: &Conflict, patch: &ProfilePatch, profiles: &Profiles) -> Problem {
    match conflict {
        Conflict::Duplicate(key) => Problem::duplicate_profile(&profiles.get(*key).id),
        Conflict::UnknownId => {
            Problem::not_found("profile", patch.id.as_deref().unwrap_or_default())
        }
    }
}
