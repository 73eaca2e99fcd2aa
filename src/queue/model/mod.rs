//! A model of the queue, checked against a real Redis.
//!
//! Proptest draws cases: applications enqueue, processes read, settle, renew and take over, operators cancel, purge and
//! replay, and at any command of any of them the process may end, the answer be lost, or the task stand still while the
//! others go on. After each step everything in Redis is compared with what [`reference`] allows. At the end all processes
//! but one have ended, and that one must deliver everything that is not dead. The surprising thing: hours pass without
//! being waited for, because leases and delays are moved in Redis and on [`super::clock`] alike.

mod enqueue;
pub(super) mod faults;
mod outside;
mod process;
mod reference;
mod rules;
mod snapshot;
mod steps;
mod world;

use crate::private_redis::PrivateRedis;
use crate::queue::connection::{Connection, Redis};
use faults::{Blow, Fault, Faults, Moment};
use klaviyo_jobs::{Keys, Lane};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use std::cell::Cell;
use std::sync::OnceLock;
use steps::{Act, Case, Decision, How, Outside, Step};
use tokio::runtime::{Builder, Runtime};
use world::World;

/// How many cases are drawn, unless `MODEL_CASES` says otherwise.
const CASES: u32 = 300;

#[test]
fn whatever_ends_at_whatever_command_every_job_is_in_one_place_and_arrives() {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    // A thread often waits for its Redis.
    let threads = (6 * processors).clamp(2, 24);
    let cases = cases().div_ceil(u32::try_from(threads).unwrap());
    let first_to_fail = OnceLock::new();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let first_to_fail = &first_to_fail;
            scope.spawn(move || {
                let server = Server::start();
                let mut runner = TestRunner::new(config(cases));
                let outcome = runner.run(&steps::cases(), |case| {
                    if first_to_fail.get().is_some_and(|first| *first != thread) {
                        return Ok(());
                    }
                    server.check(&case).map_err(|why| {
                        first_to_fail.get_or_init(|| thread);
                        TestCaseError::fail(why)
                    })
                });
                if let Err(failure) = outcome {
                    panic!("{failure}");
                }
            });
        }
    });
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 5_000,
        ..Config::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn cases() -> u32 {
    let given = std::env::var("MODEL_CASES").ok();
    given.map_or(CASES, |cases| {
        cases.parse().expect("MODEL_CASES is a number")
    })
}

#[test]
fn a_settlement_that_is_cut_off_leaves_no_entry_that_nobody_will_read() {
    check([
        enqueued(),
        Step::Do(0, Act::Read, None),
        Step::Do(0, Act::Seal(0, 1), None),
        Step::Do(0, Act::Finish(0, vec![Decision::Delivered]), None),
        Step::Do(
            0,
            Act::Settle,
            Some(Fault {
                at: 1,
                moment: Moment::Midway,
                blow: Blow::Crash,
            }),
        ),
    ]);
}

#[test]
fn what_stood_on_a_stream_before_its_group_was_deleted_is_read_again() {
    check([
        enqueued(),
        Step::Do(0, Act::Read, None),
        Step::Do(0, Act::Read, None),
        Step::DestroyGroup(2),
    ]);
}

fn enqueued() -> Step {
    Step::Outside(
        Outside::Enqueue {
            queue: 0,
            lane: Lane::Live,
            how: How::Raw,
        },
        None,
    )
}

fn check<const STEPS: usize>(steps: [Step; STEPS]) {
    let case = Case {
        has_groups: true,
        steps: steps.into(),
    };
    if let Err(why) = Server::start().check(&case) {
        panic!("{why}");
    }
}

/// A Redis of its own for one thread, with an account for each case.
struct Server {
    runtime: Runtime,
    redis: Connection,
    doorbell: Connection,
    accounts: Cell<usize>,
    // Ends with its owner.
    _running: PrivateRedis,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let start = async {
            let server = PrivateRedis::start(folder.path(), false).await.unwrap();
            let redis = Redis::at(&server.url()).unwrap();
            let patient = |it: Connection| it.with_faults(Faults::default());
            let (redis, doorbell) = (redis.connect().await, redis.connect().await);
            (patient(redis.unwrap()), patient(doorbell.unwrap()), server)
        };
        let (redis, doorbell, server) = runtime.block_on(start);
        Self {
            runtime,
            redis,
            doorbell,
            accounts: Cell::new(0),
            _running: server,
            _folder: folder,
        }
    }

    /// Takes the steps of a case in an account of its own, and drains it.
    fn check(&self, case: &Case) -> Result<(), String> {
        self.accounts.set(self.accounts.get() + 1);
        let keys = Keys::new("model", &format!("a{}", self.accounts.get())).unwrap();
        self.runtime.block_on(async {
            let mut world = World::new(keys, &self.redis, &self.doorbell);
            if case.has_groups {
                world.make_groups().await;
            }
            for (number, step) in case.steps.iter().enumerate() {
                let taken = world.step(step).await;
                taken.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
            }
            let drained = world.drain().await;
            drained.map_err(|why| format!("at the end: {why}"))
        })
    }
}
