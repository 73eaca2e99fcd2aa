//! What a service did with a job, as facts.

use crate::klaviyo::{Error, ErrorDetail, ErrorKind, Recovery};
use klaviyo_jobs::Invalid;
use std::sync::Arc;
use std::time::Duration;

/// What a service did with a job.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Klaviyo accepted it.
    Accepted,
    /// Its time was over before it could be delivered.
    Expired,
    /// The call failed.
    Failed(Failure),
    /// It cannot be understood or breaks a limit.
    Invalid(Invalid),
    /// It goes on later; nothing went wrong.
    Later(Duration),
}

/// A failed call, as far as one of its jobs is concerned.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether the same could work later.
    pub recovery: Recovery,
    /// The stable code.
    pub code: &'static str,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What Klaviyo says. May quote identifiers: for the dead letters only, never for a log.
    pub detail: Arc<str>,
    /// Where in the call's document.
    pub pointer: Option<Arc<str>>,
}

impl Failure {
    /// Creates the failure that all jobs of a call share.
    pub(crate) fn of(error: &Error) -> Self {
        Self::with_detail(error, error.details().first())
    }

    pub(crate) fn with_detail(error: &Error, detail: Option<&ErrorDetail>) -> Self {
        Self {
            recovery: error.recovery(),
            code: error.reason(),
            status: status(error.kind()),
            detail: detail
                .and_then(|it| it.detail.as_deref())
                .map_or_else(|| error.kind().to_string().into(), Into::into),
            pointer: detail.and_then(|it| it.pointer.as_deref()).map(Into::into),
        }
    }
}

fn status(kind: &ErrorKind) -> Option<u16> {
    match kind {
        ErrorKind::Invalid { status, .. }
        | ErrorKind::Refused { status }
        | ErrorKind::Unavailable { status, .. }
        | ErrorKind::Unexpected { status } => Some(*status),
        ErrorKind::Conflict { .. } => Some(409),
        ErrorKind::Forbidden => Some(403),
        ErrorKind::NotFound { .. } => Some(404),
        ErrorKind::RateLimited { .. } => Some(429),
        ErrorKind::TooLarge => Some(413),
        ErrorKind::Unauthorized => Some(401),
        ErrorKind::BadAnswer
        | ErrorKind::BreakerOpen { .. }
        | ErrorKind::BudgetSpent { .. }
        | ErrorKind::GateClosed { .. }
        | ErrorKind::NoAnswer { .. } => None,
    }
}
