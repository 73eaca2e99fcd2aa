//! What went wrong with a call, as facts; and whether the same call could work later.
//!
//! What becomes of the caller's work is decided elsewhere. The surprising thing: Klaviyo's
//! `detail` may quote addresses of people, so it is kept for whoever asks for it and never part
//! of `Display` or `Debug`.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::WaitReason;
use super::operation::Operation;

/// A call that did not do its work.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}")]
pub struct Error {
    operation: Operation,
    #[source]
    kind: ErrorKind,
    /// When the breaker may be probed again, if this call was its probe.
    next_probe: Option<Instant>,
}

/// What happened to a call.
#[derive(thiserror::Error)]
pub enum ErrorKind {
    /// Klaviyo accepted the call, but its answer is not what we can read.
    #[error("the answer could not be read")]
    BadAnswer,
    /// The part of Klaviyo is down and is not called; nothing left.
    #[error("the breaker is tripped")]
    BreakerOpen {
        /// When to ask again.
        until: Instant,
    },
    /// There is no permit before the deadline; nothing left.
    #[error("the budget is spent")]
    BudgetSpent {
        /// When to ask again.
        until: Instant,
        /// What is used up.
        reason: WaitReason,
    },
    /// 409.
    #[error("it conflicts with what Klaviyo has")]
    Conflict {
        /// The profile that has the identifier already.
        duplicate_profile_id: Option<String>,
        /// What Klaviyo says about it.
        errors: Vec<ErrorDetail>,
    },
    /// 403: a scope or a plan is missing.
    #[error("the key may not do this")]
    Forbidden,
    /// A gate is closed until a person acts; nothing left.
    #[error("the gate of the {gate} is closed")]
    GateClosed {
        /// Which gate.
        gate: GateName,
        /// When the next probe may leave.
        until: Instant,
    },
    /// 400: what was sent is wrong, and stays wrong.
    #[error("it is invalid ({status})")]
    Invalid {
        /// The status.
        status: u16,
        /// What Klaviyo says about it, often with a pointer to the row.
        errors: Vec<ErrorDetail>,
    },
    /// Whether Klaviyo did the work is unknown.
    #[error("there was no answer: {why}")]
    NoAnswer {
        /// What is known about it.
        why: NoAnswer,
        /// The transport's own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// 404.
    #[error("it is not found")]
    NotFound {
        /// What Klaviyo says about it.
        errors: Vec<ErrorDetail>,
    },
    /// 429.
    #[error("Klaviyo limits the rate")]
    RateLimited {
        /// How long Klaviyo asked us to wait.
        retry_after: Option<Duration>,
    },
    /// 405, 410 or 415: we call an operation wrongly, or one that is gone.
    #[error("the operation is refused ({status})")]
    Refused {
        /// The status.
        status: u16,
    },
    /// 413.
    #[error("it is too large")]
    TooLarge,
    /// 401: the key is wrong or revoked.
    #[error("the key is not accepted")]
    Unauthorized,
    /// 5xx or 408.
    #[error("Klaviyo is unavailable ({status})")]
    Unavailable {
        /// The status.
        status: u16,
        /// How long Klaviyo asked us to wait.
        retry_after: Option<Duration>,
    },
    /// A status Klaviyo does not document, such as a redirect.
    #[error("the status {status} is unexpected")]
    Unexpected {
        /// The status.
        status: u16,
    },
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No connection, or no TLS session.
    #[error("no connection")]
    Connect,
    /// The connection broke.
    #[error("the connection broke")]
    Cut,
    /// The time of the call is over.
    #[error("the call timed out")]
    Timeout,
}

/// The gates a person must help to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GateName {
    /// The private key, closed by 401.
    #[error("credentials")]
    Credentials,
    /// One operation, closed by 403, 405, 410 or 415.
    #[error("operation")]
    Operation,
}

/// Whether the same call could work later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It could, by itself.
    Retry,
    /// It could, and not before this time has passed.
    RetryAfter(Duration),
    /// It could, after a person has acted.
    Operator,
    /// It could not.
    Never,
}

/// One of Klaviyo's errors about a call.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorDetail {
    /// The error's own id, to quote to Klaviyo's support.
    pub id: Option<String>,
    /// Klaviyo's code, such as `invalid`. Klaviyo publishes no list of them.
    pub code: Option<String>,
    /// A sentence for people. May quote personal data: never to be logged.
    pub detail: Option<String>,
    /// Where in the document, as a JSON pointer.
    pub pointer: Option<String>,
    /// Which query parameter.
    pub parameter: Option<String>,
}

impl Error {
    /// Creates an error of a call to `operation`.
    pub fn new(operation: Operation, kind: ErrorKind) -> Self {
        Self {
            operation,
            kind,
            next_probe: None,
        }
    }

    /// Notes that the call was a probe of the breaker, which may be probed again at that time.
    pub(crate) fn of_probe(mut self, next_probe: Option<Instant>) -> Self {
        self.next_probe = next_probe;
        self
    }

    /// Returns which operation it was.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Returns what happened.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Says whether the same call could work later.
    pub fn recovery(&self) -> Recovery {
        let wait =
            |until: Instant| Recovery::RetryAfter(until.saturating_duration_since(Instant::now()));
        match &self.kind {
            ErrorKind::BreakerOpen { until }
            | ErrorKind::BudgetSpent { until, .. }
            | ErrorKind::GateClosed { until, .. } => wait(*until),
            ErrorKind::Conflict { .. }
            | ErrorKind::Invalid { .. }
            | ErrorKind::NotFound { .. }
            | ErrorKind::TooLarge => Recovery::Never,
            ErrorKind::Forbidden | ErrorKind::Refused { .. } | ErrorKind::Unauthorized => {
                Recovery::Operator
            }
            ErrorKind::RateLimited { retry_after } => {
                Recovery::RetryAfter(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            ErrorKind::Unavailable {
                retry_after: Some(wait),
                ..
            } => Recovery::RetryAfter(*wait),
            ErrorKind::BadAnswer
            | ErrorKind::NoAnswer { .. }
            | ErrorKind::Unavailable {
                retry_after: None, ..
            }
            | ErrorKind::Unexpected { .. } => {
                // Whatever is due becomes the probe: in a long outage the same work, again and again.
                self.next_probe.map_or(Recovery::Retry, wait)
            }
        }
    }

    /// Returns a constant code for what happened, safe in logs and labels, and told apart from
    /// codes of other origin by its prefix.
    pub fn reason(&self) -> &'static str {
        match &self.kind {
            ErrorKind::BadAnswer => "klaviyo.bad_answer",
            ErrorKind::BreakerOpen { .. } => "klaviyo.breaker_tripped",
            ErrorKind::BudgetSpent { .. } => "klaviyo.budget_spent",
            ErrorKind::Conflict { .. } => "klaviyo.conflict",
            ErrorKind::Forbidden => "klaviyo.forbidden",
            ErrorKind::GateClosed { .. } => "klaviyo.gate_closed",
            ErrorKind::Invalid { .. } => "klaviyo.invalid",
            ErrorKind::NoAnswer { .. } => "klaviyo.no_answer",
            ErrorKind::NotFound { .. } => "klaviyo.not_found",
            ErrorKind::RateLimited { .. } => "klaviyo.rate_limited",
            ErrorKind::Refused { .. } => "klaviyo.refused",
            ErrorKind::TooLarge => "klaviyo.too_large",
            ErrorKind::Unauthorized => "klaviyo.unauthorized",
            ErrorKind::Unavailable { .. } => "klaviyo.unavailable",
            ErrorKind::Unexpected { .. } => "klaviyo.unexpected",
        }
    }

    /// Returns what Klaviyo said about it. May quote personal data: never to be logged.
    pub fn details(&self) -> &[ErrorDetail] {
        match &self.kind {
            ErrorKind::Conflict { errors, .. }
            | ErrorKind::Invalid { errors, .. }
            | ErrorKind::NotFound { errors } => errors,
            _ => &[],
        }
    }
}

impl fmt::Debug for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The derived one would print ids of profiles.
        write!(formatter, "ErrorKind({self})")
    }
}

impl fmt::Debug for ErrorDetail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ErrorDetail")
            .finish_non_exhaustive()
    }
}
