use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Driver, Facets, Outgoing, Scope, Sender, Subscription};
use messaging_core::{Capabilities, Feature, Result, SendSpec, SubscribeSpec, Support, Topology};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::outage::Outages;
use super::publishing::Publishing;
use super::sender::PubSubSender;
use super::subscription;
use crate::config::{Format, RedisConfig};
use crate::connection::{Connector, Together};
use crate::error::{closed, unknown_stream};

pub(super) const NAME: &str = "redis";

/// Redis Pub/Sub: what is published reaches whoever listens at that moment, and nobody else.
///
/// # Configuration
/// [`RedisConfig`]; of it, [`RedisConfig::format`] is about Pub/Sub alone. Listening needs Redis 6 or
/// later (RESP3).
///
/// # Mapping
/// The subject `tasks.completion` is the channel `PREFIX.tasks.completion`. A listener subscribes
/// to the channels of its literal patterns and, by patterns of the server's, to what may match the
/// others; it filters exactly. A JSON message without headers and key is published as exactly its
/// JSON, so any client can read it. Everything else travels in the `Envelope` of
/// `proto/helixagent/messaging/redis/v1/envelope.proto`, behind the bytes `F7 48 58 01`. What does
/// not begin with them is received as a body alone: its id is that of its JSON, where it has one.
///
/// # Guarantees
/// At most once, in the order of each connection. A confirmed publish reached the server, which
/// keeps nothing; [`Assurance::NoReceiver`](messaging_core::Assurance::NoReceiver) where nobody was
/// subscribed (a cluster does not know). Every loss that can be seen is a gap: one without a number
/// after a lost connection, a counted one where a listener does not keep up. A listener's buffer
/// holds 32 messages for each of its prefetch, 8,192 unless set, and 16 MiB or its
/// `prefetch_bytes`; the oldest make room. A connection that is silent is noticed within 10 s.
///
/// # Capabilities
/// Listening and publishing. What needs something kept is refused: subscriptions that settle,
/// groups, and starts other than the latest. Streams are known to each connection by its topology.
///
/// # Escape hatches
/// [`Broker::driver`](messaging_core::Broker::driver) gives this driver, and
/// [`PubSub::channel`] where a subject is, for a client of one's own.
pub struct PubSub {
    pub(super) shared: Arc<Shared>,
    queue: UnboundedSender<Outgoing>,
    pub(super) known: RwLock<Topology>,
}

/// What the driver shares with its tasks.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) prefix: String,
    pub(super) format: Format,
    /// Nothing new is taken; what was handed over is still sent.
    pub(super) closing: CancellationToken,
    /// What is not sent by now is given up.
    pub(super) abort: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) outages: Outages,
}

impl PubSub {
    /// Connects.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](messaging_core::ErrorKind::InvalidConfig), or within
    /// [`RedisConfig::timeout`] why the server can't be used:
    /// [`ErrorKind::Denied`](messaging_core::ErrorKind::Denied),
    /// [`ErrorKind::Unavailable`](messaging_core::ErrorKind::Unavailable) or
    /// [`ErrorKind::Timeout`](messaging_core::ErrorKind::Timeout), naming its address.
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        Self::open(config).await.map_err(|error| error.at(NAME, "connect"))
    }

    async fn open(config: RedisConfig) -> Result<Self> {
        let prefix = config.prefix.clone();
        // The field is public, and globs are made of it.
        let config = config.with_prefix(&prefix)?;
        let connector = Connector::new(&config)?;
        let connection = connector.any_node().await?;
        let shared = Arc::new(Shared {
            connector,
            prefix,
            format: config.format,
            closing: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            outages: Outages::default(),
        });
        let (queue, handed_over) = queue();
        let publishing = Publishing::new(Arc::clone(&shared), handed_over);
        shared.tasks.spawn(Together::new(publishing.run(connection)));
        Ok(Self { shared, queue, known: RwLock::new(Topology::new([])) })
    }

    /// The channel on which messages of a subject are published.
    #[must_use]
    pub fn channel(&self, subject: &messaging_core::Subject) -> String {
        format!("{}.{subject}", self.shared.prefix)
    }

    /// What it can do with a format.
    #[must_use]
    pub const fn capabilities_with(format: Format) -> Capabilities {
        const KEEPS_NOTHING: &str = "Pub/Sub keeps nothing; use redis-streams";
        let headers = match format {
            Format::Auto => (
                Support::Emulated,
                "in an envelope; JSON without headers and key travels bare, and its trace context \
                 is dropped",
            ),
            Format::Envelope => (Support::Emulated, "in an envelope"),
            Format::Raw => (Support::Unsupported, "REDIS_PUBSUB_FORMAT=raw has no place for them"),
        };
        Capabilities::none()
            .with(Feature::Settlement, Support::Unsupported, KEEPS_NOTHING)
            .with(Feature::Groups, Support::Unsupported, "every listener gets every message")
            .with(Feature::DeadLetters, Support::Unsupported, KEEPS_NOTHING)
            .with(Feature::StartEarliest, Support::Unsupported, KEEPS_NOTHING)
            .with(Feature::ReadRange, Support::Unsupported, KEEPS_NOTHING)
            .with(Feature::Listen, Support::Native, "")
            .with(Feature::StartLatest, Support::Native, "a listener starts there anyway")
            .with(Feature::Provision, Support::Unsupported, "there is nothing to create")
            .with(Feature::Headers, headers.0, headers.1)
    }

    fn open_sender(&self, spec: &SendSpec) -> Result<Arc<dyn Sender>> {
        if self.shared.closing.is_cancelled() {
            return Err(closed(NAME, "publisher"));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let stream = &spec.stream;
        if stream.is_dead_letters() || known.stream(stream.name()).is_none() {
            return Err(unknown_stream(stream).at(NAME, "publisher"));
        }
        Ok(Arc::new(PubSubSender { queue: self.queue.clone() }))
    }
}

/// The queue of what is handed over and not yet taken by the task that publishes.
#[expect(clippy::disallowed_methods, reason = "the publishing window of core bounds it")]
fn queue() -> (UnboundedSender<Outgoing>, UnboundedReceiver<Outgoing>) {
    tokio::sync::mpsc::unbounded_channel()
}

impl Driver for PubSub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> String {
        self.shared.connector.address().to_owned()
    }

    fn capabilities(&self, _: Scope<'_>) -> Capabilities {
        Self::capabilities_with(self.shared.format)
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        futures::future::ready(self.open_sender(&spec)).boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async move {
            if self.shared.closing.is_cancelled() {
                return Err(closed(NAME, "listen"));
            }
            let opened = subscription::open(&self.shared, &spec).await;
            opened.map_err(|error| error.at(NAME, "listen"))
        }
        .boxed()
    }

    fn facets(&self) -> Facets<'_> {
        Facets::default().with_admin(self)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>> {
        async move {
            self.shared.closing.cancel();
            self.shared.tasks.close();
            if timeout(grace, self.shared.tasks.wait()).await.is_err() {
                self.shared.abort.cancel();
                self.shared.tasks.wait().await;
            }
            Ok(())
        }
        .boxed()
    }
}

impl Drop for PubSub {
    /// Without a close nobody waits, so nothing is flushed.
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.abort.cancel();
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub").field("connector", &self.shared.connector).finish_non_exhaustive()
    }
}
