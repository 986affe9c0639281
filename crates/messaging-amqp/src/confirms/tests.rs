//! Against a real server, and with a channel that closes as told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{sleep, timeout};

use super::hearing::{Books, Hearing};
use super::*;
use crate::config::RabbitConfig;
use crate::connection::{ChannelEvent, Listen, Queue, Role};
use crate::testing::{Flow, Proxy, manage, server, soon, unique, with_user};

pub(super) fn nothing() -> Setup {
    Box::new(|_, _| async { Ok(()) }.boxed())
}

pub(super) fn to(queue: &str, number: u32, body: usize) -> Publish {
    let mut properties = BasicProperties::default();
    properties.with_message_id(&number.to_string()).with_persistence(true);
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(body, 0);
    let routing_key = queue.to_owned();
    Publish { exchange: String::new(), routing_key, mandatory: true, properties, body: bytes }
}

/// A link to publish with, another to look with, and a queue.
pub(super) async fn stage(config: &RabbitConfig) -> (Arc<Link>, Channel, String, Arc<Link>) {
    let publishing = Link::open(Arc::new(config.clone()), Role::Publish).await.unwrap();
    let mut direct = config.clone();
    if let Ok(server) = RabbitConfig::from_env() {
        direct.nodes = server.nodes;
    }
    let looking = Link::open(Arc::new(direct), Role::Consume).await.unwrap();
    let session = looking.session(soon()).await.unwrap();
    let (channel, _events) = session.channel(soon()).await.unwrap();
    let name = unique("confirms");
    let queue = Queue { name: name.clone(), durable: true, ..Queue::default() };
    channel.declare_queue(queue, soon()).await.unwrap();
    (publishing, channel, name, looking)
}

/// Ends what [`stage`] began.
pub(super) async fn leave(link: &Link, channel: &Channel, queue: &str, looking: &Link) {
    channel.delete_queue(queue, soon()).await.unwrap();
    link.close(Duration::from_secs(1)).await;
    looking.close(Duration::from_secs(1)).await;
}

pub(super) async fn drain(channel: &Channel, queue: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some((got, _, body)) = channel.get(queue, soon()).await.unwrap() {
        numbers.push(u32::from_be_bytes(body[..4].try_into().unwrap()));
        channel.ack(got.delivery_tag(), false).await.unwrap();
    }
    numbers
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn publishes_are_confirmed_in_order_and_returns_name_their_publish() {
    let config = server();
    let (link, channel, queue, looking) = stage(&config).await;
    let publisher = Publisher::start(&link, nothing());
    let outcomes: Vec<_> = (0..2_000)
        .map(|n| publisher.publish(to(if n % 7 == 3 { "nowhere" } else { &queue }, n, 64), soon()))
        .collect();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome.await.unwrap() {
            Outcome::Returned(refusal) => assert!(n % 7 == 3 && refusal.code == 312, "{n}"),
            Outcome::Confirmed => assert_ne!(n % 7, 3),
            other => panic!("{n}: {other:?}"),
        }
    }
    let expected: Vec<u32> = (0..2_000).filter(|n| n % 7 != 3).collect();
    assert_eq!(drain(&channel, &queue).await, expected);
    assert!(publisher.flush(soon()).await);
    let late = publisher.publish(to(&queue, 1, 4), soon()).await.unwrap();
    assert!(matches!(late, Outcome::Failed(error) if *error.kind() == ErrorKind::Closed));
    leave(&link, &channel, &queue, &looking).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_connection_closed_by_force_loses_nothing_confirmed_and_repeats_nothing() {
    // A user of its own: other tests keep their connections.
    let config = with_user(&server(), r#"{"configure":".*","write":".*","read":".*"}"#).await;
    let api = config.management.clone().unwrap();
    let (link, channel, queue, looking) = stage(&config).await;
    let publisher = Arc::new(Publisher::start(&link, nothing()));
    let far = Instant::now() + Duration::from_secs(120);
    let done = Arc::new(AtomicBool::new(false));
    let publishing = async {
        let mut outcomes = Vec::new();
        for n in 0..20_000 {
            outcomes.push(publisher.publish(to(&queue, n, 100), far));
            if n % 100 == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        }
        done.store(true, Ordering::SeqCst);
        outcomes
    };
    let closing = async {
        while !done.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(300)).await;
            manage(&api, "DELETE", &format!("connections/username/{}", config.user), "").await;
        }
    };
    let (outcomes, ()) = futures::join!(publishing, closing);
    let (mut confirmed, mut unknown) = (Vec::new(), 0);
    for (n, outcome) in (0_u32..).zip(outcomes) {
        match outcome.await.unwrap() {
            Outcome::Confirmed => confirmed.push(n),
            Outcome::Unknown(_) => unknown += 1,
            other => panic!("{n}: {other:?}"),
        }
    }
    drop(channel);
    let session = looking.session(soon()).await.unwrap();
    let (channel, _events) = session.channel(soon()).await.unwrap();
    let stored = drain(&channel, &queue).await;
    println!("{} confirmed, {unknown} unknown, {} stored", confirmed.len(), stored.len());
    let mut kept = stored.clone();
    kept.retain(|n| confirmed.binary_search(n).is_ok());
    assert_eq!(kept, confirmed, "each once, in order");
    let mut once = stored.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), stored.len(), "nothing is repeated");
    leave(&link, &channel, &queue, &looking).await;
    manage(&api, "DELETE", &format!("users/{}", config.user), "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_server_that_does_not_read_is_seen_and_waited_for() {
    let config = server();
    let proxy = Proxy::start(&config).await;
    let through = config.with_nodes(vec![proxy.address.clone()]);
    let (link, channel, queue, looking) = stage(&through).await;
    let publisher = Publisher::start(&link, nothing());
    publisher.publish(to(&queue, 0, 4), soon()).await.unwrap();
    let session = link.session(soon()).await.unwrap();
    proxy.set(Flow::Answers);
    let far = Instant::now() + Duration::from_secs(60);
    let stuck = publisher.publish(to(&queue, 1, 4), far);
    let seen = async {
        while !session.is_blocked() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // It is promised within two seconds; the rest is for a busy machine.
    timeout(Duration::from_secs(15), seen).await.expect("the stall is not seen");
    // What comes now is not handed over: at its deadline it is known not to be sent.
    let late = Instant::now() + Duration::from_secs(1);
    let dropped = publisher.publish(to(&queue, 2, 4), late);
    let kept = publisher.publish(to(&queue, 3, 4), far);
    sleep(Duration::from_secs(8)).await;
    assert!(!session.is_over(), "a blocked connection is waited for");
    proxy.set(Flow::Both);
    assert!(matches!(stuck.await, Ok(Outcome::Confirmed)));
    assert!(matches!(kept.await, Ok(Outcome::Confirmed)));
    let dropped = dropped.await.unwrap();
    assert!(matches!(dropped, Outcome::Failed(error) if *error.kind() == ErrorKind::NotSent));
    assert!(!session.is_blocked());
    assert_eq!(link.session(soon()).await.unwrap().epoch(), 1);
    assert_eq!(drain(&channel, &queue).await, [0, 1, 3]);
    leave(&link, &channel, &queue, &looking).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_waits_out_a_stall_is_sent_after_closing_or_fails() {
    let config = server();
    let proxy = Proxy::start(&config).await;
    let through = config.with_nodes(vec![proxy.address.clone()]);
    let (link, channel, queue, looking) = stage(&through).await;
    let far = Instant::now() + Duration::from_secs(60);
    for round in 0..2 {
        let publisher = Publisher::start(&link, nothing());
        publisher.publish(to(&queue, 0, 4), far).await.unwrap();
        proxy.set(Flow::Answers);
        let session = link.session(soon()).await.unwrap();
        let stuck = publisher.publish(to(&queue, 1, 4), far);
        let seen = async {
            while !session.is_blocked() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(15), seen).await.expect("the stall is not seen");
        let waiting: Vec<_> = (2..600).map(|n| publisher.publish(to(&queue, n, 4), far)).collect();
        if round == 0 {
            assert!(!publisher.flush(Instant::now() + Duration::from_secs(1)).await);
            proxy.set(Flow::Both);
            assert!(publisher.flush(soon()).await);
            assert!(matches!(stuck.await, Ok(Outcome::Confirmed)));
            for outcome in waiting {
                let outcome = outcome.await;
                assert!(matches!(outcome, Ok(Outcome::Confirmed)), "{outcome:?}");
            }
            assert_eq!(drain(&channel, &queue).await, (0..600).collect::<Vec<_>>());
        } else {
            publisher.close();
            link.close(Duration::from_secs(1)).await;
            assert!(matches!(stuck.await, Ok(Outcome::Unknown(_))));
            for outcome in waiting {
                let outcome = outcome.await;
                let failed = |error: &Error| *error.kind() == ErrorKind::Closed;
                assert!(matches!(&outcome, Ok(Outcome::Failed(it)) if failed(it)), "{outcome:?}");
            }
        }
    }
    proxy.set(Flow::Both);
    channel.delete_queue(&queue, soon()).await.unwrap();
    looking.close(Duration::from_secs(1)).await;
}

#[test]
fn a_body_over_the_servers_limit_is_named_and_what_follows_is_sent_again() {
    let books = Books::new();
    let mut hearing = Hearing::new(Arc::clone(&books));
    let far = Instant::now() + Duration::from_secs(60);
    let mut outcomes = Vec::new();
    for (n, size) in [(0, 10), (1, 10), (2, 70_000), (3, 10), (4, 10)] {
        let (answer, outcome) = oneshot::channel();
        outcomes.push(outcome);
        books.tracker().push(
            Copy { publish: to("q", n, size), deadline: far, answer: Some(answer) },
            size,
            size,
        );
    }
    hearing.hear(ChannelEvent::Acked { tag: 1, multiple: false });
    let text = "PRECONDITION_FAILED - message size 70000 is larger than configured max size 65536";
    hearing.hear(ChannelEvent::Closed(Refusal { code: 406, text: text.to_owned() }));
    drop(hearing);
    let kinds: Vec<String> = outcomes
        .iter_mut()
        .map(|outcome| match outcome.try_recv() {
            Ok(Outcome::Failed(error)) => error.kind().name().to_owned(),
            Ok(other) => format!("{other:?}").chars().take(7).collect(),
            Err(_) => "open".to_owned(),
        })
        .collect();
    assert_eq!(kinds, ["Confirm", "Unknown", "too-large", "open", "open"]);
    let again: Vec<_> = books.unread().iter().map(|copy| copy.publish.body[3]).collect();
    assert_eq!(again, [3, 4]);
    assert!(books.ended.is_cancelled());
}

/// Notes whether its channel was known to have ended when its outcome came.
struct Watching {
    books: Arc<Books<Self>>,
    has_ended: Arc<AtomicBool>,
}

impl Publication for Watching {
    fn begin(&mut self, _: Instant) -> bool {
        true
    }

    fn wire(&mut self, _: usize) -> Result<Publish> {
        Ok(to("q", 0, 70_000))
    }

    fn is(&self, _: Option<&str>, _: &str) -> bool {
        false
    }

    fn route(&self) -> (&str, &str) {
        ("", "q")
    }

    fn deadline(&self) -> Instant {
        soon()
    }

    fn finish(self, _: Outcome) {
        self.has_ended.store(self.books.ended.is_cancelled(), Ordering::SeqCst);
    }
}

#[test]
fn a_channel_has_ended_before_anybody_is_told_so_that_nothing_more_goes_over_it() {
    let text = "PRECONDITION_FAILED - message size 70000 is larger than configured max size 65536";
    let too_large = ChannelEvent::Closed(Refusal { code: 406, text: text.to_owned() });
    for end in [Some(too_large), None] {
        let books = Books::new();
        let mut hearing = Hearing::new(Arc::clone(&books));
        let has_ended = Arc::new(AtomicBool::new(false));
        let watching = Watching { books: Arc::clone(&books), has_ended: Arc::clone(&has_ended) };
        books.tracker().push(watching, 70_000, 70_000);
        if let Some(end) = end {
            hearing.hear(end);
        }
        drop(hearing);
        assert!(has_ended.load(Ordering::SeqCst));
    }
}
