//! How a lot comes by its jobs: it opens, waits for its turn, and takes what has arrived by then.

use crate::queue::engine::{Engine, State, Stream};
use crate::queue::holding::deaths::Marks;
use crate::queue::holding::isolation::Access;
use crate::queue::holding::lines::Suspected;
use crate::queue::job::entry::{EntryId, QueuedJob};
use crate::queue::lot::open::Sealed;
use crate::queue::settling::attempted::Call;
use klaviyo_jobs::Envelope;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long suspects wait before they look again whether everything else has ended.
const SUSPECTS_PAUSE: Duration = Duration::from_millis(250);
/// How long a lot that may leave waits for the reader.
const FILL_MAX: Duration = Duration::from_millis(50);

impl Engine {
    /// Opens a lot of the line if there is something to take and no other lot is open.
    pub(crate) fn poll_open(&self, line: usize, context: &Context<'_>) -> bool {
        self.state().lines[line].poll_open(context)
    }

    pub(crate) fn waiting(&self, line: usize) -> usize {
        let suspects_may_try = self.isolation.may_be_tried();
        self.state().lines[line].waiting(suspects_may_try)
    }

    /// The last pass of reading left more in Redis than it could bring.
    pub(crate) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::SeqCst);
        self.arrived.notify_waiters();
    }

    /// Waits until so many jobs wait in the line, or all there are.
    pub(crate) async fn fill(&self, line: usize, jobs: usize) {
        loop {
            let arrived = self.arrived.notified();
            if !self.behind.load(Ordering::SeqCst) || self.is_quiet() || self.waiting(line) >= jobs
            {
                return;
            }
            // The limit only bounds what a reader that is held up by Redis can cost.
            if tokio::time::timeout(FILL_MAX, arrived).await.is_err() {
                return;
            }
        }
    }

    /// Waits while the line holds nothing but suspects that others have just kept from being alone.
    pub(crate) async fn turn(&self, line: usize) {
        while self.state().lines[line].suspects() == Suspected::Only
            && !self.isolation.may_be_tried()
        {
            sleep(SUSPECTS_PAUSE).await;
        }
    }

    /// Waits until a lot of the line may run: suspects alone, everything else beside others.
    ///
    /// Suspects wait for a moment only: whoever waits here holds a permit that others may need to end.
    pub(crate) async fn enter(&self, line: usize) -> Option<Access> {
        let suspects = self.state().lines[line].suspects();
        if suspects != Suspected::None
            && let Some(alone) = self.isolation.enter_alone().await
        {
            return Some(alone);
        }
        if suspects == Suspected::Only {
            return None;
        }
        Some(self.isolation.enter().await)
    }

    /// Takes jobs for a lot; what lapsed meanwhile is let go.
    pub(crate) fn seal(
        &self,
        line: usize,
        access: Access,
        jobs_max: usize,
        bytes_max: usize,
    ) -> Sealed {
        let mut guard = self.state();
        let State { lines, flight } = &mut *guard;
        let (mut count, mut bytes) = (0, 0);
        let taken = lines[line].take(&access, |job| {
            if !flight.holds(job) {
                return true;
            }
            let fits = count < jobs_max && (count == 0 || bytes + job.payload.len() <= bytes_max);
            if fits {
                count += 1;
                bytes += job.payload.len();
            }
            fits
        });
        let (mut jobs, lapsed): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|job| flight.holds(job));
        let call = Some(Call::now());
        for job in &mut jobs {
            job.call = call;
        }
        for job in &lapsed {
            flight.remove(job);
        }
        lines[line].reopen();
        drop(guard);
        if !lapsed.is_empty() {
            self.let_go();
        }
        Sealed {
            jobs,
            access,
            since: Instant::now(),
        }
    }

    /// Marks watched jobs before they run; see [`deaths`](crate::queue::holding::deaths).
    pub(crate) async fn mark(&self, sealed: &Sealed) {
        let jobs = &sealed.jobs;
        let alone = sealed.access.is_alone() && jobs.len() == 1;
        for (index, stream) in self.streams.iter().enumerate() {
            let watched = jobs.iter();
            let watched = watched.filter(|job| job.stream == index && job.deaths.is_some());
            let ids: Vec<EntryId> = watched.map(|job| job.id).collect();
            if ids.is_empty() {
                continue;
            }
            let marks = self.marks(stream);
            if let Err(error) = marks.add(&mut self.redis.clone(), &ids, alone).await {
                // Then a death while they run is not counted: the next one is.
                self.redis.health().complain("mark suspects", &error);
            }
        }
        self.crash_if_told(jobs);
    }

    pub(crate) fn marks<'a>(&'a self, stream: &'a Stream) -> Marks<'a> {
        Marks {
            keys: &self.config.keys,
            stream: &stream.key,
        }
    }

    fn crash_if_told(&self, jobs: &[QueuedJob]) {
        let Some(told) = &self.config.crash_on_id else {
            return;
        };
        let is_it = |job: &QueuedJob| {
            let id = Envelope::parse(&job.payload).ok().and_then(|it| it.id);
            id.is_some_and(|id| id == told.as_str())
        };
        if jobs.iter().any(is_it) {
            std::process::abort();
        }
    }
}
