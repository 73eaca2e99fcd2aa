//! The limits in effect for one operation: the account's own, or what Klaviyo named below them for a while.
//!
//! Never more than the account's own. One odd answer is not believed: two in a row must name the same. What was lowered
//! ends a day later, or when the fleet says.

use super::desk::HOLD;
use super::take::{LOWERED_FOR, Lowered};
use crate::klaviyo::{Limits, RateLimitHeaders, Shape};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Terms {
    /// The account's own limits; absent when the budget is off.
    published: Option<Limits>,
    /// The share that is left to others.
    reserve: f64,
    /// What Klaviyo named below them, and until when that holds.
    lowered: Option<(Limits, Instant)>,
    /// What the last answer named, if it is below and not yet believed.
    named: Option<Limits>,
    /// The limits in effect, after the reserve.
    limits: Option<Limits>,
    shape: Option<Shape>,
}

impl Terms {
    pub(super) fn new(published: Option<Limits>, reserve: f64) -> Self {
        let mut terms = Self {
            published,
            reserve,
            lowered: None,
            named: None,
            limits: None,
            shape: None,
        };
        terms.adopt();
        terms
    }

    pub(super) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    pub(super) fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// Returns to the account's own limits if it is time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.lowered.is_some_and(|(_, until)| until <= now) {
            self.lowered = None;
            self.adopt();
        }
    }

    /// Returns lower limits when this answer and the one before named the same.
    pub(super) fn named(&mut self, headers: &RateLimitHeaders, now: Instant) -> Option<Limits> {
        if headers.windows.is_empty() {
            return None;
        }
        let ours = self.before_reserve()?;
        let lower = ours.lowered_by(headers);
        let before = self.named.take();
        if lower == ours {
            return None;
        }
        if before != Some(lower) {
            self.named = Some(lower);
            return None;
        }
        let lowered = Lowered {
            limits: lower,
            for_: LOWERED_FOR,
        };
        self.lower(lowered, now);
        Some(lower)
    }

    pub(super) fn lower(&mut self, lowered: Lowered, now: Instant) {
        let (Some(ours), Some(published)) = (self.before_reserve(), self.published) else {
            return;
        };
        let Lowered { limits, for_ } = lowered;
        let lower = Limits {
            burst: ours.burst.min(limits.burst),
            steady: ours.steady.min(limits.steady),
            daily: match (ours.daily, limits.daily) {
                (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
                (ours, _) => ours,
            },
        };
        if lower == published {
            return;
        }
        let until = now + for_;
        let until = self.lowered.map_or(until, |(_, ours)| ours.max(until));
        self.lowered = Some((lower, until));
        self.adopt();
    }

    fn before_reserve(&self) -> Option<Limits> {
        match self.lowered {
            Some((lowered, _)) => Some(lowered),
            None => self.published,
        }
    }

    fn adopt(&mut self) {
        let limits = self.before_reserve();
        self.limits = limits.map(|limits| limits.scaled(1.0 - self.reserve));
        self.shape = self.limits.map(|limits| Shape::shared(limits, HOLD));
    }
}
