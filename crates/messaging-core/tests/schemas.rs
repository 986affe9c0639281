//! The schemas read and write the original system's documents, in both codecs, without loss.

use messaging_core::{ErrorKind, Event, Task};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const TASK: &str = include_str!("fixtures/task.json");
const EVENT: &str = include_str!("fixtures/event.json");

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

#[test]
fn the_original_task_is_read_and_written_unchanged() {
    let task = Task::from_json(TASK.as_bytes()).unwrap();
    assert_eq!((&*task.id, &*task.kind, task.priority), ("task-123", "completion", 1));
    assert_eq!(task.payload["model"], "helix-ensemble");
    assert_eq!(task.created_at.as_ref().unwrap().as_str(), "2026-01-16T10:00:00Z");
    assert_eq!(value(&task.to_json().unwrap()), value(TASK.as_bytes()));
}

#[test]
fn the_original_event_is_read_and_written_unchanged() {
    let event = Event::from_json(EVENT.as_bytes()).unwrap();
    assert_eq!((&*event.kind, &*event.source), ("debate.round.completed", "debate-service"));
    assert_eq!(value(&event.to_json().unwrap()), value(EVENT.as_bytes()));
}

#[test]
fn fields_stand_in_the_order_of_the_original() {
    let json = Task::new("completion", json!({})).to_json().unwrap();
    let text = String::from_utf8(json).unwrap();
    let places: Vec<usize> =
        ["\"id\"", "\"type\"", "\"priority\"", "\"payload\"", "\"created_at\""]
            .iter()
            .map(|name| text.find(name).unwrap())
            .collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn unknown_fields_are_kept_and_optional_ones_may_be_missing() {
    let text = br#"{"id":"t","type":"x","payload":{"n":18446744073709551615},"deadline":"soon"}"#;
    let task = Task::from_json(text).unwrap();
    assert_eq!(task.priority, 0);
    assert_eq!(task.extra["deadline"], "soon");
    let written = value(&task.to_json().unwrap());
    assert_eq!(written["payload"]["n"], 18_446_744_073_709_551_615_u64);
    assert_eq!(written["deadline"], "soon");
}

#[test]
fn what_is_no_task_is_undecodable_and_says_why() {
    for (text, why) in [
        (r#"{"type":"x","payload":{}}"#, "id"),
        (r#"{"id":"","type":"x","payload":{}}"#, "message id"),
        (r#"{"id":"t","type":"","payload":{}}"#, "type"),
        (r#"{"id":"t","type":"x","payload":"{}"}"#, "object"),
        (r#"{"id":"t","type":"x","payload":{},"priority":10}"#, "priority"),
        (r#"{"id":"t","type":"x","payload":{},"priority":-1}"#, "priority"),
        (r#"{"id":"t","id":"u","type":"x","payload":{}}"#, "duplicate"),
        (r#"{"id":"t","type":"x","payload":{"a":1,"a":2}}"#, "duplicate"),
        (r#"{"id":"t","type":"x","payload":{},"created_at":"yesterday"}"#, "time"),
        ("[]", "task"),
        ("", "task"),
    ] {
        let error = Task::from_json(text.as_bytes()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Undecodable, "{text}");
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no infinities", |n| n.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(any::<String>(), json_value(), 0..6)
        .prop_map(|entries| entries.into_iter().collect())
}

/// A document with the given fields over arbitrary unknown ones.
fn with(mut extra: Map<String, Value>, fields: Value, absent: &str) -> Value {
    extra.remove(absent);
    let Value::Object(fields) = fields else { unreachable!() };
    extra.extend(fields);
    Value::Object(extra)
}

proptest! {
    #[test]
    fn a_task_loses_nothing_from_json_to_protobuf_to_json(
        id in "[ -~]{1,128}", kind in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", priority in 0_u8..=9,
        payload in object(), extra in object(), timed in any::<bool>(),
    ) {
        let mut fields = json!({"id": id, "type": kind, "priority": priority, "payload": payload});
        if timed {
            fields["created_at"] = "2026-01-16T10:00:00.5+02:00".into();
        }
        let document = with(extra, fields, "created_at");
        let task = Task::from_json(document.to_string().as_bytes()).unwrap();
        let back = Task::from_protobuf(&task.to_protobuf().unwrap()).unwrap();
        prop_assert_eq!(&back, &task);
        prop_assert_eq!(value(&back.to_json().unwrap()), document);
    }

    #[test]
    fn an_event_loses_nothing_from_json_to_protobuf_to_json(
        id in "[ -~]{1,128}", kind in "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}", source in any::<String>(),
        data in object(), extra in object(),
    ) {
        let fields = json!({"id": id, "type": kind, "source": source, "data": data});
        let document = with(extra, fields, "timestamp");
        let event = Event::from_json(document.to_string().as_bytes()).unwrap();
        let back = Event::from_protobuf(&event.to_protobuf().unwrap()).unwrap();
        prop_assert_eq!(&back, &event);
        prop_assert_eq!(value(&back.to_json().unwrap()), document);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Task::from_json(&bytes));
        drop(Task::from_protobuf(&bytes));
        drop(Event::from_json(&bytes));
        drop(Event::from_protobuf(&bytes));
    }
}
