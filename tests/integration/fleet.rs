//! The budget that a fleet shares, over a real Redis: two or three members with connections of their own.

use crate::harness::{until, until_async};
use klaviyo_jobs::Keys;
use klaviyod::klaviyo::memory::{Answer, Memory};
use klaviyod::klaviyo::{
    Budget, BudgetScale, Client, ClosedBy, Operation, RateLimitHeaders, Settings,
};
use klaviyod::private_redis::PrivateRedis;
use klaviyod::queue::{Connection, Fleet, Redis, operation_limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub(crate) const M: Operation = Operation::BulkCreateEvents;
const XL: Operation = Operation::CreateEvent;
pub(crate) const XS: Operation = Operation::GetAccounts;

/// A Redis and the account's daemons on it.
pub(crate) struct Account {
    redis: Redis,
    pub(crate) server: Option<PrivateRedis>,
    _folder: TempDir,
}

/// One daemon, as far as it is concerned with the fleet.
pub(crate) struct Member {
    fleet: Fleet,
    pub(crate) client: Arc<Client>,
    budget: Arc<dyn Budget>,
    klaviyo: Memory,
}

impl Account {
    pub(crate) async fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        Self {
            redis: Redis::at(&server.url()).unwrap(),
            server: Some(server),
            _folder: folder,
        }
    }

    pub(crate) async fn connection(&self) -> Connection {
        self.redis.connect().await.unwrap()
    }

    pub(crate) async fn member(&self, scale: BudgetScale) -> Member {
        let connection = self.connection().await;
        let mut fleet = Fleet::new(connection, Keys::default(), scale, 0.0);
        let klaviyo = Memory::new();
        let mut settings = Settings::new("https://a.klaviyo.com".parse().unwrap(), "pk_1".into());
        settings.credentials_probe_every = Duration::from_secs(1);
        settings.operation_probe_every = Duration::from_secs(1);
        let client =
            Client::with_transport(settings, fleet.budget(), Arc::new(klaviyo.clone())).unwrap();
        let client = Arc::new(client.with_fleet(&fleet.line()));
        fleet.join(&client).await;
        Member {
            budget: fleet.budget(),
            fleet,
            client,
            klaviyo,
        }
    }

    /// Two members that have both made a good call, so that what they say about their keys is proven.
    pub(crate) async fn two(&self) -> [Member; 2] {
        let two = [
            self.member(BudgetScale::Off).await,
            self.member(BudgetScale::Off).await,
        ];
        for member in &two {
            member.answered(200).await;
        }
        two
    }
}

impl Member {
    /// Makes a call that Klaviyo answers with `status`; false if it may not leave.
    pub(crate) async fn answered(&self, status: u16) -> bool {
        let sent = self.klaviyo.requests().len();
        let body = r#"{"data":[{"id":"A","attributes":{}}]}"#;
        if let Some(permit) = self.client.try_permit(XS) {
            self.klaviyo.answer(Answer::new(status, body));
            drop(self.client.get_accounts(permit).await);
        }
        self.klaviyo.requests().len() > sent
    }

    pub(crate) fn is_closed_by(&self, by: ClosedBy) -> bool {
        self.client.closed(XS).is_some_and(|(it, _)| it == by)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.client.credentials_closed().is_none()
            && self.client.operation_closed(XS).is_none()
            && self.client.tripped(XS.group()).is_none()
    }
}

/// Calls as often as the budgets allow for `time`, and returns when calls left, since the start.
async fn saturate(members: &[Member], operation: Operation, time: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for budget in members.iter().map(|it| Arc::clone(&it.budget)) {
        for _ in 0..40 {
            let budget = Arc::clone(&budget);
            callers.spawn(async move {
                let mut left = Vec::new();
                while let Ok(permit) = budget.take(operation, start + time).await {
                    // Only a client uses a permit up; one that is kept counts as used.
                    left.push((start.elapsed(), permit));
                }
                left
            });
        }
    }
    let left = callers.join_all().await.into_iter().flatten();
    let mut left: Vec<_> = left.map(|(at, _)| at).collect();
    left.sort();
    left
}

/// Waits until the fleet has used so many calls of the last minute.
async fn until_used(account: &Account, operation: Operation, calls: u32) {
    let mut redis = account.connection().await;
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let rows = operation_limits(&mut redis, &Keys::default(), BudgetScale::Real, 0.0).await;
        let mut rows = rows.unwrap().into_iter();
        let row = rows.find(|it| it.operation == operation.name()).unwrap();
        if row.used_minute == calls {
            return;
        }
        assert!(Instant::now() < end, "never so many: {row:?}");
    }
}

fn worst(calls: &[Duration], window: Duration) -> usize {
    let most = |from: &Duration| {
        let within = |it: &&Duration| **it >= *from && **it < *from + window;
        calls.iter().filter(within).count()
    };
    calls.iter().map(most).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_daemons_together_use_one_budget() {
    let account = Account::open().await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(account.member(BudgetScale::Real).await);
    }
    let time = Duration::from_secs(6);
    let (m, xl) = tokio::join!(saturate(&members, M, time), saturate(&members, XL, time));
    for (operation, calls) in [(M, m), (XL, xl)] {
        let limits = operation.limits();
        let per_second = f64::from(limits.steady) / 60.0;
        let fair = per_second * time.as_secs_f64();
        let used = f64::from(u32::try_from(calls.len()).unwrap());
        // One percent of the minute may leave at once.
        let most = fair + (per_second * 0.6).max(1.0);
        assert!(used <= most, "{operation}: {used} of {fair}");
        // More than a daemon alone would; how much exactly is shown under a clock of the test's own.
        assert!(used >= 0.5 * fair, "{operation}: {used} of {fair}");
        assert!(worst(&calls, Duration::from_secs(1)) <= limits.burst as usize);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_take_turns() {
    let account = Account::open().await;
    let members = [
        account.member(BudgetScale::Real).await,
        account.member(BudgetScale::Real).await,
    ];
    let counts: Vec<_> = (0..2).map(|_| Arc::new(AtomicU32::new(0))).collect();
    let end = Instant::now() + Duration::from_secs(5);
    let mut callers = JoinSet::new();
    // One offers fifty times as much as the other.
    for (member, callers_of) in [(0, 1), (1, 50)] {
        for _ in 0..callers_of {
            let budget = Arc::clone(&members[member].budget);
            let count = Arc::clone(&counts[member]);
            callers.spawn(async move {
                let mut kept = Vec::new();
                while let Ok(permit) = budget.take(M, end).await {
                    kept.push(permit);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                kept
            });
        }
    }
    callers.join_all().await;
    let [few, many] = [0, 1].map(|it| counts[it].load(Ordering::Relaxed));
    assert!(few + 2 >= many, "{few} and {many}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_closes_the_operation_for_the_other_daemon_too() {
    let account = Account::open().await;
    let one = account.member(BudgetScale::Real).await;
    let other = account.member(BudgetScale::Real).await;
    let closed = Instant::now();
    one.budget.close(M, Duration::from_secs(3));
    // Whoever has waited already and whoever comes now get nothing before it is over.
    until("the other daemon hears of it", || {
        other.client.closed(M).is_some()
    })
    .await;
    assert!(other.budget.status(XL).closed_until.is_none());
    let permit = other.budget.take(M, closed + Duration::from_secs(10));
    let permit = permit.await.unwrap();
    assert!(closed.elapsed() >= Duration::from_secs(3));
    drop(permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reserved_before_retry_after_does_not_leave_before_it_is_over() {
    let account = Account::open().await;
    let one = account.member(BudgetScale::Real).await;
    let other = account.member(BudgetScale::Real).await;
    let end = Instant::now() + Duration::from_secs(10);
    let _kept = one.budget.take(M, end).await.unwrap();
    // The next call is 0.4 s away, and this one waits for it with a ticket.
    let mut waiting = JoinSet::new();
    let budget = Arc::clone(&other.budget);
    waiting.spawn(async move {
        let permit = budget.take(M, end).await;
        (permit.is_ok(), Instant::now())
    });
    until_used(&account, M, 2).await;
    let closed = Instant::now();
    one.budget.close(M, Duration::from_secs(2));
    let (got, at) = waiting.join_next().await.unwrap().unwrap();
    assert!(got && at >= closed + Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_permits_come_back_to_the_whole_fleet() {
    let account = Account::open().await;
    let one = account.member(BudgetScale::Real).await;
    let other = account.member(BudgetScale::Real).await;
    let end = Instant::now() + Duration::from_secs(2);
    // Its interval is 4.3 s, so that without the return there would be none in time.
    drop(one.budget.take(XS, end).await.unwrap());
    // Not at once: it is held for a quarter of a second in case somebody there wants it.
    until_used(&account, XS, 0).await;
    let _kept = other.budget.take(XS, end).await.unwrap();
    assert!(one.budget.take(XS, end).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_quarter_of_the_budget_is_used() {
    let mut account = Account::open().await;
    let members = [account.member(BudgetScale::Real).await];
    let first = members[0]
        .budget
        .take(XL, Instant::now() + Duration::from_secs(5));
    let _kept = first.await.unwrap();
    drop(account.server.take());
    let time = Duration::from_secs(6);
    let calls = saturate(&members, XL, time).await;
    let quarter = f64::from(XL.limits().steady) / 60.0 / 4.0 * time.as_secs_f64();
    let used = f64::from(u32::try_from(calls.len()).unwrap());
    assert!(used <= quarter + 9.0, "{used} of {quarter}");
    assert!(used >= quarter / 2.0, "{used} of {quarter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_klaviyo_names_to_one_hold_for_all() {
    let account = Account::open().await;
    let one = account.member(BudgetScale::Real).await;
    let other = account.member(BudgetScale::Real).await;
    let headers = RateLimitHeaders {
        windows: vec![(10, 1), (60, 60)],
        ..RateLimitHeaders::default()
    };
    one.budget.observe(M, &headers);
    assert_eq!(one.budget.status(M).limits, Some(M.limits()));
    one.budget.observe(M, &headers);
    until("the other daemon hears of it", || {
        other.budget.status(M).limits.unwrap().steady == 60
    })
    .await;
    // A daemon that starts later knows it before its first call.
    let later = account.member(BudgetScale::Real).await;
    assert_eq!(later.budget.status(M).limits.unwrap().steady, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_closed_by_a_clock_that_was_set_back_is_open_and_can_be_closed_again() {
    let account = Account::open().await;
    let mut redis = account.connection().await;
    let time = redis::cmd("TIME");
    let (seconds, _): (u64, u64) = time.query_async(&mut redis).await.unwrap();
    let mut ahead = redis::cmd("HSET");
    ahead
        .arg(format!("klaviyod:{{default}}:budget:{}", M.name()))
        .arg("closed")
        .arg((seconds + 3 * 3600) * 1_000_000)
        .arg("why")
        .arg("retry_after");
    ahead.query_async::<()>(&mut redis).await.unwrap();
    let closed_ms = async |redis: &mut Connection| {
        let rows = operation_limits(redis, &Keys::default(), BudgetScale::Real, 0.0).await;
        let mut rows = rows.unwrap().into_iter();
        let row = rows.find(|it| it.operation == M.name());
        row.unwrap().closed_ms
    };
    assert_eq!(closed_ms(&mut redis).await, 0);
    // It looks at everything when it joins.
    let one = account.member(BudgetScale::Real).await;
    assert_eq!(one.client.closed(M), None);
    let end = Instant::now() + Duration::from_secs(10);
    let _kept = one.budget.take(M, end).await.unwrap();
    one.budget.close(M, Duration::from_mins(1));
    until_async("the fleet knows", async || {
        (1..=60_000).contains(&closed_ms(&mut redis.clone()).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_still_grants_closes_and_shuts() {
    let account = Account::open().await;
    let one = account.member(BudgetScale::Real).await;
    let other = account.member(BudgetScale::Real).await;
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxmemory").arg("1");
    let mut redis = account.connection().await;
    full.query_async::<()>(&mut redis).await.unwrap();
    let mut refused = redis::cmd("SET");
    refused.arg("a").arg("b");
    assert!(refused.query_async::<()>(&mut redis).await.is_err());
    let end = Instant::now() + Duration::from_secs(10);
    for _ in 0..3 {
        one.budget.take(M, end).await.unwrap();
    }
    until_used(&account, M, 0).await;
    one.budget.close(XL, Duration::from_mins(1));
    until("the other daemon hears of it", || {
        other.client.closed(XL).is_some()
    })
    .await;
    one.klaviyo.answer(Answer::new(401, ""));
    one.client.probe_credentials().await.unwrap_err();
    until("the other daemon hears of it", || {
        other.client.credentials_closed().is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_member_asks_redis_once_a_second() {
    let account = Account::open().await;
    let members = [
        account.member(BudgetScale::Real).await,
        account.member(BudgetScale::Real).await,
    ];
    // Whoever asks more often does so in every window; what belongs to the start, only in the first.
    until_async("two members ask twice a second", async || {
        let mut redis = account.connection().await;
        let begun = Instant::now();
        let before = commands(&mut redis).await;
        sleep(Duration::from_secs(3)).await;
        let asked = commands(&mut redis).await - before;
        // As many as the true length of the window allows, one more at either end, and our own question.
        asked > 1 && asked <= 2 * (begun.elapsed().as_secs() + 2) + 1
    })
    .await;
    for member in members {
        member.fleet.leave().await;
    }
}

async fn commands(redis: &mut Connection) -> u64 {
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("stats").query_async(redis).await.unwrap();
    let line = info
        .lines()
        .find_map(|it| it.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}
