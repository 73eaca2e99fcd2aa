//! A few hundred hostile inputs at every entrance; `make fuzz` goes on for longer.
//!
//! What must hold is said once, in `fuzz/src/lib.rs`, for these tests and for the fuzz targets.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "for the fuzz targets it is a crate")]
mod checks;

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that are half a document: what parsers like least.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(r#"{"kind": "event.track", "data": "#.to_owned()),
        Just(r#"{"metric": "M", "profile": {"email": "a@shop.io"}}"#.to_owned()),
        Just(r#"{"errors": [{"detail": "a@shop.io", "code": "invalid", "source": {"pointer": "/data/attributes/profiles/data/7"}}]}"#.to_owned()),
        Just(r#""id": "o-1", "at": "2026-11-24T09:00:00Z", "#.to_owned()),
        Just("}".to_owned()),
        Just("[[[[[[[[".to_owned()),
        Just("99999999999999999999e999".to_owned()),
        any::<String>(),
    ];
    let text = vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![4 => text, 1 => vec(any::<u8>(), 0..200)]
}

fn file() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("[klaviyo]".to_owned()),
        Just("[accounts.shop]".to_owned()),
        Just("[queues.event-tracking]".to_owned()),
        Just("private_key = \"pk\"".to_owned()),
        (
            "(reserve|limits|lease|attempts_max|listen|url|base_url|revision)",
            ".{0,12}"
        )
            .prop_map(|(key, value)| format!("{key} = {value:?}")),
        ".{0,20}",
    ];
    vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_job_is_read_or_refused(bytes in document()) {
        checks::envelope(&bytes);
    }

    #[test]
    fn any_wait_that_headers_ask_for_is_bounded(
        headers in r"([0-9]{0,25}|-?[0-9]{1,3}(\.[0-9]+)?(e[0-9]{1,3})?|inf|NaN|[A-Za-z]{3}, [0-9]{1,2} [A-Za-z]{3} [0-9]{1,5} [0-9:]{0,8} GMT)\n.{0,40}\n.{0,30}\n[0-9]{0,12}\n[0-9]{0,12}"
    ) {
        checks::retry_after(headers.as_bytes());
    }

    #[test]
    fn any_answer_is_classified_and_nobody_is_quoted(first in any::<u8>(), body in document()) {
        checks::error_document(&[&[first], body.as_slice()].concat());
    }

    #[test]
    fn any_configuration_is_understood_or_refused_without_its_secrets(text in file()) {
        checks::configuration(&text);
    }
}
