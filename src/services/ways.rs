//! By which operations of Klaviyo the jobs of each kind leave, and when no way is left.
//!
//! The rule is here because two ask: the worker, which fetches nothing that could only wait, and `job explain`, which
//! tells a person why.

use super::FollowImport;
use crate::klaviyo::Operation;
use klaviyo_jobs::{Job, PlaceOrder, TrackEvent, UpsertProfile};

/// The operations any one of which lets a job of the kind leave; none of a kind that nobody knows.
pub fn ways_of(kind: &str) -> &'static [Operation] {
    match kind {
        FollowImport::KIND => &[Operation::GetBulkImportProfilesJob],
        PlaceOrder::KIND | TrackEvent::KIND => {
            &[Operation::BulkCreateEvents, Operation::CreateEvent]
        }
        UpsertProfile::KIND => &[
            Operation::BulkImportProfiles,
            Operation::CreateOrUpdateProfile,
        ],
        _ => &[],
    }
}

/// Whether every way of a kind is shut.
pub fn no_way_left(kind: &str, is_shut: impl Fn(Operation) -> bool) -> bool {
    let ways = ways_of(kind);
    !ways.is_empty() && ways.iter().all(|operation| is_shut(*operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_waits_only_when_all_its_ways_are_shut() {
        let shut = |shut: &[Operation]| {
            no_way_left(TrackEvent::KIND, |operation| shut.contains(&operation))
        };
        assert!(!shut(&[Operation::CreateEvent]));
        assert!(shut(&[Operation::CreateEvent, Operation::BulkCreateEvents]));
        assert!(!no_way_left("no.such_kind", |_| true));
    }
}
