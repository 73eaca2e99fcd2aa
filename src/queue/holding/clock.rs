//! The monotonic clock of leases. Its only reason: tests let hours pass without waiting for them.

/// Returns the present.
#[cfg(not(test))]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
pub(crate) use of_tests::{advance, now};

#[cfg(test)]
mod of_tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(crate) fn now() -> Instant {
        Instant::now() + AHEAD.get()
    }

    /// Lets time pass for everything on this thread.
    pub(crate) fn advance(by: Duration) {
        AHEAD.set(AHEAD.get() + by);
    }
}
