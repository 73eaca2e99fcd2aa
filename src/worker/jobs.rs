//! What runs each kind: one service call, no condition.

use crate::klaviyo::Operation;
use crate::queue::Lot;
use crate::services::{FollowImport, Outcome, Services};
use klaviyo_jobs::{PlaceOrder, TrackEvent, UpsertProfile};
use std::future::Future;

const EVENTS: &[Operation] = &[Operation::BulkCreateEvents, Operation::CreateEvent];
const PROFILES: &[Operation] = &[
    Operation::BulkImportProfiles,
    Operation::CreateOrUpdateProfile,
];

/// Runs the lots of one kind.
pub(crate) trait Run {
    /// Sealed lots under way at the same time in one process.
    const LOTS_AT_ONCE: usize = 16;
    /// The operations any one of which lets a job leave: while all are shut, nothing is fetched.
    const OPERATIONS: &'static [Operation];
    /// Does the work and says what was done with each job.
    fn run(lot: &Lot, services: &Services) -> impl Future<Output = Vec<Outcome>> + Send;
}

impl Run for FollowImport {
    const LOTS_AT_ONCE: usize = 2;
    const OPERATIONS: &'static [Operation] = &[Operation::GetBulkImportProfilesJob];

    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.profiles.follow_import(lot).await
    }
}

impl Run for PlaceOrder {
    const OPERATIONS: &'static [Operation] = EVENTS;

    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.events.place_orders(lot).await
    }
}

impl Run for TrackEvent {
    const OPERATIONS: &'static [Operation] = EVENTS;

    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.events.track(lot).await
    }
}

impl Run for UpsertProfile {
    const OPERATIONS: &'static [Operation] = PROFILES;

    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.profiles.upsert(lot).await
    }
}
