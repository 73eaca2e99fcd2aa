//! The register of jobs: which kind is run by what. Adding a job is one line in [`register`].

mod jobs;
mod outlook;
mod run;
mod verdict;

pub use outlook::Gates;
pub use run::Workers;

use crate::queue::{Lot, Route};
use crate::services::{FollowImport, Services};
use jobs::Run;
use klaviyo_jobs::{Job, PlaceOrder, TrackEvent, UpsertProfile};
use std::future::Future;
use std::pin::Pin;

/// What runs a lot of one kind.
type Handler = for<'a> fn(
    &'a Lot,
    &'a Services,
) -> Pin<Box<dyn Future<Output = Vec<crate::queue::Verdict>> + Send + 'a>>;

/// One kind in the register.
#[derive(Clone, Copy)]
pub(crate) struct Registered {
    pub(crate) route: Route,
    pub(crate) lots_at_once: usize,
    pub(crate) handler: Handler,
}

/// Alphabetical.
pub(crate) fn register() -> Vec<Registered> {
    vec![
        job::<PlaceOrder>(),
        internal::<FollowImport>(FollowImport::KIND, FollowImport::QUEUE),
        job::<UpsertProfile>(),
        job::<TrackEvent>(),
    ]
}

/// All kinds and their queues.
pub fn routes() -> Vec<Route> {
    register().into_iter().map(|it| it.route).collect()
}

/// The kinds of these queues; of all without a choice.
pub fn routes_of(queues: Option<&[&str]>) -> Vec<Route> {
    let chosen = |route: &Route| queues.is_none_or(|queues| queues.contains(&route.queue));
    routes().into_iter().filter(chosen).collect()
}

fn job<J: Job + Run>() -> Registered {
    let route = Route {
        kind: J::KIND,
        queue: J::QUEUE,
        internal: false,
    };
    Registered {
        route,
        lots_at_once: J::LOTS_AT_ONCE,
        handler: run::<J>,
    }
}

fn internal<J: Run>(kind: &'static str, queue: &'static str) -> Registered {
    Registered {
        route: Route {
            kind,
            queue,
            internal: true,
        },
        lots_at_once: J::LOTS_AT_ONCE,
        handler: run::<J>,
    }
}

fn run<'a, J: Run>(
    lot: &'a Lot,
    services: &'a Services,
) -> Pin<Box<dyn Future<Output = Vec<crate::queue::Verdict>> + Send + 'a>> {
    Box::pin(async move {
        let outcomes = J::run(lot, services).await;
        outcomes.into_iter().map(verdict::verdict).collect()
    })
}
