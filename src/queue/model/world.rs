//! One case: an account in Redis, the processes that work on it, and what applications and operators do to it.

use super::outside::Request;
use super::process::{Doing, Ended, Operation, Process, Progress};
use super::reference::{Allowed, Next, Reference};
use super::rules::{
    InDoubt, allowed, check_beliefs, check_intake, check_renewed, must_ring, or_stay,
};
use super::snapshot::{Place, QUEUES, Record, snapshot};
use super::steps::{Act, Decision, Outside, PROCESSES, Step};
use super::{faults::Fault, process::Handle};
use crate::queue::connection::Connection;
use crate::queue::holding::clock;
use crate::queue::job::entry::EntryId;
use crate::queue::job::verdict::Verdict;
use crate::queue::reading::pause::paused;
use crate::queue::reading::read::create_groups;
use klaviyo_jobs::keys::GROUP;
use klaviyo_jobs::{Keys, Lane};
use redis::{RedisError, RedisResult, cmd};
use std::collections::BTreeSet;
use std::time::Duration;

/// After so many rounds everything must be delivered.
const ROUNDS_MAX: usize = 30;

pub(super) struct World {
    pub(super) keys: Keys,
    redis: Connection,
    doorbell: Connection,
    pub(super) reference: Reference,
    processes: [Option<Process>; PROCESSES],
    births: usize,
    pub(super) outside: Handle,
    request: Option<(Request, Operation)>,
    pub(super) last_raw: Option<(usize, usize, Vec<u8>)>,
    pub(super) tags: usize,
    in_doubt: InDoubt,
    group_was_destroyed: bool,
    is_draining: bool,
}

/// What is wrong, if anything is.
pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(keys: Keys, redis: &Connection, doorbell: &Connection) -> Self {
        Self {
            keys,
            redis: redis.clone(),
            doorbell: doorbell.clone(),
            reference: Reference::default(),
            processes: [const { None }; PROCESSES],
            births: 0,
            outside: Handle::new(redis),
            request: None,
            last_raw: None,
            tags: 0,
            in_doubt: BTreeSet::new(),
            group_was_destroyed: false,
            is_draining: false,
        }
    }

    /// Makes the group of each stream, as the first daemon does.
    pub(super) async fn make_groups(&mut self) {
        let process = Process::start("p-0".to_owned(), &self.keys, &self.redis, &self.doorbell);
        create_groups(&process.engine, &mut self.redis).await;
    }

    /// Takes one step and compares.
    pub(super) async fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Do(process, act, fault) => self.act(*process, act, *fault).await,
            Step::Crash(process) => {
                if self.processes[*process].take().is_none() {
                    return Ok(());
                }
                self.look(self.reference.all_stay()).await
            }
            Step::Advance(minutes) => self.advance(*minutes).await,
            Step::Outside(outside, fault) => self.ask(outside, *fault).await,
            Step::DestroyGroup(stream) => self.destroy_group(*stream).await,
        }
    }

    /// Every process but one ends, and that one must deliver everything that is not dead.
    pub(super) async fn drain(&mut self) -> Checked {
        self.is_draining = true;
        if self.request.is_some() {
            self.ask(&Outside::Cancel(0), None).await?;
        }
        let survives =
            |process: &Option<Process>| process.as_ref().is_some_and(|it| !it.engine.is_quiet());
        let survivor = self.processes.iter().position(survives).unwrap_or(0);
        for process in 0..PROCESSES {
            if process != survivor || !survives(&self.processes[process]) {
                self.step(&Step::Crash(process)).await?;
            }
        }
        let tasks = [
            Act::Promote,
            Act::Read,
            Act::Renew,
            Act::Settle,
            Act::Seal(0, 1),
        ];
        for act in &tasks {
            self.act(survivor, act, None).await?;
        }
        for queue in 0..QUEUES.len() {
            self.ask(&Outside::Resume(queue), None).await?;
        }
        for _ in 0..ROUNDS_MAX {
            self.advance(200).await?;
            for act in [Act::Promote, Act::TakeOver, Act::Read] {
                self.act(survivor, &act, None).await?;
            }
            self.run_all(survivor).await?;
            if self.reference.unfinished().is_empty() {
                return self.is_clean();
            }
        }
        Err(format!(
            "never delivered: {:?}",
            self.reference.unfinished()
        ))
    }

    async fn run_all(&mut self, process: usize) -> Checked {
        let mut kept = usize::MAX;
        loop {
            for line in 0..QUEUES.len() {
                self.act(process, &Act::Seal(line, 100), None).await?;
            }
            self.act(
                process,
                &Act::Finish(0, vec![Decision::Delivered; 100]),
                None,
            )
            .await?;
            self.act(process, &Act::Settle, None).await?;
            let left = self.processes[process]
                .as_ref()
                .expect("it runs")
                .jobs_known_and_kept()
                .1;
            if left == 0 || left == kept {
                return Ok(());
            }
            kept = left;
        }
    }

    /// Nothing is left behind but dead letters and claims.
    fn is_clean(&self) -> Checked {
        let survivors = self.processes.iter().flatten();
        let known: usize = survivors
            .map(|process| process.jobs_known_and_kept().0)
            .sum();
        if known > 0 {
            return Err(format!(
                "a process believes that it has {known} jobs, and there are none"
            ));
        }
        Ok(())
    }

    async fn act(&mut self, index: usize, act: &Act, fault: Option<Fault>) -> Checked {
        if self.processes[index].is_none() {
            self.births += 1;
            let name = format!("p{index}-{}", self.births);
            let process = Process::start(name, &self.keys, &self.redis, &self.doorbell);
            // Every daemon learns this before it reads.
            let paused = redis(paused(&mut self.redis, &self.keys).await)?;
            process.engine.set_paused(paused.into_keys().collect());
            self.processes[index] = Some(process);
        }
        let process = self.processes[index].as_mut().expect("it runs");
        if let Act::Finish(lot, decisions) = act {
            return self.finish(index, *lot, decisions);
        }
        let task = act.task();
        let standing = process
            .standing
            .iter()
            .position(|(standing, ..)| *standing == task);
        let (doing, operation, resumed) = if let Some(standing) = standing {
            let (_, doing, operation) = process.standing.remove(standing);
            (doing, operation, true)
        } else {
            let rings =
                self.is_draining || must_ring(&self.reference, &self.keys, process, &self.in_doubt);
            match process.begin(act, rings).await {
                Some((doing, operation)) => (doing, operation, false),
                None => return self.believes_rightly(index),
            }
        };
        let mut allowed = allowed(&self.reference, &self.keys, process, &doing, resumed);
        if matches!(doing, Doing::Read) {
            // Nobody rings for what was deleted and made anew.
            for (job, nexts) in self.reference.jobs.iter().zip(&mut allowed) {
                let entry = job
                    .record
                    .as_ref()
                    .and_then(|it| Some((it.stream(&self.keys), it.entry()?)));
                if !nexts.is_empty() && entry.is_some_and(|entry| self.in_doubt.contains(&entry)) {
                    nexts.push(Next::Stays);
                }
            }
        }
        let renews = matches!(doing, Doing::Renew);
        let mut certain = !resumed;
        match process.handle(task).drive(operation, fault).await {
            Progress::Ended(Ended::Done) => {}
            Progress::Ended(Ended::Sealed(lot)) => process.lots.push(lot),
            Progress::Ended(Ended::Failed(error)) => {
                self.may_fail(&error, fault.is_some() || resumed)?;
                certain = false;
            }
            Progress::Ended(Ended::Unsettled(settlement, error)) => {
                process.settle_again(settlement);
                self.may_fail(&error, fault.is_some() || resumed)?;
                certain = false;
            }
            Progress::Crashed => {
                self.processes[index] = None;
                certain = false;
            }
            Progress::Stands(operation) => {
                process.standing.push((task, doing, operation));
                certain = false;
            }
        }
        if !certain {
            or_stay(&mut allowed);
        }
        self.look(allowed).await?;
        match &self.processes[index] {
            Some(process) if renews && certain => {
                check_renewed(&self.reference, &self.keys, process)
            }
            _ => Ok(()),
        }
    }

    fn may_fail(&self, error: &RedisError, is_expected: bool) -> Checked {
        if is_expected || self.group_was_destroyed {
            return Ok(());
        }
        Err(format!("an operation failed by itself: {error}"))
    }

    fn finish(&mut self, index: usize, lot: usize, decisions: &[Decision]) -> Checked {
        let process = self.processes[index].as_mut().expect("it runs");
        let Some(expected) = process.finish(lot, decisions) else {
            return Ok(());
        };
        let settled = process
            .take_in()
            .into_iter()
            .map(|moving| (moving.id, moving.verdict));
        let settled: Vec<(EntryId, Verdict)> = settled.collect();
        if settled != expected {
            return Err(format!("decided was {expected:?}, settled is {settled:?}"));
        }
        Ok(())
    }

    async fn ask(&mut self, outside: &Outside, fault: Option<Fault>) -> Checked {
        let (request, operation, resumed) = match self.request.take() {
            Some((request, operation)) => (request, operation, true),
            None => match self.request(outside) {
                Some((request, operation)) => (request, operation, false),
                None => return Ok(()),
            },
        };
        let mut allowed = self.allowed_outside(&request, resumed);
        let mut certain = !resumed;
        match self.outside.drive(operation, fault).await {
            Progress::Ended(Ended::Done) => {}
            Progress::Ended(Ended::Failed(error)) => {
                self.may_fail(&error, fault.is_some() || resumed)?;
                certain = false;
            }
            Progress::Ended(_) => return Err("nobody outside settles".to_owned()),
            Progress::Crashed => certain = false,
            Progress::Stands(operation) => {
                self.request = Some((request, operation));
                certain = false;
            }
        }
        if !certain {
            or_stay(&mut allowed);
        }
        self.look(allowed).await
    }

    async fn advance(&mut self, minutes: u64) -> Checked {
        let by = Duration::from_mins(minutes);
        let by_ms = u64::try_from(by.as_millis()).expect("hours");
        for record in self
            .reference
            .jobs
            .iter()
            .filter_map(|job| job.record.as_ref())
        {
            if let Place::Held { id, by, idle_ms } = &record.place {
                let mut older = cmd("XCLAIM");
                older
                    .arg(record.stream(&self.keys))
                    .arg(GROUP)
                    .arg(by)
                    .arg(0)
                    .arg(id.to_string());
                older.arg("IDLE").arg(idle_ms + by_ms).arg("JUSTID");
                redis(older.query_async::<()>(&mut self.redis).await)?;
            }
        }
        for queue in QUEUES {
            let key = self.keys.delayed(queue);
            let mut members = cmd("ZRANGE");
            members.arg(&key).arg(0).arg(-1);
            let members: Vec<Vec<u8>> = redis(members.query_async(&mut self.redis).await)?;
            for member in members {
                let mut earlier = cmd("ZINCRBY");
                earlier.arg(&key).arg(format!("-{by_ms}")).arg(member);
                redis(earlier.query_async::<()>(&mut self.redis).await)?;
            }
        }
        clock::advance(by);
        self.reference.advance(by_ms);
        self.look(self.reference.all_stay()).await
    }

    async fn destroy_group(&mut self, stream: usize) -> Checked {
        let (queue, lane) = (stream % QUEUES.len(), Lane::ALL[stream / QUEUES.len()]);
        let key = self.keys.queue(QUEUES[queue], lane);
        let is_there: bool = redis(cmd("EXISTS").arg(&key).query_async(&mut self.redis).await)?;
        if !is_there {
            return Ok(());
        }
        let mut destroy = cmd("XGROUP");
        destroy.arg("DESTROY").arg(&key).arg(GROUP);
        redis(destroy.query_async::<()>(&mut self.redis).await)?;
        self.group_was_destroyed = true;
        let on_it = |record: &Record| record.queue == queue && record.lane == lane;
        let jobs = self
            .reference
            .jobs
            .iter()
            .filter_map(|job| job.record.as_ref());
        let entries = jobs
            .filter(|record| on_it(record))
            .filter_map(Record::entry);
        self.in_doubt.extend(entries.map(|id| (key.clone(), id)));
        let allowed = self
            .reference
            .each(|record| (on_it(record) && record.entry().is_some()).then_some(Next::Unheld));
        self.look(allowed).await
    }

    /// Reads Redis and compares it with what was allowed; then asks the processes what they believe.
    async fn look(&mut self, allowed: Allowed) -> Checked {
        let claims: Vec<String> = self.reference.claims.keys().cloned().collect();
        let now = redis(snapshot(&mut self.redis, &self.keys, &claims).await)?;
        self.reference.observe(&allowed, &now)?;
        (0..PROCESSES).try_for_each(|process| self.believes_rightly(process))
    }

    /// Compares what a process believes with the reference.
    fn believes_rightly(&mut self, index: usize) -> Checked {
        let Some(process) = &mut self.processes[index] else {
            return Ok(());
        };
        let new = process.take_in();
        check_intake(&self.reference, &self.keys, process, &new)?;
        check_beliefs(&self.reference, &self.keys, process, &self.in_doubt)?;
        let (known, kept) = process.jobs_known_and_kept();
        if process.standing.is_empty() && known != kept {
            return Err(format!(
                "{} knows of {known} jobs and has {kept}",
                process.name()
            ));
        }
        Ok(())
    }
}

pub(super) fn redis<T>(result: RedisResult<T>) -> Result<T, String> {
    result.map_err(|error| format!("Redis: {error}"))
}
