//! Fixed windows: a counter per budget and window length that starts again at every boundary of Unix time.
//!
//! A refused request uses up nothing. The peaks count every arrival, admitted or not: they tell how hard the
//! caller pushed, not how well the limit held.

use std::collections::BTreeMap;

use crate::clock::Moment;
use crate::config::Limits;
use crate::operation::{Operation, TABLE};

/// Budgets that a query parameter costs in addition, shared by all operations that take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surcharge {
    IncludeLists,
    IncludeSegments,
    PredictiveAnalytics,
    ProfileCount,
}

const SURCHARGES: [(u32, u32); 4] = [(1, 15), (1, 15), (10, 150), (1, 15)];

pub(crate) struct Windows {
    budgets: Vec<Budget>,
    enforced: bool,
}

struct Budget {
    windows: Vec<Window>,
}

struct Window {
    seconds: i64,
    limit: u64,
    index: i64,
    admitted: u64,
    arrived: u64,
    peak: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// With the standing to put in the headers, where limits are enforced.
    Admitted(Option<Standing>),
    Refused {
        retry_after_s: i64,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// `10, 10;w=1, 150;w=60`
    pub(crate) limit: String,
    pub(crate) remaining: u64,
    pub(crate) reset_s: i64,
}

impl Windows {
    pub(crate) fn new(limits: Limits) -> Self {
        let operations = TABLE
            .iter()
            .map(|entry| Budget::new(entry.per_second, entry.per_minute, entry.per_day, limits));
        let surcharges = SURCHARGES
            .iter()
            .map(|(second, minute)| Budget::new(*second, *minute, None, limits));
        Self {
            budgets: operations.chain(surcharges).collect(),
            enforced: limits != Limits::Off,
        }
    }

    pub(crate) fn admit(
        &mut self,
        operation: Operation,
        surcharges: &[Surcharge],
        now: Moment,
    ) -> Admission {
        let own = operation as usize;
        let charged = || {
            std::iter::once(own).chain(surcharges.iter().map(|extra| TABLE.len() + *extra as usize))
        };
        let mut retry_after_s = None;
        for budget in charged() {
            retry_after_s = retry_after_s.max(self.budgets[budget].arrive(now));
        }
        if let Some(retry_after_s) = retry_after_s.filter(|_| self.enforced) {
            return Admission::Refused { retry_after_s };
        }
        for budget in charged() {
            for window in &mut self.budgets[budget].windows {
                window.admitted += 1;
            }
        }
        Admission::Admitted(self.enforced.then(|| self.budgets[own].standing(now)))
    }

    /// The most arrivals of an operation in one window, by its length in seconds.
    pub(crate) fn peaks(&self, operation: Operation) -> BTreeMap<String, u64> {
        let windows = &self.budgets[operation as usize].windows;
        windows
            .iter()
            .map(|window| (window.seconds.to_string(), window.peak))
            .collect()
    }
}

impl Budget {
    fn new(per_second: u32, per_minute: u32, per_day: Option<u32>, limits: Limits) -> Self {
        let windows = [
            (1, Some(per_second)),
            (60, Some(per_minute)),
            (86_400, per_day),
        ];
        let windows = windows
            .into_iter()
            .filter_map(|(seconds, limit)| Some(Window::new(seconds, scaled(limit?, limits))));
        Self {
            windows: windows.collect(),
        }
    }

    /// Counts an arrival; answers how long to wait when a window is full.
    fn arrive(&mut self, now: Moment) -> Option<i64> {
        let mut retry_after_s = None;
        for window in &mut self.windows {
            window.arrive(now);
            if window.admitted >= window.limit {
                retry_after_s = retry_after_s.max(Some(window.seconds_left(now)));
            }
        }
        retry_after_s
    }

    fn standing(&self, now: Moment) -> Standing {
        let burst = &self.windows[0];
        let windows = self
            .windows
            .iter()
            .map(|window| format!("{};w={}", window.limit, window.seconds));
        let parts: Vec<String> = std::iter::once(burst.limit.to_string())
            .chain(windows)
            .collect();
        Standing {
            limit: parts.join(", "),
            remaining: burst.limit.saturating_sub(burst.admitted),
            reset_s: (burst.end_ms() - now.0) / 1000,
        }
    }
}

impl Window {
    fn new(seconds: i64, limit: u64) -> Self {
        Self {
            seconds,
            limit,
            index: 0,
            admitted: 0,
            arrived: 0,
            peak: 0,
        }
    }

    fn arrive(&mut self, now: Moment) {
        let index = now.seconds().div_euclid(self.seconds);
        if index != self.index {
            self.index = index;
            self.admitted = 0;
            self.arrived = 0;
        }
        self.arrived += 1;
        self.peak = self.peak.max(self.arrived);
    }

    fn end_ms(&self) -> i64 {
        (self.index + 1) * self.seconds * 1000
    }

    fn seconds_left(&self, now: Moment) -> i64 {
        ((self.end_ms() - now.0 + 999) / 1000).max(1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits are small and positive"
)]
fn scaled(limit: u32, limits: Limits) -> u64 {
    match limits {
        Limits::Real | Limits::Off => u64::from(limit),
        Limits::Factor(factor) => ((f64::from(limit) * factor).round() as u64).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_after(windows: &mut Windows, now: Moment) -> (u64, i64) {
        let mut admitted = 0;
        loop {
            match windows.admit(Operation::BulkCreateEvents, &[], now) {
                Admission::Admitted(_) => admitted += 1,
                Admission::Refused { retry_after_s } => return (admitted, retry_after_s),
            }
        }
    }

    #[test]
    fn a_window_is_full_until_its_boundary_in_unix_time() {
        let mut windows = Windows::new(Limits::Real);
        assert_eq!(refused_after(&mut windows, Moment(999)), (10, 1));
        assert_eq!(refused_after(&mut windows, Moment(1000)), (10, 1));
    }

    #[test]
    fn a_full_minute_asks_to_wait_for_the_end_of_the_minute() {
        let mut windows = Windows::new(Limits::Real);
        for second in 0..15 {
            assert_eq!(refused_after(&mut windows, Moment(second * 1000)).0, 10);
        }
        assert_eq!(refused_after(&mut windows, Moment(20_500)), (0, 40));
        assert_eq!(refused_after(&mut windows, Moment(60_000)), (10, 1));
    }

    #[test]
    fn headers_speak_about_the_burst_window() {
        let mut windows = Windows::new(Limits::Real);
        windows.admit(Operation::CreateList, &[], Moment(100));
        let Admission::Admitted(Some(standing)) =
            windows.admit(Operation::CreateList, &[], Moment(100))
        else {
            panic!("refused the second request");
        };
        assert_eq!(standing.limit, "10, 10;w=1, 150;w=60, 150;w=86400");
        assert_eq!((standing.remaining, standing.reset_s), (8, 0));
    }

    #[test]
    fn a_surcharge_is_shared_by_the_operations_that_pay_it() {
        let mut windows = Windows::new(Limits::Real);
        let now = Moment(5);
        assert!(matches!(
            windows.admit(Operation::GetList, &[Surcharge::ProfileCount], now),
            Admission::Admitted(_)
        ));
        let second = windows.admit(Operation::GetSegment, &[Surcharge::ProfileCount], now);
        assert_eq!(second, Admission::Refused { retry_after_s: 1 });
        assert!(matches!(
            windows.admit(Operation::GetSegment, &[], now),
            Admission::Admitted(_)
        ));
    }

    #[test]
    fn without_limits_everything_is_admitted_and_peaks_are_still_counted() {
        let mut windows = Windows::new(Limits::Off);
        for _ in 0..500 {
            assert_eq!(
                windows.admit(Operation::BulkCreateEvents, &[], Moment(1)),
                Admission::Admitted(None)
            );
        }
        assert_eq!(windows.peaks(Operation::BulkCreateEvents)["1"], 500);
    }
}
