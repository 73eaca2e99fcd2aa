//! Answers that mean harm, and calls with one bad row.

use super::fleet::{Fleet, Plan};
use super::jobs::{EVENTS, PROFILES, Shop, event, event_with, upsert};
use super::kills::until_nothing_is_left;
use super::stage::{Stage, until};
use klaviyo_simulator::{FaultKind, HostileBody};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_mins(2);
const CALL_MAX: Duration = Duration::from_secs(30);
/// The longest pause before the second attempt, and a little.
const SECOND_ATTEMPT: Duration = Duration::from_secs(3);
/// Profiles that are written before anything goes wrong.
const WARM: usize = 500;
const RSS_MORE_MB_MAX: u64 = 64;
const BODIES: [HostileBody; 6] = [
    HostileBody::Deep,
    HostileBody::Empty,
    HostileBody::Garbage,
    HostileBody::Half,
    HostileBody::Huge,
    HostileBody::ZipBomb,
];
/// What is said in place of seconds. What is believed closes the operation, so it stays short.
const RETRY_AFTER: [&str; 7] = [
    "-5",
    "0",
    "1.5",
    "",
    "soon",
    "\u{1F389}",
    "Wed, 21 Oct 2015 07:28:00 GMT",
];
/// What would keep a job for ever.
const RETRY_NEVER: [&str; 2] = [
    "99999999999999999999999999",
    "Fri, 31 Dec 9999 23:59:59 GMT",
];
/// No pause is believed beyond this.
const PAUSE_MAX: Duration = Duration::from_mins(15);

pub(crate) async fn hostile(stage: &Stage) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(Plan {
        replicas: 1,
        ..Plan::default()
    })
    .await?;
    let shop = Shop::open(&fleet.redis.url()).await?;
    // The first call of a process proves its key, and others wait for it.
    // It also has to have worked before its memory is a figure.
    shop.add(EVENTS, [event(0)]).await?;
    shop.add(PROFILES, (0..WARM).map(upsert)).await?;
    until_nothing_is_left(&shop, PATIENCE).await?;
    let (mut written, mut upserts, mut dead) = (1, WARM, 0);
    // Two calls that never end, or do by drops, while everything else goes on.
    let hanging = [FaultKind::Silence, answer(503, HostileBody::Drip, None)];
    for kind in hanging {
        fleet.fault(Some("create_event"), 1, kind);
        shop.add(EVENTS, [event(written)]).await?;
        written += 1;
        until("the call is under way", PATIENCE, async || {
            Ok(fleet.klaviyo.faults().pending().is_empty())
        })
        .await?;
    }
    let held = fleet.replicas[0].rss_mb()?.0;
    let mut slowest = Duration::ZERO;
    for body in BODIES {
        for (operation, status) in [
            ("create_or_update_profile", 200),
            ("create_or_update_profile", 500),
            ("create_or_update_profile", 429),
            ("create_or_update_profile", 400),
        ] {
            // A refusal for good that cannot be read is still one; half of one is no answer.
            dead += usize::from(
                status == 400
                    && matches!(
                        body,
                        HostileBody::Deep
                            | HostileBody::Empty
                            | HostileBody::Garbage
                            | HostileBody::ZipBomb
                    ),
            );
            fleet.fault(Some(operation), 1, answer(status, body, None));
            shop.add(PROFILES, [upsert(upserts)]).await?;
            upserts += 1;
            slowest = slowest
                .max(until_only_hanging(&shop, &format!("{operation} {status} {body:?}")).await?);
        }
    }
    for text in RETRY_AFTER {
        let kind = FaultKind::Status {
            status: 503,
            retry_after: Some(text.to_owned()),
        };
        fleet.fault(Some("create_or_update_profile"), 1, kind);
        shop.add(PROFILES, [upsert(upserts)]).await?;
        upserts += 1;
        slowest = slowest.max(until_only_hanging(&shop, text).await?);
    }
    let mut longest = Duration::ZERO;
    for text in RETRY_NEVER {
        let kind = FaultKind::Status {
            status: 503,
            retry_after: Some(text.to_owned()),
        };
        fleet.fault(Some("create_or_update_profile"), 1, kind);
        shop.add(PROFILES, [upsert(upserts)]).await?;
        upserts += 1;
        until("the job is put off", PATIENCE, async || {
            Ok(shop.delayed(PROFILES).await? == 1)
        })
        .await?;
        longest = longest.max(shop.take_longest_delay(PROFILES).await?);
    }
    stage.within("longest pause believed", PAUSE_MAX, longest);
    // Many at once leave in bulk, and are followed afterwards.
    for (operation, status) in [
        ("bulk_import_profiles", 202),
        ("get_bulk_import_profiles_job", 200),
        ("get_bulk_import_profiles_job", 502),
    ] {
        for body in BODIES {
            fleet.fault(Some(operation), 1, answer(status, body, None));
        }
    }
    fleet.fault(
        Some("bulk_import_profiles"),
        1,
        FaultKind::Html { status: 502 },
    );
    fleet.fault(
        Some("get_bulk_import_profiles_job"),
        1,
        FaultKind::Truncate { bytes: 60 },
    );
    let many = stage.pick(100, 5_000);
    shop.add(PROFILES, (upserts..upserts + many).map(upsert))
        .await?;
    upserts += many;
    until_only_hanging(&shop, "in bulk").await?;
    stage.within("slowest job with one hostile answer", CALL_MAX, slowest);
    until_nothing_is_left(&shop, PATIENCE).await?;
    stage.within(
        "longest call and the pause after it",
        CALL_MAX + SECOND_ATTEMPT,
        longest_call(&fleet),
    );
    let (calls, short) = calls_within_30_s(&fleet).await?;
    stage.equal("calls that ended within 30 s", calls, short);
    let most = fleet.replicas[0].rss_mb()?.1;
    stage.figure(
        "RSS more",
        format!("<= {RSS_MORE_MB_MAX} MB"),
        format!("{} MB", most.saturating_sub(held)),
        most <= held + RSS_MORE_MB_MAX,
    );
    stage.equal(
        "distinct events",
        written as u64,
        fleet.klaviyo.stats().distinct_events,
    );
    stage.equal(
        "dead by a 400 without a reason",
        dead as u64,
        shop.dead().await?,
    );
    stage.equal(
        "people at Klaviyo",
        (written + upserts - dead) as u64,
        fleet.klaviyo.stats().profiles,
    );
    stage.equal("panics", 0, fleet.said("panicked")?);
    stage.equal("processes ended", 0, fleet.ended()?);
    Ok(())
}

/// How many calls the daemon made, and how many of them ended within 30 s, as it measured them.
async fn calls_within_30_s(fleet: &Fleet) -> anyhow::Result<(u64, u64)> {
    let (_, metrics) = fleet.replicas[0].get("/metrics").await?;
    let sum = |start: &str, with: &str| -> u64 {
        let lines = metrics.lines();
        let lines = lines.filter(|line| line.starts_with(start) && line.contains(with));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    };
    let calls = sum("klaviyod_http_seconds_count", "");
    anyhow::ensure!(calls > 0, "no call was measured");
    Ok((calls, sum("klaviyod_http_seconds_bucket", r#"le="30""#)))
}

/// From the calls that never end to their second attempts. Both kinds are events, and nothing else is.
fn longest_call(fleet: &Fleet) -> Duration {
    let calls: Vec<Duration> = fleet
        .klaviyo
        .requests()
        .iter()
        .filter(|request| {
            request.operation.ends_with("create_event")
                || request.operation.ends_with("create_events")
        })
        .map(|request| request.since_start)
        .collect();
    match calls.as_slice() {
        [_, silent, dripping, rest @ ..] => {
            let ends = [rest.first(), rest.last()];
            let calls = [silent, dripping].into_iter().zip(ends);
            let lengths = calls
                .map(|(begun, end)| end.map_or(Duration::MAX, |end| end.saturating_sub(*begun)));
            lengths.max().unwrap_or(Duration::MAX)
        }
        _ => Duration::MAX,
    }
}

fn answer(status: u16, body: HostileBody, retry_after: Option<&str>) -> FaultKind {
    FaultKind::Hostile {
        status,
        body,
        retry_after: retry_after.map(str::to_owned),
    }
}

/// Waits until only the events that hang are left.
async fn until_only_hanging(shop: &Shop, what: &str) -> anyhow::Result<Duration> {
    until(&format!("the job is done ({what})"), PATIENCE, async || {
        Ok(shop.left_of(PROFILES).await? == 0)
    })
    .await
}

pub(crate) async fn bad_row(stage: &Stage) -> anyhow::Result<()> {
    const JOBS: usize = 1_000;
    const BAD: usize = 500;
    for (how, calls_max) in [("pointed", 3), ("silent", 25)] {
        let mut fleet = Fleet::prepare(&Plan {
            replicas: 1,
            ..Plan::default()
        })
        .await?;
        let shop = Shop::open(&fleet.redis.url()).await?;
        let jobs = (0..JOBS).map(|number| {
            if number == BAD {
                event_with(number, json!({"sim_reject": how}))
            } else {
                event(number)
            }
        });
        shop.add(EVENTS, jobs).await?;
        fleet.add_replica().await?;
        until_nothing_is_left(&shop, PATIENCE).await?;
        // Whatever else would be sent is sent by now.
        sleep(Duration::from_millis(200)).await;
        let stats = fleet.klaviyo.stats();
        stage.equal(
            &format!("delivered, {how}"),
            JOBS as u64 - 1,
            stats.distinct_events,
        );
        stage.at_most("in calls", calls_max, stats.requests);
        let dead = fleet.dead().await?;
        let ids: Vec<&str> = dead.iter().filter_map(|job| job["id"].as_str()).collect();
        stage.equal("dead", format!("order-{BAD}"), ids.join(", "));
        let texts = |name: &str| {
            dead.first()
                .and_then(|job| job[name].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        stage.equal("code", "klaviyo.invalid".to_owned(), texts("code"));
        stage.figure(
            "detail",
            "some",
            texts("detail"),
            !texts("detail").is_empty(),
        );
        if how == "pointed" {
            let pointer = texts("pointer");
            stage.figure(
                "pointer",
                "to the field",
                &pointer,
                pointer.ends_with("sim_reject"),
            );
        }
        stage.equal("processes ended", 0, fleet.ended()?);
    }
    Ok(())
}
