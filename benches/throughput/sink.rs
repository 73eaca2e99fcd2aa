//! A server in Klaviyo's place that answers 202 to everything and counts.
//!
//! It looks at nothing but the length of a body, so that as little as possible of what is measured is its own. It has
//! a thread for itself, and never ends before the program does.

use anyhow::Context;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

const ANSWER: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
const READ_MAX: usize = 256 << 10;

/// The running server.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    calls: Arc<AtomicU64>,
}

impl Sink {
    /// Starts it on a free port of this machine.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("failed to bind the sink")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let calls = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let counted = Arc::clone(&calls);
        std::thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || runtime.block_on(serve(listener, counted)))?;
        Ok(Self { address, calls })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls it answered.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, calls: Arc<AtomicU64>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    loop {
        let (connection, _) = listener.accept().await?;
        let calls = Arc::clone(&calls);
        connections.spawn(async move {
            // A caller that is killed breaks its connection off; that is no failure of the sink.
            drop(answer_all(connection, &calls).await);
        });
    }
}

async fn answer_all(mut connection: TcpStream, calls: &AtomicU64) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; READ_MAX];
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(end) = end_of_head(&buffer[..filled]) {
                break end;
            }
            match connection.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                read => filled += read,
            }
        };
        let mut missing = content_length(&buffer[..head]) + head;
        // The body is read over itself: nobody looks at it.
        while missing > filled {
            missing -= filled;
            filled = connection.read(&mut buffer).await?;
            if filled == 0 {
                return Ok(());
            }
        }
        buffer.copy_within(missing..filled, 0);
        filled -= missing;
        connection.write_all(ANSWER).await?;
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
