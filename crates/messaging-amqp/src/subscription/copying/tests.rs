//! Against a real server that does not let us make dead letters.

use messaging_core::{Broker, Bytes, Message, SubscribeSpec, Topology};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata};

use super::*;
use crate::driver::Rabbit;
use crate::testing::{manage, server, unique, with_user};

/// Tells of warnings about copies.
struct Warnings(mpsc::Sender<()>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().ends_with("copying")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.try_send(()).unwrap();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn dead_letters_that_the_server_denies_are_warned_of_and_made_once_it_does_not() {
    let (tell, mut warned) = mpsc::channel(8);
    let _guard = tracing::subscriber::set_default(Warnings(tell));
    let allowed = r#"{"configure":".*","write":".*","read":".*"}"#;
    let denied = r#"{"configure":".*","write":"^(?!.*\\.dlx$).*$","read":".*"}"#;
    let exchange = unique("copies");
    let config = with_user(&server(), allowed).await.with_exchange(&exchange).unwrap();
    let api = config.management.clone().unwrap();
    let rabbit = Rabbit::connect(config.clone()).await.unwrap();
    let broker = Broker::builder(rabbit).topology(Topology::default()).open().await.unwrap();
    let spec = SubscribeSpec::group(&format!("{exchange}-g"), ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let permissions = format!("permissions/%2F/{}", config.user);
    // A group is made only by who may write to its dead letters.
    manage(&api, "PUT", &permissions, denied).await;
    for n in 0..3 {
        let message = Message::new("tasks.a".parse().unwrap(), n.to_string());
        broker.publish_message(message).await.unwrap();
        consumer.next().await.unwrap().unwrap().reject("no");
    }
    let patience = Duration::from_secs(20);
    timeout(patience, warned.recv()).await.unwrap().unwrap();
    manage(&api, "PUT", &permissions, allowed).await;
    let spec = SubscribeSpec::dead_letters("look", "tasks").unwrap();
    let mut letters = broker.subscribe::<Bytes>(spec).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        let letter = timeout(patience, letters.next()).await.unwrap().unwrap().unwrap();
        found.push(letter[0]);
        letter.ack_confirmed().await.unwrap();
    }
    found.sort_unstable();
    assert_eq!(found, *b"012");
    assert!(warned.is_empty(), "three copies are one warning");
    broker.close().await.unwrap();
    manage(&api, "DELETE", &format!("users/{}", config.user), "").await;
}
