//! The contract between applications and klaviyod: what is put on Redis, and how it is checked.
//!
//! A job is a small JSON object, the [`Envelope`], around the `data` of one kind. The payload types parse their
//! values once and are valid ever after; [`kinds`] lists them with their schemas, and [`Producer`] enqueues them.
//! This crate knows neither Klaviyo's HTTP nor the daemon. The surprising thing: no error here ever repeats a
//! value of the payload, because errors are logged and payloads hold people's addresses.
//!
//! ```
//! use klaviyo_jobs::{Envelope, TrackEvent, decode};
//!
//! let job = br#"{"kind": "event.track", "id": "signup-7",
//!     "data": {"metric": "Signed Up", "profile": {"email": "a@shop.io"}}}"#;
//! let envelope = Envelope::parse(job).unwrap();
//! let event: TrackEvent = decode(envelope.data).unwrap();
//! assert_eq!(event.metric.as_str(), "Signed Up");
//! ```

mod amount;
mod change;
mod decode;
mod diagnosis;
mod envelope;
mod event;
mod invalid;
mod job;
pub mod keys;
mod message;
mod order;
mod producer;
mod profile;
mod properties;
mod upsert;
mod value;

pub use amount::Amount;
pub use change::Change;
pub use decode::decode;
pub use envelope::{Envelope, JOB_BYTES_MAX};
pub use event::TrackEvent;
pub use invalid::Invalid;
pub use job::{Checked, Job, KindInfo, kind, kinds};
pub use keys::{Keys, Lane};
pub use message::{Message, Options, UNIQUE_FOR_DEFAULT};
pub use order::{OrderItem, PlaceOrder};
pub use producer::{Enqueued, Outcome, ProduceError, Producer, Receipt};
pub use profile::{Identity, ProfileRef};
pub use properties::Properties;
pub use upsert::{Attributes, Location, UpsertProfile};
pub use value::{Currency, Email, ExternalId, MetricName, Phone, UniqueId};
