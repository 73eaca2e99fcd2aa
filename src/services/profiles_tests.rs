//! Imports that were refused in part, over a Klaviyo in memory and a real Redis.

use super::*;
use crate::klaviyo::memory::{Answer, Memory};
use crate::klaviyo::{BudgetScale, LocalBudget, Settings};
use crate::private_redis::PrivateRedis;
use crate::queue::{
    Connection, DeadJob, DeadRange, EntryId, Redis, Replayed, dead_page, discard_dead,
};
use klaviyo_jobs::Keys;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Stage {
    memory: Memory,
    profiles: Profiles,
    redis: Connection,
    _server: PrivateRedis,
    _folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        let redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
        let memory = Memory::new();
        let settings = Settings::new(
            "https://a.klaviyo.com".parse().unwrap(),
            SecretString::from("pk_test"),
        );
        let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
        let client = Client::with_transport(settings, budget, Arc::new(memory.clone())).unwrap();
        let outbox = Outbox::new(redis.clone(), Keys::default());
        Self {
            memory,
            profiles: Profiles::new(Arc::new(client), outbox, Duration::from_secs(1)),
            redis,
            _server: server,
            _folder: folder,
        }
    }

    /// Runs a follow-up while Klaviyo says this of the import.
    async fn follow(&self, follow_up: &QueuedJob, status: &str, refused: &[Value]) -> Outcome {
        let job = json!({"data": {"id": "import", "attributes":
            {"status": status, "failed_count": refused.len()}}});
        self.memory.answer(Answer::new(200, job.to_string()));
        if status == "complete" {
            let page = json!({"data": refused, "links": {"next": null}});
            self.memory.answer(Answer::new(200, page.to_string()));
        }
        self.look(follow_up).await
    }

    async fn look(&self, follow_up: &QueuedJob) -> Outcome {
        let operation = Operation::GetBulkImportProfilesJob;
        let permit = self.profiles.client.permit(operation, Instant::now());
        self.profiles
            .follow(
                follow_up,
                permit.await.unwrap(),
                UpsertProfile::QUEUE,
                Instant::now() + Duration::from_mins(9),
            )
            .await
    }

    async fn dead(&self) -> Vec<DeadJob> {
        let (mut redis, keys) = (self.redis.clone(), Keys::default());
        let page = dead_page(&mut redis, &keys, UpsertProfile::QUEUE, DeadRange::ALL);
        page.await.unwrap()
    }

    async fn discard(&self, dead: &DeadJob) {
        let (mut redis, keys) = (self.redis.clone(), Keys::default());
        let entries = [dead.entry];
        let discarded = discard_dead(&mut redis, &keys, UpsertProfile::QUEUE, &entries);
        assert_eq!(discarded.await.unwrap(), 1);
    }
}

/// Upserts of as many profiles, the second row being two jobs.
fn import_of(rows: u64) -> FollowUp {
    let upsert = |number: u64| {
        let job = json!({"kind": "profile.upsert", "id": format!("p-{number}"),
            "data": {"profile": {"email": format!("p-{number}@klqtest.dev")}}});
        queued(job.to_string(), number)
    };
    let mut jobs: Vec<Vec<QueuedJob>> = (0..rows).map(|number| vec![upsert(number)]).collect();
    jobs[1].push(upsert(1_000_000));
    let jobs: Vec<Vec<&QueuedJob>> = jobs.iter().map(|row| row.iter().collect()).collect();
    FollowUp::new("import".to_owned(), &jobs)
}

fn queued(job: String, ms: u64) -> QueuedJob {
    let mut queued = QueuedJob::for_test(0, EntryId { ms, seq: 0 }, 0);
    queued.payload = job.into_bytes();
    queued
}

fn refusal(row: usize) -> Value {
    json!({"attributes": {"detail": "no", "source": {"pointer": format!("/data/attributes/profiles/data/{row}")}}})
}

#[tokio::test]
async fn a_follow_up_that_runs_twice_leaves_each_refused_row_once_in_the_dead_letters() {
    let stage = Stage::new().await;
    let follow_up = queued(import_of(3).json(), 7);
    let refused = [refusal(1), refusal(2)];
    for run in 0..2 {
        let outcome = stage.follow(&follow_up, "complete", &refused).await;
        assert!(matches!(outcome, Outcome::Accepted), "{run}");
        let dead = stage.dead().await;
        let ids: Vec<&str> = dead.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["p-1", "p-1000000", "p-2"], "{run}");
    }
}

#[tokio::test]
async fn a_follow_up_of_a_cancelled_import_that_runs_twice_leaves_each_row_once() {
    let stage = Stage::new().await;
    let follow_up = queued(import_of(400).json(), 7);
    for run in 0..2 {
        let outcome = stage.follow(&follow_up, "cancelled", &[]).await;
        assert!(matches!(outcome, Outcome::Accepted), "{run}");
        assert_eq!(stage.dead().await.len(), 401, "{run}");
    }
}

#[tokio::test]
async fn refusals_of_nobody_are_shown_by_a_follow_up_without_the_rows_that_are_buried() {
    let stage = Stage::new().await;
    let mut follow_up = queued(import_of(3).json(), 7);
    let refused = [refusal(1), refusal(99)];
    for run in 0..2 {
        let outcome = stage.follow(&follow_up, "complete", &refused).await;
        assert!(matches!(outcome, Outcome::Accepted), "{run}");
        assert_eq!(stage.dead().await.len(), 3, "{run}");
    }
    let shown = &stage.dead().await[2];
    assert_eq!(shown.code, "job.internal");
    let rest = FollowUp::parse(shown.job.as_bytes()).unwrap();
    let jobs: Vec<usize> = rest.rows.iter().map(|row| row.jobs.len()).collect();
    assert_eq!(jobs, [1, 0, 1], "each row keeps its place");

    // An operator replays it, and Klaviyo says the same again: it is shown again, and nothing is buried twice.
    follow_up.payload = shown.job.as_bytes().to_vec();
    stage.discard(shown).await;
    follow_up.replayed = Some(Replayed {
        times: 1,
        at: Timestamp::now(),
        without_flows: false,
    });
    for run in 0..2 {
        let outcome = stage.follow(&follow_up, "complete", &refused).await;
        assert!(matches!(outcome, Outcome::Accepted), "{run}");
        let dead = stage.dead().await;
        assert_eq!((dead.len(), dead[2].replays), (3, 1), "{run}");
    }
}

#[tokio::test]
async fn looks_that_fail_while_an_import_is_under_way_cost_no_attempt() {
    let stage = Stage::new().await;
    let hour_ago = Timestamp::now().as_millisecond() - 3_600_000;
    let follow_up = queued(import_of(3).json(), u64::try_from(hour_ago).unwrap());
    for run in 0..100 {
        stage.memory.answer(Answer::new(500, ""));
        let failed = stage.look(&follow_up).await;
        assert!(matches!(failed, Outcome::Later(POLL_MAX)), "{run}");
        let unfinished = stage.follow(&follow_up, "processing", &[]).await;
        assert!(matches!(unfinished, Outcome::Later(POLL_MAX)), "{run}");
    }
    // Klaviyo has forgotten the import.
    let follow_up = queued(import_of(3).json(), 7);
    stage.memory.answer(Answer::new(500, ""));
    let Outcome::Failed(failure) = stage.look(&follow_up).await else {
        panic!("it was not a failure");
    };
    assert_eq!(failure.recovery, Recovery::Retry);
    let unfinished = stage.follow(&follow_up, "processing", &[]).await;
    let Outcome::Failed(failure) = unfinished else {
        panic!("it was not a failure");
    };
    assert_eq!(failure.recovery, Recovery::Never);
}
