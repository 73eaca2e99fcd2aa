//! One account's state, behind one lock.
//!
//! [`Shared::at`] is the only way in: it applies the import jobs that are due first, so that no reader sees a job
//! complete before its rows are there.

pub(crate) mod events;
pub(crate) mod imports;
pub(crate) mod lists;
pub(crate) mod profiles;
pub(crate) mod segments;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::Rng;

use crate::clock::Moment;
use crate::config::Config;
use events::Events;
use imports::Imports;
use lists::Lists;
use profiles::Profiles;
use segments::Segments;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) profiles: Profiles,
    pub(crate) events: Events,
    pub(crate) lists: Lists,
    pub(crate) segments: Segments,
    pub(crate) imports: Imports,
}

#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn new(config: &Config, now: Moment) -> Self {
        Self(Mutex::new(State::new(config, now)))
    }

    pub(crate) fn at(&self, now: Moment) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.apply_due_imports(now);
        state
    }
}

impl State {
    pub(crate) fn new(config: &Config, now: Moment) -> Self {
        Self {
            profiles: Profiles::default(),
            events: Events::new(config.events_kept),
            lists: Lists::default(),
            segments: Segments::new(&config.segments, now),
            imports: Imports::default(),
        }
    }
}

/// Six letters and digits, as lists, segments and metrics are named.
fn short_id() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    (0..6)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
