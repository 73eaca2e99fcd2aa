//! Klaviyo's API, as its reference describes it: documents, limits, answers.
//!
//! One pipeline for every call: gates (credentials, operation, breaker), then the budget, then
//! the transport, then the answer's headers and its classification. Nothing here repeats a call
//! and nothing here knows why a call is made. A caller awaits a [`Permit`] first, builds its
//! document while it holds it, and then calls the [`Client`] with both.

mod answer;
mod breaker;
mod bucket;
mod budget;
mod calls;
mod client;
mod document;
mod error;
mod events;
mod gate;
mod local_budget;
pub mod memory;
mod operation;
mod profiles;
mod rate_limit;
mod settings;
mod transport;

pub use answer::{Account, ImportError, ImportErrors, ImportJob, Upserted};
pub use breaker::{Breaker, LocalBreaker, Tripped};
pub use budget::{Budget, BudgetScale, BudgetStatus, Permit, Wait, WaitReason};
pub use calls::CallCounts;
pub use client::Client;
pub use document::{Identifiers, Row, row_of_pointer};
pub use error::{Error, ErrorDetail, ErrorKind, GateName, NoAnswer, Recovery};
pub use events::{BulkEvents, Event, EventGroup, bulk_events_document, event_document};
pub use gate::{Outcome, Pass};
pub use local_budget::LocalBudget;
pub use operation::{Group, Limits, Operation};
pub use profiles::{BulkProfiles, ProfileDocument, bulk_profiles_document, profile_document};
pub use rate_limit::RateLimitHeaders;
pub use settings::{REVISION, Settings, SetupError};
pub use transport::{HttpTransport, Request, Response, Transport, TransportError};
