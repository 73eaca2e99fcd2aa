//! Starts and stops a simulator.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::{self, App};
use crate::faults::Faults;
use crate::ledger::{Ledger, Recorded, Stats};
use crate::listener::{Connection, CuttableListener};
use crate::state::Shared;
use crate::windows::Windows;

/// How long a stop waits for requests that are being answered.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A local Klaviyo that runs until it is stopped or dropped.
pub struct Simulator {
    app: Arc<App>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinSet<()>,
}

impl Simulator {
    /// Binds the address and serves in the background.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let listen = config.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("failed to listen on {listen}"))?;
        let address = listener
            .local_addr()
            .context("failed to read the address that was bound")?;
        let clock = Clock::start();
        let app = Arc::new(App {
            state: Shared::new(&config, clock.now()),
            windows: Mutex::new(Windows::new(config.limits)),
            ledger: Ledger::default(),
            faults: Faults::default(),
            config,
            clock,
        });
        let router = Router::new()
            .fallback(dispatch::answer)
            .with_state(Arc::clone(&app));
        let service = router.into_make_service_with_connect_info::<Connection>();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve =
            axum::serve(CuttableListener(listener), service).with_graceful_shutdown(async move {
                // A dropped sender means a dropped simulator: stop as well.
                stopped.await.ok();
            });
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Serving only ends with the stop; errors of single connections end with them.
            serve.await.ok();
        });
        Ok(Self {
            app,
            address,
            stop,
            server,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same as `GET /sim/stats`.
    pub fn stats(&self) -> Stats {
        admin::stats(&self.app)
    }

    pub fn faults(&self) -> &Faults {
        &self.app.faults
    }

    /// The last 10,000 requests, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.app.ledger.recorded()
    }

    /// Takes no new connections and gives the running requests a second.
    pub async fn stop(mut self) {
        self.stop.send(()).ok();
        let stopped = async { while self.server.join_next().await.is_some() {} };
        tokio::time::timeout(STOP_GRACE, stopped).await.ok();
        self.server.abort_all();
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Simulator")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
