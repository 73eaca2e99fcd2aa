//! Asking a daemon over HTTP, and what it answers.

use klaviyo_simulator::FaultKind;
use klaviyod::app::App;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The states of all parts whose name begins so.
    pub(crate) fn part(&self, name: &str) -> Value {
        let body = self.json();
        let parts = body["parts"].as_array().unwrap();
        let found = parts.iter().find(|part| part["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }
}

pub(crate) async fn get(app: &App, path: &str) -> Answer {
    get_with(app, path, None).await
}

pub(crate) async fn get_with(app: &App, path: &str, token: Option<&str>) -> Answer {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let address = app.http_address().unwrap();
    let mut request = client.get(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = request.send().await.unwrap();
    let media_type = response.headers()["content-type"].to_str().unwrap();
    Answer {
        media_type: media_type.to_owned(),
        status: response.status().as_u16(),
        body: response.text().await.unwrap(),
    }
}

pub(crate) async fn until(
    app: &App,
    path: &str,
    what: &str,
    is: impl Fn(&Answer) -> bool,
) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(app, path).await;
        if is(&answer) {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "never came true: {what}; {}",
            answer.body
        );
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn event(id: &str, email: &str) -> String {
    json!({"kind": "event.track", "id": id, "data": {"metric": "Viewed Product", "profile": {"email": email}}})
        .to_string()
}

pub(crate) fn status(status: u16) -> FaultKind {
    FaultKind::Status {
        status,
        retry_after: None,
    }
}
