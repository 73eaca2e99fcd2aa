//! What nobody can beat by much: read, POST, acknowledge, in turn, with no rule and nothing understood.

use crate::stream;
use anyhow::{Context, ensure};
use klaviyo_jobs::keys::GROUP;
use klaviyod::queue::Redis;
use std::time::Duration;

const JOBS_PER_CALL: usize = 1_000;
const HEAD: &[u8] = br#"{"data":{"type":"event-bulk-create-job","attributes":{"events":["#;
const TAIL: &[u8] = b"]}}}";

type Fields = Vec<(String, Vec<u8>)>;
type Entries = Vec<(String, Fields)>;

/// Runs until it is killed.
pub(crate) async fn run(redis: &str, sink: &str) -> anyhow::Result<()> {
    let stream = stream();
    let mut redis = Redis::at(redis)?.connect().await?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .build()?;
    let url = format!("{sink}/api/event-bulk-create-jobs");
    redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(&stream)
        .arg(GROUP)
        .arg("0")
        .arg("MKSTREAM")
        .query_async::<()>(&mut redis)
        .await?;
    loop {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("bare");
        read.arg("COUNT").arg(JOBS_PER_CALL);
        read.arg("BLOCK").arg(1_000);
        read.arg("STREAMS").arg(&stream).arg(">");
        let reply: Option<Vec<(String, Entries)>> = read.query_async(&mut redis).await?;
        let Some((_, entries)) = reply.and_then(|mut streams| streams.pop()) else {
            continue;
        };
        let answer = client
            .post(&url)
            .header("Content-Type", "application/vnd.api+json")
            .body(body(&entries))
            .send()
            .await
            .context("failed to post")?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
        let mut pipe = redis::pipe();
        pipe.cmd("XACK").arg(&stream).arg(GROUP).arg(&ids).ignore();
        pipe.cmd("XDEL").arg(&stream).arg(&ids).ignore();
        pipe.query_async::<()>(&mut redis).await?;
    }
}

fn body(entries: &Entries) -> Vec<u8> {
    let payloads = || entries.iter().flat_map(|(_, fields)| fields);
    let bytes: usize = payloads().map(|(_, payload)| payload.len() + 1).sum();
    let mut body = Vec::with_capacity(HEAD.len() + bytes + TAIL.len());
    body.extend_from_slice(HEAD);
    for (index, (_, payload)) in payloads().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(payload);
    }
    body.extend_from_slice(TAIL);
    body
}
