//! The pipeline from permit to verdict, over the transport in memory and over a real socket.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::memory::{Answer, Memory};
use super::{
    BudgetScale, Client, Error, ErrorKind, Event, GateName, Identifiers, LocalBudget, NoAnswer,
    Operation, Recovery, Settings, SetupError, WaitReason, bulk_events_document,
};

fn settings(base_url: &str) -> Settings {
    let mut settings = Settings::new(
        base_url.parse().unwrap(),
        SecretString::from("pk_very_secret"),
    );
    settings.credentials_probe_every = Duration::ZERO;
    settings.operation_probe_every = Duration::from_hours(1);
    settings
}

fn client() -> (Client, Memory) {
    let memory = Memory::new();
    let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
    let settings = settings("https://a.klaviyo.com");
    let client = Client::with_transport(settings, budget, Arc::new(memory.clone())).unwrap();
    (client, memory)
}

fn event() -> Event<'static> {
    Event {
        metric: "Placed Order",
        profile: Identifiers {
            email: Some("a@shop.io"),
            ..Identifiers::default()
        },
        properties: None,
        time: "2026-09-04T13:38:55Z".parse().unwrap(),
        value: None,
        value_currency: None,
        unique_id: "order-1001",
        backfill: false,
    }
}

async fn create_event(client: &Client) -> Result<(), Error> {
    let permit = client
        .permit(Operation::CreateEvent, Instant::now())
        .await?;
    client.create_event(permit, &event()).await
}

fn counts(client: &Client, operation: Operation) -> (u64, u64, u64, u64) {
    let counts = client.calls()[operation.index()].1;
    (
        counts.sent,
        counts.accepted,
        counts.rate_limited,
        counts.failed,
    )
}

#[tokio::test]
async fn every_call_carries_key_revision_and_media_type() {
    let (client, memory) = client();
    create_event(&client).await.unwrap();
    let request = &memory.requests()[0];
    let header = |name: &str| request.headers[name].to_str().unwrap();
    assert_eq!(request.url.as_str(), "https://a.klaviyo.com/api/events");
    assert_eq!(header("authorization"), "Klaviyo-API-Key pk_very_secret");
    assert_eq!(header("revision"), "2026-07-15");
    assert_eq!(header("accept"), "application/vnd.api+json");
    assert_eq!(header("content-type"), "application/vnd.api+json");
    assert_eq!(header("x-klaviyo-revision-fall-forward-opt-out"), "1");
    assert_eq!(counts(&client, Operation::CreateEvent), (1, 1, 0, 0));
}

#[tokio::test]
async fn key_and_people_are_printed_neither_by_client_nor_request() {
    let (client, memory) = client();
    create_event(&client).await.unwrap();
    let bulk = bulk_events_document(&[]);
    let printed = format!("{client:?} {:?} {memory:?} {bulk:?}", memory.requests());
    assert!(
        !printed.contains("pk_very_secret") && !printed.contains("shop.io"),
        "{printed}"
    );
}

#[tokio::test]
async fn rate_limited_operation_stays_closed_as_long_as_klaviyo_asked() {
    let (client, memory) = client();
    memory.answer(Answer::with_headers(
        429,
        &[("retry-after", "30")],
        "<html>",
    ));
    let error = create_event(&client).await.unwrap_err();
    assert_eq!(
        error.recovery(),
        Recovery::RetryAfter(Duration::from_secs(30))
    );
    let error = create_event(&client).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::BudgetSpent { reason: WaitReason::Closed, until } if *until > Instant::now() + Duration::from_secs(29)
    ));
    assert!(client.try_permit(Operation::BulkCreateEvents).is_some());
    assert_eq!(counts(&client, Operation::CreateEvent), (1, 0, 1, 0));
}

#[tokio::test]
async fn a_permit_from_before_retry_after_makes_no_call_before_it_is_over() {
    let (client, memory) = client();
    // Until the key is proved by a first call, others wait for it.
    create_event(&client).await.unwrap();
    memory.answer(Answer::with_headers(429, &[("retry-after", "30")], ""));
    let earlier = client.permit(Operation::CreateEvent, Instant::now()).await;
    create_event(&client).await.unwrap_err();
    let error = client
        .create_event(earlier.unwrap(), &event())
        .await
        .unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::BudgetSpent {
            reason: WaitReason::Closed,
            ..
        }
    ));
    assert_eq!(counts(&client, Operation::CreateEvent), (2, 1, 1, 0));
}

#[tokio::test]
async fn refused_key_closes_everything_and_recovers_by_itself() {
    let (client, memory) = client();
    memory.answer(Answer::new(401, ""));
    let error = create_event(&client).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Operator);
    // The interval is zero here, so each caller alone may probe.
    let probe = client.try_permit(Operation::GetAccounts).unwrap();
    let error = client
        .permit(Operation::CreateEvent, Instant::now())
        .await
        .unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::GateClosed {
            gate: GateName::Credentials,
            ..
        }
    ));
    assert!(matches!(error.recovery(), Recovery::RetryAfter(_)));
    drop(probe);
    create_event(&client).await.unwrap();
    assert_eq!(client.closed(Operation::CreateEvent), None);
}

#[tokio::test]
async fn forbidden_operation_is_closed_alone() {
    for status in [403, 405, 410, 415] {
        let (client, memory) = client();
        memory.answer(Answer::new(status, ""));
        let error = create_event(&client).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Operator, "{status}");
        let error = create_event(&client).await.unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::GateClosed {
                gate: GateName::Operation,
                ..
            }
        ));
        assert!(
            client.try_permit(Operation::BulkCreateEvents).is_some(),
            "{status}"
        );
        assert_eq!(memory.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn failing_group_is_left_alone_and_others_go_on() {
    let (client, memory) = client();
    let mut sent = 0;
    let error = loop {
        memory.answer(Answer::new(503, "<html>"));
        let error = create_event(&client).await.unwrap_err();
        if matches!(error.kind(), ErrorKind::BreakerOpen { .. }) {
            break error;
        }
        assert_eq!(error.recovery(), Recovery::Retry);
        sent += 1;
    };
    assert_eq!((sent, memory.requests().len()), (5, 5));
    assert_eq!(error.reason(), "klaviyo.breaker_tripped");
    assert!(client.try_permit(Operation::BulkCreateEvents).is_none());
    assert!(
        client
            .try_permit(Operation::CreateOrUpdateProfile)
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn failed_probe_of_the_breaker_waits_for_the_next_one_and_is_no_attempt() {
    let (client, memory) = client();
    let group = Operation::CreateEvent.group();
    while client.tripped(group).is_none() {
        memory.answer(Answer::new(503, ""));
        let error = create_event(&client).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry);
    }
    let answers = [
        Answer::new(503, ""),
        Answer::NoAnswer(NoAnswer::Connect),
        // It tells nothing, so that the group stays tripped.
        Answer::new(307, ""),
        Answer::new(500, ""),
    ];
    for answer in answers {
        while client.closed(Operation::CreateEvent).is_some() {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let (printed, sent) = (format!("{answer:?}"), memory.requests().len());
        memory.answer(answer);
        let error = create_event(&client).await.unwrap_err();
        assert_eq!(memory.requests().len(), sent + 1, "{printed}");
        let Recovery::RetryAfter(wait) = error.recovery() else {
            panic!("{printed}: {:?}", error.recovery());
        };
        let seconds = Duration::from_secs(1)..=Duration::from_secs(4);
        assert!(seconds.contains(&wait), "{printed}: {wait:?}");
    }
    // A call that leaves once the group has recovered is an attempt like any other.
    while client.closed(Operation::CreateEvent).is_some() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    create_event(&client).await.unwrap();
    memory.answer(Answer::new(503, ""));
    let error = create_event(&client).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[tokio::test]
async fn bad_requests_and_rate_limits_never_trip_the_breaker() {
    let (client, memory) = client();
    for _ in 0..50 {
        memory.answer(Answer::new(400, "{}"));
        let error = create_event(&client).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Never);
    }
}

#[tokio::test]
async fn silence_ends_with_the_time_of_the_call() {
    let memory = Memory::new();
    memory.answer(Answer::Silence);
    let mut settings = settings("https://a.klaviyo.com");
    settings.call_timeout = Duration::from_millis(1);
    let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
    let client = Client::with_transport(settings, budget, Arc::new(memory)).unwrap();
    let error = create_event(&client).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::NoAnswer {
            why: NoAnswer::Timeout,
            ..
        }
    ));
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[tokio::test]
async fn call_given_up_halfway_frees_its_probe() {
    let (client, memory) = client();
    memory.answer(Answer::new(401, ""));
    create_event(&client).await.unwrap_err();
    memory.answer(Answer::Silence);
    assert!(create_event(&client).now_or_never().is_none());
    create_event(&client).await.unwrap();
}

#[tokio::test]
async fn success_that_lies_is_a_bad_answer() {
    let (client, memory) = client();
    memory.answer(Answer::new(200, "<html>maintenance</html>"));
    let operation = Operation::GetBulkImportProfilesJob;
    let permit = client.permit(operation, Instant::now()).await.unwrap();
    let error = client
        .get_bulk_import_profiles_job(permit, "j")
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadAnswer));
}

#[tokio::test]
async fn next_page_never_leads_to_another_host() {
    let (client, memory) = client();
    let operation = Operation::GetErrorsForBulkImportProfilesJob;
    for next in [None, Some("https://evil.io/steal?page%5Bcursor%5D=c")] {
        memory.answer(Answer::new(200, r#"{"data":[],"links":{"next":null}}"#));
        let permit = client.permit(operation, Instant::now()).await.unwrap();
        let page = client
            .get_errors_for_bulk_import_profiles_job(permit, "a/../b?c", next)
            .await
            .unwrap();
        assert!(page.rows.is_empty() && page.next.is_none());
    }
    let path = "https://a.klaviyo.com/api/profile-bulk-import-jobs/a%2F..%2Fb%3Fc/import-errors";
    let urls: Vec<String> = memory
        .requests()
        .iter()
        .map(|r| r.url.to_string())
        .collect();
    assert_eq!(
        urls,
        [
            format!("{path}?page%5Bsize%5D=100"),
            format!("{path}?page%5Bcursor%5D=c")
        ]
    );
}

/// Answers one connection with raw bytes, and returns what `call` made of it.
async fn answered_with(answer: &[u8], tune: impl FnOnce(&mut Settings)) -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("http://{}", listener.local_addr().unwrap()));
    tune(&mut settings);
    let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
    let client = Client::new(settings, budget).unwrap();
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let mut received = Vec::new();
        while !received.ends_with(b"}}}") {
            let read = socket.read(&mut buffer).await.unwrap();
            received.extend_from_slice(&buffer[..read]);
        }
        // The client may hang up before it has read all of this.
        let _ = socket.write_all(answer).await;
    };
    tokio::join!(create_event(&client), server).0
}

#[tokio::test]
async fn client_with_tls_starts_and_plain_http_to_another_machine_does_not() {
    let budget = Arc::new(LocalBudget::new(BudgetScale::Real));
    assert!(Client::new(settings("https://a.klaviyo.com"), budget.clone()).is_ok());
    let error = Client::new(settings("http://a.klaviyo.com"), budget).unwrap_err();
    assert!(matches!(error, SetupError::PlainHttp));
}

#[tokio::test]
async fn accepted_over_a_real_socket() {
    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    answered_with(answer, |_| {}).await.unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let answer = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n";
    let error = answered_with(answer, |_| {}).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::Unexpected { status: 307 }
    ));
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 202 Acc",
        b"\0\0\0\0 rubbish\r\n\r\n",
        b"",
    ];
    for answer in answers {
        let error = answered_with(answer, |_| {}).await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::NoAnswer {
                    why: NoAnswer::Cut,
                    ..
                }
            ),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn endless_answer_is_cut_off_while_it_streams() {
    let mut answer = b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..64 {
        answer.extend_from_slice(b"400\r\n");
        answer.extend_from_slice(&[b'x'; 1024]);
        answer.extend_from_slice(b"\r\n");
    }
    let tune = |settings: &mut Settings| settings.response_bytes_max = 10_000;
    let error = answered_with(&answer, tune).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadAnswer));
    let declared = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 99999999999\r\n\r\n";
    let error = answered_with(declared, tune).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadAnswer));
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
    let client = Client::new(settings(&base_url), budget).unwrap();
    let error = create_event(&client).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::NoAnswer {
            why: NoAnswer::Connect,
            ..
        }
    ));
    let source = std::error::Error::source(error.kind()).unwrap();
    assert!(!format!("{source:?}").contains("pk_very_secret"));
}
