//! Klaviyo's API, as its reference describes it: documents, limits, answers.
//!
//! One pipeline for every call: gates (credentials, operation, breaker), then the budget, then
//! the transport, then the answer's headers and its classification. Nothing here repeats a call
//! and nothing here knows why a call is made. A caller awaits a [`Permit`] first, builds its
//! document while it holds it, and then calls the [`Client`] with both.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use klaviyod::klaviyo::{memory::Memory, *};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::new("https://a.klaviyo.com".parse()?, "pk_example".into());
//! let budget = Arc::new(LocalBudget::new(BudgetScale::Real));
//! // `Client::new` calls over the network instead.
//! let client = Client::with_transport(settings, budget, Arc::new(Memory::new()))?;
//!
//! let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
//! let permit = client.permit(Operation::CreateEvent, deadline).await?;
//! let event = Event {
//!     metric: "Placed Order",
//!     profile: Identifiers { email: Some("a@shop.io"), ..Identifiers::default() },
//!     properties: None,
//!     time: "2026-09-04T13:38:55Z".parse()?,
//!     value: None,
//!     value_currency: None,
//!     unique_id: "order-1001",
//!     backfill: false,
//! };
//! client.create_event(permit, &event).await?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod barriers;
mod breaker;
mod bucket;
mod budget;
mod calls;
mod client;
#[cfg(test)]
mod client_tests;
mod document;
mod error;
mod events;
mod fleet;
mod gate;
mod key;
mod local_budget;
pub mod memory;
mod observe;
mod operation;
mod profiles;
mod rate_limit;
mod settings;
mod shape;
mod slot;
mod status;
mod transport;
mod trouble;

pub use answer::{Account, ImportError, ImportErrors, ImportJob, Upserted};
pub use barriers::ClosedBy;
pub use budget::{Budget, BudgetScale, BudgetStatus, Permit, Wait, WaitReason};
pub use calls::CallCounts;
pub use client::Client;
pub use document::{Identifiers, Row, row_of_pointer};
pub use error::{Error, ErrorDetail, ErrorKind, GateName, NoAnswer, Recovery};
pub use events::{BulkEvents, Event, EventGroup, bulk_events_document, event_document};
pub use fleet::{Alone, Barrier, Fleet, Heard};
pub use gate::{Outcome, Pass};
pub use local_budget::LocalBudget;
pub use observe::Observer;
pub use operation::{Group, Limits, Operation};
pub use profiles::{BulkProfiles, ProfileDocument, bulk_profiles_document, profile_document};
pub use rate_limit::{RETRY_AFTER_MAX, RateLimitHeaders};
pub use settings::{REVISION, Settings, SetupError};
pub use shape::Shape;
pub use status::classify;
pub use transport::{HttpTransport, Request, Response, Transport, TransportError};
pub use trouble::{Closed, Trouble};
