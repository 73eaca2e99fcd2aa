//! What must hold whatever bytes come in: for the fuzz targets, and for the quick tests in `tests/integration/hostile.rs`.

use bytes::Bytes;
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Message, Options, kind, kinds};
use klaviyod::config::{Given, Need, SETTINGS};
use klaviyod::klaviyo::{
    Error, ErrorKind, Operation, RateLimitHeaders, Response, classify, row_of_pointer,
};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use std::hint::black_box;
use std::time::Duration;

/// Longer than any wait that is believed.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// No text that is printed may hold it.
const PLANTED: &str = "hush-4711-hush";

/// Any job is read or refused, and what the producer writes is read again.
pub fn envelope(bytes: &[u8]) {
    let now = Timestamp::UNIX_EPOCH + Duration::from_hours(500_000);
    if let Ok(envelope) = Envelope::parse(bytes) {
        for info in kinds() {
            drop(black_box((info.check)(&envelope, now)));
        }
    }
    let Ok(message) = Message::from_json(bytes, &Options::default()) else {
        return;
    };
    let written = Envelope::parse(message.json()).expect("what is written is an envelope");
    let info = kind(&written.kind).expect("what is written has a known kind");
    (info.check)(&written, now).expect("what is written is accepted again");
}

/// Whatever headers say, a wait is bounded.
pub fn retry_after(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let names = [
        RETRY_AFTER,
        DATE,
        HeaderName::from_static("ratelimit-limit"),
        HeaderName::from_static("ratelimit-remaining"),
        HeaderName::from_static("ratelimit-reset"),
    ];
    for (name, value) in names.into_iter().zip(bytes.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let limits = RateLimitHeaders::parse(&headers);
    black_box((limits.spent_for(), limits.window(60)));
    for status in [429, 503] {
        let kind = classify(&response(status, headers.clone(), b"")).expect_err("it is no success");
        let retry_after = match kind {
            ErrorKind::RateLimited { retry_after } | ErrorKind::Unavailable { retry_after, .. } => {
                retry_after
            }
            other => unreachable!("{status} means something else: {other:?}"),
        };
        assert!(retry_after.is_none_or(|wait| wait <= WAIT_MAX));
    }
}

/// Any answer is classified, and nothing that Klaviyo quotes about people is printed. The first byte chooses the status.
pub fn error_document(bytes: &[u8]) {
    const STATUSES: [u16; 8] = [400, 401, 403, 404, 409, 413, 422, 500];
    let Some((first, body)) = bytes.split_first() else {
        return;
    };
    let status = STATUSES[usize::from(*first) % STATUSES.len()];
    let kind = classify(&response(status, HeaderMap::new(), body)).expect_err("it is no success");
    let error = Error::new(Operation::CreateEvent, kind);
    for detail in error.details() {
        if let Some(pointer) = &detail.pointer {
            black_box(row_of_pointer(pointer));
        }
    }
    let source = std::error::Error::source(&error);
    let printed = format!("{error} {error:?} {source:?} {:?}", error.details());
    assert!(!printed.contains('@'), "{printed}");
    black_box((error.reason(), error.recovery()));
}

/// Any file is understood or refused with mistakes, and no secret is in them or in what is shown.
pub fn configuration(text: &str) {
    // Else it would read any file of this machine, or look like what is planted.
    if text.contains("_file") || text.contains(PLANTED) {
        return;
    }
    let odd = text.lines().next().unwrap_or_default();
    let usual = [
        ("KLAVIYOD_REDIS_URL", format!("redis://u:{PLANTED}@{odd}")),
        (
            "KLAVIYOD_DATABASE_URL",
            format!("postgres://u:{PLANTED}@{odd}?password={PLANTED}"),
        ),
        (
            "KLAVIYOD_KLAVIYO_BASE_URL",
            format!("https://u:{PLANTED}@{odd}"),
        ),
    ];
    let unusual = [
        (
            "KLAVIYOD_REDIS_URL",
            format!("redis+sentinel://{PLANTED}@{odd}"),
        ),
        (
            "KLAVIYOD_DATABASE_URL",
            format!("postgres:{odd}:{PLANTED}@{odd}"),
        ),
        (
            "KLAVIYOD_KLAVIYO_BASE_URL",
            format!("https:/u:{PLANTED}@{odd}"),
        ),
    ];
    let secrets = SETTINGS.iter().filter(|setting| setting.is_secret);
    let secrets = secrets.filter_map(|setting| Some((setting.alias?, PLANTED.to_owned())));
    let secrets: Vec<(&str, String)> = secrets.collect();
    let all = |addresses: [(&'static str, String); 3]| {
        let all = secrets.iter().cloned().chain(addresses);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    };
    for environment in [Vec::new(), all(usual), all(unusual)] {
        let given = Given::of_text(text, environment);
        for (name, shown, _) in given.shown() {
            assert!(!shown.contains(PLANTED), "{name} is shown");
        }
        match given.config(Need::Key) {
            Ok(config) => assert!(
                !format!("{config:?}").contains(PLANTED),
                "a secret is printed"
            ),
            Err(mistakes) => {
                assert!(!mistakes.0.is_empty());
                assert!(!mistakes.to_string().contains(PLANTED), "{mistakes}");
            }
        }
    }
}

fn response(status: u16, headers: HeaderMap, body: &[u8]) -> Response {
    Response {
        status: StatusCode::from_u16(status).expect("a status"),
        headers,
        body: Bytes::copy_from_slice(body),
    }
}
