#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use messaging::{Bytes, Codec, ContentType, ErrorKind, Event, Message, SendSpec, Task, json};
use tokio::time::timeout;

use super::cases;
use crate::conformance::stage::{Stage, hear, hear_bodies, hear_nothing, listen, message, publish};

cases! {
    what_is_heard_is_what_was_published_byte_for_byte [] [Listen];
    an_oversize_body_is_refused_and_never_heard [] [Listen];
    headers_key_id_and_content_type_are_heard [] [Listen, Headers];
    a_sender_cannot_have_headers_of_ours_heard [] [Listen, Headers];
    tasks_and_events_are_heard_in_both_codecs [] [Listen];
    what_cannot_be_decoded_is_an_error_among_messages [] [Listen];
    a_batch_tells_each_outcome_and_is_heard_in_order [] [Listen];
    what_misses_its_deadline_is_never_heard ["C14"] [Listen];
}

/// What tells an envelope from a plain body on a channel that has no other place for it.
const LIKE_AN_ENVELOPE: &[u8] = b"\xf7HX\x01and then something else";

async fn what_is_heard_is_what_was_published_byte_for_byte(stage: Stage) {
    let broker = stage.builder().await.max_body(200_000).open().await.unwrap();
    let mut listener = listen::<Bytes>(&broker, &["debates.#"]).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies = [Vec::new(), every_byte, vec![b'x'; 200_000], LIKE_AN_ENVELOPE.to_vec()];
    let plain = bodies.into_iter().map(|body| message("debates.bytes", body));
    let json = [r#"{"id":"1", "n": 1.0}"#, "[1, 2]", "\"text\"", "null"];
    let json = json
        .into_iter()
        .map(|body| message("debates.bytes", body).with_content_type(ContentType::Json));
    for sent in plain.chain(json) {
        broker.publish_message(sent.clone()).await.unwrap();
        let heard = hear(&mut listener).await;
        assert_eq!(heard[..], sent.body[..]);
        let got = heard.message();
        assert_eq!((&got.subject, &got.content_type), (&sent.subject, &sent.content_type));
    }
}

async fn an_oversize_body_is_refused_and_never_heard(stage: Stage) {
    let broker = stage.builder().await.max_body(10).open().await.unwrap();
    let mut listener = listen(&broker, &["debates.#"]).await;
    let error = broker.publish_message(message("debates.x", vec![0; 11])).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { size: 11, limit: 10 });
    publish(&broker, "debates.x", "just right").await;
    assert_eq!(hear_bodies(&mut listener, 1).await, ["just right"]);
    hear_nothing(&mut listener).await;
}

/// Without their order: a broker may keep them in a table of its own.
fn application_headers(message: &Message) -> BTreeMap<String, Bytes> {
    let all = message.headers.application();
    all.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

async fn headers_key_id_and_content_type_are_heard(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    let text = message("events.note", "Grüße")
        .with_id("note-1".parse().unwrap())
        .with_key(&b"user\x00\xff"[..])
        .with_content_type(ContentType::from("text/plain"))
        .with_header("tenant", "acme")
        .unwrap()
        .with_header("binary", &b"\x00\x01\xff"[..])
        .unwrap()
        .with_header("empty", "")
        .unwrap();
    let json = || message("events.note", "{}").with_content_type(ContentType::Json);
    for sent in [text, json().with_key("k"), json().with_header("tenant", "acme").unwrap()] {
        broker.publish_message(sent.clone()).await.unwrap();
        let heard = hear(&mut listener).await;
        let got = heard.message();
        assert_eq!((&got.id, &got.key), (&sent.id, &sent.key));
        assert_eq!((&got.content_type, &got.body), (&sent.content_type, &sent.body));
        assert_eq!(application_headers(got), application_headers(&sent));
    }
}

async fn a_sender_cannot_have_headers_of_ours_heard(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    let mut forged = message("events.forged", "x").with_header("tenant", "acme").unwrap();
    for name in ["helixagent-attempt", "helixagent-dead-letter-group", "helixagent-tier"] {
        forged.headers.stamp(name, "3");
    }
    broker.publish_message(forged).await.unwrap();
    let heard = hear(&mut listener).await;
    let names: Vec<&str> = heard.message().headers.iter().map(|(name, _)| name).collect();
    assert_eq!((names, heard.attempt()), (vec!["tenant"], 1));
    assert!(heard.dead_letter().is_none());
}

async fn tasks_and_events_are_heard_in_both_codecs(stage: Stage) {
    let broker = stage.broker().await;
    let mut tasks = listen::<Task>(&broker, &["tasks.#"]).await;
    let mut events = listen::<Event>(&broker, &["events.#"]).await;
    let task = Task::new("plan", json!({ "big": u64::MAX, "text": "世界" })).with_priority(7);
    let event = Event::new("debate.round", "here", json!({ "n": i64::MIN }));
    for codec in [Codec::Json, Codec::Protobuf] {
        let spec = SendSpec::to("tasks").unwrap().codec(codec);
        broker.publisher(spec).await.unwrap().publish(&task).await.unwrap();
        let heard = hear(&mut tasks).await;
        assert_eq!((&*heard, &*heard.message().subject), (&task, "tasks.plan"));
        assert_eq!(heard.message().id.to_string(), task.id);

        let spec = SendSpec::to("events").unwrap().codec(codec);
        broker.publisher(spec).await.unwrap().publish(&event).await.unwrap();
        let heard = hear(&mut events).await;
        assert_eq!((&*heard, &*heard.message().subject), (&event, "events.debate.round"));
        assert_eq!(heard.message().id.to_string(), event.id);
    }
}

async fn what_cannot_be_decoded_is_an_error_among_messages(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Task>(&broker, &["tasks.#"]).await;
    publish(&broker, "tasks.x", "no task").await;
    let task = Task::new("plan", json!({}));
    broker.publish(&task).await.unwrap();
    let broken = timeout(Duration::from_secs(20), listener.next()).await.unwrap().unwrap();
    assert_eq!(*broken.unwrap_err().kind(), ErrorKind::Undecodable);
    assert_eq!(*hear(&mut listener).await, task);
}

async fn a_batch_tells_each_outcome_and_is_heard_in_order(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Task>(&broker, &["debates.#"]).await;
    let publisher = broker.publisher::<Task>(SendSpec::to("debates").unwrap()).await.unwrap();
    let kind = |number: usize| if number % 10 == 3 { String::new() } else { format!("n{number}") };
    let all: Vec<Task> = (0..300).map(|number| Task::new(kind(number), json!({}))).collect();
    let outcomes = publisher.publish_all(&all).await;
    assert_eq!(outcomes.len(), all.len());
    for (task, outcome) in all.iter().zip(outcomes) {
        let refused = task.kind.is_empty();
        assert_eq!(
            outcome.map_err(|error| error.kind().clone()).err(),
            refused.then_some(ErrorKind::InvalidMessage)
        );
        if !refused {
            assert_eq!(&*hear(&mut listener).await, task);
        }
    }
}

async fn what_misses_its_deadline_is_never_heard(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen(&broker, &["debates.#"]).await;
    let spec = SendSpec::to("debates").unwrap().timeout(Duration::ZERO);
    // A driver may need time to open its way to the stream, so that may miss the deadline too.
    if let Ok(late) = broker.publisher::<Bytes>(spec).await {
        let error = late.publish_message(message("debates.late", "late")).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSent);
    }
    publish(&broker, "debates.x", "in time").await;
    assert_eq!(hear_bodies(&mut listener, 1).await, ["in time"]);
    hear_nothing(&mut listener).await;
}
