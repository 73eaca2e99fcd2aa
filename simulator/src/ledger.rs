//! Counts what arrived, and remembers the last requests.
//!
//! Read-only from outside: nothing that is counted here changes how a request is answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::operation::{Operation, TABLE};
use crate::state::State;
use crate::windows::Windows;

const RECORDED_MAX: usize = 10_000;

/// What `GET /sim/stats` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Requests under `/api`, known or not.
    pub requests: u64,
    /// 429s of the simulator's own windows.
    pub rate_limited: u64,
    /// Requests that ran into a fault or an outage.
    pub faulted: u64,
    /// Profiles in the state.
    pub profiles: u64,
    /// Events accepted and kept track of, repeats included.
    pub events: u64,
    /// Distinct (profile, metric, `unique_id`).
    pub distinct_events: u64,
    /// Events accepted and dropped: test addresses, unknown profile ids.
    pub dropped_events: u64,
    /// Profiles with at least one event.
    pub event_profiles: u64,
    /// The sum of `value` over distinct events, exact to the cent.
    pub value: f64,
    /// By operation, those that were asked for.
    pub operations: BTreeMap<String, OperationStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OperationStats {
    pub requests: u64,
    /// Answered with 2xx, or would have been had the connection not been cut.
    pub accepted: u64,
    pub rate_limited: u64,
    /// Profiles, events or members in accepted requests.
    pub rows: u64,
    /// Milliseconds from the start of the simulator to the first request.
    pub first_ms: u64,
    pub last_ms: u64,
    /// Of accepted requests that carry rows.
    pub rows_min: u64,
    pub rows_max: u64,
    /// The most arrivals in one window, by its length in seconds.
    pub windows: BTreeMap<String, u64>,
}

/// One request that arrived.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    /// Klaviyo's name, or an empty one for what is not served.
    pub operation: String,
    pub method: String,
    pub path: String,
    pub since_start: Duration,
    /// 0 where the connection was cut before the request was carried out.
    pub status: u16,
    /// Only with `Config::record_bodies`.
    pub body: Option<Value>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) rows: u64,
    pub(crate) is_rate_limited: bool,
    pub(crate) is_faulted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    requests: u64,
    rate_limited: u64,
    faulted: u64,
    operations: BTreeMap<usize, OperationStats>,
    recorded: VecDeque<Recorded>,
}

impl Ledger {
    pub(crate) fn record(
        &self,
        operation: Option<Operation>,
        outcome: Outcome,
        recorded: Recorded,
    ) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.requests += 1;
        pages.rate_limited += u64::from(outcome.is_rate_limited);
        pages.faulted += u64::from(outcome.is_faulted);
        if let Some(operation) = operation {
            let arrived_ms = u64::try_from(recorded.since_start.as_millis()).unwrap_or(u64::MAX);
            pages
                .operations
                .entry(operation as usize)
                .or_default()
                .count(outcome, arrived_ms);
        }
        if pages.recorded.len() == RECORDED_MAX {
            pages.recorded.pop_front();
        }
        pages.recorded.push_back(recorded);
    }

    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recorded
            .iter()
            .cloned()
            .collect()
    }

    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Pages::default();
    }

    pub(crate) fn stats(&self, state: &State, windows: &Windows) -> Stats {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let operations = pages.operations.iter().map(|(index, counts)| {
            let entry = &TABLE[*index];
            (
                entry.name.to_owned(),
                OperationStats {
                    windows: windows.peaks(entry.operation),
                    ..counts.clone()
                },
            )
        });
        Stats {
            requests: pages.requests,
            rate_limited: pages.rate_limited,
            faulted: pages.faulted,
            profiles: state.profiles.len() as u64,
            events: state.events.accepted,
            distinct_events: state.events.distinct(),
            dropped_events: state.events.dropped,
            event_profiles: state.events.profiles(),
            value: state.events.value(),
            operations: operations.collect(),
        }
    }
}

impl OperationStats {
    fn count(&mut self, outcome: Outcome, arrived_ms: u64) {
        if self.requests == 0 {
            self.first_ms = arrived_ms;
        }
        self.first_ms = self.first_ms.min(arrived_ms);
        self.last_ms = self.last_ms.max(arrived_ms);
        self.requests += 1;
        self.rate_limited += u64::from(outcome.is_rate_limited);
        if !(200..300).contains(&outcome.status) {
            return;
        }
        self.accepted += 1;
        if outcome.rows > 0 {
            self.rows_min = if self.rows == 0 {
                outcome.rows
            } else {
                self.rows_min.min(outcome.rows)
            };
            self.rows_max = self.rows_max.max(outcome.rows);
            self.rows += outcome.rows;
        }
    }
}
