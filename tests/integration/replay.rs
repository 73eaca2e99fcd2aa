//! `dlq replay`, as an operator uses it.

use crate::harness::{EVENTS, Shop, until, until_async};
use crate::letters::{EVENTS_DEAD, Letter, PROFILES_DEAD, event};
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::Keys;
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::queue::recorded_actions;
use klaviyod::services::operations::{DeadFilter, DeadSelection, Operations, Replay};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const REPLAY_ALL: &[&str] = &["dlq", "replay", "--all", "--yes"];

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_again_and_again_under_load_neither_loses_nor_doubles() {
    const DEAD: u64 = 10_000;
    const LIVE: u64 = 3_000;
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..DEAD)
        .map(|number| Letter::fresh(&event(&format!("dead-{number}"))))
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let daemon = shop.daemon().await;
    shop.add_all(
        EVENTS,
        (0..LIVE).map(|number| event(&format!("live-{number}"))),
    )
    .await;
    for kill in 1..=5 {
        let mut replay = shop.binary(&["dlq", "replay", "--all", "--yes", "--rate", "5000/s"]);
        let replayed = async {
            while dead(&mut shop).await > DEAD - kill * DEAD / 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), replayed)
            .await
            .unwrap();
        replay.kill().await.unwrap();
    }
    let rest = dead(&mut shop).await;
    assert!(rest > 0, "every replay ended before it was killed");
    assert_eq!(shop.told(REPLAY_ALL).await["replayed"], rest);
    shop.until_delivered().await;
    let stats = shop.klaviyo.stats();
    assert_eq!(
        (stats.distinct_events, stats.events),
        (DEAD + LIVE, DEAD + LIVE)
    );
    assert_eq!(dead(&mut shop).await, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_who_replay_the_same_send_each_job_once() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..3_000)
        .map(|number| Letter::fresh(&event(&format!("e-{number}"))))
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let (one, other) = tokio::join!(shop.told(REPLAY_ALL), shop.told(REPLAY_ALL));
    let replayed = |report: &Value| report["replayed"].as_u64().unwrap();
    assert_eq!(replayed(&one) + replayed(&other), 3_000, "{one} {other}");
    assert_eq!(length(&mut shop, EVENTS).await, 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_event_keeps_its_unique_id_and_time_and_starts_no_flow_after_a_day() {
    let mut shop = Shop::open().await;
    // Without id and at: both come from the first stream id.
    let bare = json!({"kind": "event.track",
        "data": {"metric": "M", "profile": {"email": "a@klqtest.dev"}}});
    let old = Letter::of(&bare, SignedDuration::from_hours(3 * 24));
    let fresh = Letter::of(&bare, SignedDuration::from_hours(23));
    shop.bury(EVENTS_DEAD, &[old.clone(), fresh.clone()]).await;
    let report = shop.told(REPLAY_ALL).await;
    assert_eq!(
        (&report["replayed"], &report["without_flows"]),
        (&json!(2), &json!(1))
    );
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    for (letter, backfill) in [(old, true), (fresh, false)] {
        let event = sent(&shop, &format!("event-tracking/{}", letter.sid));
        let ms: i64 = letter.sid.split_once('-').unwrap().0.parse().unwrap();
        let time: Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time.as_millisecond(), ms);
        assert_eq!(event["backfill"], backfill, "{event}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_about_flows_and_no_event_that_is_old_starts_one_unasked() {
    let days = SignedDuration::from_hours(3 * 24);
    for (flows, age, asked, backfill) in [
        ("always", days, None, false),
        ("never", SignedDuration::ZERO, None, true),
        ("never", SignedDuration::ZERO, Some(false), true),
        ("auto", days, Some(false), true),
        ("auto", SignedDuration::ZERO, Some(false), false),
        ("always", days, Some(false), false),
        ("auto", SignedDuration::ZERO, Some(true), true),
    ] {
        let mut shop = Shop::open().await;
        let mut job = event("e-1");
        if let Some(asked) = asked {
            job["data"]["backfill"] = json!(asked);
        }
        shop.bury(EVENTS_DEAD, &[Letter::of(&job, age)]).await;
        shop.told(&["dlq", "replay", "--all", "--yes", "--flows", flows])
            .await;
        let daemon = shop.daemon().await;
        shop.until_delivered().await;
        assert_eq!(
            sent(&shop, "e-1")["backfill"],
            backfill,
            "{flows} {asked:?}"
        );
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_said_survives_a_retry_and_a_second_death() {
    let mut shop = Shop::open().await;
    let letter = Letter::of(&event("e-1"), SignedDuration::from_hours(48));
    shop.bury(EVENTS_DEAD, &[letter]).await;
    for status in [503, 400] {
        shop.klaviyo.faults().push(Fault {
            operation: Some("create_event".to_owned()),
            times: 1,
            kind: FaultKind::Status {
                status,
                retry_after: None,
            },
        });
    }
    shop.told(REPLAY_ALL).await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    let dead = shop.told(&["dlq", "list"]).await;
    assert_eq!(
        (&dead[0]["replays"], &dead[0]["id"], &dead[0]["lane"]),
        (&json!(1), &json!("e-1"), &json!("live")),
        "{dead}"
    );
    shop.told(REPLAY_ALL).await;
    shop.until_delivered().await;
    let sent = shop.events_sent();
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter().all(|event| event["backfill"] == true),
        "{sent:?}"
    );
    assert!(sent.iter().all(|event| event["time"] == sent[0]["time"]));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_only_die_again_stays_and_is_counted() {
    let mut shop = Shop::open().await;
    let hour = SignedDuration::from_hours(1);
    let mut expired = event("expired");
    expired["expires_at"] = json!((Timestamp::now() - hour).to_string());
    let mut often = Letter::fresh(&event("often"));
    let replayed_ms = (Timestamp::now() - hour).as_millisecond();
    often.lane = format!("live+10.{replayed_ms}");
    let mut old_but_replayed = Letter::of(&event("replayed"), hour * 24 * 8);
    old_but_replayed.lane = format!("backfill+9.{replayed_ms}.noflow");
    let mut nonsense = Letter::fresh(&json!({}));
    nonsense.job = "not json".to_owned();
    let letters = [
        Letter::fresh(&event("good")),
        Letter::fresh(&expired),
        Letter::of(&event("old"), hour * 24 * 8),
        old_but_replayed,
        often,
        nonsense,
    ];
    shop.bury(EVENTS_DEAD, &letters).await;
    let dry = shop.told(&["dlq", "replay", "--all", "--dry-run"]).await;
    let counts = json!({"dry_run": true, "selected": 6, "eligible": 2, "expired": 1, "too_old": 1,
        "replayed_too_often": 1, "invalid": 1, "without_flows": 1, "replayed": 0});
    assert_eq!(dry, counts);
    assert_eq!(dead(&mut shop).await, 6);
    assert_eq!(shop.told(REPLAY_ALL).await["replayed"], 2);
    assert_eq!(length(&mut shop, &format!("{EVENTS}:backfill")).await, 1);
    let forced = [
        "dlq",
        "replay",
        "--all",
        "--yes",
        "--include-too-old",
        "--force",
    ];
    assert_eq!(shop.told(&forced).await["replayed"], 2);
    let left = shop.told(&["dlq", "list"]).await;
    let left: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["id"].as_str())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&"expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_takes_no_place_within_the_limit_and_a_named_job_that_stays_is_a_failure() {
    let mut shop = Shop::open().await;
    let mut expired = event("expired");
    expired["expires_at"] = json!((Timestamp::now() - SignedDuration::from_hours(1)).to_string());
    let jobs = [&expired, &expired, &event("e-1"), &event("e-2")];
    let entries = shop.bury(EVENTS_DEAD, &jobs.map(Letter::fresh)).await;
    let limited = ["dlq", "replay", "--all", "--limit", "1", "--yes"];
    let report = shop.told(&limited).await;
    let counts = ["selected", "expired", "eligible", "replayed"].map(|count| report[count].clone());
    assert_eq!(counts, [json!(3), json!(2), json!(1), json!(1)]);
    let named = ["dlq", "replay", &entries[0], &entries[3], "--yes"];
    let (code, said, _) = shop.command(&named).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["replayed"]), (Some(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_what_was_counted_and_nothing_that_died_since() {
    let mut shop = Shop::open().await;
    let letters = ["e-1", "e-2", "e-3"].map(|id| Letter::fresh(&event(id)));
    shop.bury(EVENTS_DEAD, &letters).await;
    let mut operations = Operations::new(shop.redis.clone(), Keys::default());
    let stop = CancellationToken::new();
    for (limit, replayed, left) in [(Some(2), 2, 3), (None, 3, 2)] {
        let all = DeadSelection::Matching(DeadFilter {
            limit,
            ..DeadFilter::default()
        });
        let ask = Replay {
            dry_run: true,
            ..Replay::default()
        };
        let counted = operations.replay(&all, &ask, &stop).await.unwrap();
        // Between the question and the answer others die, also on a queue that had none.
        shop.bury(EVENTS_DEAD, &letters[..1]).await;
        shop.bury(PROFILES_DEAD, &letters[..1]).await;
        let how = Replay {
            counted: Some(counted),
            ..Replay::default()
        };
        let done = operations.replay(&all, &how, &stop).await.unwrap();
        assert_eq!(done.replayed, replayed, "{limit:?}");
        assert_eq!(shop.dead().await.len(), left, "{limit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_meet_the_jobs_that_died_of_it() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..300)
        .map(|number| {
            let mut job = event(&format!("e-{number}"));
            job["data"]["properties"] = json!({"sim_reject": true});
            Letter::fresh(&job)
        })
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let daemon = shop.daemon().await;
    let slowly = ["dlq", "replay", "--all", "--yes", "--rate", "300/s"];
    assert_eq!(shop.told(&slowly).await["replayed"], 300);
    shop.until_delivered().await;
    let dead = shop.dead().await;
    assert_eq!(dead.len(), 300);
    assert!(dead.iter().all(|job| job.replays == 1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_on_the_wrong_queue_is_replayed_to_the_right_one() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add("klaviyod:{default}:profile-sync", &event("e-1").to_string())
        .await;
    shop.until_delivered().await;
    assert_eq!(shop.dead().await[0].code, "job.wrong_queue");
    assert_eq!(shop.told(REPLAY_ALL).await["replayed"], 1);
    shop.until_delivered().await;
    assert_eq!(shop.klaviyo.stats().distinct_events, 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_kind_from_outside_does_not_pass_for_the_daemons_own_after_a_replay() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let forged = r#"{"kind":"profile.import.follow","data":{}}"#;
    shop.add("klaviyod:{default}:profile-sync", forged).await;
    shop.until_delivered().await;
    let forced = [
        "dlq",
        "replay",
        "--all",
        "--yes",
        "--force",
        "--include-too-old",
    ];
    let report = shop.told(&forced).await;
    assert_eq!(
        (&report["invalid"], &report["replayed"]),
        (&json!(1), &json!(0))
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_runs_when_redis_is_full() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..250)
        .map(|number| Letter::fresh(&event(&format!("e-{number}"))))
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxmemory").arg(1);
    full.query_async::<()>(&mut shop.redis).await.unwrap();
    let mut add = redis::cmd("XADD");
    add.arg(EVENTS).arg("*").arg("job").arg("{}");
    let refused = add.query_async::<()>(&mut shop.redis).await;
    assert_eq!(refused.unwrap_err().code(), Some("OOM"));
    assert_eq!(shop.told(REPLAY_ALL).await["replayed"], 250);
    assert_eq!(length(&mut shop, EVENTS).await, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_a_replay_back() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..40)
        .map(|number| Letter::fresh(&event(&format!("e-{number}"))))
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let begun = Instant::now();
    shop.told(&["dlq", "replay", "--all", "--yes", "--rate", "20/s"])
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_replay_says_what_it_did_and_leaves_the_rest() {
    // Ctrl-C, whoever manages the process, and a connection that was lost.
    for signal in ["INT", "TERM", "HUP"] {
        let mut shop = Shop::open().await;
        let replay = slow_replay(&mut shop).await;
        crate::harness::signal(&replay, signal);
        let output = replay.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let replayed = report["replayed"].as_u64().unwrap();
        assert!((1..1_000).contains(&replayed), "{report}");
        assert_eq!(length(&mut shop, EVENTS).await, replayed);
        let recorded = recorded_actions(&mut shop.redis, &Keys::default(), 10)
            .await
            .unwrap();
        assert_eq!(recorded.len(), 1);
        let (_, action) = &recorded[0];
        assert_eq!(
            (action.action.as_str(), action.touched),
            ("dlq.replay", replayed)
        );
        assert_eq!(action.detail["state"], "stopped");
        assert_eq!(action.detail["how"]["flows"], "auto");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_leaves_a_record_that_it_began_and_did_not_end() {
    let mut shop = Shop::open().await;
    let mut replay = slow_replay(&mut shop).await;
    replay.kill().await.unwrap();
    let daemon = shop.daemon().await;
    let store = daemon.records().store().clone();
    until_async("the record is in the database", async || {
        !store.actions("default", 10).await.unwrap().is_empty()
    })
    .await;
    let kept = store.actions("default", 10).await.unwrap();
    let detail: Value = serde_json::from_str(&kept[0].detail).unwrap();
    assert_eq!(
        (kept.len(), &*kept[0].action, &detail["state"]),
        (1, "dlq.replay", &json!("begun"))
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_copied_when_its_action_began_is_completed_when_it_ends() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let store = daemon.records().store().clone();
    let replay = slow_replay(&mut shop).await;
    until_async("the beginning is in the database", async || {
        !store.actions("default", 10).await.unwrap().is_empty()
    })
    .await;
    crate::harness::signal(&replay, "TERM");
    let output = replay.wait_with_output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    until_async("the end is in the database", async || {
        let kept = store.actions("default", 10).await.unwrap();
        assert_eq!(kept.len(), 1);
        kept[0].detail.contains("stopped") && report["replayed"] == kept[0].touched
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_choice_is_one_clear_error_and_touches_nothing() {
    let mut shop = Shop::open().await;
    let entries = shop
        .bury(EVENTS_DEAD, &[Letter::fresh(&event("e-1"))])
        .await;
    let entry = entries[0].as_str();
    for (arguments, code, says) in [
        (vec!["--yes"], 2, "--all"),
        (vec!["--limit", "5", "--yes"], 2, "--all"),
        (vec!["order-1", "--yes"], 2, "1700000000000-0"),
        (vec![entry, "--all", "--yes"], 2, "cannot be used with"),
        (
            vec![entry, "1700000000000-7", "--yes"],
            1,
            "1700000000000-7",
        ),
        (
            vec!["--queue", "event-trackin", "--yes"],
            2,
            "event-tracking",
        ),
        (vec!["--all", "--rate", "fast", "--yes"], 2, "50/s"),
        (vec!["--all", "--since", "yesterday", "--yes"], 2, "2h"),
        (vec!["--all"], 2, "--yes"),
    ] {
        let arguments = [vec!["dlq", "replay"], arguments].concat();
        let (seen, complaint) = shop.refused(&arguments).await;
        assert_eq!(seen, code, "{arguments:?}: {complaint}");
        assert!(complaint.contains(says), "{arguments:?}: {complaint}");
    }
    assert_eq!(dead(&mut shop).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_two_queues_have_needs_a_queue() {
    let mut shop = Shop::open().await;
    for dead in [EVENTS_DEAD, PROFILES_DEAD] {
        let mut add = redis::cmd("XADD");
        add.arg(dead)
            .arg("1700000000000-0")
            .arg("job")
            .arg(event("e-1").to_string());
        add.query_async::<()>(&mut shop.redis).await.unwrap();
    }
    let (code, complaint) = shop.refused(&["dlq", "show", "1700000000000-0"]).await;
    assert_eq!(
        (code, complaint.contains("--queue")),
        (1, true),
        "{complaint}"
    );
    let shown = shop
        .told(&["dlq", "show", "1700000000000-0", "--queue", "profile-sync"])
        .await;
    assert_eq!(shown["queue"], "profile-sync");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_refuses_a_replayed_row_remembers_the_replay() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = (0..40)
        .map(|number| {
            Letter::fresh(&json!({"kind": "profile.upsert", "id": format!("p-{number}"), "data": {
                "profile": {"email": format!("p-{number}@klqtest.dev")}, "properties": {"sim_reject": number == 7}}}))
        })
        .collect();
    shop.bury(PROFILES_DEAD, &letters).await;
    shop.told(REPLAY_ALL).await;
    let daemon = shop.daemon().await;
    until("the import is accepted", || {
        shop.klaviyo
            .stats()
            .operations
            .contains_key("bulk_import_profiles")
    })
    .await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].id.as_str(), dead[0].replays), ("p-7", 1));
    daemon.stop().await;
}

/// A replay of a thousand jobs that has sent some.
async fn slow_replay(shop: &mut Shop) -> tokio::process::Child {
    let letters: Vec<Letter> = (0..1_000)
        .map(|number| Letter::fresh(&event(&format!("e-{number}"))))
        .collect();
    shop.bury(EVENTS_DEAD, &letters).await;
    let replay = shop.binary(&["dlq", "replay", "--all", "--yes", "--rate", "50/s"]);
    let begun = async {
        while dead(shop).await == 1_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), begun)
        .await
        .unwrap();
    replay
}

fn sent(shop: &Shop, unique_id: &str) -> Value {
    let events = shop.events_sent();
    let found: Vec<&Value> = events
        .iter()
        .filter(|event| event["unique_id"] == unique_id)
        .collect();
    assert_eq!(found.len(), 1, "{unique_id} among {events:?}");
    found[0].clone()
}

async fn dead(shop: &mut Shop) -> u64 {
    length(shop, EVENTS_DEAD).await
}

async fn length(shop: &mut Shop, stream: &str) -> u64 {
    let mut length = redis::cmd("XLEN");
    length.arg(stream);
    length.query_async(&mut shop.redis).await.unwrap()
}
