//! What the Rust producer writes, and what it refuses to write twice.

use crate::server::Server;
use jiff::{SignedDuration, Timestamp};
use klaviyo_jobs::{
    Email, Envelope, Keys, Lane, Message, MetricName, Options, Outcome, ProduceError, Producer,
    ProfileRef, TrackEvent, UpsertProfile, keys::claim_hash,
};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

const EVENTS: &str = "klaviyod:{default}:event-tracking";

fn event(metric: &str) -> TrackEvent {
    TrackEvent::new(MetricName::parse(metric).unwrap(), profile())
}

fn profile() -> ProfileRef {
    ProfileRef::by_email(Email::parse("a@shop.io").unwrap())
}

fn id(id: &str) -> Options {
    Options {
        id: Some(id.to_owned()),
        ..Options::default()
    }
}

async fn producer(server: &Server) -> Producer<MultiplexedConnection> {
    Producer::new(server.connection().await, Keys::default())
}

async fn keys_at(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> = server.connection().await.keys("*").await.unwrap();
    keys.sort();
    keys
}

#[tokio::test]
async fn an_event_with_an_id_is_claimed_for_an_hour_and_its_repeat_is_a_duplicate() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = Producer::connect(&server.url()).await.unwrap();
    let first = producer
        .enqueue_with(&event("Signed Up"), id("7"))
        .await
        .unwrap();
    let again = producer
        .enqueue_with(&event("Signed Up"), id("7"))
        .await
        .unwrap();
    let other = producer
        .enqueue_with(&event("Signed Out"), id("7"))
        .await
        .unwrap();
    assert_eq!(
        (first.outcome, again.outcome, other.outcome),
        (Outcome::Accepted, Outcome::Duplicate, Outcome::Accepted)
    );
    assert!(first.entry.is_some() && again.entry.is_none());

    let entries = server.entries(EVENTS).await;
    assert_eq!(entries.len(), 2);
    let hash = claim_hash("event.track:9:Signed Up:7");
    assert_eq!(entries[0].claim.as_deref(), Some(hash.as_str()));
    let claim = producer.keys().claim_of_hash(&hash);
    let mut redis = server.connection().await;
    assert_eq!(redis.get::<_, String>(&claim).await.unwrap(), "7");
    assert!((3_590..=3_600).contains(&redis.ttl::<_, i64>(&claim).await.unwrap()));
}

#[tokio::test]
async fn a_job_without_an_id_gets_one_and_the_time_of_now() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let before = Timestamp::now();
    let receipt = producer.enqueue(&event("Signed Up")).await.unwrap();
    let entries = server.entries(EVENTS).await;
    let envelope = Envelope::parse(&entries[0].job).unwrap();
    assert_eq!(envelope.id.as_deref(), Some(receipt.id.as_str()));
    assert!(envelope.at.unwrap() >= before);
    assert_eq!(entries[0].claim, None);
    assert_eq!(keys_at(&server).await, [EVENTS]);
}

#[tokio::test]
async fn an_upsert_is_unique_only_when_asked() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let job = UpsertProfile::new(profile());
    let asked = Options {
        unique_for: Some(Duration::from_mins(1)),
        ..id("8")
    };
    for (options, outcomes) in [
        (id("7"), [Outcome::Accepted, Outcome::Accepted]),
        (asked, [Outcome::Accepted, Outcome::Duplicate]),
    ] {
        for outcome in outcomes {
            assert_eq!(
                producer
                    .enqueue_with(&job, options.clone())
                    .await
                    .unwrap()
                    .outcome,
                outcome
            );
        }
    }
}

#[tokio::test]
async fn a_delayed_job_waits_in_the_sorted_set_under_its_due_time() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let due = Timestamp::now() + SignedDuration::from_mins(5);
    let options = Options {
        run_at: Some(due),
        lane: Lane::Backfill,
        ..id("7")
    };
    let receipt = producer
        .enqueue_with(&event("Signed Up"), options.clone())
        .await
        .unwrap();
    let again = producer
        .enqueue_with(&event("Signed Up"), options)
        .await
        .unwrap();
    assert_eq!(
        (receipt.outcome, again.outcome),
        (Outcome::Accepted, Outcome::Duplicate)
    );
    for _ in 0..2 {
        let unclaimed = Options {
            run_at: Some(due),
            ..Options::default()
        };
        producer
            .enqueue_with(&UpsertProfile::new(profile()), unclaimed)
            .await
            .unwrap();
    }

    let mut redis = server.connection().await;
    let delayed = producer.keys().delayed("event-tracking");
    let members: Vec<(String, i64)> = redis.zrange_withscores(delayed, 0, -1).await.unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].1, due.as_millisecond());
    let parts: Vec<_> = members[0].0.splitn(6, ':').collect();
    assert!(!parts[0].is_empty());
    assert_eq!(
        parts[1..5],
        [
            "0",
            "backfill",
            &claim_hash("event.track:9:Signed Up:7"),
            ""
        ]
    );
    assert_eq!(
        Envelope::parse(parts[5].as_bytes()).unwrap().id.as_deref(),
        Some("7")
    );
    assert_eq!(
        redis
            .zcard::<_, usize>(producer.keys().delayed("profile-sync"))
            .await
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn raw_json_is_passed_on_byte_for_byte_with_the_options_on_top() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let data = r#"{"metric" : "Signed Up", "profile": {"email":"a@shop.io"}, "value": 9.990}"#;
    let json = format!(r#"{{"kind": "event.track", "id": "7", "trace": "t", "data": {data}}}"#);
    let options = Options {
        lane: Lane::Backfill,
        ..id("8")
    };
    producer
        .enqueue_raw(json.as_bytes(), &options)
        .await
        .unwrap();
    let entries = server
        .entries("klaviyod:{default}:event-tracking:backfill")
        .await;
    let envelope = Envelope::parse(&entries[0].job).unwrap();
    assert_eq!(
        (envelope.id.as_deref(), envelope.trace.as_deref()),
        (Some("8"), Some("t"))
    );
    assert_eq!(envelope.data.get(), data);
    let refused = producer
        .enqueue_raw(b"{}", &Options::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, ProduceError::Invalid(_)));
}

#[tokio::test]
async fn many_jobs_keep_their_order_over_chunks_and_answer_one_by_one() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let job = event("Signed Up");
    let message = |number: usize| Message::new(&job, &id(&(number % 2_400).to_string())).unwrap();
    let outcomes = producer.enqueue_many((0..2_500).map(message)).await;
    let accepted =
        |enqueued: &klaviyo_jobs::Enqueued| enqueued.as_ref().unwrap().outcome == Outcome::Accepted;
    assert!(outcomes[..2_400].iter().all(accepted));
    assert!(!outcomes[2_400..].iter().any(accepted));
    let entries = server.entries(EVENTS).await;
    let ids = entries.iter().map(|entry| {
        Envelope::parse(&entry.job)
            .unwrap()
            .id
            .unwrap()
            .parse::<usize>()
            .unwrap()
    });
    assert!(ids.eq(0..2_400));
}

#[tokio::test]
async fn jobs_of_megabytes_are_split_by_bytes() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let mut job = event("Signed Up");
    let half_megabyte: Vec<_> = (0..5).map(|_| "x".repeat(99_000)).collect();
    job.properties =
        Some(klaviyo_jobs::Properties::new(&serde_json::json!({"texts": half_megabyte})).unwrap());
    let outcomes = producer
        .enqueue_many((0..20).map(|n| Message::new(&job, &id(&n.to_string())).unwrap()))
        .await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.entries(EVENTS).await.len(), 20);
}

#[tokio::test]
async fn a_full_redis_refuses_the_job_and_leaves_no_claim() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let mut redis = server.connection().await;
    producer
        .enqueue_with(&event("Signed Up"), id("1"))
        .await
        .unwrap();
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("1")
        .exec_async(&mut redis)
        .await
        .unwrap();
    let before = keys_at(&server).await;
    for options in [
        id("2"),
        Options {
            unique_for: Some(Duration::ZERO),
            ..id("3")
        },
    ] {
        let refused = producer
            .enqueue_with(&event("Signed Up"), options)
            .await
            .unwrap_err();
        assert!(matches!(refused, ProduceError::Redis(_)));
    }
    assert_eq!(keys_at(&server).await, before);
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("0")
        .exec_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(
        producer
            .enqueue_with(&event("Signed Up"), id("2"))
            .await
            .unwrap()
            .outcome,
        Outcome::Accepted
    );
}

#[tokio::test]
async fn a_queue_that_cannot_be_written_leaves_no_claim_behind() {
    let Some(server) = Server::start().await else {
        return;
    };
    let producer = producer(&server).await;
    let mut redis = server.connection().await;
    redis.set::<_, _, ()>(EVENTS, "not a stream").await.unwrap();
    let refused = producer
        .enqueue_with(&event("Signed Up"), id("7"))
        .await
        .unwrap_err();
    assert!(matches!(refused, ProduceError::Redis(_)));
    redis.del::<_, ()>(EVENTS).await.unwrap();
    assert_eq!(
        producer
            .enqueue_with(&event("Signed Up"), id("7"))
            .await
            .unwrap()
            .outcome,
        Outcome::Accepted
    );
}
