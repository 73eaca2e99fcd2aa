//! `/health/live`, `/health/ready`, `/health/klaviyo`: 200 or 503, and why. Nobody needs a token for them.

use super::router::Surface;
use crate::services::health::{Report, State as Health, starting};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// An answer at all is the proof.
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

pub(super) async fn ready(State(surface): State<Arc<Surface>>) -> (StatusCode, Json<Report>) {
    told(match surface.opened() {
        Some(opened) => opened.watch.ready().await,
        None => starting(),
    })
}

pub(super) async fn klaviyo(State(surface): State<Arc<Surface>>) -> (StatusCode, Json<Report>) {
    told(match surface.opened() {
        Some(opened) => opened.watch.klaviyo(),
        None => starting(),
    })
}

/// A warning is for people; only what is bad turns traffic away.
fn told(report: Report) -> (StatusCode, Json<Report>) {
    let status = match report.status {
        Health::Ok | Health::Warn => StatusCode::OK,
        Health::Bad => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}
