//! What operators do, through the real binary.

mod enqueue;
mod jobs;
mod output;
mod queues;

use crate::harness::{EVENTS, Shop};
use klaviyo_jobs::{Keys, keys::GROUP};
use klaviyod::queue::recorded_actions;
use serde_json::{Value, json};

pub(super) fn profile(external_id: &str) -> Value {
    json!({"kind": "profile.upsert", "data": {"profile": {"external_id": external_id}}})
}

pub(super) fn order(id: &str) -> Value {
    let mut order = order_without_id();
    order["id"] = json!(id);
    order
}

pub(super) fn order_without_id() -> Value {
    json!({"kind": "event.track", "data": {"metric": "Placed Order", "profile": {"email": "a@klqtest.dev"}}})
}

pub(super) async fn enqueue(shop: &Shop, id: &str, options: &[&str]) {
    let data = order_without_id()["data"].to_string();
    let enqueue = ["enqueue", "event.track", "--data", &data, "--id", id];
    let (code, _, complaint) = shop.command(&[&enqueue[..], options].concat()).await;
    assert_eq!(code, Some(0), "{complaint}");
}

/// Takes so many entries as a daemon does, and returns their ids.
pub(super) async fn take(shop: &mut Shop, stream: &str, count: usize) -> Vec<String> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(stream).arg(GROUP).arg("0");
    create.query_async::<()>(&mut shop.redis).await.unwrap();
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(GROUP).arg("another-daemon");
    read.arg("COUNT")
        .arg(count)
        .arg("STREAMS")
        .arg(stream)
        .arg(">");
    let reply: redis::streams::StreamReadReply = read.query_async(&mut shop.redis).await.unwrap();
    let entries = reply.keys.into_iter().flat_map(|key| key.ids);
    entries.map(|entry| entry.id).collect()
}

pub(super) async fn ids(shop: &mut Shop, stream: &str) -> Vec<String> {
    let mut range = redis::cmd("XRANGE");
    let range = range.arg(stream).arg("-").arg("+");
    let reply: redis::streams::StreamRangeReply = range.query_async(&mut shop.redis).await.unwrap();
    reply.ids.into_iter().map(|entry| entry.id).collect()
}

pub(super) async fn add_dead(shop: &mut Shop, job: &Value) -> String {
    let mut add = redis::cmd("XADD");
    add.arg(format!("{EVENTS}:dead"))
        .arg("*")
        .arg("job")
        .arg(job.to_string());
    add.arg("sid")
        .arg("1700000000000-0")
        .arg("n")
        .arg(1)
        .arg("lane")
        .arg("live");
    add.arg("code")
        .arg("klaviyo.invalid")
        .arg("status")
        .arg(400);
    add.arg("detail").arg("refused").arg("pointer").arg("");
    add.query_async(&mut shop.redis).await.unwrap()
}

pub(super) async fn claims(shop: &mut Shop) -> usize {
    let mut keys = redis::cmd("KEYS");
    let found: Vec<String> = keys
        .arg("klaviyod:{default}:claim:*")
        .query_async(&mut shop.redis)
        .await
        .unwrap();
    found.len()
}

pub(super) async fn recorded(shop: &mut Shop) -> Vec<(String, u64)> {
    let recorded = recorded_actions(&mut shop.redis, &Keys::default(), 100).await;
    let recorded = recorded.unwrap().into_iter();
    recorded.map(|(_, it)| (it.action, it.touched)).collect()
}

/// The only copy of a job.
pub(super) async fn explain(shop: &Shop, id: &str) -> Value {
    let (code, said, complaint) = shop.command(&["job", "explain", id]).await;
    assert_eq!(code, Some(0), "{id}: {complaint}");
    let explanation: Value = serde_json::from_str(&said).unwrap();
    let found = explanation["found"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{explanation}");
    found[0].clone()
}

pub(super) async fn queue(shop: &Shop, name: &str) -> Value {
    let queues = queues(shop).await;
    queues.into_iter().find(|it| it["queue"] == name).unwrap()
}

pub(super) async fn queues(shop: &Shop) -> Vec<Value> {
    let (code, said, complaint) = shop.command(&["queue", "list", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    serde_json::from_str(&said).unwrap()
}

pub(super) async fn paused(shop: &Shop) -> Vec<String> {
    let queues = queues(shop).await.into_iter();
    let paused = queues.filter(|queue| queue["paused"] == true);
    paused
        .map(|queue| queue["queue"].as_str().unwrap().to_owned())
        .collect()
}
