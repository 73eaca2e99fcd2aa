//! Stops a command on the way: it ends after the jobs at hand, and puts on record what it did.

use super::output;
use std::io;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Waits for what can be stopped, and stops it at Ctrl-C, at SIGTERM, and when its terminal is gone.
pub(super) async fn or_interrupted<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => done,
        interrupted = interrupted() => {
            if interrupted.is_ok() {
                stop.cancel();
                output::complain("interrupted; the rest is left as it is");
            }
            work.await
        }
    }
}

/// An interrupted command did not do all of its work.
pub(super) fn exit_code(stop: &CancellationToken) -> ExitCode {
    if stop.is_cancelled() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn interrupted() -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
