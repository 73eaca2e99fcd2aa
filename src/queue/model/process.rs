//! One process of the model: a real engine whose tasks the model runs one step at a time, and which may end at any
//! command that it sends to Redis.

use super::faults::{Blow, Fault, Faults};
use super::reference::Next;
use super::steps::{Act, Decision};
use crate::queue::connection::Connection;
use crate::queue::engine::{Engine, EngineConfig, Route};
use crate::queue::holding::leases;
use crate::queue::holding::lines::{Line, Suspected};
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::{Reason, Retries, Verdict};
use crate::queue::lot::open::Lot;
use crate::queue::reading::delayed;
use crate::queue::reading::read::{Reader, create_groups, is_missing_group};
use crate::queue::settling::settle::{Settlement, settle};
use klaviyo_jobs::Keys;
use redis::{RedisError, RedisResult};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Far from what the steps themselves take, so that only the steps that let time pass end a lease.
pub(super) const LEASE: Duration = Duration::from_hours(1);
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// The kinds, one on each queue.
pub(super) const KINDS: [Route; 2] = [
    Route {
        kind: "event.track",
        queue: "event-tracking",
        internal: false,
    },
    Route {
        kind: "profile.upsert",
        queue: "profile-sync",
        internal: false,
    },
];

/// The tasks of a process; each has a connection of its own and stands still on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Reader,
    Promoter,
    Leases,
    Settler,
    Lots,
}

/// What a task is at.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    Promote,
    Read,
    Renew,
    TakeOver,
    Forget,
    Seal,
    Settle(Vec<Moving>),
}

/// A job that is being settled.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) stream: usize,
    pub(super) id: EntryId,
    pub(super) verdict: Verdict,
    pub(super) is_held: bool,
}

/// How an operation ended.
pub(super) enum Ended {
    Done,
    Failed(RedisError),
    Sealed(Lot),
    /// It has to be settled again.
    Unsettled(Settlement, RedisError),
}

pub(super) type Operation = Pin<Box<dyn Future<Output = Ended>>>;

/// How far an operation came.
pub(super) enum Progress {
    Ended(Ended),
    Crashed,
    Stands(Operation),
}

/// A connection and its faults.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) redis: Connection,
    faults: Faults,
}

/// The fields are dropped in this order: what a lot settles when it is dropped still has a receiver, and no task.
pub(super) struct Process {
    pub(super) standing: Vec<(Task, Doing, Operation)>,
    pub(super) lots: Vec<Lot>,
    unsettled: VecDeque<Settlement>,
    pub(super) engine: Arc<Engine>,
    inbox: mpsc::UnboundedReceiver<Settlement>,
    reader: Arc<Mutex<Reader>>,
    doorbell: Connection,
    handles: [Handle; 5],
}

impl Handle {
    pub(super) fn new(redis: &Connection) -> Self {
        let faults = Faults::default();
        Self {
            redis: redis.with_faults(faults.clone()),
            faults,
        }
    }

    /// Runs an operation until it ends, stops or is stopped.
    pub(super) async fn drive(&self, mut operation: Operation, fault: Option<Fault>) -> Progress {
        self.faults.plan(fault);
        self.faults.release();
        let progress = tokio::select! {
            biased;
            ended = &mut operation => Progress::Ended(ended),
            blow = self.faults.struck() => match blow {
                Blow::Hold => Progress::Stands(operation),
                Blow::Crash | Blow::Error => Progress::Crashed,
            },
        };
        self.faults.plan(None);
        progress
    }
}

impl Process {
    pub(super) fn start(
        name: String,
        keys: &Keys,
        redis: &Connection,
        doorbell: &Connection,
    ) -> Self {
        let handles = [(); 5].map(|()| Handle::new(redis));
        let reader = &handles[Task::Reader as usize];
        let doorbell = doorbell.with_faults(reader.faults.clone());
        let mut config = EngineConfig::new(keys.clone(), name, KINDS.to_vec());
        config.lease = LEASE;
        for route in KINDS {
            let retries = Retries {
                attempts_max: ATTEMPTS_MAX,
                ..Retries::of_queue(route.queue)
            };
            config.retries.insert(route.queue, retries);
        }
        let commands = handles[Task::Lots as usize].redis.clone();
        let (engine, inbox) = Engine::idle(commands, config);
        Self {
            standing: Vec::new(),
            lots: Vec::new(),
            unsettled: VecDeque::new(),
            reader: Arc::new(Mutex::new(Reader::new(&engine))),
            engine,
            inbox,
            doorbell,
            handles,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.engine.consumer()
    }

    pub(super) fn handle(&self, task: Task) -> Handle {
        self.handles[task as usize].clone()
    }

    /// The index of a stream in the engine.
    pub(super) fn stream(&self, key: &str) -> usize {
        let mut streams = self.engine.streams().iter();
        streams
            .position(|stream| stream.key == key)
            .expect("a stream of the model")
    }

    /// What was settled since the last look without a lot.
    pub(super) fn take_in(&mut self) -> Vec<Moving> {
        let mut new = Vec::new();
        while let Ok(settlement) = self.inbox.try_recv() {
            new.extend(self.moving(&settlement));
            self.unsettled.push_back(settlement);
        }
        new
    }

    pub(super) fn settle_again(&mut self, settlement: Settlement) {
        self.unsettled.push_front(settlement);
    }

    /// The jobs it knows of; and those that stand in a line, a lot or a settlement. No operation may be under way.
    pub(super) fn jobs_known_and_kept(&self) -> (usize, usize) {
        let state = self.engine.state();
        let lines: usize = state.lines.iter().map(Line::len).sum();
        let lots: usize = self.lots.iter().map(|lot| lot.sealed_jobs().len()).sum();
        let unsettled: usize = self.unsettled.iter().map(Vec::len).sum();
        (state.flight.count(), lines + lots + unsettled)
    }

    fn moving(&self, settlement: &Settlement) -> Vec<Moving> {
        let moving = settlement.iter().map(|(job, verdict)| Moving {
            stream: job.stream,
            id: job.id,
            verdict: verdict.clone(),
            is_held: self.engine.holds(job),
        });
        moving.collect()
    }

    /// Begins what needs Redis; `None` if there is nothing to do. `rings` says whether the doorbell must ring.
    pub(super) async fn begin(&mut self, act: &Act, rings: bool) -> Option<(Doing, Operation)> {
        let engine = Arc::clone(&self.engine);
        let streams = engine.streams().len();
        let mut redis = self.handle(act.task()).redis;
        let begun: (Doing, Operation) = match act {
            Act::Promote => {
                let promote =
                    async move { ended(delayed::promote_once(&engine, &mut redis).await) };
                (Doing::Promote, Box::pin(promote))
            }
            Act::Read => {
                let (reader, mut doorbell) = (Arc::clone(&self.reader), self.doorbell.clone());
                let read = async move {
                    let mut reader = reader.lock().await;
                    // The bell would be waited for in vain if nothing is there.
                    reader.more |= !rings;
                    let mut read = reader.read_once(&engine, &mut doorbell, &mut redis).await;
                    if read.as_ref().is_err_and(is_missing_group) {
                        create_groups(&engine, &mut redis).await;
                        reader.more = true;
                        read = reader.read_once(&engine, &mut doorbell, &mut redis).await;
                    }
                    ended(read)
                };
                (Doing::Read, Box::pin(read))
            }
            Act::Renew => {
                let renew = async move {
                    let mut all = Ok(());
                    for stream in 0..streams {
                        all = all.and(leases::renew(&engine, &mut redis, stream).await);
                    }
                    ended(all)
                };
                (Doing::Renew, Box::pin(renew))
            }
            Act::TakeOver => {
                let take_over = async move {
                    let mut all = Ok(());
                    for stream in 0..streams {
                        all = all.and(leases::take_over_all(&engine, &mut redis, stream).await);
                    }
                    ended(all)
                };
                (Doing::TakeOver, Box::pin(take_over))
            }
            Act::Forget => {
                let forget = async move {
                    for stream in 0..streams {
                        leases::forget_consumers(&engine, &mut redis, stream, 0).await;
                    }
                    Ended::Done
                };
                (Doing::Forget, Box::pin(forget))
            }
            Act::Seal(line, jobs_max) => (Doing::Seal, self.seal(*line, *jobs_max)?),
            Act::Settle => {
                let settlement = self.unsettled.pop_front()?;
                let moving = self.moving(&settlement);
                let settle = async move {
                    let mut settled = settle(&engine, &mut redis, &settlement).await;
                    if settled.as_ref().is_err_and(is_missing_group) {
                        create_groups(&engine, &mut redis).await;
                        settled = settle(&engine, &mut redis, &settlement).await;
                    }
                    match settled {
                        Ok(_) => {
                            engine.release(&settlement);
                            Ended::Done
                        }
                        Err(error) => Ended::Unsettled(settlement, error),
                    }
                };
                (Doing::Settle(moving), Box::pin(settle))
            }
            Act::Finish(..) => return None,
            Act::Stop => {
                self.engine.close(Duration::ZERO).await;
                return None;
            }
        };
        Some(begun)
    }

    /// Opens a lot and seals it, unless it would have to wait for others to end.
    fn seal(&self, line: usize, jobs_max: usize) -> Option<Operation> {
        let has_suspects = self.engine.state().lines[line].suspects() != Suspected::None;
        if (has_suspects && !self.lots.is_empty()) || self.lots.iter().any(Lot::is_alone) {
            return None;
        }
        self.engine.isolation.end_wait();
        let context = Context::from_waker(Waker::noop());
        if !self.engine.poll_open(line, &context) {
            return None;
        }
        let lot = Lot::open(Arc::clone(&self.engine), line);
        Some(Box::pin(async move {
            lot.seal(jobs_max, usize::MAX).await;
            Ended::Sealed(lot)
        }))
    }

    /// Ends a lot as a handler does, and returns what each job should become.
    pub(super) fn finish(
        &mut self,
        lot: usize,
        decisions: &[Decision],
    ) -> Option<Vec<(EntryId, Verdict)>> {
        if self.lots.is_empty() {
            return None;
        }
        let lot = self.lots.remove(lot % self.lots.len());
        let verdicts: Vec<Verdict> = decisions.iter().map(|it| it.verdict()).collect();
        let jobs = lot.sealed_jobs();
        let missing = if self.engine.is_quiet() {
            Some(Verdict::Snooze(Duration::ZERO))
        } else if jobs.len() > 1 {
            // They are still held, and run apart.
            None
        } else {
            Some(Verdict::Retry(Reason::abandoned()))
        };
        let missing = missing.into_iter().cycle();
        let all = verdicts.iter().cloned().chain(missing);
        let expected = jobs.iter().map(|job| job.id).zip(all).collect();
        lot.decide(verdicts);
        drop(lot);
        Some(expected)
    }
}

fn ended<T>(result: RedisResult<T>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(error) => Ended::Failed(error),
    }
}

impl Moving {
    /// Where the verdict sends a job with so many attempts.
    pub(super) fn next(&self, attempts: u32) -> Next {
        let failed = attempts + 1;
        match &self.verdict {
            Verdict::Delivered => Next::Delivered,
            Verdict::Snooze(delay) => {
                let delay_ms = u64::try_from(delay.as_millis()).expect("hours");
                Next::Later {
                    attempts,
                    delay_ms: delay_ms..=delay_ms,
                }
            }
            Verdict::Retry(reason) if failed >= ATTEMPTS_MAX => Next::Dead {
                attempts: failed,
                code: reason.code,
            },
            Verdict::Retry(_) => Next::Later {
                attempts: failed,
                delay_ms: 1_000..=1_000 + (1_000 << attempts),
            },
            Verdict::Bury(reason) => Next::Dead {
                attempts: failed,
                code: reason.code,
            },
        }
    }
}
