//! The state that reading, settling, leases and lots share; and the tasks that drive it.
//!
//! A *line* is the buffer of one kind. All of it is behind one lock that is never held across an await. In flight is
//! bounded: [`BYTES_IN_FLIGHT_MAX`] for the process, [`JOBS_IN_FLIGHT_MAX`] for each queue.

use super::connection::{Redis, Unreachable};
use super::entry::{Entry, EntryId, QueuedJob};
use super::observe::Observer;
use super::settle::{Reason, Settlement, Verdict, settle_all};
use super::{delayed, leases, read};
use klaviyo_jobs::{Envelope, Invalid, Keys, Lane};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

/// Bytes of jobs one process holds.
const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
/// Jobs one process holds of one queue: two bulk imports.
const JOBS_IN_FLIGHT_MAX: usize = 20_000;
/// What one read may bring: Redis serves nobody else meanwhile.
const BYTES_PER_READ: usize = 4 << 20;
const JOBS_PER_READ: usize = 1_000;
/// How long a lot that may leave waits for the reader.
const FILL_MAX: Duration = Duration::from_millis(50);
/// Less room than this is none: single jobs that leave would each cost a read.
const ROOM_JOBS_MIN: usize = 250;
const MEAN_BYTES_FIRST: usize = BYTES_PER_READ / 100;

/// A kind and the queue on which it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The wire name.
    pub kind: &'static str,
    /// The queue.
    pub queue: &'static str,
    /// Whether only the engine itself may write it.
    pub internal: bool,
}

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The keys of the account.
    pub keys: Keys,
    /// The name of this process among the consumers; unique.
    pub consumer: String,
    /// How long a silent consumer keeps its jobs.
    pub lease: Duration,
    /// The kinds this process works on.
    pub routes: Vec<Route>,
    /// Who hears what becomes of jobs.
    pub observer: Option<Arc<dyn Observer>>,
}

/// One stream: a lane of a queue.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) key: String,
    pub(crate) queue: String,
    pub(crate) lane: Lane,
}

/// The queues of one account, as one process works on them.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    streams: Vec<Stream>,
    state: Mutex<State>,
    settlements: mpsc::UnboundedSender<Settlement>,
    pub(crate) has_room: Notify,
    settled: Notify,
    quiet: AtomicBool,
    behind: AtomicBool,
    arrived: Notify,
    closed: AtomicBool,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    leases: Vec<HashMap<EntryId, Instant>>,
    bytes: Vec<usize>,
    mean_bytes: usize,
}

#[derive(Debug, Default)]
struct Line {
    buffer: VecDeque<QueuedJob>,
    lot_is_open: bool,
    waker: Option<Waker>,
}

impl Line {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Engine {
    /// Connects and starts to read.
    ///
    /// # Errors
    /// [`Unreachable`] if Redis does not answer.
    pub async fn start(redis: &Redis, config: EngineConfig) -> Result<Arc<Self>, Unreachable> {
        let mut queues: Vec<&str> = config.routes.iter().map(|route| route.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        let stream = |queue: &&str, lane| Stream {
            key: config.keys.queue(queue, lane),
            queue: (*queue).to_owned(),
            lane,
        };
        let streams: Vec<Stream> = queues
            .iter()
            .flat_map(|queue| Lane::ALL.map(|lane| stream(queue, lane)))
            .collect();
        let state = State {
            lines: config.routes.iter().map(|_| Line::default()).collect(),
            leases: streams.iter().map(|_| HashMap::new()).collect(),
            bytes: vec![0; streams.len()],
            mean_bytes: MEAN_BYTES_FIRST,
        };
        let (settlements, inbox) = mpsc::unbounded_channel();
        let engine = Arc::new(Self {
            config,
            streams,
            state: Mutex::new(state),
            settlements,
            has_room: Notify::new(),
            settled: Notify::new(),
            quiet: AtomicBool::new(false),
            behind: AtomicBool::new(true),
            arrived: Notify::new(),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        });
        // A blocked command occupies its connection, so the doorbell has one of its own.
        let (doorbell, commands) = (redis.connect().await?, redis.connect().await?);
        engine
            .tasks
            .spawn(read::read(Arc::clone(&engine), doorbell, commands.clone()));
        engine
            .tasks
            .spawn(settle_all(Arc::clone(&engine), commands.clone(), inbox));
        engine
            .tasks
            .spawn(leases::keep(Arc::clone(&engine), commands.clone()));
        engine
            .tasks
            .spawn(delayed::promote(Arc::clone(&engine), commands));
        Ok(engine)
    }

    /// Takes nothing new from now on.
    pub fn quiet(&self) {
        self.quiet.store(true, Ordering::SeqCst);
        self.has_room.notify_one();
    }

    /// Hands back what no handler took, waits for a lease at most until everything is settled, and ends.
    pub async fn close(&self) {
        self.quiet();
        let rest: Settlement = {
            let mut state = self.state();
            let jobs = state
                .lines
                .iter_mut()
                .flat_map(|line| line.buffer.drain(..).collect::<Vec<_>>());
            jobs.map(|job| (job, Verdict::Snooze(Duration::ZERO)))
                .collect()
        };
        self.settle(rest);
        let all_settled = async {
            loop {
                let settled = self.settled.notified();
                if self.in_flight() == 0 {
                    break;
                }
                settled.await;
            }
        };
        if tokio::time::timeout(self.config.lease, all_settled)
            .await
            .is_err()
        {
            tracing::warn!(
                jobs = self.in_flight(),
                "Redis did not take everything back; the rest is taken over after the lease"
            );
        }
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.config.keys
    }

    pub(crate) fn consumer(&self) -> &str {
        &self.config.consumer
    }

    pub(crate) fn lease(&self) -> Duration {
        self.config.lease
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.config.observer.as_deref()
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &str> {
        self.streams
            .iter()
            .filter(|stream| stream.lane == Lane::Live)
            .map(|stream| stream.queue.as_str())
    }

    pub(crate) fn line(&self, kind: &str) -> Option<usize> {
        self.config
            .routes
            .iter()
            .position(|route| route.kind == kind)
    }

    pub(crate) fn queue_of_line(&self, line: usize) -> &str {
        self.config.routes[line].queue
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    // ---- lots ----

    /// Opens a lot of the line if there is something to take and no other lot is open.
    pub(crate) fn poll_open(&self, line: usize, context: &Context<'_>) -> bool {
        let mut state = self.state();
        let line = &mut state.lines[line];
        if line.buffer.is_empty() || line.lot_is_open {
            line.waker = Some(context.waker().clone());
            return false;
        }
        line.lot_is_open = true;
        true
    }

    pub(crate) fn waiting(&self, line: usize) -> usize {
        self.state().lines[line].buffer.len()
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

    pub(crate) fn seal(&self, line: usize, jobs_max: usize, bytes_max: usize) -> Vec<QueuedJob> {
        let mut guard = self.state();
        let state = &mut *guard;
        let (mut jobs, mut bytes, mut lapsed) = (Vec::new(), 0, Vec::new());
        while let Some(next) = state.lines[line].buffer.front() {
            let held = holds(&state.leases, next, self.config.lease);
            if held
                && (jobs.len() == jobs_max
                    || (!jobs.is_empty() && bytes + next.payload.len() > bytes_max))
            {
                break;
            }
            let next = state.lines[line].buffer.pop_front().expect("seen just now");
            if held {
                bytes += next.payload.len();
                jobs.push(next);
            } else {
                lapsed.push((next, Verdict::Snooze(Duration::ZERO)));
            }
        }
        drop(guard);
        self.release(&lapsed);
        self.reopen(line);
        jobs
    }

    /// The open lot of the line is sealed or gone: the next may open.
    pub(crate) fn reopen(&self, line: usize) {
        let mut state = self.state();
        state.lines[line].lot_is_open = false;
        state.lines[line].wake();
    }

    pub(crate) fn settle(&self, settlement: Settlement) {
        if !settlement.is_empty() {
            self.settlements
                .send(settlement)
                .expect("the engine settles as long as somebody holds it");
        }
    }

    // ---- what is held ----

    pub(crate) fn holds(&self, job: &QueuedJob) -> bool {
        holds(&self.state().leases, job, self.config.lease)
    }

    pub(crate) fn knows(&self, stream: usize, id: EntryId) -> bool {
        self.state().leases[stream].contains_key(&id)
    }

    /// The ids whose leases may still be renewed; lapsed ones are forgotten.
    pub(crate) fn held(&self, stream: usize) -> Vec<EntryId> {
        let lease = self.config.lease;
        let state = self.state();
        state.leases[stream]
            .iter()
            .filter(|(_, renewed)| renewed.elapsed() < lease)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn renewed(&self, stream: usize, id: EntryId, at: Option<Instant>) {
        let mut state = self.state();
        if let Some(renewed) = state.leases[stream].get_mut(&id) {
            match at {
                Some(at) => *renewed = at,
                // Somebody else took it: let it lapse here and now.
                None => {
                    *renewed = Instant::now()
                        .checked_sub(self.config.lease)
                        .unwrap_or(*renewed);
                }
            }
        }
    }

    pub(crate) fn release(&self, settled: &Settlement) {
        if settled.is_empty() {
            return;
        }
        let mut state = self.state();
        for (job, _) in settled {
            state.leases[job.stream].remove(&job.id);
            state.bytes[job.stream] -= job.bytes();
        }
        drop(state);
        self.has_room.notify_one();
        self.settled.notify_waiters();
    }

    fn in_flight(&self) -> usize {
        self.state().leases.iter().map(HashMap::len).sum()
    }

    /// How many jobs may be read from the stream now.
    pub(crate) fn room(&self, stream: usize) -> usize {
        let queue = &self.streams[stream].queue;
        let state = self.state();
        let held: usize = self
            .streams
            .iter()
            .zip(&state.leases)
            .filter(|(it, _)| it.queue == *queue)
            .map(|(_, held)| held.len())
            .sum();
        let of_queue = |bytes: &'_ [usize]| -> Vec<usize> {
            let streams = self.streams.iter().zip(bytes);
            streams
                .filter(|(it, _)| it.queue == *queue)
                .map(|(_, bytes)| *bytes)
                .collect()
        };
        let bytes_held: usize = of_queue(&state.bytes).into_iter().sum();
        // Every queue has its own share, so that one that cannot leave stops no other.
        let bytes_left = (BYTES_IN_FLIGHT_MAX / self.queues().count()).saturating_sub(bytes_held);
        let by_bytes = match bytes_left {
            0 => 0,
            left => (left.min(BYTES_PER_READ) / state.mean_bytes.max(256)).max(1),
        };
        let by_jobs = JOBS_IN_FLIGHT_MAX.saturating_sub(held);
        if by_jobs < ROOM_JOBS_MIN {
            0
        } else {
            by_jobs.min(by_bytes).min(JOBS_PER_READ)
        }
    }

    /// Takes in what was read: each job joins the line of its kind, nonsense goes to the dead letters.
    pub(crate) fn accept(&self, entries: Vec<Entry>, asked: Instant) {
        if entries.is_empty() {
            return;
        }
        let mut settled = Vec::new();
        let mut guard = self.state();
        let state = &mut *guard;
        let bytes: usize = entries.iter().map(|entry| entry.job.payload.len()).sum();
        state.mean_bytes = usize::midpoint(state.mean_bytes, bytes / entries.len());
        for Entry {
            mut job,
            has_payload,
        } in entries
        {
            state.bytes[job.stream] += job.bytes();
            state.leases[job.stream].insert(job.id, asked);
            let line = self.line_of(&job, has_payload);
            job.kind = line.as_ref().ok().map(|it| self.config.routes[*it].kind);
            match line {
                // Nobody will open a lot any more: it goes back at once.
                Ok(_) if self.is_quiet() => settled.push((job, Verdict::Snooze(Duration::ZERO))),
                Ok(line) => state.lines[line].buffer.push_back(job),
                Err(invalid) => settled.push((job, Verdict::Bury(Reason::from(&invalid)))),
            }
        }
        for line in &mut state.lines {
            if !line.buffer.is_empty() && !line.lot_is_open {
                line.wake();
            }
        }
        drop(guard);
        self.settle(settled);
    }

    fn line_of(&self, job: &QueuedJob, has_payload: bool) -> Result<usize, Invalid> {
        if !has_payload {
            return Err(Invalid::no_job_field());
        }
        let kind = Envelope::parse(&job.payload)?.kind;
        let queue = &self.streams[job.stream].queue;
        match self.config.routes.iter().position(|route| {
            route.kind == kind && route.queue == *queue && (!route.internal || job.engine_wrote)
        }) {
            Some(line) => Ok(line),
            None => Err(klaviyo_jobs::kind(&kind)?
                .on_queue(queue)
                .err()
                .unwrap_or_else(Invalid::no_job_field)),
        }
    }
}

fn holds(leases: &[HashMap<EntryId, Instant>], job: &QueuedJob, lease: Duration) -> bool {
    leases[job.stream]
        .get(&job.id)
        .is_some_and(|renewed| renewed.elapsed() < lease)
}
