#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use messaging::topology::{StreamConfig, StreamKind};
use messaging::{Bytes, ErrorKind, SubscribeSpec};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, next, numbers, publish, publish_numbers, silence, text, topology,
};

cases! {
    members_of_a_group_share_its_messages [] [Settlement, Groups];
    each_group_gets_every_message [] [Settlement, Groups];
    a_broadcast_gets_everything_itself [] [Settlement, Groups, Broadcast];
    a_group_keeps_its_place_while_nobody_is_there [] [Settlement, Groups];
    members_with_other_patterns_are_refused [] [Settlement, Groups];
    patterns_select_exactly ["C9"] [Settlement, Groups];
    a_message_that_matches_twice_comes_once ["C9"] [Settlement, Groups];
    a_wildcard_first_word_means_every_stream ["C9"] [Settlement, Groups];
    a_new_stream_joins_the_groups_that_want_every_stream [] [Settlement, Groups, Provision];
    what_is_published_after_subscribing_is_seen [] [Settlement, Groups];
}

async fn members_of_a_group_share_its_messages(stage: Stage) {
    let (here, there) = (stage.broker().await, stage.broker().await);
    let few = std::num::NonZeroU32::new(2).unwrap();
    // A stream of several lanes: there are brokers that give a lane to one member.
    let mut one = consume(&here, group("g", "events.#").prefetch(few)).await;
    let mut two = consume(&there, group("g", "events.#").prefetch(few)).await;
    publish_numbers(&here, "events.n", 40).await;
    let (mut got, mut shares) = (Vec::new(), [0, 0]);
    for _ in 0..40 {
        let delivery = tokio::select! {
            delivery = next(&mut one) => { shares[0] += 1; delivery }
            delivery = next(&mut two) => { shares[1] += 1; delivery }
        };
        got.push(text(&delivery));
        delivery.ack();
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    got.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(got, numbers(40));
    silence(&mut one).await;
    silence(&mut two).await;
}

async fn each_group_gets_every_message(stage: Stage) {
    let broker = stage.broker().await;
    let mut one = consume(&broker, group("one", "tasks.#")).await;
    let mut two = consume(&broker, group("two", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 10).await;
    assert_eq!(bodies(&mut one, 10).await, numbers(10));
    assert_eq!(bodies(&mut two, 10).await, numbers(10));
}

async fn a_broadcast_gets_everything_itself(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "events.n", "before").await;
    let spec = || SubscribeSpec::broadcast(["events.#"]).unwrap();
    let mut one = consume(&broker, spec()).await;
    let mut two = consume(&broker, spec()).await;
    publish_numbers(&broker, "events.n", 5).await;
    let first = next(&mut one).await;
    assert_ne!(text(&first), "before", "a broadcast starts with what comes next");
    first.retry(std::time::Duration::ZERO).unwrap();
    for consumer in [&mut one, &mut two] {
        let mut got = bodies(consumer, 5).await;
        got.sort();
        assert_eq!(got, numbers(5));
    }
    drop(one);
    silence(&mut two).await;
}

async fn a_group_keeps_its_place_while_nobody_is_there(stage: Stage) {
    let broker = stage.broker().await;
    drop(consume(&broker, group("g", "events.#")).await);
    publish_numbers(&broker, "events.n", 5).await;
    let mut got = bodies(&mut consume(&broker, group("g", "events.#")).await, 5).await;
    got.sort();
    assert_eq!(got, numbers(5));
}

async fn members_with_other_patterns_are_refused(stage: Stage) {
    let broker = stage.broker().await;
    let spec = SubscribeSpec::group("g", ["tasks.a", "tasks.b"]).unwrap();
    let mut first = consume(&broker, spec).await;
    let spec = SubscribeSpec::group("g", ["tasks.b", "tasks.a", "tasks.a"]).unwrap();
    drop(consume(&broker, spec).await);
    let error = broker.subscribe::<Bytes>(group("g", "tasks.a")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::GroupConflict { group, .. } if group == "g"));
    publish(&broker, "tasks.b", "x").await;
    assert_eq!(bodies(&mut first, 1).await, ["x"]);
}

async fn patterns_select_exactly(stage: Stage) {
    let broker = stage.broker().await;
    let subjects =
        ["tasks", "tasks.a", "tasks.b", "tasks.a.b", "tasks.a.b.c", "tasks.ab", "events.a"];
    for (number, (pattern, wanted)) in [
        ("tasks.#", &["tasks", "tasks.a", "tasks.b", "tasks.a.b", "tasks.a.b.c", "tasks.ab"][..]),
        ("tasks.*", &["tasks.a", "tasks.b", "tasks.ab"]),
        ("tasks.a.#", &["tasks.a", "tasks.a.b", "tasks.a.b.c"]),
        ("tasks.*.b", &["tasks.a.b"]),
        ("tasks.#.b", &["tasks.b", "tasks.a.b"]),
        ("*.a", &["tasks.a", "events.a"]),
        ("#.c", &["tasks.a.b.c"]),
        ("tasks", &["tasks"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut consumer =
            consume(&broker, group(&format!("g{number}"), pattern).start(messaging::Start::Latest))
                .await;
        for subject in subjects {
            publish(&broker, subject, subject).await;
        }
        let mut got = bodies(&mut consumer, wanted.len()).await;
        got.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "{pattern}");
        silence(&mut consumer).await;
    }
}

async fn a_message_that_matches_twice_comes_once(stage: Stage) {
    let broker = stage.broker().await;
    let spec = SubscribeSpec::group("g", ["tasks.#", "*.x", "tasks.x"]).unwrap();
    let mut consumer = consume(&broker, spec).await;
    publish(&broker, "tasks.x", "x").await;
    assert_eq!(bodies(&mut consumer, 1).await, ["x"]);
    silence(&mut consumer).await;
}

async fn a_wildcard_first_word_means_every_stream(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "#")).await;
    for subject in ["tasks.x", "events.y", "debates"] {
        publish(&broker, subject, subject).await;
    }
    let mut got = bodies(&mut consumer, 3).await;
    got.sort();
    assert_eq!(got, ["debates", "events.y", "tasks.x"]);
}

async fn a_new_stream_joins_the_groups_that_want_every_stream(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "#")).await;
    let mut larger = topology();
    larger.streams.push(StreamConfig::new("audit".parse().unwrap(), StreamKind::Log));
    broker.provision(larger).await.unwrap();
    publish(&broker, "audit.login", "x").await;
    // A member may need a while to learn of a stream, but no message of it is lost.
    let delivery = tokio::time::timeout(std::time::Duration::from_secs(40), consumer.next()).await;
    let delivery = delivery.unwrap().unwrap().unwrap();
    assert_eq!(text(&delivery), "x");
    delivery.ack();
}

async fn what_is_published_after_subscribing_is_seen(stage: Stage) {
    let broker = stage.broker().await;
    for round in 0..20 {
        let spec = group(&format!("g{round}"), "events.#").start(messaging::Start::Latest);
        let mut consumer = consume(&broker, spec).await;
        publish(&broker, "events.n", round.to_string()).await;
        assert_eq!(bodies(&mut consumer, 1).await, [round.to_string()]);
    }
}
