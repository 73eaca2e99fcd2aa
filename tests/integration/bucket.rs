//! The script of the shared bucket under a clock of the test's own: minutes of a fleet's calls in a second of ours.
//!
//! Daemons ask, wait, come back with tickets and give back what they did not use, each with delays of its own. Whatever
//! they do, no window of Klaviyo's may ever hold more than is allowed, wherever it begins.

use klaviyod::klaviyo::{Limits, Operation, RETRY_AFTER_MAX, Shape};
use klaviyod::private_redis::PrivateRedis;
use klaviyod::queue::{Connection, Redis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::Script;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use tempfile::TempDir;

const HOLD: Duration = Duration::from_millis(250);
/// From a grant to the arrival of its call at Klaviyo, in microseconds: the line's own delay.
const DELAY_US: std::ops::Range<i64> = 200..20_000;
const START_US: i64 = 1_700_000_000_000_000;

type Answer = (
    (i64, i64, i64, i64, i64),
    (i64, String, i64, u32),
    (u32, u32, u32, i64),
);

/// One daemon: what it holds of the fleet.
#[derive(Clone, Copy, Default)]
struct Daemon {
    ticket: Option<(i64, i64)>,
    waiting: i64,
}

struct Fleet {
    redis: Connection,
    script: Script,
    shape: Shape,
    daily: u32,
}

impl Fleet {
    async fn ask(
        &mut self,
        now: i64,
        wanted: i64,
        ticket: Option<(i64, i64)>,
        unused: &[i64],
    ) -> Answer {
        let mut set = redis::cmd("HSET");
        set.arg("clock")
            .arg("s")
            .arg(now / 1_000_000)
            .arg("us")
            .arg(now % 1_000_000);
        set.query_async::<()>(&mut self.redis).await.unwrap();
        let mut call = self.script.key("budget");
        call.key("budget:day");
        call.arg(format!("{:.3}", self.shape.interval.as_secs_f64() * 1e6));
        call.arg(self.shape.capacity.get())
            .arg(self.daily)
            .arg(0)
            .arg("retry_after")
            .arg(u64::try_from(RETRY_AFTER_MAX.as_micros()).unwrap())
            .arg(wanted);
        let (calls, due) = ticket.unwrap_or_default();
        call.arg(calls).arg(due);
        for due in unused {
            call.arg(*due);
        }
        call.invoke_async(&mut self.redis).await.unwrap()
    }
}

/// Plays a fleet for so long, and returns when calls arrived.
async fn play(fleet: &mut Fleet, rng: &mut StdRng, time: Duration, is_saturated: bool) -> Vec<i64> {
    let mut daemons = [Daemon::default(); 3];
    // When a daemon acts next.
    let mut agenda: BinaryHeap<Reverse<(i64, usize)>> =
        (0..3).map(|it| Reverse((START_US, it))).collect();
    let mut arrived = Vec::new();
    let end = START_US + i64::try_from(time.as_micros()).unwrap();
    while let Some(Reverse((now, number))) = agenda.pop() {
        if now >= end {
            break;
        }
        let daemon = &mut daemons[number];
        if is_saturated {
            daemon.waiting = 40;
        } else if rng.random_bool(0.1) {
            daemon.waiting += rng.random_range(0..60);
        }
        let held = daemon.ticket.map_or(0, |(calls, _)| calls);
        let wanted = (daemon.waiting - held).clamp(0, i64::from(fleet.shape.block));
        let ticket = daemon.ticket.take();
        if wanted == 0 && ticket.is_none() {
            agenda.push(Reverse((now + rng.random_range(1_000..3_000_000), number)));
            continue;
        }
        let ((good, free, reserved, due, wait), _, _) = fleet.ask(now, wanted, ticket, &[]).await;
        let mut granted = vec![due; usize::try_from(free).unwrap()];
        if let Some((calls, due)) = ticket.filter(|_| good == 1) {
            granted.extend((0..calls).map(|_| due));
        }
        let mut unused = Vec::new();
        for due in granted {
            daemon.waiting = (daemon.waiting - 1).max(0);
            // A few callers change their mind, and what they had comes back a little later.
            if !is_saturated && rng.random_bool(0.1) {
                unused.push(due);
            } else {
                arrived.push(now + rng.random_range(DELAY_US));
            }
        }
        if !unused.is_empty() {
            fleet
                .ask(now + rng.random_range(1_000..250_000), 0, None, &unused)
                .await;
        }
        let pause = if reserved > 0 {
            daemon.ticket = Some((reserved, due));
            wait + rng.random_range(0..5_000)
        } else {
            rng.random_range(100..2_000)
        };
        agenda.push(Reverse((now + pause, number)));
    }
    arrived.sort_unstable();
    arrived
}

/// The most calls of any window of that length, wherever it begins.
fn worst(calls: &[i64], window: Duration) -> usize {
    let window = i64::try_from(window.as_micros()).unwrap();
    let (mut start, mut most) = (0, 0);
    for (end, call) in calls.iter().enumerate() {
        while call - calls[start] >= window {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    most
}

async fn fleet(folder: &TempDir, limits: Limits) -> (PrivateRedis, Fleet) {
    let server = PrivateRedis::start(folder.path(), false).await.unwrap();
    let redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
    let source = include_str!("../../src/queue/fleet/take.lua");
    let clock = "redis.call('HMGET', 'clock', 's', 'us')";
    let source = source.replace("redis.call('TIME')", clock);
    let fleet = Fleet {
        redis,
        script: Script::new(&source),
        shape: Shape::shared(limits, HOLD),
        daily: limits.daily.unwrap_or(0),
    };
    (server, fleet)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_three_daemons_ever_breaks_a_window() {
    for (seed, operation) in (0_u64..).zip(Operation::ALL.into_iter().cycle()).take(14) {
        let limits = operation.limits();
        let folder = TempDir::new().unwrap();
        let (_server, mut fleet) = fleet(&folder, limits).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let calls = play(&mut fleet, &mut rng, Duration::from_mins(3), seed % 3 == 0).await;
        let second = worst(&calls, Duration::from_secs(1));
        let minute = worst(&calls, Duration::from_mins(1));
        assert!(
            second <= limits.burst as usize,
            "seed {seed}, {operation}: {second} in a second"
        );
        assert!(
            minute <= limits.steady as usize,
            "seed {seed}, {operation}: {minute} in a minute"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_saturated_daemons_use_97_of_100_calls_of_every_minute() {
    for operation in [
        Operation::BulkCreateEvents,
        Operation::CreateEvent,
        Operation::CreateOrUpdateProfile,
    ] {
        let limits = operation.limits();
        let folder = TempDir::new().unwrap();
        let (_server, mut fleet) = fleet(&folder, limits).await;
        let mut rng = StdRng::seed_from_u64(1);
        let calls = play(&mut fleet, &mut rng, Duration::from_mins(3), true).await;
        let minute = 60_000_000;
        for begin in [START_US + minute, START_US + 2 * minute - 1_000_000] {
            let within = |call: &&i64| (begin..begin + minute).contains(*call);
            let used = calls.iter().filter(within).count();
            let steady = limits.steady as usize;
            assert!(used * 100 >= 97 * steady, "{operation}: {used} of {steady}");
            assert!(used <= steady, "{operation}: {used} of {steady}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_limit_holds_for_any_24_hours_and_frees_what_came_back() {
    let limits = Limits {
        burst: 1,
        steady: 15,
        daily: Some(3),
    };
    let folder = TempDir::new().unwrap();
    let (_server, mut fleet) = fleet(&folder, limits).await;
    let mut now = START_US;
    let mut due = Vec::new();
    for _ in 0..3 {
        let ((_, free, _, at, _), (closed, ..), _) = fleet.ask(now, 1, None, &[]).await;
        assert_eq!((free, closed), (1, 0));
        due.push(at);
        now += 10_000_000;
    }
    let ((_, free, reserved, ..), (closed, why, ..), _) = fleet.ask(now, 1, None, &[]).await;
    assert_eq!((free, reserved, why.as_str()), (0, 0, "day"));
    let day = 86_400_000_000;
    assert_eq!(now + closed, due[0] + day);
    // The last one comes back, and can be taken again.
    fleet.ask(now, 0, None, &due[2..]).await;
    assert_eq!(fleet.ask(now, 1, None, &[]).await.0.1, 1);
    assert_eq!(fleet.ask(due[0] + day - 1, 1, None, &[]).await.0.1, 0);
    assert_eq!(fleet.ask(due[0] + day, 1, None, &[]).await.0.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_keeps_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let (_server, mut fleet) = fleet(&folder, Operation::BulkCreateEvents.limits()).await;
    assert_eq!(fleet.ask(START_US, 1, None, &[]).await.0.1, 1);
    let an_hour_ago = START_US - 3_600_000_000;
    assert_eq!(fleet.ask(an_hour_ago, 1, None, &[]).await.0.1, 1);
}
