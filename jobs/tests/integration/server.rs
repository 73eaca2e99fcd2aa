//! A private redis-server on a free port: no persistence, its own folder, gone when it is dropped.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, streams::StreamRangeReply};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

/// One entry of a stream: its `job` and its `claim`.
pub(crate) struct Entry {
    pub(crate) job: Vec<u8>,
    pub(crate) claim: Option<String>,
}

impl Server {
    /// Starts a server, or says why not and returns `None`.
    pub(crate) async fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        let spawned = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        let server = Self {
            process,
            port,
            _folder: folder,
        };
        for _ in 0..500 {
            if server
                .client()
                .get_multiplexed_async_connection()
                .await
                .is_ok()
            {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("redis-server does not answer");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let config =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        self.client()
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap()
    }

    pub(crate) async fn entries(&self, stream: &str) -> Vec<Entry> {
        let reply: StreamRangeReply = self.connection().await.xrange_all(stream).await.unwrap();
        let entry = |id: redis::streams::StreamId| Entry {
            job: id.get("job").unwrap(),
            claim: id.get("claim"),
        };
        reply.ids.into_iter().map(entry).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
