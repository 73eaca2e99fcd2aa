//! Create single and bulk events, and read the newest ones.
//!
//! A bulk request is checked as a whole before anything changes: every row that is wrong is named, up to
//! [`PROBLEMS_MAX`], and none is accepted.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Call, Reply, holds, invalid_json};
use crate::cursor::Page;
use crate::document;
use crate::event_body::{Body, BulkAttributes, Document, EventAttributes, EventRow, Group};
use crate::filter::Condition;
use crate::problem::{Problem, Refusal};
use crate::profile_patch::{Change, MetaPlace, ProfilePatch};
use crate::state::State;
use crate::state::events::Event;
use crate::state::profiles::Profiles;

const EVENTS_MAX: usize = 1_000;
const PROBLEMS_MAX: usize = 20;
const PROFILE_BYTES_MAX: usize = 95_000;
/// Since this revision a single event has `meta` beside the attributes of its profile.
const META_BESIDE_SINCE: &str = "2026-10-15";

pub(super) fn create_event(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = std::str::from_utf8(call.body).map_err(|_| invalid_json())?;
    let body: Body<Document<'_, EventAttributes<'_>>> =
        serde_json::from_str(body).map_err(|_| invalid_json())?;
    let Some(data) = body.data else {
        return Err(Problem::required("/data", "data").into());
    };
    let under_data = |problem: Problem| problem.under("/data");
    data.require_kind("event").map_err(under_data)?;
    let Some(attributes) = data.attributes else {
        return Err(Problem::required("/data/attributes", "attributes").into());
    };
    let row = attributes.check(call.now).map_err(under_data)?;
    let meta_place = if call.revision < META_BESIDE_SINCE {
        MetaPlace::Inside
    } else {
        MetaPlace::Beside
    };
    let patch = profile_of(attributes.profile, meta_place).map_err(under_data)?;
    record(&mut call.state.at(call.now), &patch, &[row], call);
    Ok(Reply::empty(202, 1))
}

pub(super) fn bulk_create_events(call: &Call<'_>) -> Result<Reply, Refusal> {
    let body = std::str::from_utf8(call.body).map_err(|_| invalid_json())?;
    let body: Body<Document<'_, BulkAttributes<'_>>> =
        serde_json::from_str(body).map_err(|_| invalid_json())?;
    let Some(data) = body.data else {
        return Err(Problem::required("/data", "data").into());
    };
    data.require_kind("event-bulk-create-job")
        .map_err(|problem| problem.under("/data"))?;
    let groups = data
        .attributes
        .and_then(|attributes| attributes.events_bulk_create)
        .and_then(|body| body.data);
    let Some(groups) = groups else {
        return Err(
            Problem::required("/data/attributes/events-bulk-create", "events-bulk-create").into(),
        );
    };
    let groups = check_groups(&groups, call)?;
    let total = groups.iter().map(|(_, rows)| rows.len()).sum::<usize>();
    if !(1..=EVENTS_MAX).contains(&total) {
        let detail = format!("A request holds 1 to {EVENTS_MAX} events; this one has {total}.");
        return Err(Problem::invalid("/data/attributes/events-bulk-create", detail).into());
    }
    let mut state = call.state.at(call.now);
    refuse_repeated_ids(&groups, &state.profiles)?;
    for (patch, rows) in &groups {
        record(&mut state, patch, rows, call);
    }
    Ok(Reply::empty(202, total))
}

type CheckedGroup<'b> = (ProfilePatch, Vec<EventRow<'b>>);

fn check_groups<'b>(
    groups: &[Document<'b, Group<'b>>],
    call: &Call<'_>,
) -> Result<Vec<CheckedGroup<'b>>, Refusal> {
    let mut checked = Vec::with_capacity(groups.len());
    let mut problems = Vec::new();
    for (place, group) in groups.iter().enumerate() {
        let mut refuse = |problem: Problem| problems.push(problem.under(&group_pointer(place)));
        match check_group_profile(group) {
            Ok(patch) => checked.push((patch, check_rows(group, call, &mut refuse))),
            Err(problem) => refuse(problem),
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() {
        return Ok(checked);
    }
    problems.truncate(PROBLEMS_MAX);
    Err(Refusal(problems))
}

fn check_group_profile(group: &Document<'_, Group<'_>>) -> Result<ProfilePatch, Problem> {
    group.require_kind("event-bulk-create")?;
    let Some(attributes) = &group.attributes else {
        return Err(Problem::required("/attributes", "attributes"));
    };
    if attributes
        .events
        .as_ref()
        .and_then(|events| events.data.as_ref())
        .is_none()
    {
        return Err(Problem::required("/attributes/events", "events"));
    }
    profile_of(attributes.profile, MetaPlace::Beside)
}

fn check_rows<'b>(
    group: &Document<'b, Group<'b>>,
    call: &Call<'_>,
    refuse: &mut impl FnMut(Problem),
) -> Vec<EventRow<'b>> {
    let events = group
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.events.as_ref());
    let Some(events) = events.and_then(|events| events.data.as_ref()) else {
        return Vec::new();
    };
    let mut rows = Vec::with_capacity(events.len());
    for (place, event) in events.iter().enumerate() {
        let row = event
            .require_kind("event")
            .and_then(|()| match &event.attributes {
                Some(attributes) => attributes.check(call.now),
                None => Err(Problem::required("/attributes", "attributes")),
            });
        match row {
            Ok(row) => rows.push(row),
            Err(problem) => refuse(problem.under(&format!("/attributes/events/data/{place}"))),
        }
    }
    rows
}

fn group_pointer(place: usize) -> String {
    format!("/data/attributes/events-bulk-create/data/{place}")
}

fn profile_of(raw: Option<&RawValue>, meta_place: MetaPlace) -> Result<ProfilePatch, Problem> {
    const POINTER: &str = "/attributes/profile";
    let Some(raw) = raw else {
        return Err(Problem::required(POINTER, "profile"));
    };
    if raw.get().len() > PROFILE_BYTES_MAX {
        return Err(Problem::invalid(
            POINTER,
            "The profile of an event is limited to 95 KB.",
        ));
    }
    let body: Body<Value> = serde_json::from_str(raw.get())
        .map_err(|_| Problem::invalid(POINTER, "Expected a profile document."))?;
    let Some(document) = body.data else {
        return Err(Problem::required(format!("{POINTER}/data"), "data"));
    };
    let patch = ProfilePatch::parse(document, meta_place);
    let patch = patch.and_then(|patch| patch.require_identifier().map(|()| patch));
    patch.map_err(|problem| problem.under("/attributes/profile/data"))
}

/// Refuses a `unique_id` that appears twice for the same profile and metric.
fn refuse_repeated_ids(groups: &[CheckedGroup<'_>], profiles: &Profiles) -> Result<(), Problem> {
    let mut strangers: HashMap<&str, usize> = HashMap::new();
    let mut seen = HashSet::new();
    for (place, (patch, rows)) in groups.iter().enumerate() {
        let profile = match profiles.resolve_leniently(patch) {
            Some(key) => Ok(key),
            None => Err(number_of(patch, place, &mut strangers)),
        };
        for (row_place, row) in rows.iter().enumerate() {
            if row.has_own_id
                && !seen.insert((profile, row.metric.as_ref(), row.unique_id.as_ref()))
            {
                let pointer = format!(
                    "{}/attributes/events/data/{row_place}/attributes/unique_id",
                    group_pointer(place)
                );
                let detail =
                    "The unique_id is repeated for this profile and metric in the request.";
                return Err(Problem::invalid(pointer, detail));
            }
        }
    }
    Ok(())
}

/// The number of a profile that does not exist yet: that of the first group with one of its identifiers.
fn number_of<'p>(
    patch: &'p ProfilePatch,
    place: usize,
    strangers: &mut HashMap<&'p str, usize>,
) -> usize {
    let changes = [
        &patch.email,
        &patch.phone_number,
        &patch.external_id,
        &patch.anonymous_id,
    ];
    let identifiers: Vec<&str> = changes
        .into_iter()
        .filter_map(|change| match change {
            Some(Change::Set(value)) => Some(value.as_str()),
            _ => None,
        })
        .chain(patch.id.as_deref())
        .collect();
    let number = identifiers
        .iter()
        .find_map(|identifier| strangers.get(identifier).copied())
        .unwrap_or(place);
    for identifier in identifiers {
        strangers.insert(identifier, number);
    }
    number
}

fn record(state: &mut State, patch: &ProfilePatch, rows: &[EventRow<'_>], call: &Call<'_>) {
    let found = state.profiles.resolve_leniently(patch);
    // An id that no profile has is found out after the 202, when nobody can be told any more.
    if patch.is_dropped() || (found.is_none() && patch.id.is_some()) {
        state.events.dropped += rows.len() as u64;
        return;
    }
    let key = match found {
        Some(key) => {
            state.profiles.apply(key, patch, call.now);
            key
        }
        None => state.profiles.create(patch, call.now),
    };
    for row in rows {
        state.profiles.note_event(key, row.time);
        state.events.record(key, row, call.now);
    }
}

pub(super) fn get_event(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(event) = state
        .events
        .kept()
        .iter()
        .find(|event| event.id() == call.id)
    else {
        return Err(Problem::not_found("event", call.id).into());
    };
    let row = event.document(&state.profiles, &state.events, call.base_url);
    Ok(Reply::read(document::single(&row)))
}

pub(super) fn get_events(call: &Call<'_>) -> Result<Reply, Refusal> {
    const RANGE: &[&str] = &[
        "greater-than",
        "greater-or-equal",
        "less-than",
        "less-or-equal",
    ];
    let filters = call.query.filter(&[
        ("metric_id", &["equals"]),
        ("profile_id", &["equals"]),
        ("datetime", RANGE),
        ("timestamp", RANGE),
        ("metric", &["has"]),
        ("profile", &["has"]),
    ])?;
    let sort = call
        .query
        .sort(&["datetime", "timestamp"])?
        .unwrap_or("-datetime");
    let page = Page::of(call.query, 200, 1000)?;
    let state = call.state.at(call.now);
    let mut events: Vec<&Event> = state.events.kept().iter().collect();
    for condition in &filters {
        let mut outcome = Ok(());
        events.retain(|event| {
            is_selected(event, condition, &state).unwrap_or_else(|problem| {
                outcome = Err(problem);
                false
            })
        });
        outcome?;
    }
    events.sort_by_key(|event| event.time);
    if sort.starts_with('-') {
        events.reverse();
    }
    let (events, more) = page.cut(events.into_iter());
    let included = included(&events, &state, call);
    let rows: Vec<Value> = events
        .iter()
        .map(|event| event.document(&state.profiles, &state.events, call.base_url))
        .collect();
    let mut answer = document::collection(&rows, &page.links(&call.url(), call.query, more));
    if call.query.get("include").is_some() {
        answer["included"] = included;
    }
    Ok(Reply::read(answer))
}

fn is_selected(event: &Event, condition: &Condition, state: &State) -> Result<bool, Problem> {
    match condition.field.as_str() {
        "metric_id" => Ok(state.events.metric_of(event).id == condition.value()),
        "profile_id" => Ok(state.profiles.get(event.profile).id == condition.value()),
        "datetime" => holds(condition, event.time),
        "timestamp" => match condition.value().parse::<i64>() {
            Ok(seconds) => {
                let time = event.time.seconds();
                Ok(match condition.operator.as_str() {
                    "greater-than" => time > seconds,
                    "greater-or-equal" => time >= seconds,
                    "less-than" => time < seconds,
                    _ => time <= seconds,
                })
            }
            Err(_) => Err(Problem::parameter(
                "filter",
                "The timestamp must be an integer.",
            )),
        },
        _ => Ok(true),
    }
}

/// The metrics and profiles of the events, each once, where they are asked for.
fn included(events: &[&Event], state: &State, call: &Call<'_>) -> Value {
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for event in events {
        let metric = state.events.metric_of(event);
        if call.query.has("include", "metric") && seen.insert(&metric.id) {
            rows.push(metric.document(call.base_url));
        }
        let profile = state.profiles.get(event.profile);
        if call.query.has("include", "profile") && seen.insert(&profile.id) {
            rows.push(document::profile(profile, call.query, call.base_url));
        }
    }
    json!(rows)
}
