//! Lines: the jobs of one kind that wait for a lot, by lane.
//!
//! Suspects stand apart. A lot takes them first, and takes nothing else with them.

use crate::queue::holding::deaths::Deaths;
use crate::queue::holding::isolation::Access;
use crate::queue::holding::suspects::Suspects;
use crate::queue::job::entry::QueuedJob;
use std::collections::VecDeque;
use std::task::{Context, Waker};

#[derive(Debug, Default)]
pub(crate) struct Line {
    lanes: [VecDeque<QueuedJob>; 3],
    suspects: Suspects,
    lot_is_open: bool,
    waker: Option<Waker>,
}

/// Which of the jobs of a line are suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspected {
    None,
    Some,
    Only,
}

impl Line {
    pub(crate) fn push(&mut self, job: QueuedJob) {
        match job.deaths {
            None | Some(Deaths::NONE) => self.lanes[job.lane as usize].push_back(job),
            Some(deaths) => self.suspects.push(job, deaths),
        }
    }

    /// Opens a lot if there is something to take and no other lot is open.
    pub(crate) fn poll_open(&mut self, context: &Context<'_>) -> bool {
        if self.is_empty() || self.lot_is_open {
            self.waker = Some(context.waker().clone());
            return false;
        }
        self.lot_is_open = true;
        true
    }

    /// The open lot is sealed or gone: the next may open.
    pub(crate) fn reopen(&mut self) {
        self.lot_is_open = false;
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        if !self.is_empty()
            && !self.lot_is_open
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    fn is_empty(&self) -> bool {
        self.suspects.is_empty() && self.lanes.iter().all(VecDeque::is_empty)
    }

    /// How many jobs the next seal could take; suspects only where they may try to be alone or nothing else waits.
    pub(crate) fn waiting(&self, suspects_may_try: bool) -> usize {
        let others = self.lanes.iter().map(VecDeque::len).sum();
        if !self.suspects.is_empty() && (suspects_may_try || others == 0) {
            self.suspects.group()
        } else {
            others
        }
    }

    pub(crate) fn suspects(&self) -> Suspected {
        if self.suspects.is_empty() {
            Suspected::None
        } else if self.lanes.iter().all(VecDeque::is_empty) {
            Suspected::Only
        } else {
            Suspected::Some
        }
    }

    /// Takes jobs in the order of their lanes while `fits` says so.
    pub(crate) fn take(
        &mut self,
        access: &Access,
        mut fits: impl FnMut(&QueuedJob) -> bool,
    ) -> Vec<QueuedJob> {
        if access.is_alone() {
            return self.suspects.take(fits);
        }
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            while let Some(job) = lane.pop_front_if(|job| fits(job)) {
                taken.push(job);
            }
            if !lane.is_empty() {
                break;
            }
        }
        taken
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + self.suspects.len()
    }

    /// Takes everything.
    pub(crate) fn drain(&mut self) -> Vec<QueuedJob> {
        let waiting = self.lanes.iter_mut().flat_map(std::mem::take);
        waiting.chain(self.suspects.drain()).collect()
    }
}
