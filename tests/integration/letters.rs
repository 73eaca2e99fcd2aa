//! Dead letters written as the engine writes them, so that a test need not kill thousands of jobs first.

use crate::harness::Shop;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub(crate) const EVENTS_DEAD: &str = "klaviyod:{default}:event-tracking:dead";
pub(crate) const PROFILES_DEAD: &str = "klaviyod:{default}:profile-sync:dead";

/// One dead letter.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) job: String,
    pub(crate) sid: String,
    pub(crate) lane: String,
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) pointer: String,
}

impl Letter {
    /// A job that was enqueued so long ago and refused by Klaviyo.
    pub(crate) fn of(job: &Value, age: SignedDuration) -> Self {
        let enqueued = Timestamp::now() - age;
        Self {
            job: job.to_string(),
            sid: format!("{}-0", enqueued.as_millisecond()),
            lane: "live".to_owned(),
            code: "klaviyo.invalid".to_owned(),
            detail: "it is wrong".to_owned(),
            pointer: String::new(),
        }
    }

    pub(crate) fn fresh(job: &Value) -> Self {
        Self::of(job, SignedDuration::from_mins(5))
    }
}

pub(crate) fn event(id: &str) -> Value {
    json!({"kind": "event.track", "id": id,
        "data": {"metric": "Placed Order", "profile": {"email": format!("{id}@klqtest.dev")}}})
}

impl Shop {
    /// Writes dead letters and returns their entries.
    pub(crate) async fn bury(&mut self, dead: &str, letters: &[Letter]) -> Vec<String> {
        let mut entries = Vec::new();
        for chunk in letters.chunks(1_000) {
            let mut pipe = redis::pipe();
            for letter in chunk {
                let mut add = redis::cmd("XADD");
                add.arg(dead).arg("*").arg("job").arg(&letter.job);
                add.arg("sid").arg(&letter.sid).arg("n").arg(1);
                add.arg("lane").arg(&letter.lane);
                add.arg("code").arg(&letter.code).arg("status").arg(400);
                add.arg("detail").arg(&letter.detail);
                add.arg("pointer").arg(&letter.pointer);
                pipe.add_command(add);
            }
            let written: Vec<String> = pipe.query_async(&mut self.redis).await.unwrap();
            entries.extend(written);
        }
        entries
    }

    /// Runs a command that must succeed, and returns its JSON.
    pub(crate) async fn told(&self, arguments: &[&str]) -> Value {
        let (code, said, complaint) = self.command(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}{complaint}");
        serde_json::from_str(&said).unwrap()
    }

    /// Runs a command that must fail, and returns its exit code and complaint.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let (code, _, complaint) = self.command(arguments).await;
        (code.unwrap(), complaint)
    }

    /// Returns every event that Klaviyo was sent, whatever the call.
    pub(crate) fn events_sent(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for request in self.klaviyo.requests() {
            let body = request.body.as_ref().unwrap_or(&Value::Null);
            collect(body, false, &mut events);
        }
        events
    }
}

/// Finds the events of a body. A bulk call says once for a group whether it is a backfill.
fn collect(value: &Value, backfill: bool, events: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            let backfill = backfill || value["backfill"] == true;
            if fields.contains_key("unique_id") {
                let mut event = value.clone();
                event["backfill"] = json!(backfill);
                events.push(event);
            } else {
                fields
                    .values()
                    .for_each(|value| collect(value, backfill, events));
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect(value, backfill, events)),
        _ => {}
    }
}
