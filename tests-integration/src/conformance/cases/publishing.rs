#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use messaging::{Codec, ContentType, ErrorKind, Event, SendSpec, SubscribeSpec, Task, json};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, message, next, numbers, publish, silence,
};

cases! {
    a_message_arrives_byte_for_byte [] [Settlement, Groups];
    headers_key_id_and_content_type_travel_along [] [Settlement, Groups, Headers];
    messages_of_one_publisher_arrive_in_call_order ["C2"] [Settlement, Groups];
    a_receipt_tells_a_position_that_grows [] [Positions];
    a_batch_tells_the_outcome_of_each_message_in_order [] [Settlement, Groups];
    an_oversize_body_is_refused_and_never_sent [] [Settlement, Groups];
    an_unknown_stream_is_refused_by_name [] [];
    nobody_subscribes_to_an_unknown_stream [] [Settlement, Broadcast];
    a_sender_cannot_steer_attempts_or_set_headers_of_ours ["C10"] [Settlement, Groups];
    every_confirm_is_resolved_though_nobody_waits_for_it ["C3"] [];
    what_misses_its_deadline_is_never_sent ["C14"] [Settlement, Groups];
    tasks_and_events_go_to_the_subject_of_their_type_in_both_codecs [] [Settlement, Groups];
}

async fn a_message_arrives_byte_for_byte(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for body in [Vec::new(), every_byte, vec![b'x'; 200_000]] {
        publish(&broker, "tasks.bytes", body.clone()).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery[..], body[..]);
        assert_eq!((&*delivery.message().subject, delivery.attempt()), ("tasks.bytes", 1));
        delivery.ack();
    }
}

async fn headers_key_id_and_content_type_travel_along(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "events.#")).await;
    let sent = message("events.note", "Grüße")
        .with_id("note-1".parse().unwrap())
        .with_key(&b"user\x00\xff"[..])
        .with_content_type(ContentType::from("text/plain"))
        .with_header("tenant", "acme")
        .unwrap()
        .with_header("binary", &b"\x00\x01\xff"[..])
        .unwrap()
        .with_header("empty", "")
        .unwrap();
    broker.publish_message(sent.clone()).await.unwrap();
    let delivery = next(&mut consumer).await;
    let got = delivery.message();
    assert_eq!((&got.id, &got.key, &got.content_type), (&sent.id, &sent.key, &sent.content_type));
    let headers = |message: &messaging::Message| {
        let all = message.headers.application();
        // Not every broker keeps their order.
        all.map(|(name, value)| (name.to_owned(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(headers(got), headers(&sent));
    delivery.ack();
}

async fn messages_of_one_publisher_arrive_in_call_order(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let publisher = broker.publisher::<messaging::Bytes>(SendSpec::to("tasks").unwrap()).await;
    let publisher = publisher.unwrap();
    let mut unconfirmed = Vec::new();
    for number in numbers(200) {
        let sent = message("tasks.n", number).with_key("k");
        unconfirmed.push(publisher.enqueue_message(sent).await.unwrap());
    }
    for pending in unconfirmed {
        pending.await.unwrap();
    }
    assert_eq!(bodies(&mut consumer, 200).await, numbers(200));
}

async fn a_receipt_tells_a_position_that_grows(stage: Stage) {
    let broker = stage.broker().await;
    let mut last = None;
    for number in numbers(5) {
        let sent = message("events.n", number).with_key("k");
        let position = broker.publish_message(sent).await.unwrap().position.unwrap();
        assert_eq!(position.backend(), broker.backend());
        if let Some((lane, id)) = last {
            assert_eq!(position.lane(), lane);
            assert!(position.id() > id);
        }
        last = Some((position.lane(), position.id()));
    }
}

async fn a_batch_tells_the_outcome_of_each_message_in_order(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let publisher = broker.publisher::<Task>(SendSpec::to("tasks").unwrap()).await.unwrap();
    let task = |kind: &str| Task::new(kind, json!({}));
    let all = [task("a"), task("not a word"), task("b"), task(""), task("c")];
    let outcomes = publisher.publish_all(&all).await;
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true, false, true]
    );
    assert_eq!(*outcomes[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidSubject);
    assert_eq!(*outcomes[3].as_ref().unwrap_err().kind(), ErrorKind::InvalidMessage);
    for kind in ["tasks.a", "tasks.b", "tasks.c"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(&*delivery.message().subject, kind);
        delivery.ack();
    }
    silence(&mut consumer).await;
}

async fn an_oversize_body_is_refused_and_never_sent(stage: Stage) {
    let broker = stage.builder().await.max_body(10).open().await.unwrap();
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let error = broker.publish_message(message("tasks.x", vec![0; 11])).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { size: 11, limit: 10 });
    publish(&broker, "tasks.x", "just right").await;
    assert_eq!(bodies(&mut consumer, 1).await, ["just right"]);
    silence(&mut consumer).await;
}

async fn an_unknown_stream_is_refused_by_name(stage: Stage) {
    let broker = stage.broker().await;
    let error = broker.publish_message(message("nowhere.x", "")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

async fn nobody_subscribes_to_an_unknown_stream(stage: Stage) {
    let broker = stage.broker().await;
    let spec = SubscribeSpec::broadcast(["nowhere.#"]).unwrap();
    let error = broker.subscribe::<messaging::Bytes>(spec).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
}

async fn a_sender_cannot_steer_attempts_or_set_headers_of_ours(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let mut forged = message("tasks.forged", "x");
    for name in ["helixagent-attempt", "helixagent-dead-letter-group", "helixagent-tier"] {
        forged.headers.stamp(name, "3");
    }
    for name in ["attempt", "message-attempt", "retry-count"] {
        forged.headers.stamp(name, "3");
    }
    broker.publish_message(forged).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.attempt(), 1, "the sender steered the attempt");
    assert!(delivery.message().headers.iter().all(|(name, _)| !name.starts_with("helixagent-")));
    delivery.ack();
}

async fn every_confirm_is_resolved_though_nobody_waits_for_it(stage: Stage) {
    let broker = stage.builder().await.window(4, 1 << 20).open().await.unwrap();
    let publisher = broker.publisher::<messaging::Bytes>(SendSpec::to("events").unwrap()).await;
    let publisher = publisher.unwrap();
    for number in numbers(50) {
        drop(publisher.enqueue_message(message("events.n", number)).await.unwrap());
    }
    let outcomes = publisher.publish_all(vec![messaging::Bytes::from("x"); 50]).await;
    assert!(outcomes.iter().all(Result::is_ok), "the window is full of what was never answered");
}

async fn what_misses_its_deadline_is_never_sent(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let spec = SendSpec::to("tasks").unwrap().timeout(Duration::ZERO);
    let late = broker.publisher::<messaging::Bytes>(spec).await;
    // A driver may need time to open its way to the stream, so that may miss the deadline too.
    if let Ok(late) = late {
        let error = late.publish_message(message("tasks.late", "late")).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSent);
    }
    publish(&broker, "tasks.x", "in time").await;
    assert_eq!(bodies(&mut consumer, 1).await, ["in time"]);
    silence(&mut consumer).await;
}

async fn tasks_and_events_go_to_the_subject_of_their_type_in_both_codecs(stage: Stage) {
    let broker = stage.broker().await;
    let spec = SubscribeSpec::group("t", ["tasks.#"]).unwrap();
    let mut tasks = broker.subscribe::<Task>(spec).await.unwrap();
    let spec = SubscribeSpec::group("e", ["events.#"]).unwrap();
    let mut events = broker.subscribe::<Event>(spec).await.unwrap();
    let task = Task::new("plan", json!({ "big": u64::MAX, "text": "世界" })).with_priority(7);
    let event = Event::new("debate.round", "here", json!({ "n": i64::MIN }));
    for codec in [Codec::Json, Codec::Protobuf] {
        let spec = SendSpec::to("tasks").unwrap().codec(codec);
        broker.publisher(spec).await.unwrap().publish(&task).await.unwrap();
        let got = tasks.next().await.unwrap().unwrap();
        assert_eq!((&**got, &*got.message().subject), (&task, "tasks.plan"));
        assert_eq!(got.message().id.to_string(), task.id);
        got.ack();

        let spec = SendSpec::to("events").unwrap().codec(codec);
        broker.publisher(spec).await.unwrap().publish(&event).await.unwrap();
        let got = events.next().await.unwrap().unwrap();
        assert_eq!((&**got, &*got.message().subject), (&event, "events.debate.round"));
        got.ack();
    }
}
