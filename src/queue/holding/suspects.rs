//! Suspects: the jobs of a line that ran when a process died.
//!
//! They run apart from everything else, in about [`GROUPS_MAX`] groups: the fewer there are, the fewer run together, and
//! in the end each is alone. Those with the fewest deaths come first, so that the worst are left when the others are
//! done; and the more deaths, the fewer together, so that several killers do not hide each other. Only a job that took [`DEATHS_ALONE_MAX`](super::deaths::DEATHS_ALONE_MAX) processes down while it was alone is
//! poison.
//!
//! A panic of a handler makes suspects of the jobs of its lot in the same way, but kills none: the job that panics when it
//! is alone has made an attempt.

use crate::queue::holding::deaths::Deaths;
use crate::queue::job::entry::QueuedJob;
use std::collections::{BTreeMap, VecDeque};

/// Into how many groups suspects are divided: so many calls pass until all have run, however many a storm of deaths made.
/// Among 1,000, which are what one call may hold, one more death leaves 32 with the one that kills, and each of them is alone.
const GROUPS_MAX: usize = 32;
/// Fewer than so many leave in calls of one job each, as if each were alone.
const GROUP_MIN: usize = 16;

/// The suspects of a line.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    by_deaths: BTreeMap<Deaths, VecDeque<QueuedJob>>,
    together: usize,
}

impl Suspects {
    pub(crate) fn push(&mut self, job: QueuedJob, deaths: Deaths) {
        self.by_deaths.entry(deaths).or_default().push_back(job);
        self.divide();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_deaths.is_empty()
    }

    /// How many may run next, together.
    pub(crate) fn group(&self) -> usize {
        let first = self.by_deaths.first_key_value();
        first.map_or(0, |(deaths, jobs)| {
            jobs.len().min(self.together).min(deaths.together_max())
        })
    }

    /// Takes the next group, while `fits` says so.
    pub(crate) fn take(&mut self, mut fits: impl FnMut(&QueuedJob) -> bool) -> Vec<QueuedJob> {
        let mut taken = Vec::new();
        let Some(mut first) = self.by_deaths.first_entry() else {
            return taken;
        };
        let together = self.together.min(first.key().together_max());
        while taken.len() < together
            && let Some(job) = first.get_mut().pop_front_if(|job| fits(job))
        {
            taken.push(job);
        }
        if first.get().is_empty() {
            first.remove();
            self.divide();
        }
        taken
    }

    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = QueuedJob> {
        std::mem::take(&mut self.by_deaths).into_values().flatten()
    }

    /// The groups stay as large while those with as many deaths run: they would else become ever more.
    fn divide(&mut self) {
        let each = self.len().div_ceil(GROUPS_MAX);
        self.together = if each > 1 { each.max(GROUP_MIN) } else { each };
    }

    pub(crate) fn len(&self) -> usize {
        self.by_deaths.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::entry::EntryId;

    fn suspects(deaths: &[(u32, u64)]) -> Suspects {
        let mut suspects = Suspects::default();
        let mut ms = 0;
        for (deaths, jobs) in deaths {
            for _ in 0..*jobs {
                ms += 1;
                let job = QueuedJob::for_test(0, EntryId { ms, seq: 0 }, 1);
                suspects.push(job, Deaths::from(*deaths));
            }
        }
        suspects
    }

    fn groups(mut suspects: Suspects) -> Vec<usize> {
        let mut groups = Vec::new();
        while !suspects.is_empty() {
            groups.push(suspects.take(|_| true).len());
        }
        groups
    }

    #[test]
    fn few_suspects_run_alone_and_many_in_as_many_groups() {
        assert_eq!(groups(suspects(&[(1, 32)])), [1; 32]);
        assert_eq!(groups(suspects(&[(1, 32_000)])), [1_000; 32]);
    }

    #[test]
    fn those_with_the_most_deaths_are_alone_when_the_others_are_done() {
        let mut expected = vec![32; 31];
        expected.extend([8, 1, 1, 1]);
        assert_eq!(groups(suspects(&[(2, 3), (1, 1_000)])), expected);
    }

    #[test]
    fn however_many_kill_each_is_alone_after_three_deaths_beside_others() {
        assert_eq!(groups(suspects(&[(2, 1_600)])), [32; 50]);
        assert_eq!(groups(suspects(&[(3, 48)])), [1; 48]);
        // Once alone, always alone.
        assert_eq!(groups(suspects(&[(65_537, 48)])), [1; 48]);
    }

    #[test]
    fn what_does_not_fit_stays_for_the_next_group() {
        let mut suspects = suspects(&[(1, 64)]);
        let mut room = 1;
        let fits = |_: &QueuedJob| std::mem::take(&mut room) > 0;
        assert_eq!(suspects.group(), 16);
        assert_eq!(suspects.take(fits).len(), 1);
        assert_eq!((suspects.len(), suspects.group()), (63, 16));
    }
}
