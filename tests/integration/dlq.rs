//! `dlq list|stats|show|edit|discard|export`, as an operator uses them.

use crate::harness::{EVENTS, Shop};
use crate::letters::{EVENTS_DEAD, Letter, PROFILES_DEAD, event};
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::Keys;
use klaviyod::queue::{Connection, DeadRange, dead_page, recorded_actions};
use klaviyod::services::operations::{DeadFilter, DeadSelection, Operations};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// Letters that differ in everything a filter can ask for.
async fn various(shop: &mut Shop) {
    let upsert = json!({"kind": "profile.upsert", "id": "p-1", "data": {"profile": {"email": "needle@klqtest.dev"}}});
    let mut invalid = Letter::fresh(&event("e-1"));
    "job.invalid".clone_into(&mut invalid.code);
    let mut nonsense = Letter::fresh(&json!({}));
    "not json".clone_into(&mut nonsense.job);
    "job.not_json".clone_into(&mut nonsense.code);
    let refused = Letter::fresh(&event("e-2"));
    shop.bury(EVENTS_DEAD, &[invalid, nonsense, refused]).await;
    shop.bury(PROFILES_DEAD, &[Letter::fresh(&upsert)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_jobs_are_found_by_queue_kind_code_time_and_text() {
    let mut shop = Shop::open().await;
    various(&mut shop).await;
    let first = shop.told(&["dlq", "list", "--limit", "1"]).await;
    let died = first[0]["died_at"].as_str().unwrap().to_owned();
    for (filters, expected) in [
        (vec![], 4),
        (vec!["--queue", "profile-sync"], 1),
        (vec!["--kind", "event.track"], 2),
        (vec!["--kind", "event.track", "--code", "job.invalid"], 1),
        (vec!["--code", "job.not_json"], 1),
        (vec!["--match", "needle@"], 1),
        (vec!["--match", "not js"], 1),
        (vec!["--match", "it is wrong"], 4),
        (vec!["--match", "nowhere"], 0),
        (vec!["--since", "1h"], 4),
        (vec!["--until", "1h"], 0),
        (vec!["--since", &died], 4),
        (vec!["--until", "2026-01-01T00:00:00Z"], 0),
        (vec!["--limit", "3"], 3),
        (vec!["--limit", "0"], 0),
    ] {
        let arguments = [vec!["dlq", "list"], filters].concat();
        let found = shop.told(&arguments).await;
        assert_eq!(found.as_array().unwrap().len(), expected, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_listed_with_the_keys_of_the_interface_and_its_numbers_as_written() {
    let mut shop = Shop::open().await;
    let mut letter = Letter::fresh(&event("e-1"));
    letter.job = r#"{"kind": "event.track", "id": "e-1",
        "data": {"metric": "M", "value": 9007199254740993.10}}"#
        .to_owned();
    let entries = shop.bury(EVENTS_DEAD, &[letter]).await;
    let (_, said, _) = shop.command(&["dlq", "list"]).await;
    assert!(said.contains("9007199254740993.10"), "{said}");
    let listed: Value = serde_json::from_str(&said).unwrap();
    let keys: BTreeSet<&str> = listed[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for key in [
        "account",
        "entry",
        "queue",
        "kind",
        "id",
        "code",
        "status",
        "detail",
        "pointer",
        "attempts",
        "died_at",
        "enqueued_at",
        "job",
    ] {
        assert!(keys.contains(key), "{key} is missing: {listed}");
    }
    assert_eq!(listed[0]["entry"], entries[0].as_str());
    assert_eq!(
        (&listed[0]["status"], &listed[0]["attempts"]),
        (&json!(400), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_says_when_it_does_not_show_all_and_a_pipe_gets_all() {
    let mut shop = Shop::open().await;
    let mut letters: Vec<Letter> = (0..1_201)
        .map(|number| Letter::fresh(&event(&format!("e-{number}"))))
        .collect();
    "\u{1b}[2Jgone".clone_into(&mut letters[0].detail);
    shop.bury(EVENTS_DEAD, &letters).await;
    let all = shop.told(&["dlq", "list"]).await;
    assert_eq!(all.as_array().unwrap().len(), 1_201);
    let (_, table, hint) = shop.command(&["dlq", "list", "--output", "table"]).await;
    assert_eq!(table.lines().count(), 101);
    assert!(
        hint.contains("--limit") && !table.contains('\u{1b}'),
        "{hint}"
    );
    let (_, table, hint) = shop
        .command(&["dlq", "list", "--output", "table", "--limit", "1200"])
        .await;
    assert_eq!((table.lines().count(), hint.as_str()), (1_201, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_jobs_is_bounded_in_bytes() {
    let mut shop = Shop::open().await;
    let mut letter = Letter::fresh(&event("e-1"));
    letter.job = format!("\"{}\"", "x".repeat(1 << 20));
    shop.bury(EVENTS_DEAD, &vec![letter; 40]).await;
    let keys = Keys::default();
    let mut redis: Connection = shop.redis.clone();
    let (mut range, mut seen) = (DeadRange::ALL, 0);
    loop {
        let page = dead_page(&mut redis, &keys, "event-tracking", range)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 14, "{} MB in one page", page.len());
        range.from = last.entry.next();
        seen += page.len();
    }
    assert_eq!(seen, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_by_cause_with_a_sample_and_a_remedy() {
    let mut shop = Shop::open().await;
    let mut letters: Vec<Letter> = (0..30)
        .map(|number| {
            let mut letter = Letter::fresh(&event(&format!("e-{number}")));
            letter.pointer = format!("/data/attributes/events/data/{number}/attributes/time");
            letter
        })
        .collect();
    letters.push(Letter::fresh(&event("other")));
    let entries = shop.bury(EVENTS_DEAD, &letters).await;
    let stats = shop.told(&["dlq", "stats"]).await;
    assert_eq!(stats.as_array().unwrap().len(), 2, "{stats}");
    let group = &stats[0];
    assert_eq!(
        (&group["count"], &group["code"], &group["pointer"]),
        (
            &json!(30),
            &json!("klaviyo.invalid"),
            &json!("/data/attributes/events/data/*/attributes/time")
        )
    );
    assert_eq!(group["sample"], entries[29].as_str());
    assert!(group["remedy"].as_str().unwrap().contains("dlq edit"));
    // As texts, a whole second would come after its own milliseconds.
    let seen = |name: &str| group[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(seen("first_seen") <= seen("last_seen"), "{group}");
    let (_, table, _) = shop.command(&["dlq", "stats", "--output", "table"]).await;
    assert!(table.contains("klaviyo.invalid: Correct"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_shown_by_entry_or_id_with_what_to_do() {
    let mut shop = Shop::open().await;
    let entries = shop
        .bury(
            EVENTS_DEAD,
            &[Letter::fresh(&event("e-1")), Letter::fresh(&event("e-1"))],
        )
        .await;
    let by_entry = shop.told(&["dlq", "show", &entries[0]]).await;
    assert_eq!(
        (by_entry["entry"].as_str(), &by_entry["job"]["id"]),
        (Some(entries[0].as_str()), &json!("e-1"))
    );
    for key in ["meaning", "acts", "remedy", "doc", "replays"] {
        assert!(!by_entry[key].is_null(), "{key}: {by_entry}");
    }
    let (_, said, hint) = shop.command(&["dlq", "show", "e-1"]).await;
    let youngest: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(youngest["entry"], entries[1].as_str());
    assert!(hint.contains("2 dead jobs"), "{hint}");
    let (_, table, _) = shop
        .command(&["dlq", "show", &entries[0], "--output", "table"])
        .await;
    assert!(
        table.contains("remedy") && table.contains("\"Placed Order\""),
        "{table}"
    );
    let (code, complaint) = shop.refused(&["dlq", "show", "nobody"]).await;
    assert_eq!(
        (code, complaint.contains("dlq list")),
        (1, true),
        "{complaint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_checked_keeps_everything_else_and_is_delivered_by_a_replay() {
    let mut shop = Shop::open().await;
    let bare =
        json!({"kind": "event.track", "expires_at": null, "tenant": "eu", "data": {"metric": "M"}});
    let letter = Letter::of(&bare, SignedDuration::from_hours(2));
    let entries = shop.bury(EVENTS_DEAD, std::slice::from_ref(&letter)).await;
    let entry = entries[0].as_str();
    for (data, says) in [
        (r#"{"metric": "M"}"#, "`profile`"),
        (r#"{"metric": "M", "profle": {}}"#, "profile"),
        ("{", "not JSON"),
    ] {
        let (code, complaint) = shop
            .refused(&["dlq", "edit", entry, "--data", data, "--yes"])
            .await;
        assert_eq!((code, complaint.contains(says)), (1, true), "{complaint}");
        assert!(complaint.contains("nothing was changed"), "{complaint}");
    }
    let data =
        r#"{"metric": "M", "profile": {"email": "a@klqtest.dev"}, "value": 9007199254740993.10}"#;
    let edited = shop
        .told(&["dlq", "edit", entry, "--data", data, "--yes"])
        .await;
    let now_at = edited["entry"].as_str().unwrap();
    let shown = shop.told(&["dlq", "show", now_at]).await;
    let before = shop.dead().await;
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].sid.to_string(), letter.sid);
    assert_eq!(
        (&shown["code"], &shown["id"], &shown["job"]["tenant"]),
        (
            &json!("klaviyo.invalid"),
            &json!(format!("event-tracking/{}", letter.sid)),
            &json!("eu")
        )
    );
    let died: i64 = entry.split_once('-').unwrap().0.parse().unwrap();
    assert_eq!(before[0].died_at.as_millisecond(), died);
    // It is chosen by the time it died, and is not what was there then.
    let died_at = before[0].died_at.to_string();
    let next_ms = Timestamp::from_millisecond(died + 1).unwrap().to_string();
    for (filter, at, chosen) in [
        ("--since", &died_at, 1),
        ("--until", &died_at, 0),
        ("--since", &next_ms, 0),
    ] {
        let listed = shop.told(&["dlq", "list", filter, at]).await;
        assert_eq!(listed.as_array().unwrap().len(), chosen, "{filter} {at}");
    }
    let (code, complaint) = shop
        .refused(&["dlq", "edit", entry, "--data", data, "--yes"])
        .await;
    assert_eq!((code, complaint.contains(entry)), (1, true), "{complaint}");
    let whole = event("e-1").to_string();
    let edited = shop
        .told(&["dlq", "edit", now_at, "--job", &whole, "--replay", "--yes"])
        .await;
    assert_eq!(
        (&edited["edited"], &edited["replay"]["replayed"]),
        (&json!(1), &json!(1)),
        "{edited}"
    );
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    assert_eq!(shop.events_sent()[0]["unique_id"], "e-1");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_needs_a_payload_where_there_is_no_terminal_and_consent_to_change() {
    let mut shop = Shop::open().await;
    let entries = shop
        .bury(EVENTS_DEAD, &[Letter::fresh(&event("e-1"))])
        .await;
    let (code, complaint) = shop.refused(&["dlq", "edit", &entries[0], "--yes"]).await;
    assert_eq!(
        (code, complaint.contains("--data")),
        (2, true),
        "{complaint}"
    );
    let whole = event("e-2").to_string();
    let (code, complaint) = shop
        .refused(&["dlq", "edit", &entries[0], "--job", &whole])
        .await;
    assert_eq!(
        (code, complaint.contains("--yes")),
        (2, true),
        "{complaint}"
    );
    assert_eq!(shop.dead().await[0].id, "e-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_jobs_are_gone_and_the_others_stay() {
    let mut shop = Shop::open().await;
    various(&mut shop).await;
    let (code, complaint) = shop.refused(&["dlq", "discard", "--all"]).await;
    assert_eq!(
        (code, complaint.contains("delete 4 dead jobs")),
        (2, true),
        "{complaint}"
    );
    let done = shop
        .told(&["dlq", "discard", "--code", "job.not_json", "--yes"])
        .await;
    assert_eq!(done, json!({"discarded": 1}));
    let left = shop.dead().await;
    assert_eq!(left.len(), 3);
    let entry = left[0].entry.to_string();
    let done = shop
        .told(&["dlq", "discard", &entry, "--queue", &left[0].queue, "--yes"])
        .await;
    assert_eq!(done, json!({"discarded": 1}));
    assert_eq!(shop.dead().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_that_finds_nothing_asks_nothing_and_deletes_nothing() {
    let mut shop = Shop::open().await;
    let done = shop.told(&["dlq", "discard", "--all"]).await;
    assert_eq!(done, json!({"discarded": 0}));
    let recorded = recorded_actions(&mut shop.redis, &Keys::default(), 10).await;
    assert_eq!(recorded.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_dead_jobs_is_on_record_without_anything_of_people() {
    let mut shop = Shop::open().await;
    let entries = shop
        .bury(
            EVENTS_DEAD,
            &[Letter::fresh(&event("e-1")), Letter::fresh(&event("e-2"))],
        )
        .await;
    let whole = event("e-3").to_string();
    shop.told(&["dlq", "edit", &entries[0], "--job", &whole, "--yes"])
        .await;
    shop.told(&["dlq", "replay", "--match", "e-3@klqtest.dev", "--yes"])
        .await;
    shop.told(&["dlq", "discard", "--queue", "event-tracking", "--yes"])
        .await;
    let recorded = recorded_actions(&mut shop.redis, &Keys::default(), 10)
        .await
        .unwrap();
    let recorded: Vec<(&str, &str, u64)> = recorded
        .iter()
        .map(|(_, it)| {
            assert!(!it.detail.to_string().contains("klqtest"), "{}", it.detail);
            (it.action.as_str(), it.target.as_str(), it.touched)
        })
        .collect();
    assert_eq!(
        recorded,
        [
            ("dlq.edit", "event-tracking", 1),
            ("dlq.replay", "all queues", 1),
            ("dlq.discard", "event-tracking", 1)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_one_line_for_each_job_and_overwrites_nothing() {
    let mut shop = Shop::open().await;
    various(&mut shop).await;
    let mut spread = Letter::fresh(&event("e-9"));
    spread.job = "{\n  \"kind\": \"event.track\",\n  \"data\": {}\n}".to_owned();
    shop.bury(EVENTS_DEAD, &[spread]).await;
    let (_, lines, _) = shop.command(&["dlq", "export"]).await;
    let exported: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported.len(), 5);
    let nonsense = exported
        .iter()
        .find(|it| it["code"] == "job.not_json")
        .unwrap();
    assert_eq!(nonsense["payload_base64"], "bm90IGpzb24=");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("dead.ndjson");
    let to = file.to_str().unwrap();
    let (code, said, _) = shop
        .command(&["dlq", "export", "--kind", "event.track", "--to", to])
        .await;
    assert_eq!(
        (code, serde_json::from_str(&said).unwrap_or(Value::Null)),
        (Some(0), json!({"exported": 3, "to": to})),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    let (code, complaint) = shop.refused(&["dlq", "export", "--to", to]).await;
    assert_eq!(
        (code, complaint.contains("not there yet")),
        (1, true),
        "{complaint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_are_never_trimmed_and_say_what_is_known() {
    let mut shop = Shop::open().await;
    shop.add_all(
        EVENTS,
        (0..3_000).map(|number| json!({"kind": "event.track", "id": format!("e-{number}")})),
    )
    .await;
    let daemon = shop.daemon().await;
    shop.until_delivered().await;
    let dead = shop.dead().await;
    assert_eq!(dead.len(), 3_000);
    assert!(dead.iter().all(|job| job.code == "job.missing_field"
        && job.attempts == 1
        && job.pointer.as_deref() == Some("/data")
        && !job.detail.is_empty()));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_deletes_what_was_counted_and_nothing_that_died_since() {
    let mut shop = Shop::open().await;
    let letters: Vec<Letter> = ["e-1", "e-2", "e-3"]
        .iter()
        .map(|id| Letter::fresh(&event(id)))
        .collect();
    let entries = shop.bury(EVENTS_DEAD, &letters).await;
    let all = |limit| {
        DeadSelection::Matching(DeadFilter {
            limit,
            ..DeadFilter::default()
        })
    };
    let mut operations = Operations::new(shop.redis.clone(), Keys::default());
    for (limit, discarded, left) in [(Some(2), 1, 3), (None, 3, 2)] {
        let counted = operations.dead_count(&all(limit)).await.unwrap();
        // Between the question and the answer one is gone, and others die, also on a queue that had none.
        let mut delete = redis::cmd("XDEL");
        delete.arg(EVENTS_DEAD).arg(&entries[0]);
        delete.query_async::<()>(&mut shop.redis).await.unwrap();
        shop.bury(EVENTS_DEAD, &letters[..1]).await;
        shop.bury(PROFILES_DEAD, &letters[..1]).await;
        let stop = CancellationToken::new();
        let done = operations.discard(&all(limit), Some(&counted), &stop).await;
        assert_eq!(done.unwrap().discarded, discarded, "{limit:?}");
        assert_eq!(shop.dead().await.len(), left, "{limit:?}");
    }
}
