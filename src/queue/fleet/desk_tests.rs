//! The line of callers in one process, under a paused clock.

use super::desk::*;
use super::take::{LOWERED_FOR, Lowered, Reply, Ticket};
use crate::klaviyo::{Limits, Operation, Permit, RateLimitHeaders, Shape, WaitReason};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::advance;

const MINUTE: Duration = Duration::from_mins(1);
const XL: Operation = Operation::CreateEvent;

fn desk() -> Arc<Desk> {
    Arc::new(Desk::new(XL, Some(XL.limits()), 0.0))
}

fn join(desk: &Arc<Desk>) -> oneshot::Receiver<Permit> {
    let now = Instant::now();
    desk.join(now + MINUTE, now).unwrap()
}

fn question(desk: &Desk) -> Question {
    match desk.step(Instant::now()) {
        Step::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

fn reply(free: u32, reserved: u32, wait_ms: u64) -> Reply {
    Reply {
        ticket_is_good: true,
        free,
        reserved,
        due_us: 7,
        wait: Duration::from_millis(wait_ms),
        closed_for: None,
        day_is_full: false,
        full_in: Duration::from_millis(wait_ms),
        used: free,
        lowered: None,
    }
}

#[tokio::test(start_paused = true)]
async fn first_come_is_first_served_and_who_has_gone_is_skipped() {
    let desk = desk();
    let gone = join(&desk);
    let mut callers: Vec<_> = (0..3).map(|_| join(&desk)).collect();
    drop(gone);
    let asked = question(&desk);
    assert_eq!((asked.wanted, asked.ticket), (3, None));
    desk.hear(&asked, &reply(2, 0, 0), Instant::now());
    let first = callers[0].try_recv().unwrap();
    let second = callers[1].try_recv().unwrap();
    assert!(callers[2].try_recv().is_err());
    // An unused permit goes to who waits next, and to nobody else.
    drop(second);
    assert!(callers[2].try_recv().is_ok());
    first.spend();
}

#[tokio::test(start_paused = true)]
async fn a_reserved_call_is_slept_for_and_then_redeemed_while_the_next_is_asked_for() {
    let desk = desk();
    let (mut first, mut second) = (join(&desk), join(&desk));
    let asked = question(&desk);
    desk.hear(&asked, &reply(0, 1, 400), Instant::now());
    let due = Instant::now() + Duration::from_millis(400);
    assert_eq!(desk.step(Instant::now()), Step::Sleep(due));
    advance(Duration::from_millis(400)).await;
    let asked = question(&desk);
    let ticket = Ticket {
        calls: 1,
        due_us: 7,
    };
    assert_eq!((asked.wanted, asked.ticket), (1, Some(ticket)));
    desk.hear(&asked, &reply(0, 1, 400), Instant::now());
    let permit = first.try_recv().unwrap();
    assert!(second.try_recv().is_err());
    permit.spend();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_returns_to_the_fleet_after_a_quarter_of_a_second() {
    let desk = desk();
    let caller = join(&desk);
    let asked = question(&desk);
    desk.hear(&asked, &reply(1, 0, 0), Instant::now());
    drop(caller);
    let until = Instant::now() + HOLD;
    assert_eq!(desk.step(Instant::now()), Step::Rest(Some(until)));
    let taken = desk.try_take(Instant::now()).unwrap();
    assert!(desk.try_take(Instant::now()).is_none());
    drop(taken);
    advance(HOLD).await;
    assert!(desk.try_take(Instant::now()).is_none());
    let asked = question(&desk);
    assert_eq!((asked.wanted, asked.unused), (0, vec![7]));
    assert_eq!(desk.step(Instant::now()), Step::Rest(None));
}

#[tokio::test(start_paused = true)]
async fn whom_a_closed_operation_would_keep_too_long_is_told_at_once() {
    let desk = desk();
    let now = Instant::now();
    let mut hasty = desk.join(now + Duration::from_secs(5), now).unwrap();
    let mut patient = join(&desk);
    desk.close_until(now + Duration::from_secs(10));
    assert!(matches!((&mut hasty).now_or_never(), Some(Err(_))));
    assert!((&mut patient).now_or_never().is_none());
    let wait = desk.join(now + Duration::from_secs(9), now).unwrap_err();
    assert_eq!(wait.reason, WaitReason::Closed);
    // Nothing is asked for while it is closed; a shorter time changes nothing.
    desk.close_until(now + Duration::from_secs(1));
    let until = now + Duration::from_secs(10);
    assert_eq!(desk.step(now), Step::Rest(Some(until)));
    assert_eq!(question_at(&desk, until).wanted, 1);
}

fn question_at(desk: &Desk, now: Instant) -> Question {
    match desk.step(now) {
        Step::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn operations_of_ten_a_second_are_granted_one_by_one_and_others_in_blocks() {
    let m = Operation::BulkCreateEvents;
    let one_by_one = Arc::new(Desk::new(m, Some(m.limits()), 0.0));
    let in_blocks = desk();
    let waiting: Vec<_> = (0..50)
        .map(|_| (join(&one_by_one), join(&in_blocks)))
        .collect();
    assert_eq!(question(&one_by_one).wanted, 1);
    assert_eq!(question(&in_blocks).wanted, 10);
    drop(waiting);
}

fn lowered(steady: u32, for_: Duration) -> Lowered {
    let limits = Limits {
        burst: 350,
        steady,
        daily: None,
    };
    Lowered { limits, for_ }
}

fn headers(steady: u32) -> RateLimitHeaders {
    RateLimitHeaders {
        windows: vec![(steady, 60)],
        ..RateLimitHeaders::default()
    }
}

fn steady(desk: &Desk) -> u32 {
    desk.status(Instant::now()).limits.unwrap().steady
}

#[tokio::test(start_paused = true)]
async fn limits_that_others_were_told_are_lower_here_too_and_never_higher() {
    let desk = desk();
    desk.lower(lowered(9_999, MINUTE), Instant::now());
    assert_eq!(desk.status(Instant::now()).limits, Some(XL.limits()));
    desk.lower(lowered(700, MINUTE), Instant::now());
    let limits = desk.status(Instant::now()).limits.unwrap();
    assert_eq!((limits.burst, limits.steady), (350, 700));
    desk.lower(lowered(800, MINUTE), Instant::now());
    assert_eq!(steady(&desk), 700);
}

#[tokio::test(start_paused = true)]
async fn lowered_limits_are_the_accounts_again_a_day_later_or_when_the_fleet_says() {
    let desk = desk();
    desk.lower(lowered(700, MINUTE), Instant::now());
    advance(MINUTE / 2).await;
    assert_eq!(steady(&desk), 700);
    advance(MINUTE / 2).await;
    assert_eq!(steady(&desk), XL.limits().steady);
    for _ in 0..2 {
        desk.named(&headers(700), Instant::now());
    }
    advance(LOWERED_FOR.saturating_sub(MINUTE)).await;
    assert_eq!(steady(&desk), 700);
    advance(MINUTE).await;
    // Whoever asks next is served at the account's own pace, whether or not somebody looked meanwhile.
    let _caller = join(&desk);
    let shape = Shape::shared(XL.limits(), HOLD);
    assert_eq!(question(&desk).ask().shape, shape);
    assert_eq!(steady(&desk), XL.limits().steady);
}

#[tokio::test(start_paused = true)]
async fn one_odd_answer_lowers_nothing_and_two_in_a_row_do() {
    let desk = desk();
    let now = Instant::now();
    let as_published = headers(XL.limits().steady);
    let nothing = RateLimitHeaders::default();
    for odd_or_well in [headers(1), as_published, headers(1), headers(700)] {
        assert_eq!(desk.named(&odd_or_well, now), None);
        assert_eq!(steady(&desk), XL.limits().steady);
    }
    // An answer without limits is none in this row.
    assert_eq!(desk.named(&nothing, now), None);
    let told = desk.named(&headers(700), now).unwrap();
    assert_eq!((told.steady, steady(&desk)), (700, 700));
    // It is told once.
    assert_eq!(desk.named(&headers(700), now), None);
    assert_eq!(desk.named(&headers(600), now), None);
    assert_eq!(desk.named(&headers(600), now).unwrap().steady, 600);
}
