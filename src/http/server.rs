//! Connections and their limits.
//!
//! The server of axum has no limit on connections and none on slow ones, so hyper is driven here. The surprising
//! thing: it answers before everything else at the start, so that a taken port is told at once, and whoever asks whether
//! the daemon lives hears so however long it waits for Redis.

use super::router::{Surface, router};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Connections at the same time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection that lives longer is closed after the request it is at.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(5);
/// How long a client may take to send its headers, and to be silent between two requests.
const HEADERS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take to end once it was asked to.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
const HEADERS_MAX: usize = 64;
/// All headers of a request together.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Without a free file descriptor, accepting again at once would fail again at once.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

/// The address is not ours to listen on.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on {address} for HTTP; stop what listens there, set KLAVIYOD_HTTP_LISTEN to another address, or run with --no-http"
)]
pub struct CannotListen {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A running server. Dropping it closes it too, without waiting for the requests under way.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Server {
    /// Binds the address and starts to answer; port 0 is any free one.
    ///
    /// # Errors
    /// [`CannotListen`] when it is taken or not of this machine.
    pub async fn start(address: SocketAddr, surface: Arc<Surface>) -> Result<Self, CannotListen> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound
            .await
            .map_err(|source| CannotListen { address, source })?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let accepting = accept(listener, router(surface), tasks.clone(), stop.clone());
        tasks.spawn(accepting);
        tracing::info!(%address, "answering health and metrics over HTTP");
        Ok(Self {
            address,
            tasks,
            stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nobody new, ends the requests under way, and returns.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, router.clone(), stop.clone());
                tasks.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "failed to accept a connection");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Serves one connection to its end. What goes wrong on it is the client's to notice.
async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_PATIENCE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(CONNECTION_LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(GOODBYE_MAX, connection).await);
}
