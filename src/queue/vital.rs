//! Tasks without which nothing is delivered: if one ends, this process must end too, so that another takes its work over.

use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::watch;

/// Watches over such tasks.
#[derive(Clone, Debug)]
pub(crate) struct Vital {
    broken: Arc<watch::Sender<bool>>,
}

impl Vital {
    pub(crate) fn new() -> Self {
        Self {
            broken: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Does the work of a task. A panic breaks, and so does an end that is not wanted.
    pub(crate) async fn watch_over(
        &self,
        task: &'static str,
        work: impl Future<Output = ()>,
        may_end: impl Fn() -> bool,
    ) {
        let ended = AssertUnwindSafe(work).catch_unwind().await;
        if ended.is_err() || !may_end() {
            tracing::error!(
                task,
                "a task that must not end has ended; this process delivers nothing any more, see the log lines before"
            );
            self.broken.send_replace(true);
        }
    }

    /// Waits until a task has ended that must not.
    pub(crate) async fn broken(&self) {
        // The sender lives as long as this: there is no other way to end.
        drop(self.broken.subscribe().wait_for(|broken| *broken).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_breaks_and_so_does_an_early_end_but_not_a_wanted_one() {
        let vital = Vital::new();
        vital.watch_over("wanted", async {}, || true).await;
        assert!(vital.broken().now_or_never().is_none());
        vital.watch_over("early", async {}, || false).await;
        assert!(vital.broken().now_or_never().is_some());
        let vital = Vital::new();
        let panics = async { std::panic::resume_unwind(Box::new("gone")) };
        vital.watch_over("panics", panics, || true).await;
        assert!(vital.broken().now_or_never().is_some());
    }
}
