//! Where a scenario plays: how large, with which chance, and where its figures are written down.

use super::report::Figure;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The short form for every change, or the sizes of the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Short,
    Long,
}

impl Size {
    /// Chooses by size.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// One scenario while it runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) size: Size,
    seed: u64,
    figures: Mutex<Vec<Figure>>,
}

impl Stage {
    pub(crate) fn new(size: Size, seed: u64) -> Self {
        Self {
            size,
            seed,
            figures: Mutex::default(),
        }
    }

    pub(crate) fn pick<T>(&self, short: T, long: T) -> T {
        self.size.pick(short, long)
    }

    /// The same chance for the same seed.
    pub(crate) fn chance(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }

    pub(crate) fn figures(&self) -> Vec<Figure> {
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes a figure down.
    pub(crate) fn figure(&self, what: &str, required: impl Display, seen: impl Display, ok: bool) {
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Figure {
                what: what.to_owned(),
                required: required.to_string(),
                seen: seen.to_string(),
                ok: Some(ok),
            });
    }

    /// Writes down what is only told, not judged.
    pub(crate) fn told(&self, what: &str, seen: impl Display) {
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Figure {
                what: what.to_owned(),
                required: "-".to_owned(),
                seen: seen.to_string(),
                ok: None,
            });
    }

    pub(crate) fn equal<T: PartialEq + Display>(&self, what: &str, required: T, seen: T) {
        let ok = required == seen;
        self.figure(what, required, seen, ok);
    }

    pub(crate) fn at_most<T: PartialOrd + Display + Copy>(&self, what: &str, most: T, seen: T) {
        let ok = seen <= most;
        self.figure(what, format!("<= {most}"), seen, ok);
    }

    pub(crate) fn at_least<T: PartialOrd + Display + Copy>(&self, what: &str, least: T, seen: T) {
        let ok = seen >= least;
        self.figure(what, format!(">= {least}"), seen, ok);
    }

    pub(crate) fn within(&self, what: &str, most: Duration, seen: Duration) {
        let text = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        self.figure(what, format!("<= {}", text(most)), text(seen), seen <= most);
    }
}

/// Waits until the condition is true and says how long that took; `Err` names what never came true.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !condition().await? {
        anyhow::ensure!(
            start.elapsed() < patience,
            "never came true within {} s: {what}",
            patience.as_secs()
        );
        sleep(LOOK_EVERY).await;
    }
    Ok(start.elapsed())
}
