//! The database, each test on every kind of it.

use crate::databases::NewDatabase;
use jiff::{SignedDuration, Timestamp};
use klaviyod::store::{Action, Database, Delivery, Error, Fate, Jobs, State, Store};
use std::sync::Arc;
use tokio::task::JoinSet;

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_the_same_time_migrate_once_and_share_one_id() {
    for database in NewDatabase::of_each_kind().await {
        let mut starting = JoinSet::new();
        for _ in 0..6 {
            let url = database.url.clone();
            starting.spawn(async move {
                let database = Database::connect(&url).await.unwrap();
                database.migrate().await.unwrap();
                let store = Store::open(database, None).await.unwrap();
                store.deployment().to_owned()
            });
        }
        let ids = starting.join_all().await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let reached = Database::connect(&database.url).await.unwrap();
        let migrations = reached.migrations().await.unwrap();
        assert!(migrations.iter().all(|it| it.state == State::Applied));
        assert_eq!(reached.migrate().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_tables_is_not_opened_and_the_error_says_what_to_do() {
    for database in NewDatabase::of_each_kind().await {
        let database = Database::connect(&database.url).await.unwrap();
        let error = Store::open(database, None).await.unwrap_err();
        assert!(matches!(error, Error::Behind(4)), "{error}");
        assert!(error.to_string().contains("klaviyod migrate"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_by_its_id_whether_it_was_delivered_with_a_thousand_others_or_went_otherwise()
 {
    for database in NewDatabase::of_each_kind().await {
        let store = database.store().await;
        let now = Timestamp::now();
        let ids: Vec<String> = (0..1_000).map(|n| format!("order-{n}")).collect();
        let call = delivered(&store, &ids, now);
        let retry = attempt(
            &store,
            "order-1001",
            1,
            "retry",
            now - SignedDuration::from_secs(9),
        );
        let bury = attempt(&store, "order-1001", 2, "bury", now);
        // JSON allows it, PostgreSQL does not.
        let odd = attempt(&store, "a\0b", 1, "bury", now);
        store
            .write_deliveries(&[call, retry, bury, odd])
            .await
            .unwrap();

        for kind in [Some("event.track"), None] {
            let found = store.attempts("default", kind, "order-7").await.unwrap();
            assert_eq!(found.found.len(), 1, "{found:?}");
            assert_eq!(
                (found.found[0].outcome.as_str(), found.found[0].attempt),
                ("delivered", 1)
            );
            let found = store.attempts("default", kind, "order-1001").await.unwrap();
            let outcomes: Vec<_> = found
                .found
                .iter()
                .map(|it| (it.attempt, &*it.outcome))
                .collect();
            assert_eq!(outcomes, [(1, "retry"), (2, "bury")]);
            assert_eq!(found.found[1].code.as_deref(), Some("klaviyo.invalid"));
            assert_eq!(found.found[1].status, Some(400));
            assert_eq!(found.found[1].pointer.as_deref(), Some("/data/0"));
            assert!(!found.is_cut);
        }
        let nothing = |account, kind, id| {
            let store = store.clone();
            async move { store.attempts(account, kind, id).await.unwrap().found }
        };
        assert_eq!(nothing("default", None, "order-1000").await, []);
        assert_eq!(nothing("other", None, "order-7").await, []);
        assert_eq!(
            nothing("default", Some("order.placed"), "order-7").await,
            []
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_through_many_calls_of_the_same_moment() {
    for database in NewDatabase::of_each_kind().await {
        let store = database.store().await;
        let now = Timestamp::now();
        let calls: Vec<Delivery> = (0..450)
            .map(|n| delivered(&store, &[format!("job-{n}")], now))
            .collect();
        store.write_deliveries(&calls).await.unwrap();
        for id in ["job-0", "job-199", "job-200", "job-449"] {
            let found = store.attempts("default", None, id).await.unwrap();
            assert_eq!(found.found.len(), 1, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_back_as_far_as_deliveries_are_kept() {
    for database in NewDatabase::of_each_kind().await {
        let store = database.store().await;
        let now = Timestamp::now();
        let long_ago = delivered(&store, &["order-1".to_owned()], now - 29 * DAY);
        store.write_deliveries(&[long_ago]).await.unwrap();
        let found = store.attempts("default", None, "order-1").await.unwrap();
        assert_eq!((found.found.len(), found.is_cut), (1, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_cleaned_by_age_and_by_size_whichever_comes_first() {
    for database in NewDatabase::of_each_kind().await {
        let store = database.store().await;
        let now = Timestamp::now();
        let batch: Vec<Delivery> = (0..10)
            .flat_map(|days| {
                let ended = now - days * DAY;
                let store = &store;
                (0..120).map(move |n| delivered(store, &[format!("{days}-{n}")], ended))
            })
            .collect();
        let bytes_of_a_day: usize = batch[..120].iter().map(Delivery::bytes).sum();
        store.write_deliveries(&batch).await.unwrap();

        clean(&store, now - 7 * DAY, u64::MAX).await;
        assert!(is_there(&store, "6-0").await);
        assert!(!is_there(&store, "8-0").await);

        let three_days = u64::try_from(3 * bytes_of_a_day).unwrap();
        clean(&store, now - 7 * DAY, three_days).await;
        assert!(is_there(&store, "2-119").await);
        assert!(!is_there(&store, "3-0").await);
        // What is gone no longer counts.
        assert_eq!(
            store
                .clean_deliveries(now - 7 * DAY, three_days)
                .await
                .unwrap(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_clean_at_the_same_time_leave_nothing_that_no_longer_counts() {
    for database in NewDatabase::of_each_kind().await {
        let now = Timestamp::now();
        let store = database.store().await;
        let ids: Vec<String> = (0..6_000).map(|n| format!("job-{n}")).collect();
        let batch: Vec<Delivery> = ids
            .iter()
            .map(|id| delivered(&store, std::slice::from_ref(id), now - DAY))
            .collect();
        store.write_deliveries(&batch).await.unwrap();
        let other = database.store().await;
        // All is too much, and nothing too old.
        let week_ago = now - 7 * DAY;
        loop {
            let (here, there) = tokio::join!(
                store.clean_deliveries(week_ago, 1),
                other.clean_deliveries(week_ago, 1)
            );
            if here.unwrap() + there.unwrap() == 0 {
                break;
            }
        }
        for id in ids.iter().step_by(100) {
            assert!(!is_there(&store, id).await, "{id} is left for ever");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_did_is_kept_once_however_often_it_is_copied() {
    for database in NewDatabase::of_each_kind().await {
        let store = database.store().await;
        let action = |number: u32| Action {
            account: "default".to_owned(),
            stream_id: format!("1700000000000-{number}"),
            at: Timestamp::from_millisecond(1_700_000_000_000 + i64::from(number)).unwrap(),
            actor: "ann@ops".to_owned(),
            action: "queue.purge".to_owned(),
            target: "lists".to_owned(),
            touched: 3,
            detail: "{}".to_owned(),
        };
        store.keep_actions(&[action(0), action(1)]).await.unwrap();
        store.keep_actions(&[action(1), action(2)]).await.unwrap();
        let kept = store.actions("default", 10).await.unwrap();
        assert_eq!(kept, [action(2), action(1), action(0)]);
        assert_eq!(store.actions("other", 10).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_fails_at_once_and_says_what_to_check() {
    let error = Database::connect("sqlite:///nowhere/at/all/klaviyod.db")
        .await
        .unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    let error = Database::connect("postgres://user:secret@127.0.0.1:x/db")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Address(_)), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("secret"));
}

async fn clean(store: &Store, before: Timestamp, bytes_max: u64) {
    while store.clean_deliveries(before, bytes_max).await.unwrap() > 0 {}
}

async fn is_there(store: &Store, id: &str) -> bool {
    let account = "default";
    let recent = store
        .attempts(account, Some("event.track"), id)
        .await
        .unwrap();
    !recent.found.is_empty()
}

fn delivered(store: &Store, ids: &[String], ended: Timestamp) -> Delivery {
    let hash = |id: &String| store.hasher().hash("event.track", id);
    let mut hashes: Vec<u64> = ids.iter().map(hash).collect();
    hashes.sort_unstable();
    delivery(ended, Jobs::Delivered(hashes))
}

fn attempt(
    store: &Store,
    id: &str,
    attempt: u32,
    outcome: &'static str,
    ended: Timestamp,
) -> Delivery {
    let fate = Fate {
        id: id.to_owned(),
        id_hash: store.hasher().hash("event.track", id),
        attempt,
        outcome,
        code: Some("klaviyo.invalid"),
        status: Some(400),
        pointer: Some("/data/0".into()),
    };
    delivery(ended, Jobs::One(Box::new(fate)))
}

fn delivery(ended: Timestamp, jobs: Jobs) -> Delivery {
    let name = |text: &str| Arc::<str>::from(text);
    Delivery {
        account: name("default"),
        queue: name("event-tracking"),
        kind: name("event.track"),
        call: u64::MAX,
        started: ended - SignedDuration::from_secs(1),
        ended,
        jobs,
    }
}
