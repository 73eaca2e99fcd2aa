//! Gates and breakers that a fleet shares, over a real Redis: two or three members with connections of their own.

use crate::fleet::{Account, M, XS};
use crate::harness::until;
use klaviyo_jobs::Keys;
use klaviyod::klaviyo::{BudgetScale, ClosedBy};
use klaviyod::queue::{BarrierState, operation_limits};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_refused_to_one_daemon_is_used_by_none_and_one_probe_opens_for_all() {
    let account = Account::open().await;
    let [one, other] = account.two().await;
    assert!(one.answered(401).await);
    assert!(!one.answered(401).await);
    until("the other daemon hears of it", || {
        other.client.credentials_closed().is_some()
    })
    .await;
    // A daemon that starts now makes no call either.
    let late = account.member(BudgetScale::Off).await;
    assert!(late.client.credentials_closed().is_some());
    // Of all who want to probe one does.
    let mut probes = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        for member in [&one, &other, &late] {
            probes += u32::from(member.answered(401).await);
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!((1..=3).contains(&probes), "{probes} in 2.5 s");
    while ![&one, &other, &late].iter().all(|it| it.is_open()) {
        assert!(start.elapsed() < Duration::from_secs(20), "never opened");
        for member in [&one, &other, &late] {
            member.answered(200).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_refused_to_one_daemon_is_closed_for_all_and_others_go_on() {
    let account = Account::open().await;
    let [one, other] = account.two().await;
    assert!(one.answered(403).await);
    until("the other daemon hears of it", || {
        other.client.operation_closed(XS).is_some()
    })
    .await;
    assert_eq!(other.client.closed(M), None);
    assert!(other.client.try_permit(M).is_some());
    let mut redis = account.connection().await;
    let rows = operation_limits(&mut redis, &Keys::default(), BudgetScale::Real, 0.0).await;
    let rows = rows.unwrap();
    let gate = |name| rows.iter().find(|it| it.operation == name).unwrap().gate;
    assert_eq!(gate(XS.name()), BarrierState::Shut);
    assert_eq!(gate(M.name()), BarrierState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_down_gets_one_probe_a_second_from_the_whole_fleet() {
    let account = Account::open().await;
    let [one, other] = account.two().await;
    while one.answered(503).await {}
    until("the other daemon hears of it", || {
        other.client.tripped(XS.group()).is_some()
    })
    .await;
    let start = Instant::now();
    let mut probes = 0;
    while start.elapsed() < Duration::from_secs(6) {
        for member in [&one, &other] {
            probes += u32::from(member.answered(503).await);
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert!((1..=6).contains(&probes), "{probes} in 6 s");
    let back = Instant::now();
    while ![&one, &other].iter().all(|it| it.is_open()) {
        assert!(back.elapsed() < Duration::from_secs(10), "never recovered");
        for member in [&one, &other] {
            member.answered(200).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_gates_close_and_open_for_each_daemon_alone() {
    let mut account = Account::open().await;
    let [one, _other] = account.two().await;
    drop(account.server.take());
    assert!(one.answered(401).await);
    assert!(one.is_closed_by(ClosedBy::Credentials));
    let start = Instant::now();
    while !one.is_open() {
        assert!(start.elapsed() < Duration::from_secs(20), "never opened");
        one.answered(200).await;
        sleep(Duration::from_millis(20)).await;
    }
}
