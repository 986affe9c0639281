//! What the server or the size of a frame does not allow.

use amqprs::{FieldTable, FieldValue};

use super::hearing::{Books, Hearing};
use super::tests::{drain, leave, nothing, stage, to};
use super::*;
use crate::connection::{ChannelEvent, Listen};
use crate::testing::{manage, server, soon, with_user};

/// What becomes of publishes to these exchanges when the channel is closed with this text, and which
/// are sent again. The first is confirmed, the third returned before.
fn closed_with(exchanges: &[&str], text: &str) -> (Vec<String>, Vec<u8>) {
    let books = Books::new();
    let mut hearing = Hearing::new(Arc::clone(&books));
    let mut outcomes = Vec::new();
    for (n, exchange) in (0..).zip(exchanges) {
        let (answer, outcome) = oneshot::channel();
        outcomes.push(outcome);
        let publish = Publish { exchange: (*exchange).to_owned(), ..to("q", n, 4) };
        let copy = Copy { publish, deadline: soon(), answer: Some(answer) };
        books.tracker().push(copy, 4, 4);
    }
    hearing.hear(ChannelEvent::Acked { tag: 1, multiple: false });
    let refusal = Refusal { code: 312, text: "NO_ROUTE".to_owned() };
    let (routing_key, id) = ("q".to_owned(), Some("2".to_owned()));
    hearing.hear(ChannelEvent::Returned { refusal, routing_key, id });
    let text = format!("ACCESS_REFUSED - {text}");
    hearing.hear(ChannelEvent::Closed(Refusal { code: 403, text }));
    drop(hearing);
    let shown = outcomes.iter_mut().map(|outcome| match outcome.try_recv() {
        Ok(Outcome::Failed(error)) => error.kind().name().to_owned(),
        Ok(other) => format!("{other:?}").chars().take(7).collect(),
        Err(_) => "open".to_owned(),
    });
    (shown.collect(), books.unread().iter().map(|copy| copy.publish.body[3]).collect())
}

#[tokio::test]
async fn the_one_publish_that_the_server_can_mean_is_denied_and_what_follows_is_sent_again() {
    let text = "access to exchange 'x' in vhost '/' refused for user 'u'";
    let (outcomes, again) = closed_with(&["x", "y", "x", "y", "x", "y"], text);
    assert_eq!(outcomes, ["Confirm", "Unknown", "Unknown", "Unknown", "denied", "open"]);
    assert_eq!(again, [5]);
}

#[tokio::test]
async fn of_several_that_the_server_can_mean_only_the_last_is_known_not_to_be_taken() {
    let text = "access to exchange 'x' in vhost '/' refused for user 'u'";
    let (outcomes, again) = closed_with(&["y", "x", "y", "x", "x", "y"], text);
    assert_eq!(outcomes, ["Confirm", "Unknown", "Unknown", "Unknown", "open", "open"]);
    assert_eq!(again, [4, 5]);
    let (outcomes, again) = closed_with(&["x", "x", "x", "x", "x"], "something else");
    assert_eq!(outcomes, ["Confirm", "Unknown", "Unknown", "Unknown", "open"]);
    assert_eq!(again, [4]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn every_publish_to_an_exchange_that_is_not_ours_is_denied_and_all_others_arrive() {
    let allowed = r#"{"configure":".*","write":"^(amq\\.default)?$","read":".*"}"#;
    let config = with_user(&server(), allowed).await;
    let api = config.management.clone().unwrap();
    let (link, channel, queue, looking) = stage(&config).await;
    let publisher = Publisher::start(&link, nothing());
    let exchange = |n| if n % 4 == 3 { "" } else { "amq.topic" }.to_owned();
    let publish = |n| Publish { exchange: exchange(n), ..to(&queue, n, 4) };
    // One after another, and all at once after something that is not denied.
    for n in 0..4 {
        match publisher.publish(publish(n), soon()).await.unwrap() {
            Outcome::Confirmed => assert_eq!(n, 3),
            Outcome::Failed(error) => assert_eq!(*error.kind(), ErrorKind::Denied, "{error}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    let outcomes: Vec<_> = (4..24).map(|n| publisher.publish(publish(n), soon())).collect();
    let mut confirmed = Vec::new();
    for (n, outcome) in (4..).zip(outcomes) {
        match outcome.await.unwrap() {
            Outcome::Confirmed => confirmed.push(n),
            Outcome::Failed(error) if *error.kind() == ErrorKind::Denied => assert_ne!(n % 4, 3),
            Outcome::Unknown(_) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    let stored = drain(&channel, &queue).await;
    let mut once = stored.clone();
    once.dedup();
    assert_eq!(once, stored, "nothing is repeated");
    assert!(stored.iter().all(|n| n % 4 == 3) && confirmed.iter().all(|n| stored.contains(n)));
    leave(&link, &channel, &queue, &looking).await;
    manage(&api, "DELETE", &format!("users/{}", config.user), "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn many_publishes_at_once_that_are_not_allowed_are_each_denied() {
    let config = with_user(&server(), r#"{"configure":".*","write":"^$","read":".*"}"#).await;
    let api = config.management.clone().unwrap();
    let (link, channel, queue, looking) = stage(&config).await;
    let publisher = Publisher::start(&link, nothing());
    let publish = |n| Publish { exchange: "amq.topic".to_owned(), ..to(&queue, n, 4) };
    let outcomes: Vec<_> = (0..50).map(|n| publisher.publish(publish(n), soon())).collect();
    for outcome in outcomes {
        let outcome = outcome.await.unwrap();
        let denied = |error: &Error| *error.kind() == ErrorKind::Denied;
        assert!(matches!(&outcome, Outcome::Failed(error) if denied(error)), "{outcome:?}");
    }
    leave(&link, &channel, &queue, &looking).await;
    manage(&api, "DELETE", &format!("users/{}", config.user), "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn headers_that_fill_a_frame_are_taken_and_one_byte_more_is_refused() {
    let (link, channel, queue, looking) = stage(&server()).await;
    let session = link.session(soon()).await.unwrap();
    let publisher = Publisher::start(&link, nothing());
    // Frame and content header: 22. Headers: 4 + 2 + 5 + the text. Mode and id: 1 + 2.
    let room = session.frame_max() - 22 - 11 - 3;
    for (length, fits) in [(room, true), (room + 1, false), (4, true)] {
        let mut publish = to(&queue, 1, 4);
        let mut headers = FieldTable::new();
        let text = FieldValue::S("x".repeat(length).try_into().unwrap());
        headers.insert("h".try_into().unwrap(), text);
        publish.properties.with_headers(headers);
        match publisher.publish(publish, soon()).await.unwrap() {
            Outcome::Confirmed => assert!(fits, "{length}"),
            Outcome::Failed(error) => {
                let limit = session.frame_max();
                assert_eq!(*error.kind(), ErrorKind::TooLarge { size: limit + 1, limit });
            }
            other => panic!("{length}: {other:?}"),
        }
    }
    assert!(!session.is_over());
    leave(&link, &channel, &queue, &looking).await;
}
