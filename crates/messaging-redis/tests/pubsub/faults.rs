//! What happens when the server is gone, silent or refuses us.

use std::time::Duration;

use messaging_core::observe::Notice;
use messaging_core::{Bytes, Error, ErrorKind, Heard, SendSpec};
use messaging_redis::config::{Address, Servers};
use messaging_redis::{PubSub, RedisConfig};
use tokio::time::{Instant, timeout};

use super::server::{PASSWORD, Server, free_port};
use super::{SOON, gap, heard, listen, message, next, open, open_watched};

#[tokio::test]
async fn after_a_restart_comes_a_gap_and_then_what_is_published() {
    let Some(mut server) = Server::start(&[]).await else { return };
    let (broker, notices) = open_watched(server.config()).await;
    let mut listener = listen::<Bytes>(&broker, &["events.#", "tasks.x"]).await;
    broker.publish_message(message("events.n", "before")).await.unwrap();
    assert_eq!(*heard(&mut listener).await, "before");
    for round in 0..3 {
        server.kill();
        server.revive().await;
        let gap = gap(&mut listener).await;
        assert_eq!(gap.missed, None, "{}", gap.reason);
        // The publishing connection comes back by itself; what was on it meanwhile is unknown.
        let deadline = Instant::now() + SOON;
        let sent = format!("after {round}");
        while let Err(error) = broker.publish_message(message("tasks.x", sent.clone())).await {
            assert!(error.is_outcome_unknown() && Instant::now() < deadline, "{error}");
        }
        assert_eq!(*heard(&mut listener).await, sent);
    }
    let seen = notices.0.lock().unwrap();
    let back = seen.iter().filter(|notice| matches!(notice, Notice::Reconnected)).count();
    assert_eq!(back, 3, "{seen:?}");
}

#[tokio::test]
async fn what_was_not_on_the_wire_waits_for_the_server_to_come_back() {
    let Some(mut server) = Server::start(&[]).await else { return };
    let broker = open(server.config()).await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("events").unwrap().timeout(SOON));
    let publisher = publisher.await.unwrap();
    publisher.publish(&Bytes::from("connected")).await.unwrap();
    server.kill();
    // The first may be sent into the lost connection.
    let first = publisher.publish(&Bytes::from("lost or late")).await;
    assert!(first.as_ref().err().is_none_or(Error::is_outcome_unknown), "{first:?}");
    let mut late = Vec::new();
    for _ in 0..100 {
        late.push(publisher.enqueue(&Bytes::from("late")).await.unwrap());
    }
    server.revive().await;
    for pending in late {
        pending.await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    let Some(server) = Server::start(&[]).await else { return };
    let begun = Instant::now();
    let wrong = server.config().with_password("hunter2-hunter2");
    let error = PubSub::connect(wrong).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Denied);
    let none =
        RedisConfig::default().with_servers(Servers::Node(Address::new("127.0.0.1", server.port)));
    let unnamed = PubSub::connect(none).await.unwrap_err();
    assert_eq!(*unnamed.kind(), ErrorKind::Denied);
    assert!(begun.elapsed() < Duration::from_secs(5));
    for text in [error.to_string(), format!("{error:?}"), unnamed.to_string()] {
        assert!(text.contains(&format!("127.0.0.1:{}", server.port)), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let driver = PubSub::connect(server.config()).await.unwrap();
    assert!(!format!("{driver:?} {:?}", server.config()).contains(PASSWORD));
}

#[tokio::test]
async fn without_a_server_connecting_names_the_address_and_how_to_start_one() {
    let port = free_port();
    let config =
        RedisConfig::default().with_servers(Servers::Node(Address::new("127.0.0.1", port)));
    let error =
        timeout(Duration::from_secs(5), PubSub::connect(config)).await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(error.to_string().contains("cargo xtask up redis"), "{error}");
}

#[tokio::test]
async fn a_deaf_server_is_noticed_and_no_call_outlasts_its_deadline() {
    let Some(server) = Server::start(&[]).await else { return };
    let broker = open(server.config()).await;
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    let spec = SendSpec::to("events").unwrap().timeout(Duration::from_secs(2));
    let publisher = broker.publisher::<Bytes>(spec).await.unwrap();
    publisher.publish(&Bytes::from("before")).await.unwrap();
    assert_eq!(*heard(&mut listener).await, "before");
    server.deafen();
    let begun = Instant::now();
    let outcomes = publisher.publish_all(vec![Bytes::from("into the void"); 8_000]).await;
    assert!(begun.elapsed() < Duration::from_millis(2_250), "{:?}", begun.elapsed());
    let kinds = || outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().kind());
    assert!(kinds().all(|kind| matches!(kind, ErrorKind::NotSent | ErrorKind::OutcomeUnknown)));
    assert!(kinds().any(|kind| *kind == ErrorKind::NotSent));
    let connecting = PubSub::connect(server.config());
    let error = timeout(Duration::from_millis(5_250), connecting).await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Timeout);
    tokio::time::sleep_until(begun + Duration::from_secs(10)).await;
    server.wake();
    // What was on its way when the server woke may come late; what matters is the gap.
    while let Heard::Message(late) = next(&mut listener).await {
        assert_eq!(*late, "into the void");
    }
    while publisher.publish(&Bytes::from("after")).await.is_err() {}
    while *heard(&mut listener).await != "after" {}
}

#[tokio::test]
async fn closing_without_a_server_ends_in_time_and_fails_what_is_left() {
    let Some(mut server) = Server::start(&[]).await else { return };
    let broker = open(server.config()).await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("events").unwrap().timeout(SOON));
    let publisher = publisher.await.unwrap();
    server.kill();
    publisher.publish(&Bytes::from("lost or late")).await.ok();
    let left = publisher.enqueue(&Bytes::from("left")).await.unwrap();
    timeout(SOON, broker.close_within(Duration::from_millis(100))).await.unwrap().unwrap();
    assert_eq!(*left.await.unwrap_err().kind(), ErrorKind::Closed);
}
