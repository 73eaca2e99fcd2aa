//! What may happen in a case: the steps, and how proptest draws and shrinks them.
//!
//! A step names its objects by number, whatever there is: what does not apply is passed over, so that every shorter list
//! of steps is a case too.

use super::faults::{Blow, Fault, Moment};
use super::process::Task;
use crate::queue::job::verdict::{Reason, Verdict};
use klaviyo_jobs::Lane;
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt;
use std::time::Duration;

pub(super) const PROCESSES: usize = 3;

/// One step of a case.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A process does something; it starts if it does not run. A task that stands still goes on instead.
    Do(usize, Act, Option<Fault>),
    /// A process ends without warning.
    Crash(usize),
    /// Minutes pass.
    Advance(u64),
    /// Applications and operators do something.
    Outside(Outside, Option<Fault>),
    /// Somebody deletes the consumer group of a stream.
    DestroyGroup(usize),
}

/// What a process does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Promote,
    Read,
    Renew,
    TakeOver,
    Forget,
    /// Opens and seals a lot of a line, of so many jobs at most.
    Seal(usize, usize),
    /// Ends a lot.
    Finish(usize, Vec<Decision>),
    Settle,
    /// Takes nothing new from now on and hands back what no handler took.
    Stop,
}

/// What a handler decides about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Delivered,
    Retry,
    /// So many minutes.
    Snooze(u64),
    Bury,
}

/// What others do.
#[derive(Clone, Debug)]
pub(super) enum Outside {
    Enqueue {
        queue: usize,
        lane: Lane,
        how: How,
    },
    /// The number of a job.
    Cancel(usize),
    Purge(usize, Option<Lane>),
    Pause(usize),
    Resume(usize),
    /// The number of a dead letter, or all of its queue.
    Replay {
        dead: usize,
        all: bool,
        without_flows: bool,
    },
    Edit(usize),
    Discard(usize),
}

/// How a job is enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// As an application in any language does.
    Raw,
    /// The same bytes as the last one.
    Again,
    /// With one of three ids, claimed.
    Claimed(usize),
    /// Claimed, and to run in so many minutes.
    ClaimedLater(usize, u64),
    /// To run in so many minutes.
    Later(u64),
    /// Twice the same bytes, to run in so many minutes.
    Twins(u64),
    /// What no handler may see.
    Nonsense(usize),
}

impl Act {
    pub(super) fn task(&self) -> Task {
        match self {
            Self::Promote => Task::Promoter,
            Self::Read => Task::Reader,
            Self::Renew | Self::TakeOver | Self::Forget => Task::Leases,
            Self::Settle => Task::Settler,
            Self::Seal(..) | Self::Finish(..) | Self::Stop => Task::Lots,
        }
    }
}

impl Decision {
    pub(super) fn verdict(self) -> Verdict {
        let reason = || Reason {
            code: "klaviyo.invalid",
            status: Some(400),
            detail: "a detail: with colons".into(),
            pointer: Some("/data/attributes/x".into()),
        };
        match self {
            Self::Delivered => Verdict::Delivered,
            Self::Retry => Verdict::Retry(reason()),
            Self::Snooze(minutes) => Verdict::Snooze(Duration::from_mins(minutes)),
            Self::Bury => Verdict::Bury(reason()),
        }
    }
}

/// A list of steps.
#[derive(Clone)]
pub(super) struct Case {
    /// Whether daemons have been here before.
    pub(super) has_groups: bool,
    pub(super) steps: Vec<Step>,
}

impl fmt::Debug for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One to a line, as they are written in a test.
        write!(formatter, "has_groups: {},", self.has_groups)?;
        let mut steps = self.steps.iter();
        steps.try_for_each(|step| write!(formatter, "\n    {step:?},"))
    }
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let first = vec(enqueue().prop_map(|it| Step::Outside(it, None)), 1..6);
    let has_groups = prop_oneof![9 => Just(true), 1 => Just(false)];
    let rest = vec(passage(), 2..20);
    (has_groups, first, rest).prop_map(|(has_groups, first, rest)| Case {
        has_groups,
        steps: first
            .into_iter()
            .chain(rest.into_iter().flatten())
            .collect(),
    })
}

/// Single steps, and among them the few that mostly follow each other: by chance alone, few jobs would get far.
fn passage() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        12 => step().prop_map(|step| vec![step]),
        6 => work(),
        2 => hand_over(),
        2 => (advance(), process(Act::Promote)).prop_map(|(advance, promote)| vec![advance, promote]),
    ]
}

/// A process reads, runs and settles.
fn work() -> impl Strategy<Value = Vec<Step>> {
    let lot = (0..2_usize, 1..4_usize, vec(decision(), 1..4));
    (
        0..PROCESSES,
        lot,
        vec(proptest::option::weighted(0.2, planned_fault()), 4),
        vec(often(), 4),
    )
        .prop_map(|(process, (line, most, decisions), faults, kept)| {
            let acts = [
                Act::Read,
                Act::Seal(line, most),
                Act::Finish(0, decisions),
                Act::Settle,
            ];
            let steps = acts
                .into_iter()
                .zip(faults)
                .map(|(act, fault)| Step::Do(process, act, fault));
            only(steps, kept)
        })
}

/// A process stands still or ends for longer than a lease, while others take over what it held.
fn hand_over() -> impl Strategy<Value = Vec<Step>> {
    let held = prop_oneof![Just(Act::Settle), Just(Act::Renew), Just(Act::TakeOver)];
    let blow = prop_oneof![4 => Just(Blow::Hold), 1 => Just(Blow::Crash)];
    // What Redis did before the process stood still may be another's by the time its answer is read.
    let moment = prop_oneof![Just(Moment::Before), Just(Moment::After)];
    let fault = (1..5_usize, moment, blow);
    let fault = fault.prop_map(|(at, moment, blow)| Fault { at, moment, blow });
    let at_settle = Fault {
        at: 1,
        moment: Moment::Before,
        blow: Blow::Hold,
    };
    let fault = prop_oneof![Just(at_settle), fault];
    (
        0..PROCESSES,
        1..PROCESSES,
        held,
        fault,
        advance(),
        any::<bool>(),
        vec(often(), 4),
    )
        .prop_map(
            |(process, other, act, fault, advance, advance_first, kept)| {
                let other = (process + other) % PROCESSES;
                let still = Step::Do(process, act.clone(), Some(fault));
                let [first, second] = if advance_first {
                    [advance, still]
                } else {
                    [still, advance]
                };
                let take_over = Step::Do(other, Act::TakeOver, None);
                only(
                    [first, second, take_over, Step::Do(process, act, None)].into_iter(),
                    kept,
                )
            },
        )
}

fn often() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.93)
}

fn only(steps: impl Iterator<Item = Step>, kept: Vec<bool>) -> Vec<Step> {
    steps
        .zip(kept)
        .filter(|(_, kept)| *kept)
        .map(|(step, _)| step)
        .collect()
}

fn process(act: Act) -> impl Strategy<Value = Step> {
    (0..PROCESSES, fault()).prop_map(move |(process, fault)| Step::Do(process, act.clone(), fault))
}

/// Never so that a sum of them comes near a lease or a delay: nothing depends on how fast the steps are.
fn advance() -> impl Strategy<Value = Step> {
    prop_oneof![Just(25), Just(75), Just(200)].prop_map(Step::Advance)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..PROCESSES, act(), fault()).prop_map(|(process, act, fault)| Step::Do(process, act, fault)),
        5 => (0..PROCESSES).prop_map(Step::Crash),
        10 => advance(),
        14 => (enqueue(), fault()).prop_map(|(it, fault)| Step::Outside(it, fault)),
        16 => (operate(), fault()).prop_map(|(it, fault)| Step::Outside(it, fault)),
        1 => (0..6_usize).prop_map(Step::DestroyGroup),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Promote),
        10 => Just(Act::Read),
        4 => Just(Act::Renew),
        6 => Just(Act::TakeOver),
        1 => Just(Act::Forget),
        10 => (0..2_usize, 1..4_usize).prop_map(|(line, most)| Act::Seal(line, most)),
        10 => (0..3_usize, vec(decision(), 0..4)).prop_map(|(lot, decisions)| Act::Finish(lot, decisions)),
        12 => Just(Act::Settle),
        1 => Just(Act::Stop),
    ]
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        3 => Just(Decision::Delivered),
        3 => Just(Decision::Retry),
        3 => prop_oneof![Just(0), Just(10), Just(110)].prop_map(Decision::Snooze),
        2 => Just(Decision::Bury),
    ]
}

fn enqueue() -> impl Strategy<Value = Outside> {
    let how = prop_oneof![
        4 => Just(How::Raw),
        2 => Just(How::Again),
        3 => (0..3_usize).prop_map(How::Claimed),
        2 => (0..3_usize, delay()).prop_map(|(id, delay)| How::ClaimedLater(id, delay)),
        2 => delay().prop_map(How::Later),
        1 => delay().prop_map(How::Twins),
        2 => (0..4_usize).prop_map(How::Nonsense),
    ];
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Urgent), Just(Lane::Backfill)];
    (0..2_usize, lane, how).prop_map(|(queue, lane, how)| Outside::Enqueue { queue, lane, how })
}

fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![Just(10), Just(110)]
}

fn operate() -> impl Strategy<Value = Outside> {
    let lane = proptest::option::of(prop_oneof![Just(Lane::Live), Just(Lane::Backfill)]);
    prop_oneof![
        3 => (0..8_usize).prop_map(Outside::Cancel),
        1 => (0..2_usize, lane).prop_map(|(queue, lane)| Outside::Purge(queue, lane)),
        1 => (0..2_usize).prop_map(Outside::Pause),
        1 => (0..2_usize).prop_map(Outside::Resume),
        5 => (0..4_usize, any::<bool>(), any::<bool>())
            .prop_map(|(dead, all, without_flows)| Outside::Replay { dead, all, without_flows }),
        2 => (0..4_usize).prop_map(Outside::Edit),
        1 => (0..4_usize).prop_map(Outside::Discard),
    ]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![3 => Just(None), 2 => planned_fault().prop_map(Some)]
}

fn planned_fault() -> impl Strategy<Value = Fault> {
    let moment = prop_oneof![
        2 => Just(Moment::Before),
        1 => Just(Moment::Midway),
        3 => Just(Moment::After),
    ];
    let blow = prop_oneof![Just(Blow::Crash), Just(Blow::Error), Just(Blow::Hold)];
    (1..6_usize, moment, blow).prop_map(|(at, moment, blow)| Fault { at, moment, blow })
}
