//! The application: it writes jobs to Redis as any language would, and looks at what is left of them.

use anyhow::Context;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const EVENTS: &str = "event-tracking";
pub(crate) const PROFILES: &str = "profile-sync";
const QUEUES: [&str; 2] = [EVENTS, PROFILES];
const JOBS_PER_PIPE: usize = 1_000;
/// People among whom the events are dealt out.
const PEOPLE: usize = 5_000;

/// An application's connection to Redis.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    redis: ConnectionManager,
    keys: Keys,
}

impl Shop {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(20)))
            .set_number_of_retries(0);
        let client = redis::Client::open(url)?;
        let redis = ConnectionManager::new_with_config(client, config).await?;
        Ok(Self {
            redis,
            keys: Keys::default(),
        })
    }

    /// The same shop, as another account.
    pub(crate) fn of_account(&self, account: &str) -> anyhow::Result<Self> {
        let keys = Keys::new(klaviyo_jobs::keys::PREFIX_DEFAULT, account)?;
        Ok(Self {
            redis: self.redis.clone(),
            keys,
        })
    }

    pub(crate) fn stream(&self, queue: &str, lane: Lane) -> String {
        self.keys.queue(queue, lane)
    }

    /// Writes jobs; when it returns, Redis has answered for each.
    pub(crate) async fn add(
        &self,
        queue: &str,
        jobs: impl IntoIterator<Item = Value>,
    ) -> redis::RedisResult<()> {
        self.add_to_lane(queue, Lane::Live, jobs).await
    }

    pub(crate) async fn add_to_lane(
        &self,
        queue: &str,
        lane: Lane,
        jobs: impl IntoIterator<Item = Value>,
    ) -> redis::RedisResult<()> {
        let stream = self.stream(queue, lane);
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut pipe = redis::pipe();
            for job in jobs.by_ref().take(JOBS_PER_PIPE) {
                let add = pipe.cmd("XADD").arg(&stream).arg("*").arg("job");
                add.arg(job.to_string()).ignore();
            }
            pipe.query_async::<()>(&mut self.redis.clone()).await?;
        }
        Ok(())
    }

    /// Any other command.
    pub(crate) async fn command<T: redis::FromRedisValue>(
        &self,
        words: &[&str],
    ) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.redis.clone()).await
    }

    /// Jobs that are neither delivered nor dead, wherever they are.
    pub(crate) async fn left(&self) -> redis::RedisResult<u64> {
        Ok(self.left_of(EVENTS).await? + self.left_of(PROFILES).await?)
    }

    /// The same, of one queue.
    pub(crate) async fn left_of(&self, queue: &str) -> redis::RedisResult<u64> {
        let mut pipe = redis::pipe();
        {
            for lane in Lane::ALL {
                pipe.cmd("XLEN").arg(self.stream(queue, lane));
            }
            pipe.cmd("ZCARD").arg(self.keys.delayed(queue));
        }
        let counts: Vec<u64> = pipe.query_async(&mut self.redis.clone()).await?;
        Ok(counts.into_iter().sum())
    }

    /// Jobs in the dead letters.
    pub(crate) async fn dead(&self) -> redis::RedisResult<u64> {
        let mut pipe = redis::pipe();
        for queue in QUEUES {
            pipe.cmd("XLEN").arg(self.keys.dead(queue));
        }
        let counts: Vec<u64> = pipe.query_async(&mut self.redis.clone()).await?;
        Ok(counts.into_iter().sum())
    }

    /// Jobs that wait for their time.
    pub(crate) async fn delayed(&self, queue: &str) -> redis::RedisResult<u64> {
        self.command(&["ZCARD", &self.keys.delayed(queue)]).await
    }

    /// How many jobs of a queue's live lane the process holds.
    pub(crate) async fn held_by(&self, queue: &str, pid: u32) -> anyhow::Result<usize> {
        let stream = self.stream(queue, Lane::Live);
        let consumers: StreamInfoConsumersReply = self
            .command(&["XINFO", "CONSUMERS", &stream, GROUP])
            .await?;
        let its_name = format!("{pid}-");
        let its_own = consumers
            .consumers
            .iter()
            .filter(|it| it.name.starts_with(&its_name));
        Ok(its_own.map(|consumer| consumer.pending).sum())
    }

    /// The last entry of a queue's live lane that any replica has taken.
    pub(crate) async fn last_taken(&self, queue: &str) -> anyhow::Result<String> {
        let groups: StreamInfoGroupsReply = self
            .command(&["XINFO", "GROUPS", &self.stream(queue, Lane::Live)])
            .await?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP);
        Ok(group.context("there is no group")?.last_delivered_id)
    }
}

/// An event with an id of its own.
pub(crate) fn event(number: usize) -> Value {
    event_of(number, PEOPLE)
}

/// An event of one of so many people.
pub(crate) fn event_of(number: usize, people: usize) -> Value {
    json!({"kind": "event.track", "id": format!("order-{number}"), "at": "2026-11-20T09:00:00Z",
        "data": {"metric": "Placed Order", "profile": {"email": person(number, people)}, "value": 9.99,
            "properties": {"OrderId": number.to_string()}}})
}

/// An event as an application writes it that leaves everything to the daemon.
pub(crate) fn bare_event(number: usize) -> Value {
    json!({"kind": "event.track", "data": {"metric": "Viewed Product", "profile": {"email": person(number, PEOPLE)},
        "properties": {"Number": number}}})
}

/// An event of somebody new.
pub(crate) fn marker(number: usize) -> Value {
    json!({"kind": "event.track", "id": format!("marker-{number}"),
        "data": {"metric": "Marker", "profile": {"email": format!("marker-{number}@klqtest.dev")}}})
}

/// An event with changed properties.
pub(crate) fn event_with(number: usize, properties: Value) -> Value {
    let mut event = event(number);
    event["data"]["properties"] = properties;
    event
}

/// An upsert of a person of its own.
pub(crate) fn upsert(number: usize) -> Value {
    json!({"kind": "profile.upsert", "id": format!("upsert-{number}"), "at": "2026-11-20T09:00:00Z",
        "data": {"profile": {"email": format!("p-{number}@klqtest.dev")},
            "attributes": {"first_name": "Ada"}, "properties": {"Number": number}}})
}

fn person(number: usize, people: usize) -> String {
    format!("c-{}@klqtest.dev", number % people)
}
