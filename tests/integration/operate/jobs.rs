use super::*;
use crate::harness::{PROFILES, until_async};
use klaviyo_simulator::{Fault, FaultKind};
use klaviyod::services::operations::Operations;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_cancelled_by_its_id_and_its_id_is_free_again() {
    let mut shop = Shop::open().await;
    enqueue(&shop, "o/1", &[]).await;
    enqueue(&shop, "o/2", &["--in", "1h"]).await;
    let third = shop.add(EVENTS, &order_without_id().to_string()).await;
    shop.add(EVENTS, &order("o/11").to_string()).await;
    let (code, _, complaint) = shop.command(&["job", "cancel", "o/1"]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("--yes"), "{complaint}");
    for id in ["o/1", "o/2", &format!("event-tracking/{third}")] {
        let (code, said, complaint) = shop.command(&["job", "cancel", id, "--yes"]).await;
        assert_eq!(code, Some(0), "{complaint}");
        let done: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(done, json!({"cancelled": 1, "in_flight": 0, "more": 0}));
        let (code, _, complaint) = shop.command(&["job", "cancel", id, "--yes"]).await;
        assert_eq!(code, Some(1));
        assert!(complaint.contains("no job has this id"), "{complaint}");
    }
    assert_eq!(claims(&mut shop).await, 0);
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!((&queue["ready"], &queue["delayed"]), (&json!(1), &json!(0)));
    assert_eq!(recorded(&mut shop).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_fails_on_the_way_tells_and_records_what_it_did() {
    let mut shop = Shop::open().await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    shop.add(EVENTS, &order("later").to_string()).await;
    // The delayed copy comes last; it cannot be removed.
    let mut forbid = redis::cmd("ACL");
    forbid.arg("SETUSER").arg("default").arg("-zrem");
    forbid.query_async::<()>(&mut shop.redis).await.unwrap();
    let cancel = ["job", "cancel", "later", "--yes"];
    let (code, _, complaint) = shop.command(&cancel).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("stopped after 1 job"), "{complaint}");
    let record = |touched| ("job.cancel".to_owned(), touched);
    assert_eq!(recorded(&mut shop).await, [record(1), record(0)]);
    let delayed = queue(&shop, "event-tracking").await["delayed"].clone();
    assert_eq!(delayed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_or_dead_is_not_cancelled_and_the_command_says_so() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("held").to_string()).await;
    take(&mut shop, EVENTS, 1).await;
    let dead = add_dead(&mut shop, &order("dead")).await;
    let (code, _, complaint) = shop.command(&["job", "cancel", "held", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains("in flight, taken by another-daemon"),
        "{complaint}"
    );
    let (code, _, complaint) = shop.command(&["job", "cancel", "dead", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains(&format!("dlq discard {dead}")),
        "{complaint}"
    );
    let queue = queue(&shop, "event-tracking").await;
    assert_eq!(
        (&queue["in_flight"], &queue["dead"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_id_that_several_lanes_or_queues_have_cancels_nothing_until_one_is_named() {
    const ENTRY: &str = "1700000000000-0";
    let mut shop = Shop::open().await;
    let backfill = format!("{EVENTS}:backfill");
    for (stream, job) in [
        (EVENTS, order_without_id()),
        (&backfill, order_without_id()),
        (PROFILES, profile("c-1")),
    ] {
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg(ENTRY).arg("job").arg(job.to_string());
        add.query_async::<()>(&mut shop.redis).await.unwrap();
    }
    let all = "event-tracking:backfill/1700000000000-0";
    for ambiguous in [ENTRY, "event-tracking/1700000000000-0"] {
        let (code, said, complaint) = shop.command(&["job", "cancel", ambiguous, "--yes"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(complaint.contains(all), "{complaint}");
    }
    for (named, left) in [(all, 1), ("event-tracking/1700000000000-0", 0)] {
        let (code, said, complaint) = shop.command(&["job", "cancel", named, "--yes"]).await;
        assert_eq!(code, Some(0), "{complaint}");
        assert!(said.contains(r#""cancelled":1"#), "{said}");
        assert_eq!(queue(&shop, "event-tracking").await["ready"], left);
        assert_eq!(queue(&shop, "event-tracking").await["backfill"], 0);
    }
    assert_eq!(queue(&shop, "profile-sync").await["ready"], 1);
    let (code, _, complaint) = shop.command(&["job", "cancel", ENTRY, "--yes"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    assert_eq!(queue(&shop, "profile-sync").await["ready"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_follow_up_of_an_accepted_import_is_never_cancelled() {
    let mut shop = Shop::open().await;
    let follow_up = r#"{"kind":"profile.import.follow","data":{}}"#;
    let entry = shop.add(PROFILES, follow_up).await;
    let (code, _, complaint) = shop.command(&["job", "cancel", &entry, "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("follow-up"), "{complaint}");
    assert_eq!(queue(&shop, "profile-sync").await["ready"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_of_one_id_some_are_explained_the_rest_counted_and_all_cancelled() {
    let mut shop = Shop::open().await;
    let jobs = (0..30).map(|number| {
        let mut job = profile(&format!("c-{number}"));
        job["id"] = json!("p-1");
        job
    });
    shop.add_all(PROFILES, jobs).await;
    let oldest = ids(&mut shop, PROFILES).await[0].clone();
    let (_, said, _) = shop.command(&["job", "explain", "p-1"]).await;
    let explanation: Value = serde_json::from_str(&said).unwrap();
    let found = explanation["found"].as_array().unwrap();
    assert_eq!((found.len(), &explanation["more"]), (20, &json!(10)));
    // The next to leave comes first, and only of it is it told how many are before it.
    assert_eq!(
        (&found[0]["entry"], &found[0]["ahead"]),
        (&json!(oldest), &json!(0))
    );
    assert_eq!(found[1]["ahead"], Value::Null);
    let table = ["job", "explain", "p-1", "--output", "table"];
    let (_, said, _) = shop.command(&table).await;
    assert!(said.contains("and 10 more"), "{said}");
    let (code, said, complaint) = shop.command(&["job", "cancel", "p-1", "--yes"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    assert!(said.contains(r#""cancelled":30"#), "{said}");
    assert_eq!(ids(&mut shop, PROFILES).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_behind_many_copies_in_flight_is_cancelled() {
    let mut shop = Shop::open().await;
    let copies = |count| (0..count).map(|_| order("o-1"));
    shop.add_all(EVENTS, copies(25)).await;
    take(&mut shop, EVENTS, 25).await;
    shop.add_all(EVENTS, copies(1)).await;
    let cancel = ["job", "cancel", "o-1", "--yes"];
    let (code, said, complaint) = shop.command(&cancel).await;
    assert_eq!(code, Some(0), "{complaint}");
    let done: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(done, json!({"cancelled": 1, "in_flight": 25, "more": 0}));
    let (code, _, _) = shop.command(&cancel).await;
    assert_eq!(code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_is_found_while_those_before_it_come_due() {
    let mut shop = Shop::open().await;
    let delayed = format!("{EVENTS}:delayed");
    let mut add = redis::cmd("ZADD");
    add.arg(&delayed);
    for number in 0..20_000 {
        let job = order(&format!("o-{number}"));
        let member = format!("{number}:0:live:::{job}");
        add.arg(4_000_000_000_000_u64 + number).arg(member);
    }
    add.query_async::<()>(&mut shop.redis).await.unwrap();
    let mut redis = shop.redis.clone();
    let mut leaving = JoinSet::new();
    leaving.spawn(async move {
        for _ in 0..199 {
            let mut leave = redis::cmd("ZREMRANGEBYRANK");
            let leave = leave.arg(&delayed).arg(0).arg(99);
            leave.query_async::<()>(&mut redis).await.unwrap();
        }
    });
    let mut operations = Operations::new(shop.redis.clone(), Keys::default());
    loop {
        let over = leaving.try_join_next();
        let explanation = operations.explain("o-19950", false).await.unwrap();
        assert_eq!(explanation.found.len(), 1, "{:?}", explanation.searched);
        if let Some(over) = over {
            over.unwrap();
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_does_not_concern_a_job_is_no_reason_for_it_to_wait() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: Some("create_event".to_owned()),
        times: 1_000,
        kind: FaultKind::Status {
            status: 403,
            retry_after: None,
        },
    });
    let _daemon = shop.binary(&["run", "--queues", "event-tracking"]);
    shop.add(EVENTS, &order("o-1").to_string()).await;
    until_async("the gate is shut", async || {
        let (_, said, _) = shop.command(&["limits"]).await;
        let limits: Vec<Value> = serde_json::from_str(&said).unwrap();
        let it = limits.iter().find(|it| it["operation"] == "create_event");
        it.unwrap()["gate"] != "open"
    })
    .await;
    shop.add(PROFILES, &profile("c-1").to_string()).await;
    let waiting = ids(&mut shop, PROFILES).await[0].clone();
    let next = explain(&shop, &waiting).await["next"].clone();
    let next = next.as_str().unwrap();
    assert!(next.contains("none has ever read it"), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_explained_wherever_it_is() {
    let mut shop = Shop::open().await;
    shop.add_all(EVENTS, ["held", "first", "second"].into_iter().map(order))
        .await;
    take(&mut shop, EVENTS, 1).await;
    enqueue(&shop, "later", &["--in", "1h"]).await;
    let dead = add_dead(&mut shop, &order("dead")).await;

    let second = explain(&shop, "second").await;
    assert_eq!(
        (&second["state"], &second["lane"], &second["ahead"]),
        (&json!("ready"), &json!("live"), &json!(1))
    );
    assert_eq!(second["kind"], "event.track");
    assert!(second.get("payload").is_none(), "{second}");
    let next = second["next"].as_str().unwrap();
    assert!(next.contains("as soon as a daemon has room"), "{next}");
    let by_entry = explain(&shop, second["entry"].as_str().unwrap()).await;
    assert_eq!(by_entry["id"], "second");

    let held = explain(&shop, "held").await;
    assert_eq!(
        (&held["state"], &held["consumer"], &held["times_taken"]),
        (&json!("in_flight"), &json!("another-daemon"), &json!(1))
    );
    let later = explain(&shop, "later").await;
    assert_eq!(later["state"], "delayed");
    assert!(later["due_at"].is_string());
    let dead_job = explain(&shop, "dead").await;
    assert_eq!(
        (&dead_job["state"], &dead_job["entry"], &dead_job["code"]),
        (&json!("dead"), &json!(dead), &json!("klaviyo.invalid"))
    );

    shop.add(PROFILES, &profile("c-1").to_string()).await;
    let unread = shop.add(PROFILES, &profile("c-2").to_string()).await;
    let next = explain(&shop, &unread).await["next"].clone();
    assert!(
        next.as_str().unwrap().contains("none has ever read it"),
        "{next}"
    );

    shop.command(&["queue", "pause", "event-tracking"]).await;
    for (id, state) in [("second", "ready"), ("later", "delayed")] {
        let job = explain(&shop, id).await;
        assert_eq!(job["state"], state);
        let next = job["next"].as_str().unwrap();
        assert!(next.contains("paused by an operator"), "{next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_explained_on_the_lane_it_died_on() {
    let mut shop = Shop::open().await;
    let mut add = redis::cmd("XADD");
    add.arg(format!("{EVENTS}:dead")).arg("*");
    add.arg("job").arg(order_without_id().to_string());
    add.arg("sid").arg("1700000000000-0");
    add.arg("lane").arg("backfill+1.1700000000000");
    let entry: String = add.query_async(&mut shop.redis).await.unwrap();
    let dead = explain(&shop, "event-tracking:backfill/1700000000000-0").await;
    assert_eq!(
        (&dead["state"], &dead["lane"], &dead["entry"]),
        (&json!("dead"), &json!("backfill"), &json!(entry))
    );
    let live = "event-tracking:live/1700000000000-0";
    let (code, said, _) = shop.command(&["job", "explain", live]).await;
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_job_is_explained_by_the_audit_with_every_attempt() {
    let mut shop = Shop::open().await;
    shop.klaviyo.faults().push(Fault {
        operation: None,
        times: 1,
        kind: FaultKind::Status {
            status: 503,
            retry_after: None,
        },
    });
    let daemon = shop.daemon().await;
    let entry = shop.add(EVENTS, &order_without_id().to_string()).await;
    shop.until_delivered().await;
    let known = async || {
        let (code, said, _) = shop.command(&["job", "explain", &entry]).await;
        (code == Some(0)).then(|| serde_json::from_str::<Value>(&said).unwrap())
    };
    // The audit is written in batches.
    until_async("the audit knows both attempts", async || {
        let explanation = known().await;
        explanation.is_some_and(|it| it["attempts"].as_array().unwrap().len() == 2)
    })
    .await;
    let explanation = known().await.unwrap();
    let outcomes = [0, 1].map(|at| explanation["attempts"][at]["outcome"].clone());
    assert_eq!(outcomes, [json!("retry"), json!("delivered")]);
    assert_eq!(explanation["attempts"][0]["status"], 503);
    assert!(explanation["delivered_at"].is_string());
    assert_eq!(explanation["found"], json!([]));
    let id = format!("event-tracking/{entry}");
    let (_, said, _) = shop
        .command(&["job", "explain", &id, "--output", "table"])
        .await;
    assert!(
        said.contains("delivered at") && said.contains("status 503"),
        "{said}"
    );
    let (code, _, complaint) = shop.command(&["job", "cancel", &id, "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("it was delivered at"), "{complaint}");
    daemon.stop().await;

    // A job of another queue has the same stream id: what happened to this one is not told of it.
    let mut add = redis::cmd("XADD");
    add.arg(PROFILES).arg(&entry).arg("job");
    let add = add.arg(
        json!({"kind": "profile.upsert", "data": {"profile": {"external_id": "c-1"}}}).to_string(),
    );
    add.query_async::<()>(&mut shop.redis.clone())
        .await
        .unwrap();
    let explanation = known().await.unwrap();
    assert_eq!(explanation["found"][0]["queue"], "profile-sync");
    assert_eq!(explanation["attempts"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_cannot_be_reached_is_said_and_hides_nothing_else() {
    let mut shop = Shop::open().await;
    shop.set(
        "KLAVIYOD_DATABASE_URL",
        "postgres://nobody:secret@127.0.0.1:1/none",
    );
    shop.add(EVENTS, &order("o-1").to_string()).await;
    let (code, said, _) = shop.command(&["job", "explain", "o-1"]).await;
    assert_eq!(code, Some(0));
    let explanation: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(explanation["found"][0]["state"], "ready");
    let not_searched = explanation["not_searched"].to_string();
    assert!(
        not_searched.contains("audit: failed to reach the database"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_nowhere_is_told_with_where_it_was_looked_for() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("o-1").to_string()).await;
    let (code, said, _) = shop.command(&["job", "explain", "o-2"]).await;
    assert_eq!(code, Some(1));
    let explanation: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(explanation["found"], json!([]));
    let searched = explanation["searched"].as_array().unwrap();
    assert!(
        searched.contains(&json!({"place": "event-tracking:live", "entries": 1, "complete": true}))
    );
    let (_, _, complaint) = shop
        .command(&["job", "explain", "o-2", "--output", "table"])
        .await;
    assert!(complaint.contains("profile-sync:dead"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_shown_only_where_it_is_asked_for() {
    let mut shop = Shop::open().await;
    shop.add(EVENTS, &order("o-1").to_string()).await;
    for output in ["table", "json"] {
        let explain = ["job", "explain", "o-1", "--output", output];
        let (_, said, _) = shop.command(&explain).await;
        assert!(!said.contains("klqtest.dev"), "{said}");
        let (_, said, _) = shop.command(&[&explain[..], &["--payload"]].concat()).await;
        assert!(said.contains("klqtest.dev"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_says_cannot_move_the_cursor_of_who_explains_it() {
    let mut shop = Shop::open().await;
    let id = "o-1\u{1b}[2J\u{9b}H";
    let mut job = order(id);
    job["kind"] = json!("event.\u{1b}[31mtrack");
    job["data"]["metric"] = json!("\u{9b}2J");
    shop.add(EVENTS, &job.to_string()).await;
    add_dead(&mut shop, &job).await;
    let explain = ["job", "explain", id, "--payload", "--output", "table"];
    let (code, said, complaint) = shop.command(&explain).await;
    assert_eq!(code, Some(0), "{complaint}");
    assert_eq!(said.matches("[2J").count(), 4, "{said}");
    let moves = |char: char| char.is_control() && char != '\n';
    assert!(!said.contains(moves), "{said:?}");
    let (code, _, complaint) = shop
        .command(&[
            "enqueue",
            "event.\u{1b}[2Jtrack",
            "--data",
            "{}",
            "--output",
            "table",
        ])
        .await;
    assert_eq!(code, Some(1));
    assert!(!complaint.contains(moves), "{complaint:?}");
}
