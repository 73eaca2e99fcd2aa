//! Connections to Redis, each with its own response timeout.
//!
//! The redis crate's default, 500 ms, would end every blocking read; and without keep-alive a silent peer is noticed
//! only after hours.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_CONTACT: Duration = Duration::from_secs(15);

/// Redis did not answer for 15 seconds at the start, or the address is no address.
#[derive(Debug, thiserror::Error)]
#[error("failed to reach Redis within 15 s; check KLAVIYOD_REDIS_URL and that the server runs")]
pub struct Unreachable(#[source] redis::RedisError);

/// A connection that reconnects; clones share it.
pub type Connection = ConnectionManager;

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct Redis {
    client: redis::Client,
}

impl Redis {
    /// Checks the address without connecting.
    ///
    /// # Errors
    /// [`Unreachable`] if it is not an address of Redis.
    pub fn at(url: &str) -> Result<Self, Unreachable> {
        redis::Client::open(url)
            .map(|client| Self { client })
            .map_err(Unreachable)
    }

    /// Connects, trying for 15 seconds; a server that is still loading is waited for.
    ///
    /// # Errors
    /// [`Unreachable`] with the last failure.
    pub async fn connect(&self) -> Result<ConnectionManager, Unreachable> {
        let deadline = Instant::now() + FIRST_CONTACT;
        loop {
            match self.try_connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) if Instant::now() >= deadline && !is_loading(&error) => {
                    return Err(Unreachable(error));
                }
                Err(_) => sleep(Duration::from_millis(250)).await,
            }
        }
    }

    async fn try_connect(&self) -> redis::RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(0);
        let mut connection =
            ConnectionManager::new_with_config(self.client.clone(), config).await?;
        redis::cmd("PING")
            .query_async::<()>(&mut connection)
            .await?;
        Ok(connection)
    }
}

fn is_loading(error: &redis::RedisError) -> bool {
    error.code() == Some("LOADING")
}
