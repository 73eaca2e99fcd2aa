//! `/metrics`: all numbers, as Prometheus reads them.

use super::error::Problem;
use super::router::Surface;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use std::sync::Arc;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn page(
    State(surface): State<Arc<Surface>>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let opened = surface.opened().ok_or(Problem::Starting)?;
    Ok(([(CONTENT_TYPE, TEXT)], opened.page.get().await))
}
