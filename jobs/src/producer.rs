//! Enqueues jobs from Rust.
//!
//! A call sends chunks of at most 1,000 jobs and 4 MB. Jobs with a claim or a delay go through one script, so that a
//! claim is never taken without its job; the rest is plain pipelined `XADD`. The surprising thing: after an error the
//! jobs of that chunk may have been written. Enqueue them again with the same ids, and what was written is a duplicate.

use crate::keys::claim_hash;
use crate::message::random_id;
use crate::{Invalid, Job, Keys, Message, Options};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, RedisError, RedisResult, Script};
use std::sync::OnceLock;
use std::time::Duration;

const CHUNK_JOBS_MAX: usize = 1_000;
const CHUNK_BYTES_MAX: usize = 4_000_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Puts jobs on the queues of one account.
#[derive(Clone, Debug)]
pub struct Producer<C = ConnectionManager> {
    connection: C,
    keys: Keys,
}

/// What became of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in Redis.
    Accepted,
    /// Its id is claimed by an earlier job; nothing was written.
    Duplicate,
}

/// The answer to one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The job's identifier, the given or the generated one.
    pub id: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Its stream id; `None` for a delayed job and for a duplicate.
    pub entry: Option<String>,
}

/// The answer to one job, or why there is none.
pub type Enqueued = Result<Receipt, ProduceError>;

/// Why a job was not enqueued.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The job itself is wrong; enqueueing it again will not help.
    #[error("failed to check the job")]
    Invalid(#[from] Invalid),
    /// Redis did not take it, or its answer was lost; enqueue it again with the same id.
    #[error("failed to write the job to Redis")]
    Redis(#[from] RedisError),
}

impl ProduceError {
    /// Whether the job may be in Redis all the same, because its answer was lost. Enqueueing it again is safe if its
    /// id is claimed; else it may be there twice.
    pub fn may_be_written(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Redis(error) => {
                let is_refused_by_script = error.kind() == ErrorKind::UnexpectedReturnType;
                error.code().is_none() && !is_refused_by_script && !error.is_connection_refusal()
            }
        }
    }
}

impl Producer<ConnectionManager> {
    /// Connects to Redis for the account `default`.
    ///
    /// # Errors
    /// [`RedisError`] if the address is wrong or nobody answers within five seconds.
    pub async fn connect(url: &str) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection =
            ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?;
        Ok(Self::new(connection, Keys::default()))
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> Producer<C> {
    /// Creates a producer on a connection that is shared by cloning. Its response timeout should be seconds.
    pub fn new(connection: C, keys: Keys) -> Self {
        Self { connection, keys }
    }

    /// Returns the keys it writes to.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Enqueues a job under a random id.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn enqueue<J: Job>(&self, job: &J) -> Enqueued {
        self.enqueue_with(job, Options::default()).await
    }

    /// Enqueues a job.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn enqueue_with<J: Job>(&self, job: &J, options: Options) -> Enqueued {
        self.enqueue_message(Message::new(job, &options)?).await
    }

    /// Enqueues a whole job in JSON; the options win over what it says.
    ///
    /// # Errors
    /// [`ProduceError`].
    pub async fn enqueue_raw(&self, json: &[u8], options: &Options) -> Enqueued {
        self.enqueue_message(Message::from_json(json, options)?)
            .await
    }

    async fn enqueue_message(&self, message: Message) -> Enqueued {
        let mut outcomes = self.enqueue_many([message]).await;
        outcomes.pop().expect("one message has one outcome")
    }

    /// Enqueues many jobs, in order, and returns one outcome for each.
    pub async fn enqueue_many(&self, messages: impl IntoIterator<Item = Message>) -> Vec<Enqueued> {
        let mut outcomes = Vec::new();
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for message in messages {
            if chunk.len() == CHUNK_JOBS_MAX
                || (!chunk.is_empty() && bytes + message.json.len() > CHUNK_BYTES_MAX)
            {
                outcomes.extend(self.write(std::mem::take(&mut chunk)).await);
                bytes = 0;
            }
            bytes += message.json.len();
            chunk.push(message);
        }
        outcomes.extend(self.write(chunk).await);
        outcomes
    }

    async fn write(&self, chunk: Vec<Message>) -> Vec<Enqueued> {
        if chunk.is_empty() {
            return Vec::new();
        }
        let plain = chunk
            .iter()
            .all(|message| message.claim.is_none() && message.run_at.is_none());
        let written = if plain {
            self.write_plain(&chunk).await
        } else {
            self.write_scripted(&chunk).await
        };
        match written {
            Ok(answers) => chunk
                .into_iter()
                .zip(answers)
                .map(|(message, answer)| receipt(message.id, answer))
                .collect(),
            Err(error) => chunk.iter().map(|_| Err(error.clone().into())).collect(),
        }
    }

    async fn write_plain(&self, chunk: &[Message]) -> RedisResult<Vec<RedisResult<String>>> {
        let mut pipe = redis::Pipeline::with_capacity(chunk.len());
        pipe.ignore_errors();
        for message in chunk {
            let stream = self.keys.queue(message.queue, message.lane);
            pipe.cmd("XADD")
                .arg(stream)
                .arg("*")
                .arg("job")
                .arg(&message.json);
        }
        pipe.query_async(&mut self.connection.clone()).await
    }

    async fn write_scripted(&self, chunk: &[Message]) -> RedisResult<Vec<RedisResult<String>>> {
        static SCRIPT: OnceLock<Script> = OnceLock::new();
        let script = SCRIPT.get_or_init(|| Script::new(include_str!("enqueue.lua")));
        let mut call = script.prepare_invoke();
        for message in chunk {
            let (hash, lasts_ms) = match &message.claim {
                Some(claim) => (
                    claim_hash(&claim.text),
                    claim.lasts.as_millis().max(1).to_string(),
                ),
                None => (String::new(), String::new()),
            };
            let (target, due_ms, payload) = match message.run_at {
                Some(due) => (
                    self.keys.delayed(message.queue),
                    due.as_millisecond().to_string(),
                    delayed_member(message, &hash),
                ),
                None => (
                    self.keys.queue(message.queue, message.lane),
                    String::new(),
                    message.json.clone(),
                ),
            };
            let claim_key = if hash.is_empty() {
                target.clone()
            } else {
                self.keys.claim_of_hash(&hash)
            };
            call.key(target).key(claim_key);
            call.arg(hash)
                .arg(&message.id)
                .arg(lasts_ms)
                .arg(due_ms)
                .arg(payload);
        }
        let answers: Vec<String> = call.invoke_async(&mut self.connection.clone()).await?;
        Ok(answers.into_iter().map(script_answer).collect())
    }
}

/// Builds `<unique>:<attempts>:<lane>:<claim>:<first stream id>:<job>`, the member of a delayed job.
fn delayed_member(message: &Message, hash: &str) -> Vec<u8> {
    let mut member = format!("{}:0:{}:{hash}::", random_id(), message.lane.as_str()).into_bytes();
    member.extend_from_slice(&message.json);
    member
}

fn script_answer(answer: String) -> RedisResult<String> {
    match answer.strip_prefix('!') {
        None => Ok(answer),
        Some(error) => Err(RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "refused in a script",
            error.to_owned(),
        ))),
    }
}

fn receipt(id: String, answer: RedisResult<String>) -> Enqueued {
    let answer = answer?;
    Ok(match answer.as_str() {
        "" => Receipt {
            id,
            outcome: Outcome::Duplicate,
            entry: None,
        },
        "delayed" => Receipt {
            id,
            outcome: Outcome::Accepted,
            entry: None,
        },
        _ => Receipt {
            id,
            outcome: Outcome::Accepted,
            entry: Some(answer),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_a_lost_answer_leaves_open_whether_a_job_was_written() {
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        let lost = [io::ErrorKind::BrokenPipe, io::ErrorKind::TimedOut].map(io);
        for error in lost {
            assert!(ProduceError::Redis(error).may_be_written());
        }
        let full = script_answer("!OOM command not allowed".to_owned()).unwrap_err();
        let refused = [io(io::ErrorKind::ConnectionRefused), full];
        for error in refused {
            assert!(!ProduceError::Redis(error).may_be_written());
        }
    }
}
