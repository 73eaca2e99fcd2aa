//! Dead letters, as operators deal with them: look, count, replay, edit, discard.
//!
//! Everything walks page by page, so a million dead jobs cost no more memory than one page; and a walk ends where the
//! dead letters ended when it began, so a replay never meets the jobs that died of it.

mod discard;
mod edit;
mod error;
mod replay;
mod select;
mod stats;
mod walk;

pub use discard::{Counted, Discarded};
pub use edit::DeadEdit;
pub use error::DeadError;
pub use replay::{Flows, REPLAYS_MAX, Replay, ReplayReport};
pub use select::{DeadFilter, DeadSelection};
pub use stats::DeadGroup;
pub use walk::DeadWalk;
