//! Connections to Redis that outlive its failures.
//!
//! A connection that broke, timed out or speaks to a server that is no longer the master is replaced at the next
//! command, after a pause that grows; the failed command itself is never repeated here, for it may have been carried
//! out. Whoever waits in a loop gets an error each time and tries again. An outage is told once, and its end too.

mod address;
mod health;
pub(crate) mod server;

pub use address::BadAddress;
pub use health::Health;

#[cfg(test)]
use super::model::faults::Faults;
use address::Address;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use rand::Rng;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value,
};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The redis crate's default, 500 ms, would end every blocking read.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_CONTACT: Duration = Duration::from_secs(15);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const LOCKED: &str = "nothing panics while it holds this lock";

/// Redis cannot be used from the start.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It did not answer for 15 seconds.
    #[error("failed to reach Redis within 15 s; check KLAVIYOD_REDIS_URL and that the server runs")]
    Silent(#[source] RedisError),
    /// It knows no such user, or another password.
    #[error("failed to log in to Redis; check the user and the password in KLAVIYOD_REDIS_URL")]
    Refused(#[source] RedisError),
}

/// Where Redis is, and how it is.
#[derive(Clone, Debug)]
pub struct Redis {
    address: Address,
    health: Arc<Health>,
}

impl Redis {
    /// Checks the address without connecting.
    ///
    /// # Errors
    /// [`BadAddress`] that says what is wrong with it.
    pub fn at(url: &str) -> Result<Self, BadAddress> {
        Ok(Self {
            address: Address::parse(url)?,
            health: Arc::default(),
        })
    }

    /// Connects, trying for 15 seconds; a server that is still loading is waited for.
    ///
    /// # Errors
    /// [`Unreachable`] with the last failure.
    pub async fn connect(&self) -> Result<Connection, Unreachable> {
        let deadline = Instant::now() + FIRST_CONTACT;
        loop {
            match self.try_connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
                    return Err(Unreachable::Refused(error));
                }
                Err(error) if Instant::now() >= deadline && error.code() != Some("LOADING") => {
                    return Err(Unreachable::Silent(error));
                }
                Err(_) => sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// Connects, trying once.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn try_connect(&self) -> RedisResult<Connection> {
        let first = open(&self.address).await?;
        Ok(Connection(Arc::new(Line {
            redis: self.clone(),
            state: Mutex::new(State {
                socket: futures::future::ready(Some(first)).boxed().shared(),
                generation: 0,
                failures: 0,
            }),
            #[cfg(test)]
            faults: Faults::default(),
        })))
    }

    /// Another server with the same login: a replica, to ask how it is.
    pub(crate) async fn beside(&self, host: &str, port: u16) -> RedisResult<Self> {
        Ok(Self {
            address: self.address.beside(host, port).await?,
            health: Arc::default(),
        })
    }

    /// What is known about it, without asking.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }
}

async fn open(address: &Address) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let connect = async {
        let client = address.resolve().await?;
        let mut socket = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        // A server that loads its data accepts connections and refuses commands.
        redis::cmd("PING").query_async::<()>(&mut socket).await?;
        Ok(socket)
    };
    // Sentinels that do not answer have no time limit of their own.
    match timeout(2 * CONNECT_TIMEOUT, connect).await {
        Ok(result) => result,
        Err(_) => Err(away("no answer while connecting")),
    }
}

fn away(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, why))
}

type Socket = Shared<BoxFuture<'static, Option<MultiplexedConnection>>>;

/// A connection that reconnects; clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Line>);

struct Line {
    redis: Redis,
    state: Mutex<State>,
    #[cfg(test)]
    faults: Faults,
}

struct State {
    socket: Socket,
    /// Tells a failure of this socket from a late one of the socket before.
    generation: u64,
    failures: u32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connection")
    }
}

impl Connection {
    /// How the server is, as all connections to it see it.
    pub fn health(&self) -> &Arc<Health> {
        &self.0.redis.health
    }

    /// The same server and socket, with faults of its own; what fails by itself is no matter of how fast the machine is.
    #[cfg(test)]
    pub(super) fn with_faults(&self, faults: Faults) -> Self {
        let socket = self.0.state.lock().expect(LOCKED).socket.clone();
        let patient = |mut socket: MultiplexedConnection| {
            socket.set_response_timeout(FIRST_CONTACT * 4);
            socket
        };
        let socket = socket.map(move |it| it.map(patient)).boxed().shared();
        Self(Arc::new(Line {
            redis: self.0.redis.clone(),
            state: Mutex::new(State {
                socket,
                generation: 0,
                failures: 0,
            }),
            faults,
        }))
    }

    async fn socket(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let (socket, generation) = {
            let state = self.0.state.lock().expect(LOCKED);
            (state.socket.clone(), state.generation)
        };
        if let Some(socket) = socket.await {
            return Ok((socket, generation));
        }
        self.replace(generation);
        Err(away("Redis is away"))
    }

    /// Looks at what came back: a broken line is replaced.
    fn learn(&self, generation: u64, failure: Option<&RedisError>) {
        let health = self.health();
        match failure {
            None => {
                health.answered();
                self.0.state.lock().expect(LOCKED).failures = 0;
            }
            Some(error) if must_reconnect(error) => {
                health.failed(error);
                self.replace(generation);
            }
            Some(error) if error.code() == Some("LOADING") => health.failed(error),
            Some(_) => health.answered(),
        }
    }

    fn replace(&self, generation: u64) {
        let mut state = self.0.state.lock().expect(LOCKED);
        if state.generation != generation {
            return;
        }
        let pause = PAUSE_MAX.min(PAUSE_FIRST * 2_u32.pow(state.failures.min(10)));
        let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        state.failures += 1;
        state.generation += 1;
        let redis = self.0.redis.clone();
        state.socket = async move {
            sleep(pause).await;
            match open(&redis.address).await {
                Ok(socket) => {
                    redis.health.reconnected();
                    Some(socket)
                }
                Err(error) => {
                    redis.health.failed(&error);
                    None
                }
            }
        }
        .boxed()
        .shared();
    }
}

/// Whether the server is away, rather than of another opinion.
pub fn is_unreachable(error: &RedisError) -> bool {
    must_reconnect(error) || error.code() == Some("LOADING")
}

fn must_reconnect(error: &RedisError) -> bool {
    // The server is a replica now: its master, or the Sentinels, know better.
    let demoted = ["READONLY", "UNBLOCKED", "MASTERDOWN"];
    error.is_io_error()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || demoted.into_iter().any(|code| says(error, code))
}

/// Redis 6 puts the code of an error within a script into its text.
pub(crate) fn says(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.contains(code))
}

/// The first refusal among the answers to a pipeline.
fn refusal(values: &[Value]) -> Option<RedisError> {
    values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    })
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (mut socket, generation) = self.socket().await?;
            #[cfg(test)]
            let spare = socket.clone();
            let send = socket.req_packed_command(cmd);
            #[cfg(test)]
            let send = self.0.faults.around(std::iter::once(cmd), spare, send);
            let answer = send.await;
            match &answer {
                Ok(value) => {
                    let refused = refusal(std::slice::from_ref(value));
                    self.learn(generation, refused.as_ref());
                }
                Err(error) => self.learn(generation, Some(error)),
            }
            answer
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let (mut socket, generation) = self.socket().await?;
            #[cfg(test)]
            let spare = socket.clone();
            let send = socket.req_packed_commands(pipeline, offset, count);
            #[cfg(test)]
            let send = self.0.faults.around(pipeline.cmd_iter(), spare, send);
            let answers = send.await;
            match &answers {
                Ok(values) => self.learn(generation, refusal(values).as_ref()),
                Err(error) => self.learn(generation, Some(error)),
            }
            answers
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        0
    }
}
