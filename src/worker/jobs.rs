//! What runs each kind: one service call, no condition.

use crate::queue::Lot;
use crate::services::{FollowImport, Outcome, Services};
use klaviyo_jobs::{PlaceOrder, TrackEvent, UpsertProfile};
use std::future::Future;

/// Runs the lots of one kind.
pub(crate) trait Run {
    /// Sealed lots under way at the same time in one process.
    const LOTS_AT_ONCE: usize = 16;
    /// Does the work and says what was done with each job.
    fn run(lot: &Lot, services: &Services) -> impl Future<Output = Vec<Outcome>> + Send;
}

impl Run for FollowImport {
    const LOTS_AT_ONCE: usize = 2;

    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.profiles.follow_import(lot).await
    }
}

impl Run for PlaceOrder {
    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.events.place_orders(lot).await
    }
}

impl Run for TrackEvent {
    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.events.track(lot).await
    }
}

impl Run for UpsertProfile {
    async fn run(lot: &Lot, services: &Services) -> Vec<Outcome> {
        services.profiles.upsert(lot).await
    }
}
