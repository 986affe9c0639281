#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use messaging::driver::{ReadSpec, Record};
use messaging::{Broker, ErrorKind, Start, SubscribeSpec};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, message, numbers, publish, publish_numbers, silence, text,
};

cases! {
    a_new_group_starts_at_the_earliest_message_kept [] [Settlement, Groups, StartEarliest];
    a_group_can_start_with_what_comes_next [] [Settlement, Groups, StartLatest];
    a_subscription_can_start_at_a_position [] [Settlement, Groups, Broadcast, StartPosition, Positions];
    a_position_of_another_backend_or_for_two_streams_is_refused [] [Settlement, Groups, StartPosition, Positions];
    a_subscription_can_start_at_a_time [] [Settlement, Groups, Broadcast, StartTime];
    a_start_moves_no_group_that_has_a_place [] [Settlement, Groups, StartEarliest, StartLatest];
    a_range_can_be_read_without_a_group [] [ReadRange];
    reading_takes_nothing_from_groups [] [Settlement, Groups, ReadRange];
}

async fn a_new_group_starts_at_the_earliest_message_kept(stage: Stage) {
    let broker = stage.broker().await;
    publish_numbers(&broker, "debates.n", 5).await;
    let mut default = consume(&broker, group("default", "debates.#")).await;
    assert_eq!(bodies(&mut default, 5).await, numbers(5));
    // A log is kept for groups that come later, whoever has settled it.
    let mut later = consume(&broker, group("later", "debates.#").start(Start::Earliest)).await;
    assert_eq!(bodies(&mut later, 5).await, numbers(5));
}

async fn a_group_can_start_with_what_comes_next(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "debates.n", "before").await;
    let mut consumer = consume(&broker, group("g", "debates.#").start(Start::Latest)).await;
    publish(&broker, "debates.n", "after").await;
    assert_eq!(bodies(&mut consumer, 1).await, ["after"]);
    silence(&mut consumer).await;
}

async fn a_subscription_can_start_at_a_position(stage: Stage) {
    let broker = stage.broker().await;
    let mut positions = Vec::new();
    for number in numbers(5) {
        positions.push(publish(&broker, "debates.n", number).await.position.unwrap());
    }
    let start = Start::Position(positions[2]);
    let mut consumer = consume(&broker, group("g", "debates.#").start(start)).await;
    assert_eq!(bodies(&mut consumer, 3).await, ["2", "3", "4"]);
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap().start(start);
    assert_eq!(bodies(&mut consume(&broker, spec).await, 3).await, ["2", "3", "4"]);
}

async fn a_position_of_another_backend_or_for_two_streams_is_refused(stage: Stage) {
    let broker = stage.broker().await;
    let ours = publish(&broker, "debates.n", "x").await.position.unwrap();
    let theirs = messaging::Position::new("elsewhere", 0, 0);
    for (pattern, position) in [("#", ours), ("debates.#", theirs)] {
        let spec = group("g", pattern).start(Start::Position(position));
        let error = broker.subscribe::<messaging::Bytes>(spec).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{pattern} at {position}");
    }
}

async fn a_subscription_can_start_at_a_time(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "debates.n", "before").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    publish(&broker, "debates.n", "after").await;
    let stored = read_all(&broker, ReadSpec::new("debates".parse().unwrap())).await[1].stored_at;
    let start = Start::Time(stored.unwrap());
    let mut consumer = consume(&broker, group("g", "debates.#").start(start)).await;
    assert_eq!(bodies(&mut consumer, 1).await, ["after"]);
    silence(&mut consumer).await;
    let spec = group("future", "debates.#");
    let late = Start::Time(SystemTime::now() + Duration::from_secs(3_600));
    silence(&mut consume(&broker, spec.start(late)).await).await;
}

async fn a_start_moves_no_group_that_has_a_place(stage: Stage) {
    let broker = stage.broker().await;
    drop(consume(&broker, group("g", "debates.#")).await);
    publish(&broker, "debates.n", "x").await;
    let spec = || group("g", "debates.#").start(Start::Latest);
    assert_eq!(bodies(&mut consume(&broker, spec()).await, 1).await, ["x"]);
    let spec = group("g", "debates.#").start(Start::Earliest);
    silence(&mut consume(&broker, spec).await).await;
}

async fn read_all(broker: &Broker, spec: ReadSpec) -> Vec<Record> {
    broker.reader().unwrap().read(spec).try_concat().await.unwrap()
}

async fn a_range_can_be_read_without_a_group(stage: Stage) {
    let broker = stage.broker().await;
    for number in numbers(700) {
        let sent = message("debates.n", number).with_header("tenant", "acme").unwrap();
        broker.publish_message(sent).await.unwrap();
    }
    let spec = || ReadSpec::new("debates".parse().unwrap());
    let all = read_all(&broker, spec()).await;
    let texts: Vec<String> = all.iter().map(|record| text(&record.message.body)).collect();
    assert_eq!(texts, numbers(700));
    assert_eq!(all[0].message.headers.text("tenant"), Some("acme"));
    let part = spec().from(Start::Position(all[10].position)).limit(5);
    let part = read_all(&broker, part).await;
    assert_eq!(part, all[10..15]);
    let until = all[0].stored_at.unwrap() - Duration::from_secs(1);
    assert!(read_all(&broker, spec().until(until)).await.is_empty());
    let empty = ReadSpec::new("events".parse().unwrap());
    assert!(read_all(&broker, empty).await.is_empty());
    let unknown = ReadSpec::new("nowhere".parse().unwrap());
    let error = broker.reader().unwrap().read(unknown).try_concat().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
}

async fn reading_takes_nothing_from_groups(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "debates.#")).await;
    publish_numbers(&broker, "debates.n", 3).await;
    assert_eq!(read_all(&broker, ReadSpec::new("debates".parse().unwrap())).await.len(), 3);
    assert_eq!(bodies(&mut consumer, 3).await, numbers(3));
}
