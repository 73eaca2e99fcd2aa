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
use std::sync::Arc;
use std::time::Duration;

/// No route takes a body yet.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest time from a request to its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// However many ask, the page of numbers is written once in this time.
const PAGE_EVERY: Duration = Duration::from_secs(1);

/// What the routes answer from.
#[derive(Debug)]
pub struct Surface {
    pub(super) watch: Arc<Watch>,
    pub(super) page: Fresh<String>,
    readers: Readers,
}

impl Surface {
    /// Joins what the routes need.
    pub fn new(config: &Http, watch: Arc<Watch>, scrape: Scrape) -> Self {
        let scrape = Arc::new(scrape);
        let page = Fresh::new(PAGE_EVERY, move || {
            let scrape = Arc::clone(&scrape);
            async move { scrape.page().await }.boxed()
        });
        Self {
            watch,
            page,
            readers: Readers::of(config),
        }
    }
}

pub(super) fn router(surface: Surface) -> Router {
    let surface = Arc::new(surface);
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
