//! The simulator's own paths under `/sim`: what arrived, faults, and starting over.

use std::sync::PoisonError;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Response, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dispatch::App;
use crate::faults::Fault;
use crate::ledger::Stats;
use crate::state::State;
use crate::windows::Windows;

/// What `POST /sim/faults` takes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    Outage { outage: bool },
    One(Fault),
    Several(Vec<Fault>),
}

pub(crate) fn answer(app: &App, method: &Method, path: &str, body: &Bytes) -> Response<Body> {
    match (method.as_str(), path.trim_end_matches('/')) {
        ("GET", "/sim/stats") => json_response(StatusCode::OK, &json!(stats(app))),
        ("GET", "/sim/requests") => json_response(StatusCode::OK, &json!(app.ledger.recorded())),
        ("GET", "/sim/faults") => json_response(StatusCode::OK, &json!(app.faults.pending())),
        ("POST", "/sim/faults") => push_faults(app, body),
        ("DELETE", "/sim/faults") => {
            app.faults.clear();
            json_response(StatusCode::OK, &json!({}))
        }
        ("POST", "/sim/reset") => {
            reset(app);
            json_response(StatusCode::OK, &json!({}))
        }
        _ => json_response(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such path or method under /sim"}),
        ),
    }
}

pub(crate) fn stats(app: &App) -> Stats {
    let state = app.state.at(app.clock.now());
    let windows = app.windows.lock().unwrap_or_else(PoisonError::into_inner);
    app.ledger.stats(&state, &windows)
}

fn push_faults(app: &App, body: &Bytes) -> Response<Body> {
    match serde_json::from_slice(body) {
        Ok(Order::Outage { outage }) => app.faults.set_outage(outage),
        Ok(Order::One(fault)) => app.faults.push(fault),
        Ok(Order::Several(faults)) => faults.into_iter().for_each(|fault| app.faults.push(fault)),
        Err(error) => {
            return json_response(
                StatusCode::BAD_REQUEST,
                &json!({"error": format!("not a fault: {error}")}),
            );
        }
    }
    json_response(StatusCode::OK, &json!({}))
}

fn reset(app: &App) {
    let now = app.clock.now();
    *app.state.at(now) = State::new(&app.config, now);
    *app.windows.lock().unwrap_or_else(PoisonError::into_inner) = Windows::new(app.config.limits);
    app.ledger.clear();
    app.faults.clear();
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        axum::http::HeaderValue::from_static("application/json"),
    );
    response
}
