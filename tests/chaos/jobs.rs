//! The application: it writes jobs to Redis as any language would, and looks at what is left of them.

use anyhow::Context;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::{StreamInfoConsumersReply, StreamInfoGroupsReply};
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;

pub(crate) const EVENTS: &str = "event-tracking";
pub(crate) const PROFILES: &str = "profile-sync";
const QUEUES: [&str; 2] = [EVENTS, PROFILES];
const JOBS_PER_PIPE: usize = 1_000;
const JOBS_PER_SCRIPT: usize = 2_000;
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

    /// Writes the jobs of a template, as fast as Redis can.
    pub(crate) async fn add_many(
        &self,
        queue: &str,
        template: &str,
        numbers: Range<usize>,
    ) -> redis::RedisResult<()> {
        let stream = self.stream(queue, Lane::Live);
        for first in numbers.clone().step_by(JOBS_PER_SCRIPT) {
            let end = numbers.end.min(first + JOBS_PER_SCRIPT);
            let mut write = redis::cmd("EVAL");
            write.arg(WRITE).arg(1).arg(&stream).arg(template);
            write.arg(first).arg(end).arg(PEOPLE);
            write.query_async::<()>(&mut self.redis.clone()).await?;
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

    /// How long the job waits that is due last. It is then due at once.
    pub(crate) async fn take_longest_delay(&self, queue: &str) -> redis::RedisResult<Duration> {
        let key = self.keys.delayed(queue);
        let last: Vec<(String, f64)> = self
            .command(&["ZRANGE", &key, "-1", "-1", "WITHSCORES"])
            .await?;
        let Some((member, due_ms)) = last.first() else {
            return Ok(Duration::ZERO);
        };
        self.command::<u64>(&["ZADD", &key, "0", member]).await?;
        let now_ms = jiff::Timestamp::now().as_millisecond() as f64;
        Ok(Duration::from_secs_f64((due_ms - now_ms).max(0.0) / 1000.0))
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

/// `#n` stands for the number, `#p` for one of the people.
pub(crate) const EVENT: &str = concat!(
    r##"{"kind":"event.track","id":"order-#n","at":"2026-11-20T09:00:00Z","data":{"metric":"Placed Order","##,
    r##""profile":{"email":"c-#p@klqtest.dev"},"value":9.99,"properties":{"OrderId":"#n"}}}"##,
);
/// Everybody is somebody else.
pub(crate) const UPSERT: &str = concat!(
    r##"{"kind":"profile.upsert","id":"upsert-#n","at":"2026-11-20T09:00:00Z","data":{"##,
    r##""profile":{"email":"p-#n@klqtest.dev"},"attributes":{"first_name":"Ada"},"properties":{"Number":#n}}}"##,
);
/// Writes the jobs of a template, for very many of them.
const WRITE: &str = r"
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) - 1 do
  local n = string.format('%d', number)
  local job = string.gsub(string.gsub(ARGV[1], '#n', n), '#p', string.format('%d', number % tonumber(ARGV[4])))
  redis.call('XADD', KEYS[1], '*', 'job', job)
end";

/// An event with an id of its own.
pub(crate) fn event(number: usize) -> Value {
    event_of(number, PEOPLE)
}

/// An event of one of so many people.
pub(crate) fn event_of(number: usize, people: usize) -> Value {
    of_template(EVENT, number, people)
}

/// An upsert of a person of its own.
pub(crate) fn upsert(number: usize) -> Value {
    of_template(UPSERT, number, PEOPLE)
}

fn of_template(template: &str, number: usize, people: usize) -> Value {
    let number_text = number.to_string();
    let person = (number % people).to_string();
    let job = template.replace("#n", &number_text).replace("#p", &person);
    serde_json::from_str(&job).unwrap()
}

fn person(number: usize) -> String {
    format!("c-{}@klqtest.dev", number % PEOPLE)
}

/// An event as an application writes it that leaves everything to the daemon.
pub(crate) fn bare_event(number: usize) -> Value {
    json!({"kind": "event.track", "data": {"metric": "Viewed Product", "profile": {"email": person(number)},
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
