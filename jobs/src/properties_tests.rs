//! The limits of free-form properties, each at its edge.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn properties(value: &Value) -> Result<Properties, crate::Invalid> {
    Properties::new(value)
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({}), |inner, _| json!({"in": inner}))
}

#[test]
fn four_hundred_properties_fit_and_one_more_does_not() {
    let of = |count: usize| -> Value {
        (0..count)
            .map(|n| (format!("p{n}"), json!({"a": 1, "b": 2})))
            .collect()
    };
    assert!(properties(&of(400)).is_ok());
    assert!(properties(&of(401)).is_err());
}

#[test]
fn a_string_of_100_kb_fits_and_one_byte_more_does_not() {
    assert!(properties(&json!({"s": "x".repeat(100_000)})).is_ok());
    assert!(properties(&json!({"s": "x".repeat(100_001)})).is_err());
    assert!(
        properties(&json!({"s": "\n".repeat(100_000)})).is_ok(),
        "escapes count as what they stand for"
    );
    assert!(properties(&json!({"s": "\n".repeat(100_001)})).is_err());
}

#[test]
fn an_array_of_4000_items_fits_and_one_more_does_not() {
    assert!(properties(&json!({"a": vec![[1, 2]; 4_000]})).is_ok());
    assert!(properties(&json!({"a": vec![1; 4_001]})).is_err());
}

#[test]
fn ten_levels_fit_and_eleven_do_not() {
    assert!(properties(&nested(10)).is_ok());
    assert!(properties(&nested(11)).is_err());
    let arrays = format!("{{\"a\": {}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(serde_json::from_str::<Properties>(&arrays).is_err());
}

#[test]
fn an_integer_beyond_64_bits_is_refused() {
    for (text, fits) in [
        ("9223372036854775807", true),
        ("9223372036854775808", false),
        ("-9223372036854775808", true),
        ("-9223372036854775809", false),
        ("0.12345678901234567890123", true),
        ("1e300", true),
        ("1e400", false),
    ] {
        let read = serde_json::from_str::<Properties>(&format!("{{\"n\": {text}}}"));
        assert_eq!(read.is_ok(), fits, "{text}");
    }
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    assert!(serde_json::from_str::<Properties>(r#"{"s": "\ud83d\ude00"}"#).is_ok());
    assert!(serde_json::from_str::<Properties>(r#"{"s": "\ud83d"}"#).is_err());
}

#[test]
fn only_an_object_will_do() {
    for text in ["[]", "\"x\"", "1", "null", "true"] {
        assert!(serde_json::from_str::<Properties>(text).is_err(), "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_modest_object_is_accepted_and_comes_back_unchanged(value in any_json()) {
        let object = json!({"value": value});
        let read: Properties = serde_json::from_str(&object.to_string()).unwrap();
        prop_assert_eq!(read.as_str(), object.to_string());
    }
}
