//! Carries words between one process and the fleet: what it learned, what others learned, whose the next probe is.
//!
//! Words are said without waiting and travel in order. What others said is noticed by one number that changes with
//! everything shared: it is read once a second, and ten times as often while calls are made. The
//! surprising thing: without Redis every process decides for itself, as a fleet of one.

use super::desk::Desk;
use super::look::{Seen, look};
use super::{names, take};
use crate::klaviyo::{Alone, Barrier, Client, Fleet, Heard, Limits, Operation, Outcome};
use crate::queue::connection::Connection;
use klaviyo_jobs::Keys;
use redis::{RedisResult, Script, cmd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

const LOOK_EVERY_IDLE: Duration = Duration::from_secs(1);
const LOOK_EVERY_BUSY: Duration = Duration::from_millis(100);
/// Calls may be few and far between, and what another daemon was asked to heed counts for each of them.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// A probe that has not ended by then is forgotten, and another daemon may make one.
const PROBE_LEASE: Duration = Duration::from_secs(10);
/// Redis that takes longer counts as away.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Something to tell the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Shut {
        barrier: Barrier,
        delay: Duration,
    },
    AskProbe {
        barrier: Barrier,
    },
    Probed {
        barrier: Barrier,
        outcome: Option<Outcome>,
        delay: Duration,
    },
    Hurry {
        barrier: Barrier,
    },
    Close {
        operation: Operation,
        for_: Duration,
        lowered: Option<Limits>,
    },
}

impl Word {
    fn barrier(self) -> Option<Barrier> {
        match self {
            Self::Shut { barrier, .. }
            | Self::AskProbe { barrier }
            | Self::Probed { barrier, .. }
            | Self::Hurry { barrier } => Some(barrier),
            Self::Close { .. } => None,
        }
    }
}

/// The near end of the line to the fleet.
#[derive(Debug)]
pub(super) struct Line {
    words: mpsc::UnboundedSender<Word>,
    /// Words about each barrier that are under way: what was seen before they arrived is old.
    under_way: Vec<AtomicU32>,
    is_alone: AtomicBool,
    traffic: Notify,
}

impl Line {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Word>) {
        let (words, inbox) = mpsc::unbounded_channel();
        let line = Self {
            words,
            under_way: Barrier::all().map(|_| AtomicU32::new(0)).collect(),
            is_alone: AtomicBool::new(false),
            traffic: Notify::new(),
        };
        (Arc::new(line), inbox)
    }

    pub(super) fn say(&self, word: Word) {
        if let Some(barrier) = word.barrier() {
            self.under_way(barrier).fetch_add(1, Ordering::SeqCst);
        }
        if self.words.send(word).is_err() {
            tracing::debug!("said a word to the fleet after leaving it");
        }
    }

    pub(super) fn note_traffic(&self) {
        self.traffic.notify_one();
    }

    fn under_way(&self, barrier: Barrier) -> &AtomicU32 {
        let place = Barrier::all().position(|it| it == barrier);
        &self.under_way[place.expect("every barrier is listed")]
    }
}

impl Fleet for Line {
    fn shut(&self, barrier: Barrier, delay: Duration) {
        self.say(Word::Shut { barrier, delay });
    }

    fn ask_probe(&self, barrier: Barrier) -> bool {
        if self.is_alone.load(Ordering::SeqCst) {
            return true;
        }
        self.say(Word::AskProbe { barrier });
        false
    }

    fn probed(&self, barrier: Barrier, outcome: Option<Outcome>, delay: Duration) {
        self.say(Word::Probed {
            barrier,
            outcome,
            delay,
        });
    }

    fn hurry(&self, barrier: Barrier) {
        self.say(Word::Hurry { barrier });
    }
}

/// The task that keeps one process in line with its fleet.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) redis: Connection,
    pub(super) keys: Keys,
    /// Tells this process from the others.
    pub(super) who: String,
    pub(super) line: Arc<Line>,
    pub(super) desks: Vec<Arc<Desk>>,
    pub(super) client: Arc<Client>,
    /// The version of what was last seen; absent while nothing was.
    seen: Option<i64>,
}

impl Keeper {
    pub(super) fn new(
        redis: Connection,
        keys: Keys,
        who: String,
        line: Arc<Line>,
        desks: Vec<Arc<Desk>>,
        client: Arc<Client>,
    ) -> Self {
        Self {
            redis,
            keys,
            who,
            line,
            desks,
            client,
            seen: None,
        }
    }

    /// Carries words until nobody can say any.
    pub(super) async fn keep(mut self, mut inbox: mpsc::UnboundedReceiver<Word>) {
        let line = Arc::clone(&self.line);
        let mut next = Instant::now() + LOOK_EVERY_IDLE;
        let mut busy_until = Instant::now();
        loop {
            tokio::select! {
                biased;
                word = inbox.recv() => match word {
                    Some(word) => self.carry(word).await,
                    None => return,
                },
                () = sleep_until(next) => {
                    self.glance().await;
                    let now = Instant::now();
                    next = now + if now < busy_until { LOOK_EVERY_BUSY } else { LOOK_EVERY_IDLE };
                }
                () = line.traffic.notified() => {
                    let now = Instant::now();
                    busy_until = now + BUSY_FOR;
                    next = next.min(now + LOOK_EVERY_BUSY);
                }
            }
        }
    }

    /// Looks whether anything changed, and at everything if so.
    pub(super) async fn glance(&mut self) {
        let mut redis = self.redis.clone();
        let mut get = cmd("GET");
        get.arg(names::version(&self.keys));
        let asked = get.query_async::<Option<i64>>(&mut redis);
        let Some(version) = self.answered(timeout(ANSWER_MAX, asked).await.ok()) else {
            return;
        };
        if self.seen == Some(version.unwrap_or(0)) {
            return;
        }
        // Words said from here on are newer than what is about to be seen.
        let asked = look(&mut redis, &self.keys);
        if let Some(seen) = self.answered(timeout(ANSWER_MAX, asked).await.ok()) {
            self.take_in(&seen);
        }
    }

    fn take_in(&mut self, seen: &Seen) {
        let now = Instant::now();
        self.seen = Some(seen.version);
        for (barrier, shut) in Barrier::all().zip(&seen.barriers) {
            if self.line.under_way(barrier).load(Ordering::SeqCst) > 0 {
                // The word will change the version again, if it changes anything.
                self.seen = None;
                continue;
            }
            let heard = match shut.until {
                None => Heard::Open,
                Some(wait) => Heard::Shut { until: now + wait },
            };
            self.client.hear(barrier, heard);
        }
        for (desk, budget) in self.desks.iter().zip(&seen.budgets) {
            if let Some(closed_for) = budget.closed_for {
                desk.close_until(now + closed_for);
            }
            if let Some(lowered) = budget.lowered {
                desk.lower(lowered, now);
            }
        }
    }

    async fn carry(&mut self, word: Word) {
        let result = match word {
            Word::Close {
                operation,
                for_,
                lowered,
            } => {
                let mut redis = self.redis.clone();
                let closed = take::close(&mut redis, &self.keys, operation, for_, lowered);
                let closed = timeout(ANSWER_MAX, closed).await.ok();
                self.answered(closed).map(|()| (0, 0))
            }
            Word::Shut { barrier, delay } => self.send(barrier, "shut", delay).await,
            Word::AskProbe { barrier } => self.send(barrier, "ask", PROBE_LEASE).await,
            Word::Hurry { barrier } => self.send(barrier, "hurry", Duration::ZERO).await,
            Word::Probed {
                barrier,
                outcome,
                delay,
            } => self.send(barrier, verb(outcome), delay).await,
        };
        if let Some(barrier) = word.barrier() {
            self.line.under_way(barrier).fetch_sub(1, Ordering::SeqCst);
        }
        match result {
            Some((changed, wait_ms)) => self.heed(word, changed == 1, wait_ms),
            None => self.decide_alone(word),
        }
    }

    /// Tells people what this process was first to tell the fleet, and gates what the fleet answered.
    fn heed(&self, word: Word, changed: bool, wait_ms: i64) {
        let now = Instant::now();
        let wait = u64::try_from(wait_ms).ok().map(Duration::from_millis);
        let heard = wait.map_or(Heard::Open, |wait| Heard::Shut { until: now + wait });
        match word {
            Word::Shut { barrier, delay } if changed => barrier.tell_shut(delay),
            Word::Probed {
                barrier,
                outcome: Some(Outcome::Good),
                ..
            } if changed => barrier.tell_open(),
            Word::AskProbe { barrier } if changed => self.client.hear(barrier, Heard::MayProbe),
            Word::AskProbe { barrier } | Word::Shut { barrier, .. } => {
                self.client.hear(barrier, heard);
            }
            Word::Probed { .. } | Word::Hurry { .. } | Word::Close { .. } => {}
        }
    }

    fn decide_alone(&self, word: Word) {
        match word {
            Word::Shut { barrier, delay } => Alone.shut(barrier, delay),
            Word::AskProbe { barrier } => self.client.hear(barrier, Heard::MayProbe),
            Word::Probed {
                barrier,
                outcome,
                delay,
            } => Alone.probed(barrier, outcome, delay),
            Word::Hurry { .. } | Word::Close { .. } => {}
        }
    }

    async fn send(&mut self, barrier: Barrier, verb: &str, delay: Duration) -> Option<(i64, i64)> {
        static SCRIPT: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!("barrier.lua")));
        let mut redis = self.redis.clone();
        let mut call = SCRIPT.key(names::barrier(&self.keys, barrier));
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        call.key(names::version(&self.keys))
            .arg(verb)
            .arg(&self.who)
            .arg(delay_ms);
        let asked = call.invoke_async(&mut redis);
        let answer = timeout(ANSWER_MAX, asked).await.ok();
        self.answered(answer)
    }

    /// Notes whether Redis answered at all.
    fn answered<T>(&mut self, answer: Option<RedisResult<T>>) -> Option<T> {
        let answer = match answer {
            Some(Ok(answer)) => Some(answer),
            Some(Err(error)) => {
                self.redis
                    .health()
                    .complain("share gates and limits with other daemons", &error);
                None
            }
            None => None,
        };
        self.line.is_alone.store(answer.is_none(), Ordering::SeqCst);
        if answer.is_none() {
            // Whatever happens meanwhile is seen when it is back.
            self.seen = None;
        }
        answer
    }
}

fn verb(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Good) => "good",
        Some(Outcome::Bad | Outcome::Unknown) => "bad",
        None => "never",
    }
}
