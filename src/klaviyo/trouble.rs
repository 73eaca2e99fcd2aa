//! Since when Klaviyo refuses us, for people: what is told is what this process saw.
//!
//! Gates and breakers decide whether calls leave, and a fleet may share them; they need no wall clock. Whoever reads
//! a health page does. The surprising thing: a gate that another daemon closed has no trouble here.

use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use tokio::time::Instant;

use super::client::Client;
use super::gate::{LOCKED, Outcome};
use super::operation::{Group, Operation};

/// The first bad answer after the last good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When it came.
    pub since: Timestamp,
    /// Its status; absent when there was no answer.
    pub status: Option<u16>,
}

/// Something that keeps calls from leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When the next call may try.
    pub until: Instant,
    /// What this process saw of the cause.
    pub trouble: Option<Trouble>,
}

impl Client {
    /// Says whether the credentials keep every call from leaving.
    pub fn credentials_closed(&self) -> Option<Closed> {
        let until = self.barriers.credentials.closed_until();
        closed(until, &mut self.troubles.found().credentials)
    }

    /// Says whether the gate of an operation keeps its calls from leaving.
    pub fn operation_closed(&self, operation: Operation) -> Option<Closed> {
        let until = self.barriers.operations[operation.index()].closed_until();
        closed(
            until,
            &mut self.troubles.found().operations[operation.index()],
        )
    }

    /// Says whether the breaker keeps a group's calls from leaving.
    pub fn tripped(&self, group: Group) -> Option<Closed> {
        let tripped = self.barriers.breaker.tripped(group);
        let until = tripped.map(|tripped| tripped.until);
        closed(until, &mut self.troubles.found().groups[group as usize])
    }
}

/// What is open has no trouble any more, even if it was another daemon that saw the good answer.
fn closed(until: Option<Instant>, trouble: &mut Option<Trouble>) -> Option<Closed> {
    if until.is_none() {
        *trouble = None;
    }
    until.map(|until| Closed {
        until,
        trouble: *trouble,
    })
}

#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    credentials: Option<Trouble>,
    operations: [Option<Trouble>; Operation::ALL.len()],
    groups: [Option<Trouble>; Group::ALL.len()],
}

impl Troubles {
    /// Notes what an answer means to credentials, operation and breaker, in this order.
    pub(crate) fn note(&self, operation: Operation, status: Option<u16>, meaning: [Outcome; 3]) {
        let mut found = self.found();
        let found = &mut *found;
        let places = [
            &mut found.credentials,
            &mut found.operations[operation.index()],
            &mut found.groups[operation.group() as usize],
        ];
        for (place, outcome) in places.into_iter().zip(meaning) {
            match outcome {
                Outcome::Good => *place = None,
                Outcome::Bad => {
                    place.get_or_insert_with(|| Trouble {
                        since: Timestamp::now(),
                        status,
                    });
                }
                Outcome::Unknown => {}
            }
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().expect(LOCKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::status::outcomes;

    #[test]
    fn trouble_lasts_from_the_first_bad_answer_to_the_next_good_one() {
        let troubles = Troubles::default();
        let call = |status| troubles.note(Operation::CreateEvent, status, outcomes(status));
        call(Some(401));
        let first = troubles.found().credentials.unwrap();
        call(Some(401));
        call(Some(503));
        assert_eq!(troubles.found().credentials, Some(first));
        assert_eq!(first.status, Some(401));
        assert_eq!(
            troubles.found().groups[Group::Events as usize]
                .unwrap()
                .status,
            Some(503)
        );
        call(Some(202));
        assert_eq!(troubles.found().credentials, None);
        assert_eq!(troubles.found().groups[Group::Events as usize], None);
    }

    #[test]
    fn a_forbidden_operation_troubles_no_other() {
        let troubles = Troubles::default();
        troubles.note(Operation::CreateEvent, Some(403), outcomes(Some(403)));
        assert!(troubles.found().operations[Operation::CreateEvent.index()].is_some());
        assert!(troubles.found().operations[Operation::BulkCreateEvents.index()].is_none());
        assert!(troubles.found().credentials.is_none());
    }
}
