//! An answer that everybody who asks within a moment shares.
//!
//! However often a page is asked for, what stands behind it is looked at once in `age_max`, and once at a time.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

type Look<T> = dyn Fn() -> BoxFuture<'static, T> + Send + Sync;

/// A cached look at something.
pub struct Fresh<T: Clone> {
    age_max: Duration,
    look: Box<Look<T>>,
    last: Mutex<Option<Last<T>>>,
}

struct Last<T: Clone> {
    asked: Instant,
    answer: Shared<BoxFuture<'static, T>>,
}

impl<T: Clone> Fresh<T> {
    /// Creates a look that is good for `age_max`; it must bound its own time.
    pub fn new(
        age_max: Duration,
        look: impl Fn() -> BoxFuture<'static, T> + Send + Sync + 'static,
    ) -> Self {
        Self {
            age_max,
            look: Box::new(look),
            last: Mutex::new(None),
        }
    }

    /// Looks, or returns what was seen a moment ago.
    pub async fn get(&self) -> T {
        let answer = {
            let mut last = self.last.lock().expect("no holder of this lock panics");
            let now = Instant::now();
            // An abandoned look ages like a finished one: nobody waits for it for ever.
            if last
                .as_ref()
                .is_none_or(|last| now - last.asked >= self.age_max)
            {
                *last = Some(Last {
                    asked: now,
                    answer: (self.look)().shared(),
                });
            }
            last.as_ref().expect("set just now").answer.clone()
        };
        answer.await
    }
}

impl<T: Clone> fmt::Debug for Fresh<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Fresh")
            .field("age_max", &self.age_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_thousand_questions_are_one_look_until_the_answer_is_old() {
        let looks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&looks);
        let fresh = Fresh::new(Duration::from_secs(1), move || {
            let looks = counted.fetch_add(1, Ordering::SeqCst);
            async move { looks }.boxed()
        });
        for _ in 0..1000 {
            assert_eq!(fresh.get().await, 0);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(fresh.get().await, 1);
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }
}
