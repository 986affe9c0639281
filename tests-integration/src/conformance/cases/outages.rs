#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use messaging::{Broker, Bytes, Consumer, Error, ErrorKind, Result, SendSpec};
use tokio::time::{Instant, timeout};

use super::cases;
use crate::conformance::server::Connecting;
use crate::conformance::stage::{Stage, bodies, consume, group, message, next, publish, text};

cases! {
    what_was_confirmed_survives_a_kill_of_the_server_and_the_subscription_goes_on ["C14", "C15"] [Settlement, Groups] Own;
    what_was_confirmed_survives_a_restart_of_the_server_and_the_subscription_goes_on ["C14", "C15"] [Settlement, Groups] Own;
    a_publish_to_a_server_that_hangs_ends_by_its_deadline_and_everything_goes_on_later ["C14", "C15"] [Settlement, Groups] Own;
    a_settlement_during_an_outage_reaches_the_server_later ["C15"] [Settlement, Groups] Own;
    a_wrong_password_is_denied_at_once_and_shown_nowhere [] [] Shared;
    connecting_where_no_server_is_fails_soon_and_says_how_to_start_one [] [] Shared;
}

/// How long a publish may take while there is no server.
const DEADLINE: Duration = Duration::from_millis(600);

/// How much later than its deadline a call may end.
const TOLERANCE: Duration = Duration::from_millis(250);

/// How long connecting may take to fail.
const CONNECTING: Duration = Duration::from_secs(5);

async fn what_was_confirmed_survives_a_kill_of_the_server_and_the_subscription_goes_on(
    stage: Stage,
) {
    survives(&stage, Outage::Kill).await;
}

async fn what_was_confirmed_survives_a_restart_of_the_server_and_the_subscription_goes_on(
    stage: Stage,
) {
    survives(&stage, Outage::Restart).await;
}

async fn a_publish_to_a_server_that_hangs_ends_by_its_deadline_and_everything_goes_on_later(
    stage: Stage,
) {
    survives(&stage, Outage::Hang).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outage {
    Kill,
    Restart,
    Hang,
}

/// Publishes before, in the middle of and after an outage. What was confirmed arrives at the one
/// subscription, and what was definitely not sent does not.
async fn survives(stage: &Stage, outage: Outage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let mut confirmed = BTreeSet::new();
    for number in 0..20 {
        let body = format!("before {number}");
        publish(&broker, "tasks.n", body.clone()).await;
        confirmed.insert(body);
    }
    let mut arrived: BTreeSet<String> = bodies(&mut consumer, 10).await.into_iter().collect();
    stage
        .server()
        .run(move |server| match outage {
            Outage::Kill => server.kill(),
            Outage::Restart => server.stop(),
            Outage::Hang => server.pause(),
        })
        .await;
    let not_sent = publish_in_vain(&broker).await;
    stage
        .server()
        .run(move |server| match outage {
            Outage::Kill | Outage::Restart => server.start(),
            Outage::Hang => server.resume(),
        })
        .await;
    for number in 0..20 {
        let body = format!("after {number}");
        if publish_until_known(&broker, &body).await {
            confirmed.insert(body);
        }
    }
    while !confirmed.is_subset(&arrived) {
        arrived.insert(receive(&mut consumer, &confirmed, &arrived).await);
    }
    let ghosts: Vec<&String> = not_sent.intersection(&arrived).collect();
    assert!(ghosts.is_empty(), "reported as not sent, and arrived: {ghosts:?}");
}

/// Publishes several at once to no server; each must end by its deadline as not sent or unknown.
/// Gives those that were not sent.
async fn publish_in_vain(broker: &Broker) -> BTreeSet<String> {
    let spec = SendSpec::to("tasks").unwrap().timeout(DEADLINE);
    let publisher = broker.publisher::<Bytes>(spec).await.unwrap();
    let publishes = (0..5).map(|number| {
        let publisher = publisher.clone();
        async move {
            let body = format!("meanwhile {number}");
            let begun = Instant::now();
            let outcome = publisher.publish_message(message("tasks.n", body.clone())).await;
            let took = begun.elapsed();
            assert!(took <= DEADLINE + TOLERANCE, "a publish ended after {took:?}");
            match outcome.map_err(|error| error.kind().clone()) {
                Err(ErrorKind::NotSent) => Some(body),
                Err(ErrorKind::OutcomeUnknown) => None,
                other => panic!("a publish to no server ended with {other:?}"),
            }
        }
    });
    futures::future::join_all(publishes).await.into_iter().flatten().collect()
}

/// Publishes a body, again where it was definitely not sent; whether it was confirmed.
async fn publish_until_known(broker: &Broker, body: &str) -> bool {
    for _ in 0..3 {
        match broker.publish_message(message("tasks.n", body.to_owned())).await {
            Ok(_) => return true,
            Err(error) if *error.kind() == ErrorKind::OutcomeUnknown => return false,
            Err(error) if *error.kind() == ErrorKind::NotSent => {}
            Err(error) => panic!("a publish after the outage failed: {error}"),
        }
    }
    panic!("a publish after the outage was never sent");
}

async fn receive(
    consumer: &mut Consumer<Bytes>,
    wanted: &BTreeSet<String>,
    arrived: &BTreeSet<String>,
) -> String {
    match timeout(Duration::from_secs(20), consumer.next()).await {
        Ok(Some(Ok(delivery))) => {
            let body = text(&delivery);
            delivery.ack();
            body
        }
        Ok(other) => panic!("the subscription ended: {other:?}"),
        Err(_) => {
            let lost: Vec<&String> = wanted.difference(arrived).collect();
            panic!("confirmed, and did not arrive: {lost:?}")
        }
    }
}

async fn a_settlement_during_an_outage_reaches_the_server_later(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.n", "acked").await;
    publish(&broker, "tasks.n", "retried").await;
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    stage.server().run(|server| server.kill()).await;
    let (acked, retried) = match text(&first).as_str() {
        "acked" => (first, second),
        _ => (second, first),
    };
    acked.ack();
    retried.retry(Duration::ZERO).unwrap();
    stage.server().run(|server| server.start()).await;
    // The ack may not be repeated, the retry must come.
    loop {
        let delivery = next(&mut consumer).await;
        let (body, attempt) = (text(&delivery), delivery.attempt());
        delivery.ack();
        if body == "retried" {
            assert_eq!(attempt, 2);
            return;
        }
    }
}

async fn a_wrong_password_is_denied_at_once_and_shown_nowhere(stage: Stage) {
    let wrong = "wr%ng p/ss+w&rd:é";
    let server = &stage.server().0;
    let error = refusal(server.with_password(wrong)).await;
    assert_eq!(*error.kind(), ErrorKind::Denied, "{error}");
    let right = server.password();
    let broker = stage.broker().await;
    let shown = format!("{error} {error:?} {error:#?} {broker:?} {}", broker.address());
    for secret in [wrong, &right] {
        for form in [secret.to_owned(), percent_encoded(secret), base64(secret.as_bytes())] {
            assert!(!shown.contains(&form), "it shows a password as {form}: {shown}");
        }
    }
}

async fn connecting_where_no_server_is_fails_soon_and_says_how_to_start_one(stage: Stage) {
    let (connecting, address) = stage.server().0.to_nobody();
    let error = refusal(connecting).await;
    let text = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    assert!(text.contains(&address), "{text}");
    assert!(text.contains("cargo xtask up"), "{text}");
}

/// The error with which connecting must end soon.
async fn refusal(connecting: Connecting) -> Error {
    let begun = Instant::now();
    let opened: Result<Broker> = async { connecting.await?.open().await }.await;
    let took = begun.elapsed();
    assert!(took <= CONNECTING + TOLERANCE, "it ended after {took:?}");
    opened.unwrap_err()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Without what fills up the last four digits, so that it is found within a longer text too.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        let digit = move |n: usize| DIGITS.get((bits >> (18 - 6 * n)) as usize % 64);
        (0..=three.len()).filter_map(digit).map(|digit| char::from(*digit)).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_looked_for_as_others_would_write_them() {
        assert_eq!(percent_encoded("a b/é"), "a%20b%2F%C3%A9");
        assert_eq!(base64(b"Many hands"), "TWFueSBoYW5kcw");
    }
}
