//! Which route answers what, and who may ask.

use super::access::Readers;
use super::error::Problem;
use super::health;
use super::metrics::page;
use crate::config::Http;
use crate::services::health::{Fresh, Watch};
use crate::telemetry::Scrape;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// No route takes a body yet.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest time from a request to its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// However many ask, the page of numbers is written once in this time.
const PAGE_EVERY: Duration = Duration::from_secs(1);

/// What the routes answer from. Until it is opened they say that the daemon is starting.
#[derive(Debug)]
pub struct Surface {
    readers: Readers,
    opened: OnceLock<Opened>,
}

/// What there is to tell once everything runs.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) watch: Arc<Watch>,
    pub(super) page: Fresh<String>,
}

impl Surface {
    /// Creates a surface that is not open yet.
    pub fn new(config: &Http) -> Self {
        Self {
            readers: Readers::of(config),
            opened: OnceLock::new(),
        }
    }

    /// Opens it, once.
    pub fn open(&self, watch: Arc<Watch>, scrape: Scrape) {
        let scrape = Arc::new(scrape);
        let page = Fresh::new(PAGE_EVERY, move || {
            let scrape = Arc::clone(&scrape);
            async move { scrape.page().await }.boxed()
        });
        let opened = self.opened.set(Opened { watch, page });
        assert!(opened.is_ok(), "a daemon starts once");
    }

    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }
}

pub(super) fn router(surface: Arc<Surface>) -> Router {
    let open = Router::new()
        .route("/health/klaviyo", get(health::klaviyo))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed);
    let for_readers = Router::new()
        .route("/metrics", get(page))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        // Without a token not even the existence of a route is told.
        .fallback(async || Problem::NotFound)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&surface),
            readers_only,
        ));
    open.merge(for_readers)
        .layer(middleware::from_fn(limit))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(surface)
}

async fn readers_only(
    State(surface): State<Arc<Surface>>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    if surface.readers.admit(header.map(HeaderValue::as_bytes)) {
        next.run(request).await
    } else {
        Problem::Unauthorized.into_response()
    }
}

/// Ends what takes too long, and lets nobody keep what is true only now.
async fn limit(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(ANSWER_MAX, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| Problem::TimedOut.into_response());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
