//! Reads the `data` of one kind.
//!
//! The hot path is one pass of serde. Only when it fails is the payload read again, by [`crate::diagnosis`], to say
//! what is wrong: serde's messages repeat values and know no pointers.

use crate::diagnosis::diagnose;
use crate::{Invalid, Job};
use serde_json::value::RawValue;

/// Decodes the payload of a job. The values are checked; [`Job::validate`] looks at them together.
///
/// # Errors
/// [`Invalid`] with `job.unknown_field`, `job.missing_field` or `job.invalid`, and a pointer to the place.
pub fn decode<J: Job>(data: &RawValue) -> Result<J, Invalid> {
    serde_json::from_str(data.get()).map_err(|_| diagnose::<J>(data))
}
