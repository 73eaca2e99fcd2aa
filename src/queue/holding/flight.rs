//! What one process holds of the streams: the lease of each job, and how much more there is room for.
//!
//! Who last renewed longer than one lease ago has lost a job, whatever Redis says by then. Every lane of a queue has a
//! share of its own, so that neither a backlog of one queue nor one of its backfill lane keeps anything else out.

use crate::queue::holding::clock;
use crate::queue::job::entry::{EntryId, QueuedJob};
use klaviyo_jobs::Lane;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Jobs one process holds of a lane: of the live lane two bulk imports.
const JOBS_MAX: [usize; 3] = [5_000, 20_000, 10_000];
/// The share of its queue's bytes that a lane may hold, in eighths.
const BYTES_EIGHTHS: [usize; 3] = [1, 5, 2];
/// What one read may bring: Redis serves nobody else meanwhile.
const BYTES_PER_READ: usize = 4 << 20;
const JOBS_PER_READ: usize = 1_000;
/// Less room than this is none: single jobs that leave would each cost a read.
const ROOM_JOBS_MIN: usize = 250;
/// Nobody knows how large the first jobs are, nor whether those behind the last read are as small: a read brings at most
/// so many times the jobs of the one before.
const GROWTH_PER_READ: usize = 4;
const MEAN_BYTES_FIRST: usize = BYTES_PER_READ / GROWTH_PER_READ;
const MEAN_BYTES_MIN: usize = 256;

/// What is held of each stream.
#[derive(Debug)]
pub(crate) struct Flight {
    lease: Duration,
    bytes_per_queue: usize,
    streams: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    lane: Lane,
    leases: HashMap<EntryId, Instant>,
    bytes: usize,
    mean_bytes: usize,
}

impl Flight {
    pub(crate) fn new(
        lanes: impl Iterator<Item = Lane>,
        lease: Duration,
        bytes_per_queue: usize,
    ) -> Self {
        let held = |lane| Held {
            lane,
            leases: HashMap::new(),
            bytes: 0,
            mean_bytes: MEAN_BYTES_FIRST,
        };
        Self {
            lease,
            bytes_per_queue,
            streams: lanes.map(held).collect(),
        }
    }

    /// Takes a job in; false if it is in flight already, as it is when its group was made anew.
    pub(crate) fn add(&mut self, job: &QueuedJob, asked: Instant) -> bool {
        let stream = &mut self.streams[job.stream];
        let is_new = stream.leases.insert(job.id, asked).is_none();
        if is_new {
            stream.bytes += job.bytes();
        }
        is_new
    }

    pub(crate) fn remove(&mut self, job: &QueuedJob) {
        let stream = &mut self.streams[job.stream];
        if stream.leases.remove(&job.id).is_some() {
            stream.bytes -= job.bytes();
        }
    }

    pub(crate) fn holds(&self, job: &QueuedJob) -> bool {
        let renewed = self.streams[job.stream].leases.get(&job.id);
        renewed.is_some_and(|renewed| clock::now() - *renewed < self.lease)
    }

    pub(crate) fn knows(&self, stream: usize, id: EntryId) -> bool {
        self.streams[stream].leases.contains_key(&id)
    }

    /// The ids whose leases may still be renewed.
    pub(crate) fn held(&self, stream: usize) -> Vec<EntryId> {
        let leases = self.streams[stream].leases.iter();
        leases
            .filter(|(_, renewed)| clock::now() - **renewed < self.lease)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn renewed(&mut self, stream: usize, id: EntryId, at: Option<Instant>) {
        let lapsed = clock::now().checked_sub(self.lease);
        if let Some(renewed) = self.streams[stream].leases.get_mut(&id) {
            // Without a time somebody else took it: it lapses here and now.
            *renewed = at.or(lapsed).unwrap_or(*renewed);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.streams.iter().map(|stream| stream.leases.len()).sum()
    }

    /// Learns how large jobs are from what a read brought.
    pub(crate) fn measured(&mut self, stream: usize, jobs: usize, bytes: usize) {
        if let Some(mean) = bytes.checked_div(jobs) {
            let known = &mut self.streams[stream].mean_bytes;
            // Larger ones count at once: the next read must not bring thousands of them.
            *known = mean.max(*known / GROWTH_PER_READ);
        }
    }

    /// A read did not end in time: the next asks for as little as if all jobs were large.
    pub(crate) fn doubt(&mut self, stream: usize) {
        self.streams[stream].mean_bytes = BYTES_PER_READ;
    }

    /// Whether half of what may be held of the stream is.
    pub(crate) fn is_half_full(&self, stream: usize) -> bool {
        let stream = &self.streams[stream];
        2 * stream.leases.len() > JOBS_MAX[stream.lane as usize]
            || 2 * stream.bytes > self.share(stream)
    }

    fn share(&self, stream: &Held) -> usize {
        self.bytes_per_queue * BYTES_EIGHTHS[stream.lane as usize] / 8
    }

    /// How many jobs may be read from the stream now.
    pub(crate) fn room(&self, stream: usize) -> usize {
        let stream = &self.streams[stream];
        let lane = stream.lane as usize;
        let jobs_left = JOBS_MAX[lane].saturating_sub(stream.leases.len());
        let bytes_left = self.share(stream).saturating_sub(stream.bytes);
        if jobs_left < ROOM_JOBS_MIN || bytes_left == 0 {
            return 0;
        }
        let by_bytes = bytes_left.min(BYTES_PER_READ) / stream.mean_bytes.max(MEAN_BYTES_MIN);
        jobs_left.min(by_bytes.max(1)).min(JOBS_PER_READ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: usize = 1;
    const BACKFILL: usize = 2;

    fn flight() -> Flight {
        Flight::new(Lane::ALL.into_iter(), Duration::from_secs(30), 8 << 20)
    }

    fn job(stream: usize, number: u64, bytes: usize) -> QueuedJob {
        QueuedJob::for_test(stream, EntryId { ms: number, seq: 0 }, bytes)
    }

    #[test]
    fn a_full_backfill_lane_leaves_the_live_lane_its_room() {
        let mut flight = flight();
        for number in 0..10_000 {
            assert!(flight.add(&job(BACKFILL, number, 10), Instant::now()));
        }
        assert_eq!(flight.room(BACKFILL), 0);
        assert!(flight.room(LIVE) > 0);
    }

    #[test]
    fn reads_shrink_at_once_when_jobs_grow_and_one_always_fits() {
        let mut flight = flight();
        let first = flight.room(LIVE);
        flight.measured(LIVE, 1, 4 << 20);
        assert!(first > 1);
        assert_eq!(flight.room(LIVE), 1);
        flight.add(&job(LIVE, 1, 6 << 20), Instant::now());
        assert_eq!(flight.room(LIVE), 0);
    }

    #[test]
    fn a_first_read_is_small_and_each_one_brings_four_times_more_until_it_is_as_large_as_it_may_be()
    {
        let mut flight = flight();
        let mut reads = Vec::new();
        for _ in 0..6 {
            let jobs = flight.room(LIVE);
            reads.push(jobs);
            flight.measured(LIVE, jobs, 500 * jobs);
        }
        assert_eq!(reads, [4, 16, 64, 256, 1_000, 1_000]);
    }

    #[test]
    fn a_job_that_comes_twice_is_held_once() {
        let mut flight = flight();
        assert!(flight.add(&job(LIVE, 1, 10), Instant::now()));
        assert!(!flight.add(&job(LIVE, 1, 10), Instant::now()));
        flight.remove(&job(LIVE, 1, 10));
        flight.remove(&job(LIVE, 1, 10));
        assert_eq!((flight.count(), flight.streams[LIVE].bytes), (0, 0));
    }
}
