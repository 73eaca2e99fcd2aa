//! A wire between the daemon and Redis that can fall silent: nothing arrives any more, and nobody hangs up.
//!
//! It is what a firewall does that forgets its connections. New connections work.

use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    muted: Arc<watch::Sender<u64>>,
    // Ends when dropped.
    _wires: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine.
    pub(crate) async fn start(to: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let muted = Arc::new(watch::Sender::new(0));
        let mut wires = JoinSet::new();
        wires.spawn(serve(listener, to, Arc::clone(&muted)));
        Ok(Self {
            port,
            muted,
            _wires: wires,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Lets every connection of this moment fall silent for ever.
    pub(crate) fn mute(&self) {
        self.muted.send_modify(|times| *times += 1);
    }
}

async fn serve(listener: TcpListener, to: u16, muted: Arc<watch::Sender<u64>>) {
    let mut wires = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let muted = muted.subscribe();
        wires.spawn(carry(near, to, muted));
        while wires.try_join_next().is_some() {}
    }
}

async fn carry(mut near: TcpStream, to: u16, mut muted: watch::Receiver<u64>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    // A connection that ends takes its wire along; one that falls silent stays open.
    let ended = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => true,
        _ = muted.changed() => false,
    };
    if !ended {
        std::future::pending::<()>().await;
    }
}
