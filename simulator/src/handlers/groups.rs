//! Lists and segments, and who is in them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Call, Reply, holds, require_type};
use crate::clock::Moment;
use crate::cursor::Page;
use crate::document;
use crate::filter::Condition;
use crate::problem::{Problem, Refusal};
use crate::state::State;
use crate::state::profiles::ProfileKey;

const MEMBERS_MAX: usize = 1_000;

pub(super) fn create_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let data = call.data()?;
    require_type(&data, "list")?;
    let name = match &data["attributes"]["name"] {
        Value::String(name) if !name.is_empty() => name.clone(),
        Value::Null => return Err(Problem::required("/data/attributes/name", "name").into()),
        _ => return Err(Problem::invalid("/data/attributes/name", "Not a valid string.").into()),
    };
    let opt_in_process = match data["attributes"]["opt_in_process"].as_str() {
        None => "single_opt_in",
        Some(process @ ("single_opt_in" | "double_opt_in")) => process,
        Some(_) => {
            return Err(
                Problem::invalid("/data/attributes/opt_in_process", "Not a valid choice.").into(),
            );
        }
    };
    let mut state = call.state.at(call.now);
    let list = state
        .lists
        .create(name, opt_in_process.to_owned(), call.now);
    let body = Some(document::single(&list.document(false, call.base_url)));
    Ok(Reply {
        status: 201,
        body,
        rows: 1,
    })
}

pub(super) fn get_lists(call: &Call<'_>) -> Result<Reply, Refusal> {
    let filters = call
        .query
        .filter(&[("id", &["equals", "any"]), ("name", &["equals", "any"])])?;
    let page = Page::of(call.query, 10, 10)?;
    let state = call.state.at(call.now);
    let rows = state
        .lists
        .rows
        .iter()
        .filter(|list| is_named(&filters, &list.id, &list.name));
    let (rows, more) = page.cut(rows.map(|list| list.document(false, call.base_url)));
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}

pub(super) fn get_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(list) = state.lists.get(call.id) else {
        return Err(Problem::not_found("list", call.id).into());
    };
    let with_count = call.query.has("additional-fields[list]", "profile_count");
    Ok(Reply::read(document::single(
        &list.document(with_count, call.base_url),
    )))
}

pub(super) fn get_segments(call: &Call<'_>) -> Result<Reply, Refusal> {
    let filters = call
        .query
        .filter(&[("id", &["equals", "any"]), ("name", &["equals", "any"])])?;
    let page = Page::of(call.query, 10, 10)?;
    let state = call.state.at(call.now);
    let rows = state
        .segments
        .rows
        .iter()
        .filter(|segment| is_named(&filters, &segment.id, &segment.name));
    let (rows, more) = page.cut(rows.map(|segment| segment.document(None, call.base_url)));
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}

pub(super) fn get_segment(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(segment) = state.segments.get(call.id) else {
        return Err(Problem::not_found("segment", call.id).into());
    };
    let with_count = call
        .query
        .has("additional-fields[segment]", "profile_count");
    let count = || {
        state
            .profiles
            .keys()
            .filter(|key| segment.has(*key, &state))
            .count()
    };
    Ok(Reply::read(document::single(
        &segment.document(with_count.then(count), call.base_url),
    )))
}

pub(super) fn add_profiles_to_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let mut state = call.state.at(call.now);
    let keys = named_profiles(call, &state)?;
    state.lists.add(call.id, &keys, call.now);
    Ok(Reply::empty(204, keys.len()))
}

pub(super) fn remove_profiles_from_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let mut state = call.state.at(call.now);
    let keys = named_profiles(call, &state)?;
    state.lists.remove(call.id, &keys, call.now);
    Ok(Reply::empty(204, keys.len()))
}

/// The profiles that the body of a membership change names, all of which must exist.
fn named_profiles(call: &Call<'_>, state: &State) -> Result<Vec<ProfileKey>, Problem> {
    if state.lists.get(call.id).is_none() {
        return Err(Problem::not_found("list", call.id));
    }
    let data = call.data()?;
    let Some(rows) = data.as_array() else {
        return Err(Problem::invalid("/data", "Expected a list."));
    };
    if !(1..=MEMBERS_MAX).contains(&rows.len()) {
        let detail = format!(
            "A request names 1 to {MEMBERS_MAX} profiles; this one names {}.",
            rows.len()
        );
        return Err(Problem::invalid("/data", detail));
    }
    let mut keys = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        if row["type"] != "profile" {
            return Err(Problem::invalid(
                format!("/data/{place}/type"),
                "Expected the type 'profile'.",
            ));
        }
        let Some(id) = row["id"].as_str() else {
            return Err(Problem::required(format!("/data/{place}/id"), "id"));
        };
        let Some(key) = state.profiles.by_id(id) else {
            return Err(Problem::not_found("profile", id));
        };
        keys.push(key);
    }
    Ok(keys)
}

pub(super) fn get_profiles_for_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(list) = state.lists.get(call.id) else {
        return Err(Problem::not_found("list", call.id).into());
    };
    members(list.members.iter().copied(), &state, call)
}

pub(super) fn get_profiles_for_segment(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(segment) = state.segments.get(call.id) else {
        return Err(Problem::not_found("segment", call.id).into());
    };
    let rows = state
        .profiles
        .keys()
        .filter(|key| segment.has(*key, &state));
    members(
        rows.map(|key| (key, state.profiles.get(key).created)),
        &state,
        call,
    )
}

pub(super) fn get_profile_ids_for_list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = Page::of(call.query, 20, 1000)?;
    let state = call.state.at(call.now);
    let Some(list) = state.lists.get(call.id) else {
        return Err(Problem::not_found("list", call.id).into());
    };
    let rows = list
        .members
        .iter()
        .map(|(key, _)| json!({"type": "profile", "id": state.profiles.get(*key).id}));
    let (rows, more) = page.cut(rows);
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}

fn members(
    all: impl Iterator<Item = (ProfileKey, Moment)>,
    state: &State,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    const EXACT: &[&str] = &["equals", "any"];
    const RANGE: &[&str] = &[
        "greater-than",
        "greater-or-equal",
        "less-than",
        "less-or-equal",
    ];
    let filters = call.query.filter(&[
        ("email", EXACT),
        ("phone_number", EXACT),
        ("profile_id", EXACT),
        ("_kx", EXACT),
        ("joined_group_at", RANGE),
    ])?;
    let sort = call
        .query
        .sort(&["joined_group_at"])?
        .unwrap_or("joined_group_at");
    let page = Page::of(call.query, 20, 100)?;
    let mut rows: Vec<(ProfileKey, Moment)> = all.collect();
    for condition in &filters {
        if condition.field == "joined_group_at" {
            holds(condition, call.now)?;
            rows.retain(|(_, joined)| holds(condition, *joined).unwrap_or(false));
        } else {
            let find = |value: &String| state.profiles.find(&condition.field, value);
            let wanted: HashSet<ProfileKey> = condition.values.iter().filter_map(find).collect();
            rows.retain(|(key, _)| wanted.contains(key));
        }
    }
    if sort.starts_with('-') {
        rows.reverse();
    }
    let document = |(key, joined)| {
        document::member(state.profiles.get(key), joined, call.query, call.base_url)
    };
    let (rows, more) = page.cut(rows.into_iter());
    let rows: Vec<Value> = rows.into_iter().map(document).collect();
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}

fn is_named(filters: &[Condition], id: &str, name: &str) -> bool {
    filters.iter().all(|condition| {
        let actual = if condition.field == "id" { id } else { name };
        condition.values.iter().any(|value| value == actual)
    })
}
