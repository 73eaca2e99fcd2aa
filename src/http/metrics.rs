//! `/metrics`: all numbers, as Prometheus reads them.

use super::router::Surface;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use std::sync::Arc;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn page(
    State(surface): State<Arc<Surface>>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, TEXT)], surface.page.get().await)
}
