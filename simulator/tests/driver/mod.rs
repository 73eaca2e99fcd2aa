//! Drives a simulator as a client would.

#![allow(
    clippy::allow_attributes,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests, not all of which every test binary uses"
)]

use klaviyo_simulator::{Config, Limits, Simulator};
use serde_json::{Value, json};

pub struct Driver {
    pub simulator: Simulator,
    pub client: reqwest::Client,
}

/// Without limits, so that tests do not depend on window boundaries.
pub fn config() -> Config {
    Config {
        limits: Limits::Off,
        ..Config::default()
    }
}

impl Driver {
    pub async fn start(config: Config) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let client = reqwest::Client::builder().build().unwrap();
        Self { simulator, client }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.simulator.base_url());
        self.client
            .request(method.parse().unwrap(), url)
            .header("Authorization", "Klaviyo-API-Key pk_test")
            .header("revision", "2026-07-15")
            .header("Content-Type", "application/vnd.api+json")
    }

    pub async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(method, path).body(body.to_string())).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, body).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request("GET", path)).await
    }

    pub async fn bulk(&self, groups: &[Value]) -> (u16, Value) {
        let attributes = json!({"events-bulk-create": {"data": groups}});
        let body = json!({"data": {"type": "event-bulk-create-job", "attributes": attributes}});
        self.post("/api/event-bulk-create-jobs", &body).await
    }

    /// Upserts a profile and answers its id.
    pub async fn profile(&self, email: &str) -> String {
        let body = json!({"data": {"type": "profile", "attributes": {"email": email}}});
        let (_, answer) = self.post("/api/profile-import", &body).await;
        answer["data"]["id"].as_str().unwrap().to_owned()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

pub fn event(unique_id: &str, value: f64) -> Value {
    json!({"type": "event", "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "properties": {"OrderId": unique_id}, "time": "2026-09-04T13:38:55Z", "value": value, "unique_id": unique_id,
    }})
}

pub fn group(email: &str, events: Vec<Value>) -> Value {
    group_of(
        json!({"type": "profile", "attributes": {"email": email}}),
        events,
    )
}

pub fn group_with_id(id: &str, events: Vec<Value>) -> Value {
    group_of(
        json!({"type": "profile", "id": id, "attributes": {}}),
        events,
    )
}

fn group_of(profile: Value, events: Vec<Value>) -> Value {
    json!({"type": "event-bulk-create", "attributes": {"profile": {"data": profile}, "events": {"data": events}}})
}
