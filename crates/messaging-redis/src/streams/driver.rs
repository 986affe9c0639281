use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Driver, Facets, Scope, Sender, Subscription};
use messaging_core::{
    Capabilities, ErrorKind, Feature, Result, SendSpec, SubscribeSpec, Support, Topology,
};
use redis::Value;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::member::Member;
use super::sender::{StreamsSender, Writer};
use super::{NAME, subscription};
use crate::config::RedisConfig;
use crate::connection::{Connector, Link};
use crate::error::closed;
use crate::wire::number;

/// A connection to Redis that speaks through streams.
///
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Streams {
    pub(super) shared: Arc<Shared>,
    writer: Arc<Writer>,
    /// Ends every task some time after the last clone is dropped without having been closed.
    _guard: Arc<DropGuard>,
}

/// What the tasks of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) config: RedisConfig,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the connection is to end in order.
    pub(super) closing: CancellationToken,
    /// Cancelled when no task may wait for the server any more.
    pub(super) dead: CancellationToken,
    topology: RwLock<Arc<Topology>>,
    members: Mutex<Vec<Weak<Member>>>,
}

impl Streams {
    /// Connects, and checks that the server answers.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] within the configured time, naming the
    /// address; [`ErrorKind::Denied`]; [`ErrorKind::InvalidConfig`].
    pub async fn connect(config: RedisConfig) -> Result<Self> {
        let connector = Connector::new(&config)?;
        let dead = CancellationToken::new();
        let shared = Arc::new(Shared {
            connector,
            config,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            dead: dead.clone(),
            topology: RwLock::default(),
            members: Mutex::default(),
        });
        let at = |error: messaging_core::Error| error.at(NAME, "connect");
        drop(shared.connect().await.map_err(at)?);
        let writer = Writer::start(&shared);
        let dropped = CancellationToken::new();
        shared.tasks.spawn(bury(dropped.clone(), shared.closing.clone(), dead));
        Ok(Self { shared, writer: Arc::new(writer), _guard: Arc::new(dropped.drop_guard()) })
    }

    /// What it can do, whichever server it is connected to.
    pub const CAPABILITIES: Capabilities = Capabilities::all()
        .with(Feature::Priority, Support::Unsupported, "a stream has one order")
        .with(Feature::Broadcast, Support::Emulated, "a group with one member that ends with it")
        .with(Feature::Ordered, Support::Emulated, "a lease on each lane, renewed every second")
        .with(Feature::DelayedRetry, Support::Emulated, "a sorted set beside each lane")
        .with(
            Feature::DeadLetters,
            Support::Emulated,
            "a stream of their own, copied before the ack",
        )
        .with(
            Feature::ConfirmedSettlement,
            Support::Native,
            "as durable as the server's appendfsync makes it",
        )
        .with(
            Feature::Lag,
            Support::Native,
            "counts what matches no pattern too, until it is passed",
        );
}

/// How long what was handed over may still take after a connection was dropped without being closed.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// When the server is told again to end a read that had not reached it.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(2);

/// Ends the tasks of a connection that was dropped: settlements on their way arrive, and members
/// leave, where the server answers.
async fn bury(dropped: CancellationToken, closing: CancellationToken, dead: CancellationToken) {
    tokio::select! {
        () = dropped.cancelled() => {}
        // Closing has a time limit of its own.
        () = closing.cancelled() => return,
    }
    tokio::time::sleep(AFTERLIFE).await;
    dead.cancel();
}

impl Shared {
    pub(super) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_topology(&self, topology: Topology) {
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
    }

    /// Opens a connection for commands that do not block.
    pub(super) async fn connect(&self) -> Result<Link> {
        self.connector.connect(Duration::ZERO).await
    }

    /// Remembers a member, so that closing can end it.
    pub(super) fn admit(&self, member: &Arc<Member>) -> Result<()> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.is_cancelled() {
            return Err(closed(NAME, "subscribe"));
        }
        members.retain(|known| known.strong_count() > 0);
        members.push(Arc::downgrade(member));
        Ok(())
    }

    /// Lets a member end the blocking reads of a connection: when it leaves, and when it reads other
    /// lanes from then on.
    pub(super) async fn unblock(
        self: &Arc<Self>,
        member: &Arc<Member>,
        link: &mut Link,
        only: Option<u32>,
    ) -> Option<DropGuard> {
        // On a cluster the connection is to several nodes, and its reads end by themselves.
        if only.is_some() {
            return None;
        }
        let mut command = redis::cmd("CLIENT");
        command.arg("ID");
        let id = link.run(&command, "subscribe").await.ok().as_ref().and_then(number)?;
        let done = CancellationToken::new();
        let (shared, member, ended) = (Arc::clone(self), Arc::clone(member), done.clone());
        self.tasks.spawn(async move {
            let mut command = redis::cmd("CLIENT");
            command.arg("UNBLOCK").arg(id);
            loop {
                let left = tokio::select! {
                    () = member.left.cancelled() => true,
                    () = member.interrupt.notified() => false,
                    () = ended.cancelled() => return,
                };
                // If this fails, the read ends by itself.
                if let Ok(mut link) = shared.connector.command().await {
                    while let Ok(Value::Int(0)) = link.run(&command, "unsubscribe").await
                        && left
                    {
                        // A read that began before we left may be on its way there.
                        tokio::select! {
                            () = ended.cancelled() => return,
                            () = tokio::time::sleep(UNBLOCK_AGAIN) => {}
                        }
                    }
                }
                if left {
                    return;
                }
            }
        });
        Some(done.drop_guard())
    }

    fn close_members(&self, close: impl Fn(&Member)) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).for_each(|member| close(&member));
    }
}

impl Driver for Streams {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> String {
        self.shared.connector.address().to_owned()
    }

    fn capabilities(&self, _: Scope<'_>) -> Capabilities {
        Self::CAPABILITIES
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        async move {
            let lanes = super::groups::lanes_of(
                &self.shared.config.prefix,
                &self.shared.topology(),
                &spec.stream,
            );
            let lanes = lanes.map_err(|error| error.at(NAME, "publisher"))?;
            let sender = StreamsSender::new(Arc::clone(&self.writer), lanes);
            Ok(Arc::new(sender) as Arc<dyn Sender>)
        }
        .boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async move {
            if self.shared.closing.is_cancelled() {
                return Err(closed(NAME, "subscribe"));
            }
            subscription::open(&self.shared, spec).await
        }
        .boxed()
    }

    fn facets(&self) -> Facets<'_> {
        Facets::default().with_admin(self).with_reader(self)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>> {
        async move {
            self.shared.closing.cancel();
            let dead = self.shared.dead.clone().drop_guard();
            self.writer.close();
            self.shared.close_members(|member| {
                member.push(member.desk.close());
                member.leave();
            });
            self.shared.tasks.close();
            let ended = timeout(grace, self.shared.tasks.wait()).await;
            drop(dead);
            ended.map_err(|_| {
                let text = "the server did not answer everything within the grace time";
                messaging_core::Error::new(ErrorKind::Timeout, text).at(NAME, "close")
            })
        }
        .boxed()
    }
}
