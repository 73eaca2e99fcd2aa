//! The steps of a request, in the order in which Klaviyo takes them.
//!
//! Fault, key, revision, content type, rate limits, size, and only then the handler. A request that is refused
//! before the rate limits uses none of them up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, Response, request};
use bytes::Bytes;

use crate::admin;
use crate::answer::Answer;
use crate::clock::Clock;
use crate::config::Config;
use crate::faults::{FaultKind, Faults};
use crate::handlers::{self, Call};
use crate::ledger::{Ledger, Outcome, Recorded};
use crate::listener::Connection;
use crate::operation::{Operation, Route, route};
use crate::problem::Problem;
use crate::query::Query;
use crate::state::Shared;
use crate::windows::{Admission, Windows};

const BODY_BYTES_MAX: usize = 5_000_000;
const PROFILE_BODY_BYTES_MAX: usize = 100_000;
/// Larger bodies are not even read to the end.
const READ_BYTES_MAX: usize = 64_000_000;
/// The oldest revision that is not retired in the year of 2026-10-15.
const OLDEST_REVISION: &str = "2024-10-15";
const NEWEST_REVISION: &str = "2026-10-15";

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) state: Shared,
    pub(crate) windows: Mutex<Windows>,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
}

pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let since_start = app.clock.since_start();
    let Ok(body) = to_bytes(body, READ_BYTES_MAX).await else {
        return Answer::refused(&Problem::of_status(413).into()).into_response();
    };
    if head.uri.path().starts_with("/sim/") {
        return admin::answer(&app, &head.method, head.uri.path(), &body);
    }
    let found = route(head.method.as_str(), head.uri.path());
    let operation = if let Route::Found(operation, _) = found {
        Some(operation)
    } else {
        None
    };
    let answer = match found {
        Route::Unknown => Answer::refused(&Problem::of_status(404).into()),
        Route::WrongMethod => Answer::refused(&Problem::of_status(405).into()),
        Route::Found(operation, id) => with_faults(&app, operation, id, &head, &body).await,
    };
    app.ledger.record(
        operation,
        answer.outcome,
        recorded(&app, operation, &head, &body, since_start, answer.outcome),
    );
    if let Some(bytes) = answer.cut_after_bytes {
        connection.cut_after(bytes);
    }
    if answer.silent {
        return std::future::pending().await;
    }
    answer.into_response()
}

async fn with_faults(
    app: &App,
    operation: Operation,
    id: &str,
    head: &request::Parts,
    body: &Bytes,
) -> Answer {
    let Some(mut fault) = app.faults.take(operation) else {
        return carry_out(app, operation, id, head, body);
    };
    while let FaultKind::After { ms, kind } = fault {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        fault = *kind;
    }
    let mut answer = match fault {
        FaultKind::Status {
            status,
            retry_after,
        } => Answer {
            retry_after,
            ..Answer::refused(&Problem::of_status(status).into())
        },
        FaultKind::Html { status } => Answer {
            html: true,
            outcome: status.into(),
            ..Answer::default()
        },
        FaultKind::Cut => Answer {
            cut_after_bytes: Some(0),
            ..Answer::default()
        },
        FaultKind::CutAfterAccept => Answer {
            cut_after_bytes: Some(0),
            ..carry_out(app, operation, id, head, body)
        },
        FaultKind::Truncate { bytes } => Answer {
            cut_after_bytes: Some(bytes.into()),
            ..carry_out(app, operation, id, head, body)
        },
        FaultKind::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            carry_out(app, operation, id, head, body)
        }
        FaultKind::Silence => Answer {
            silent: true,
            ..carry_out(app, operation, id, head, body)
        },
        FaultKind::Hostile {
            status,
            body: hostile,
            retry_after,
        } => {
            if (200..300).contains(&status) {
                carry_out(app, operation, id, head, body);
            }
            Answer {
                outcome: status.into(),
                retry_after,
                hostile: Some(hostile),
                ..Answer::default()
            }
        }
        // Both are unfolded before.
        FaultKind::After { .. } | FaultKind::Every { .. } => Answer::default(),
        FaultKind::RejectRow { index, field } => {
            let rows = match operation {
                Operation::BulkCreateEvents => "/data/attributes/events-bulk-create/data/",
                Operation::BulkImportProfiles => "/data/attributes/profiles/data/",
                _ => "/data/",
            };
            let pointer = format!("{rows}{index}{}", field.unwrap_or_default());
            Answer::refused(&Problem::invalid(pointer, "The row asked to be rejected.").into())
        }
    };
    answer.outcome.is_faulted = true;
    answer
}

fn carry_out(
    app: &App,
    operation: Operation,
    id: &str,
    head: &request::Parts,
    body: &Bytes,
) -> Answer {
    let revision = match check_head(&head.headers, &head.method, app, body.is_empty()) {
        Ok(revision) => revision,
        Err(problem) => return Answer::refused(&problem.into()),
    };
    let query = Query::of(&head.uri);
    let now = app.clock.now();
    let admission = {
        let mut windows = app.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.admit(operation, &query.surcharges(), now)
    };
    let standing = match admission {
        Admission::Admitted(standing) => standing,
        Admission::Refused { retry_after_s } => return Answer::rate_limited(retry_after_s),
    };
    let body_bytes_max = if operation.is_profile_write() {
        PROFILE_BODY_BYTES_MAX
    } else {
        BODY_BYTES_MAX
    };
    if body.len() > body_bytes_max {
        return Answer {
            standing,
            ..Answer::refused(&Problem::of_status(413).into())
        };
    }
    let host = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let call = Call {
        operation,
        id,
        path: head.uri.path(),
        query: &query,
        body,
        revision,
        base_url: &format!("http://{host}"),
        now,
        import_delay: app.config.import_delay,
        state: &app.state,
    };
    match handlers::carry_out(&call) {
        Ok(reply) => Answer {
            standing,
            ..Answer::given(reply, &query)
        },
        Err(refusal) => Answer {
            standing,
            ..Answer::refused(&refusal)
        },
    }
}

/// Checks key, revision and content type; answers the revision.
fn check_head<'h>(
    headers: &'h HeaderMap,
    method: &Method,
    app: &App,
    is_empty: bool,
) -> Result<&'h str, Problem> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let key = text(AUTHORIZATION.as_str()).and_then(|authorization| {
        authorization
            .strip_prefix("Klaviyo-API-Key ")
            .or_else(|| authorization.strip_prefix("Bearer "))
    });
    let is_known = |key: &str| {
        !key.is_empty()
            && app
                .config
                .api_key
                .as_deref()
                .is_none_or(|known| known == key)
    };
    if !key.is_some_and(is_known) {
        return Err(Problem::of_status(401));
    }
    let Some(revision) = text("revision").filter(|revision| is_revision(revision)) else {
        return Err(Problem::of_status(401)
            .detailed("The revision header is missing or not a known revision."));
    };
    if revision < OLDEST_REVISION {
        return Err(Problem::of_status(410));
    }
    let content_type = text(CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    let is_json = matches!(
        content_type,
        Some("application/vnd.api+json" | "application/json")
    );
    if method != Method::GET && !is_empty && !is_json {
        return Err(Problem::of_status(415));
    }
    Ok(revision)
}

/// A date such as `2026-07-15` that is not after the newest revision.
fn is_revision(text: &str) -> bool {
    let has_shape = text.len() == 10
        && text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    has_shape && text <= NEWEST_REVISION
}

fn recorded(
    app: &App,
    operation: Option<Operation>,
    head: &request::Parts,
    body: &Bytes,
    since_start: Duration,
    outcome: Outcome,
) -> Recorded {
    Recorded {
        operation: operation
            .map(Operation::name)
            .unwrap_or_default()
            .to_owned(),
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        since_start,
        status: outcome.status,
        body: if app.config.record_bodies {
            serde_json::from_slice(body).ok()
        } else {
            None
        },
    }
}
