//! Dead letters: jobs that will not be delivered as they are, each with its reason, in one stream for each queue.
//!
//! The stream is never trimmed: a letter leaves it by a replay or when an operator discards it. An entry never changes
//! either; an edited job gets a new entry, so whoever acts on an entry acts on exactly what was seen.

mod letter;
mod moves;
mod page;

pub use letter::{DeadJob, Payload};
pub use moves::{MoveBack, discard_dead, edit_dead, replay_dead};
pub use page::{DeadRange, dead_job, dead_page, newest_dead};
