#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use messaging::topology::{StreamConfig, StreamKind};
use messaging::{
    Broker, Bytes, ErrorKind, Feature, Heard, Listener, SendSpec, Start, SubscribeSpec,
};
use tokio::time::timeout;

use super::cases;
use crate::conformance::stage::{
    Stage, group, hear, hear_bodies, hear_nothing, listen, message, next_item, numbers, publish,
    publish_numbers, text, topology,
};

cases! {
    a_listener_hears_what_comes_next_and_only_that [] [Listen];
    what_a_slow_listener_misses_is_a_gap_and_no_silence [] [Listen];
    a_listener_holds_no_publisher_up [] [Listen];
    listening_in_a_group_is_refused [] [Listen];
    nobody_listens_to_an_unknown_stream [] [Listen];
    every_listener_hears_everything_in_call_order ["C2"] [Listen];
    two_connections_are_heard_each_in_its_order ["C2"] [Listen];
    listeners_hear_exactly_what_their_patterns_match ["C9"] [Listen];
    what_several_patterns_match_is_heard_once_and_in_its_place ["C9"] [Listen];
    giving_up_a_wait_loses_nothing_that_is_heard [] [Listen];
    dropping_a_listener_ends_it_alone [] [Listen];
    a_listener_can_ask_for_what_comes_next [] [Listen, StartLatest];
    a_listener_can_start_with_what_is_kept [] [Listen, StartEarliest];
    a_new_stream_is_heard_by_who_listens_to_every_stream [] [Listen, Provision];
    closing_sends_what_was_handed_over_and_ends_listeners ["C3", "C12"] [Listen];
}

async fn a_listener_hears_what_comes_next_and_only_that(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "debates.n", "before").await;
    let mut listener = listen(&broker, &["debates.#"]).await;
    publish(&broker, "tasks.n", "elsewhere").await;
    publish_numbers(&broker, "debates.n", 10).await;
    assert_eq!(hear_bodies(&mut listener, 10).await, numbers(10));
}

async fn listen_in_little_room(broker: &Broker, room: u32) -> Listener<Bytes> {
    // A stream with one lane: over several, messages without a key have no order.
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap();
    broker.listen(spec.prefetch(NonZeroU32::new(room).unwrap())).await.unwrap()
}

async fn what_a_slow_listener_misses_is_a_gap_and_no_silence(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen_in_little_room(&broker, 10).await;
    publish_numbers(&broker, "debates.n", 500).await;
    publish(&broker, "debates.n", "last").await;
    let (mut heard, mut missed) = (0, 0);
    loop {
        match next_item(&mut listener).await {
            Heard::Message(message) if text(&message) == "last" => break,
            Heard::Message(_) => heard += 1,
            Heard::Gap(gap) => missed += gap.missed.unwrap_or(0),
            other => panic!("{other:?}"),
        }
    }
    // A backend that keeps a log need not miss anything.
    assert_eq!(heard + missed, 500);
}

async fn a_listener_holds_no_publisher_up(stage: Stage) {
    let broker = stage.builder().await.window(8, 1 << 20).open().await.unwrap();
    let _sleeping = listen_in_little_room(&broker, 1).await;
    publish_numbers(&broker, "debates.n", 1_000).await;
}

async fn listening_in_a_group_is_refused(stage: Stage) {
    let broker = stage.broker().await;
    let error = broker.listen::<Bytes>(group("g", "events.#")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::Groups));
    assert!(error.to_string().contains("broadcast"), "{error}");
}

async fn nobody_listens_to_an_unknown_stream(stage: Stage) {
    let broker = stage.broker().await;
    let spec = SubscribeSpec::broadcast(["nowhere.#"]).unwrap();
    let error = broker.listen::<Bytes>(spec).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

async fn every_listener_hears_everything_in_call_order(stage: Stage) {
    let (here, there) = (stage.broker().await, stage.broker().await);
    let mut listeners = [
        listen(&here, &["debates.#"]).await,
        listen(&here, &["debates.#"]).await,
        listen(&there, &["*.n"]).await,
    ];
    let publisher = here.publisher::<Bytes>(SendSpec::to("debates").unwrap()).await.unwrap();
    let mut unconfirmed = Vec::new();
    for number in numbers(200) {
        unconfirmed.push(publisher.enqueue_message(message("debates.n", number)).await.unwrap());
    }
    for pending in unconfirmed {
        pending.await.unwrap();
    }
    for listener in &mut listeners {
        assert_eq!(hear_bodies(listener, 200).await, numbers(200));
    }
}

async fn two_connections_are_heard_each_in_its_order(stage: Stage) {
    let (one, two) = (stage.broker().await, stage.broker().await);
    let mut listener = listen::<Bytes>(&one, &["debates.one", "debates.two"]).await;
    futures::join!(
        publish_numbers(&one, "debates.one", 50),
        publish_numbers(&two, "debates.two", 50),
    );
    let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let heard = hear(&mut listener).await;
        let of = if &*heard.message().subject == "debates.one" { &mut of_one } else { &mut of_two };
        of.push(text(&heard));
    }
    assert_eq!((of_one, of_two), (numbers(50), numbers(50)));
}

async fn listeners_hear_exactly_what_their_patterns_match(stage: Stage) {
    let broker = stage.broker().await;
    let wanted = [
        (&["tasks.#"][..], &["tasks", "tasks.a", "tasks.a.b", "tasks.ab"][..]),
        (&["tasks.*"], &["tasks.a", "tasks.ab"]),
        (&["tasks"], &["tasks"]),
        (&["tasks.#.b"], &["tasks.a.b"]),
        (&["*.a"], &["debates.a", "events.a", "tasks.a"]),
        (&["#.z"], &["events.y.z", "events.z"]),
        (&["events.#.z", "debates.a"], &["debates.a", "events.y.z", "events.z"]),
        (&["*.*.*"], &["events.y.z", "tasks.a.b"]),
    ];
    let mut listeners = Vec::new();
    for (patterns, _) in wanted {
        listeners.push(listen::<Bytes>(&broker, patterns).await);
    }
    let mut everything = listen(&broker, &["#"]).await;
    let mut subjects = [
        "tasks",
        "tasks.a",
        "tasks.a.b",
        "tasks.ab",
        "events",
        "events.a",
        "events.z",
        "events.y.z",
        "events.zz",
        "debates.a",
    ];
    for subject in subjects {
        publish(&broker, subject, subject).await;
    }
    for (listener, (patterns, wanted)) in listeners.iter_mut().zip(wanted) {
        let mut heard = hear_bodies(listener, wanted.len()).await;
        heard.sort();
        assert_eq!(heard, wanted, "{patterns:?}");
    }
    let mut all = hear_bodies(&mut everything, subjects.len()).await;
    all.sort();
    subjects.sort_unstable();
    assert_eq!(all, subjects);
    listeners.push(everything);
    join_all(listeners.iter_mut().map(hear_nothing)).await;
}

async fn what_several_patterns_match_is_heard_once_and_in_its_place(stage: Stage) {
    let broker = stage.broker().await;
    let overlapping = ["#", "*.a", "debates", "debates.#", "debates.*", "debates.a", "debates.#.b"];
    let mut all = listen(&broker, &overlapping).await;
    let mut some = listen(&broker, &["debates.*", "debates.a", "events.#"]).await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("debates").unwrap()).await.unwrap();
    let mut sent = Vec::new();
    for round in 0..50 {
        for subject in ["debates", "debates.a", "debates.a.b"] {
            let body = format!("{subject} {round}");
            drop(publisher.enqueue_message(message(subject, body.clone())).await.unwrap());
            sent.push(body);
        }
    }
    publish(&broker, "debates.a", "debates.a last").await;
    sent.push("debates.a last".to_owned());
    assert_eq!(hear_bodies(&mut all, sent.len()).await, sent);
    sent.retain(|body| body.starts_with("debates.a "));
    assert_eq!(hear_bodies(&mut some, sent.len()).await, sent);
    futures::join!(hear_nothing(&mut all), hear_nothing(&mut some));
}

async fn giving_up_a_wait_loses_nothing_that_is_heard(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Bytes>(&broker, &["debates.#"]).await;
    let mut heard = Vec::new();
    for number in numbers(300) {
        // Looks that are given up at once, some of them with a message there.
        for _ in 0..2 {
            match timeout(Duration::ZERO, listener.next()).await {
                Ok(Some(Ok(Heard::Message(message)))) => heard.push(text(&message)),
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        publish(&broker, "debates.n", number).await;
    }
    let left = 300 - heard.len();
    heard.extend(hear_bodies(&mut listener, left).await);
    assert_eq!(heard, numbers(300));
}

async fn dropping_a_listener_ends_it_alone(stage: Stage) {
    let broker = stage.broker().await;
    let mut dropped = listen::<Bytes>(&broker, &["debates.#"]).await;
    let mut stays = listen(&broker, &["debates.#"]).await;
    publish_numbers(&broker, "debates.n", 5).await;
    hear(&mut dropped).await;
    drop(dropped);
    publish(&broker, "debates.n", "meanwhile").await;
    let mut again = listen(&broker, &["debates.#"]).await;
    publish(&broker, "debates.n", "after").await;
    // Neither what it left nor what it missed while there was none.
    assert_eq!(hear_bodies(&mut again, 1).await, ["after"]);
    assert_eq!(hear_bodies(&mut stays, 5).await, numbers(5));
    assert_eq!(hear_bodies(&mut stays, 2).await, ["meanwhile", "after"]);
    futures::join!(hear_nothing(&mut again), hear_nothing(&mut stays));
}

async fn a_listener_can_ask_for_what_comes_next(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "debates.n", "before").await;
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap().start(Start::Latest);
    let mut listener = broker.listen(spec).await.unwrap();
    publish(&broker, "debates.n", "after").await;
    assert_eq!(hear_bodies(&mut listener, 1).await, ["after"]);
    hear_nothing(&mut listener).await;
}

async fn a_listener_can_start_with_what_is_kept(stage: Stage) {
    let broker = stage.broker().await;
    publish_numbers(&broker, "debates.n", 5).await;
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap().start(Start::Earliest);
    let mut listener = broker.listen(spec).await.unwrap();
    publish(&broker, "debates.n", "after").await;
    assert_eq!(hear_bodies(&mut listener, 5).await, numbers(5));
    assert_eq!(hear_bodies(&mut listener, 1).await, ["after"]);
}

async fn a_new_stream_is_heard_by_who_listens_to_every_stream(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen::<Bytes>(&broker, &["#"]).await;
    let mut larger = topology();
    larger.streams.push(StreamConfig::new("audit".parse().unwrap(), StreamKind::Log));
    broker.provision(larger).await.unwrap();
    publish(&broker, "audit.login", "x").await;
    // A listener may need a while to learn of a stream, but no message of it is lost.
    let heard = timeout(Duration::from_secs(40), listener.next()).await.unwrap();
    match heard.unwrap().unwrap() {
        Heard::Message(message) => assert_eq!(text(&message), "x"),
        other => panic!("{other:?}"),
    }
}

async fn closing_sends_what_was_handed_over_and_ends_listeners(stage: Stage) {
    let (leaving, staying) = (stage.broker().await, stage.broker().await);
    let mut ended = listen::<Bytes>(&leaving, &["debates.#"]).await;
    let mut listener = listen(&staying, &["debates.#"]).await;
    let publisher = leaving.publisher::<Bytes>(SendSpec::to("debates").unwrap()).await.unwrap();
    let mut unconfirmed = Vec::new();
    for number in numbers(500) {
        unconfirmed.push(publisher.enqueue(&Bytes::from(number)).await.unwrap());
    }
    leaving.close().await.unwrap();
    for pending in unconfirmed {
        pending.await.unwrap();
    }
    assert_eq!(hear_bodies(&mut listener, 500).await, numbers(500));
    let ends = async { while ended.next().await.is_some() {} };
    assert!(timeout(Duration::from_secs(20), ends).await.is_ok(), "the listener did not end");
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap();
    let kinds = [
        publisher.publish(&Bytes::new()).await.unwrap_err().kind().clone(),
        leaving.listen::<Bytes>(spec).await.unwrap_err().kind().clone(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed, ErrorKind::Closed]);
    publish(&staying, "debates.n", "without it").await;
    assert_eq!(hear_bodies(&mut listener, 1).await, ["without it"]);
}
