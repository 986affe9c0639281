use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use messaging::spec::{Membership, Source};
use messaging::topology::{GroupConfig, StreamConfig, StreamKind};
use messaging::{
    Broker, BrokerBuilder, Bytes, Consumer, Delivery, Feature, Heard, Listener, Message, Payload,
    Receipt, Received, Result, Subject, SubscribeSpec, Topology,
};
use tokio::time::timeout;

use super::outcome::CantRun;
use super::server::{Connecting, Control, Foreign, Server};

/// An empty place on a backend, for one case.
pub struct Stage {
    builder: Box<dyn Fn() -> BoxFuture<'static, Result<BrokerBuilder>> + Send + Sync>,
    lacks: &'static [Feature],
    server: Option<Control>,
    counts_late: bool,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").finish_non_exhaustive()
    }
}

/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(20);

/// After what silence a member counts as dead where a case can't wait for the usual time.
pub(super) const IMPATIENCE: Duration = Duration::from_secs(2);

/// How long it stays quiet where nothing may come.
const QUIET: Duration = Duration::from_millis(500);

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
impl Stage {
    /// A place that `builder` connects to, as often as it is asked.
    pub fn new(
        lacks: &'static [Feature],
        builder: impl Fn() -> BoxFuture<'static, Result<BrokerBuilder>> + Send + Sync + 'static,
    ) -> Self {
        Self { builder: Box::new(builder), lacks, server: None, counts_late: false }
    }

    /// With a server that can be driven.
    #[must_use]
    pub fn with_server(mut self, server: Arc<dyn Server>) -> Self {
        self.server = Some(Control(server));
        self
    }

    /// On a broker that counts only now and then, and does not know how old its messages are.
    #[must_use]
    pub const fn with_late_counts(mut self) -> Self {
        self.counts_late = true;
        self
    }

    pub(super) const fn counts_late(&self) -> bool {
        self.counts_late
    }

    /// The server, of which the case has said that it needs it.
    pub(super) fn server(&self) -> &Control {
        self.server.as_ref().unwrap()
    }

    /// Goes on only where this machine has that client.
    #[expect(clippy::panic, reason = "a case ends by panicking")]
    pub(super) async fn needs_client(&self, client: Foreign) {
        let has = self.server().run(move |server| Ok(server.has(client))).await;
        if let Err(reason) = has {
            std::panic::panic_any(CantRun(reason));
        }
    }

    /// Connects so that members count as dead after [`IMPATIENCE`].
    pub(super) async fn impatient_broker(&self) -> Broker {
        opened(self.server().0.impatiently()).await
    }

    pub(super) const fn lacks(&self) -> &'static [Feature] {
        self.lacks
    }

    /// Connects anew.
    pub(super) async fn broker(&self) -> Broker {
        self.connect().await.unwrap()
    }

    /// Connects anew, where that may fail.
    pub(super) async fn connect(&self) -> Result<Broker> {
        (self.builder)().await?.topology(topology()).open().await
    }

    /// Starts to connect anew, with the topology of the suite.
    pub(super) async fn builder(&self) -> BrokerBuilder {
        (self.builder)().await.unwrap().topology(topology())
    }
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
async fn opened(connecting: Connecting) -> Broker {
    connecting.await.unwrap().topology(topology()).open().await.unwrap()
}

/// Two streams of each kind; the events have several lanes.
#[expect(clippy::unwrap_used, reason = "the names are legal and the number is not zero")]
pub(crate) fn topology() -> Topology {
    let four = NonZeroU32::new(4).unwrap();
    let stream = |name: &str, kind| StreamConfig::new(name.parse().unwrap(), kind);
    Topology::new([
        stream("tasks", StreamKind::Work),
        stream("events", StreamKind::Log).lanes(four).partitions(four),
        stream("debates", StreamKind::Log),
    ])
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
pub(super) fn message(subject: &str, body: impl Into<Bytes>) -> Message {
    Message::new(subject.parse::<Subject>().unwrap(), body)
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
pub(super) async fn publish(broker: &Broker, subject: &str, body: impl Into<Bytes>) -> Receipt {
    broker.publish_message(message(subject, body)).await.unwrap()
}

/// Publishes numbers, each as a message.
pub(super) async fn publish_numbers(broker: &Broker, subject: &str, count: usize) {
    for number in 0..count {
        publish(broker, subject, number.to_string()).await;
    }
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
pub(super) fn group(name: &str, pattern: &str) -> SubscribeSpec {
    SubscribeSpec::group(name, [pattern]).unwrap()
}

#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
pub(super) async fn consume(broker: &Broker, spec: SubscribeSpec) -> Consumer<Bytes> {
    broker.subscribe(spec).await.unwrap()
}

/// Creates a group before anything is published, without a member: not every backend keeps what nobody
/// receives yet.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn create(broker: &Broker, spec: SubscribeSpec) {
    let (Membership::Group(name), Source::Subjects(patterns)) = (spec.membership, spec.source)
    else {
        panic!("only groups are created");
    };
    broker.provision(topology().group(GroupConfig::new(name, patterns))).await.unwrap();
}

/// The next delivery, which must come.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    match timeout(SOON, consumer.next()).await {
        Ok(Some(Ok(delivery))) => delivery,
        Ok(Some(Err(error))) => panic!("the subscription failed: {error}"),
        Ok(None) => panic!("the subscription ended"),
        Err(_) => panic!("nothing was delivered"),
    }
}

/// The next so many bodies as text, acked.
pub(super) async fn bodies(consumer: &mut Consumer<Bytes>, count: usize) -> Vec<String> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let delivery = next(consumer).await;
        all.push(text(&delivery));
        delivery.ack();
    }
    all
}

/// Fails if anything is delivered.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn silence(consumer: &mut Consumer<Bytes>) {
    if let Ok(Some(Ok(delivery))) = timeout(QUIET, consumer.next()).await {
        panic!("delivered, attempt {}: {:?}", delivery.attempt(), text(&delivery));
    }
}

/// Listens, with room for a thousand messages that were not taken yet.
#[expect(clippy::unwrap_used, reason = "a case fails by panicking")]
pub(super) async fn listen<T: Payload>(broker: &Broker, patterns: &[&str]) -> Listener<T> {
    let thousand = NonZeroU32::new(1_000).unwrap();
    let spec = SubscribeSpec::broadcast(patterns).unwrap().prefetch(thousand);
    broker.listen(spec).await.unwrap()
}

/// The next item of a listener, which must come.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn next_item<T: Payload>(listener: &mut Listener<T>) -> Heard<T> {
    match timeout(SOON, listener.next()).await {
        Ok(Some(Ok(item))) => item,
        Ok(Some(Err(error))) => panic!("listening failed: {error}"),
        Ok(None) => panic!("the listener ended"),
        Err(_) => panic!("nothing was heard"),
    }
}

/// The next message of a listener that misses nothing.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn hear<T: Payload>(listener: &mut Listener<T>) -> Received<T> {
    match next_item(listener).await {
        Heard::Message(message) => message,
        Heard::Gap(gap) => panic!("missed {:?}: {}", gap.missed, gap.reason),
        _ => panic!("neither a message nor a gap"),
    }
}

/// The next so many bodies of a listener that misses nothing, as text.
pub(super) async fn hear_bodies(listener: &mut Listener<Bytes>, count: usize) -> Vec<String> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(text(&hear(listener).await));
    }
    all
}

/// Fails if anything is heard.
#[expect(clippy::panic, reason = "a case fails by panicking")]
pub(super) async fn hear_nothing(listener: &mut Listener<Bytes>) {
    if let Ok(Some(Ok(item))) = timeout(QUIET, listener.next()).await {
        panic!("heard: {item:?}");
    }
}

pub(super) fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

pub(super) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}
