//! The state that reading, settling, leases and lots share; and the tasks that drive it.
//!
//! All of it is behind one lock that is never held across an await. What is in flight is bounded by [`Flight`], what
//! waits stands in [`Line`]s, one for each kind.

use crate::queue::connection::{Connection, Redis, Unreachable};
use crate::queue::holding::flight::Flight;
use crate::queue::holding::isolation::Isolation;
use crate::queue::holding::leases;
use crate::queue::holding::lines::Line;
use crate::queue::job::entry::{EntryId, QueuedJob};
use crate::queue::job::verdict::{Retries, Verdict};
use crate::queue::reading::{delayed, read};
use crate::queue::settling::observe::Observer;
use crate::queue::settling::settle::{Settlement, settle_all};
use crate::queue::vital::Vital;
use klaviyo_jobs::{Keys, Lane};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Bytes of jobs that one process holds.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
const LEASE: Duration = Duration::from_secs(30);
const LOCKED: &str = "no holder of this lock panics";

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

/// What a queue must know of what lies behind its handlers.
pub trait Outlook: Send + Sync + fmt::Debug {
    /// Says that no job of the kind could leave now: nothing is fetched for it.
    fn is_shut(&self, kind: &str) -> bool;
}

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Bytes of jobs that may be in flight.
    pub bytes_in_flight_max: usize,
    /// The keys of the account.
    pub keys: Keys,
    /// The name of this process among the consumers; unique.
    pub consumer: String,
    /// For tests of recovery: the process aborts when it is about to run the job with this id.
    pub crash_on_id: Option<String>,
    /// How long a silent consumer keeps its jobs.
    pub lease: Duration,
    /// Who hears what becomes of jobs.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether jobs could leave; without one they always could.
    pub outlook: Option<Arc<dyn Outlook>>,
    /// How often and how long a job is tried, by queue; others have the defaults.
    pub retries: BTreeMap<&'static str, Retries>,
    /// The kinds this process works on.
    pub routes: Vec<Route>,
}

impl EngineConfig {
    /// Creates a configuration with defaults for the rest.
    pub fn new(keys: Keys, consumer: String, routes: Vec<Route>) -> Self {
        Self {
            bytes_in_flight_max: BYTES_IN_FLIGHT_MAX,
            keys,
            consumer,
            crash_on_id: None,
            lease: LEASE,
            observer: None,
            outlook: None,
            retries: BTreeMap::new(),
            routes,
        }
    }
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
    pub(crate) config: EngineConfig,
    pub(crate) redis: Connection,
    pub(crate) streams: Vec<Stream>,
    state: Mutex<State>,
    /// Absent until Redis was asked.
    pub(crate) paused: Mutex<Option<HashSet<String>>>,
    settlements: mpsc::UnboundedSender<Settlement>,
    pub(crate) isolation: Isolation,
    pub(crate) has_room: Notify,
    settled: Notify,
    quiet: watch::Sender<bool>,
    vital: Vital,
    reader: Mutex<Option<JoinHandle<()>>>,
    pub(crate) behind: AtomicBool,
    pub(crate) arrived: Notify,
    closed: AtomicBool,
    tasks: TaskTracker,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) lines: Vec<Line>,
    pub(crate) flight: Flight,
}

impl Engine {
    /// Connects and starts to read.
    ///
    /// # Errors
    /// [`Unreachable`] if Redis does not answer.
    pub async fn start(redis: &Redis, config: EngineConfig) -> Result<Arc<Self>, Unreachable> {
        // A blocked command occupies its connection, so the doorbell has one of its own.
        let (doorbell, commands) = (redis.connect().await?, redis.connect().await?);
        let (engine, inbox) = Self::idle(commands.clone(), config);
        engine.forget_paused();
        let own = || Arc::clone(&engine);
        let reader = engine.spawn("read", read::read(own(), doorbell, commands.clone()));
        *engine.reader.lock().expect(LOCKED) = Some(reader);
        engine.spawn("settle", settle_all(own(), commands.clone(), inbox));
        engine.spawn("leases", leases::keep(own(), commands.clone()));
        engine.spawn("promote", delayed::promote(own(), commands));
        Ok(engine)
    }

    fn spawn(
        self: &Arc<Self>,
        task: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let engine = Arc::clone(self);
        let watched = async move { engine.watch_over(task, work).await };
        self.tasks.spawn(watched)
    }

    /// Does the work of a task without which nothing is delivered. If it panics, or ends before the engine is quiet,
    /// the engine is broken.
    pub async fn watch_over(&self, task: &'static str, work: impl Future<Output = ()>) {
        let is_quiet = || self.is_quiet();
        self.vital.watch_over(task, work, is_quiet).await;
    }

    /// Waits until the engine is broken: nothing but another process delivers any more.
    pub async fn broken(&self) {
        self.vital.broken().await;
    }

    /// Creates an engine without tasks, and what would be settled.
    pub(crate) fn idle(
        redis: Connection,
        config: EngineConfig,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Settlement>) {
        let mut queues: Vec<&str> = config.routes.iter().map(|route| route.queue).collect();
        queues.sort_unstable();
        queues.dedup();
        let stream = |queue: &&str, lane| Stream {
            key: config.keys.queue(queue, lane),
            queue: (*queue).to_owned(),
            lane,
        };
        // The urgent lanes of all queues come first, and all backfill last.
        let streams: Vec<Stream> = Lane::ALL
            .iter()
            .flat_map(|lane| queues.iter().map(|queue| stream(queue, *lane)))
            .collect();
        let bytes_per_queue = config.bytes_in_flight_max / queues.len().max(1);
        let lanes = streams.iter().map(|stream| stream.lane);
        let state = State {
            lines: config.routes.iter().map(|_| Line::default()).collect(),
            flight: Flight::new(lanes, config.lease, bytes_per_queue),
        };
        let (settlements, inbox) = mpsc::unbounded_channel();
        let isolation = Isolation::new(config.lease);
        let engine = Self {
            config,
            redis,
            streams,
            state: Mutex::new(state),
            paused: Mutex::new(Some(HashSet::new())),
            settlements,
            isolation,
            has_room: Notify::new(),
            settled: Notify::new(),
            quiet: watch::Sender::new(false),
            vital: Vital::new(),
            reader: Mutex::new(None),
            behind: AtomicBool::new(true),
            arrived: Notify::new(),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        };
        (Arc::new(engine), inbox)
    }

    /// Takes nothing new from now on.
    pub fn quiet(&self) {
        self.quiet.send_replace(true);
        self.has_room.notify_one();
    }

    /// Hands back what no handler took, waits for `patience` at most until everything is settled, and ends.
    pub async fn close(&self, patience: Duration) {
        self.quiet();
        // What the last read brings goes back too, instead of waiting for the end of its lease.
        let reader = self.reader.lock().expect(LOCKED).take();
        if let Some(reader) = reader {
            drop(timeout(patience, reader).await);
        }
        let rest: Settlement = {
            let mut state = self.state();
            let jobs = state.lines.iter_mut().flat_map(Line::drain);
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
        if timeout(patience, all_settled).await.is_err() {
            tracing::warn!(
                jobs = self.in_flight(),
                "Redis did not take everything back; the rest is taken over after the lease"
            );
        }
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        *self.quiet.borrow()
    }

    /// Waits until nothing new is taken.
    pub(crate) async fn quieted(&self) {
        // The sender lives as long as this engine: there is no other way to end.
        drop(self.quiet.subscribe().wait_for(|quiet| *quiet).await);
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

    pub(crate) fn retries(&self, queue: &str) -> Retries {
        let own = self.config.retries.get(queue).copied();
        own.unwrap_or_else(|| Retries::of_queue(queue))
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.config.observer.as_deref()
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &str> {
        let live = self.streams.iter().filter(|it| it.lane == Lane::Live);
        live.map(|stream| stream.queue.as_str())
    }

    /// Whether jobs of the kind are read here.
    pub fn reads(&self, kind: &str) -> bool {
        self.line(kind).is_some()
    }

    pub(crate) fn line(&self, kind: &str) -> Option<usize> {
        let mut routes = self.config.routes.iter();
        routes.position(|route| route.kind == kind)
    }

    pub(crate) fn queue_of_line(&self, line: usize) -> &str {
        self.config.routes[line].queue
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(LOCKED)
    }

    /// The open lot of the line is gone without being sealed: the next may open.
    pub(crate) fn reopen(&self, line: usize) {
        self.state().lines[line].reopen();
    }

    pub(crate) fn settle(&self, settlement: Settlement) {
        if !settlement.is_empty() {
            // Nobody settles any more when the engine is broken: then the leases hand the jobs over.
            drop(self.settlements.send(settlement));
        }
    }

    pub(crate) fn holds(&self, job: &QueuedJob) -> bool {
        self.state().flight.holds(job)
    }

    pub(crate) fn knows(&self, stream: usize, id: EntryId) -> bool {
        self.state().flight.knows(stream, id)
    }

    /// The ids whose leases may still be renewed.
    pub(crate) fn held(&self, stream: usize) -> Vec<EntryId> {
        self.state().flight.held(stream)
    }

    pub(crate) fn renewed(&self, stream: usize, id: EntryId, at: Option<Instant>) {
        self.state().flight.renewed(stream, id, at);
    }

    pub(crate) fn release(&self, settled: &Settlement) {
        let mut state = self.state();
        for (job, _) in settled {
            state.flight.remove(job);
        }
        drop(state);
        self.let_go();
    }

    pub(crate) fn let_go(&self) {
        self.has_room.notify_one();
        self.settled.notify_waiters();
    }

    fn in_flight(&self) -> usize {
        self.state().flight.count()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
