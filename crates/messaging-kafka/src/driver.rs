//! The connection.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Driver, Facets, Scope, Sender, Subscription};
use messaging_core::{
    Capabilities, Error, ErrorKind, Feature, GroupName, Result, SendSpec, StreamName,
    SubscribeSpec, Support, Topology,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::NAME;
use crate::cluster::Cluster;
use crate::config::KafkaConfig;
use crate::error::closed;
use crate::sender::KafkaSender;
use crate::subscription::{self, Member};
use crate::write::Writer;

/// A connection to a Kafka cluster.
///
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub(crate) shared: Arc<Shared>,
    writer: Arc<Writer>,
    /// Ends every task some time after the last clone is dropped without having been closed.
    _guard: Arc<DropGuard>,
}

/// What the tasks of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) config: KafkaConfig,
    pub(crate) tasks: TaskTracker,
    /// Those of subscriptions, which end once everything is committed and groups are left.
    pub(crate) subscriptions: TaskTracker,
    /// Cancelled when the connection is to end in order.
    pub(crate) closing: CancellationToken,
    /// Cancelled when no task may wait for the brokers any more.
    pub(crate) dead: CancellationToken,
    topology: RwLock<Arc<Topology>>,
    senders: Mutex<Vec<Weak<KafkaSender>>>,
    /// The subscriptions, for whoever counts what they have in hand.
    members: Mutex<Vec<Weak<Member>>>,
}

impl Kafka {
    /// Connects to the first configured broker that answers, and learns the others.
    ///
    /// # Errors
    /// Within the configured time for each broker, naming its address:
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`]; [`ErrorKind::Denied`];
    /// [`ErrorKind::InvalidConfig`] where TLS or SASL is not what the broker speaks;
    /// [`ErrorKind::Other`] where no Kafka broker answers.
    pub async fn connect(config: KafkaConfig) -> Result<Self> {
        let at = |error: Error| error.at(NAME, "connect");
        let (tasks, dead) = (TaskTracker::new(), CancellationToken::new());
        // Dropped on an error, it ends what was begun.
        let failed = dead.clone().drop_guard();
        let cluster = Cluster::connect(&config, tasks.clone(), dead.clone()).await.map_err(at)?;
        let writer = Writer::new(Arc::clone(&cluster), config.clone(), dead.clone());
        let shared = Arc::new(Shared {
            cluster,
            config,
            tasks,
            subscriptions: TaskTracker::new(),
            closing: CancellationToken::new(),
            dead: dead.clone(),
            topology: RwLock::default(),
            senders: Mutex::default(),
            members: Mutex::default(),
        });
        let dropped = CancellationToken::new();
        shared.tasks.spawn(bury(dropped.clone(), shared.closing.clone(), dead));
        shared.tasks.spawn(follow(Arc::downgrade(&shared), shared.closing.clone()));
        failed.disarm();
        Ok(Self { shared, writer: Arc::new(writer), _guard: Arc::new(dropped.drop_guard()) })
    }

    /// What it can do, whichever cluster it is connected to.
    pub const CAPABILITIES: Capabilities = Capabilities::all().with(
        Feature::Priority,
        Support::Unsupported,
        "a partition has one order",
    );
}

/// How long what was handed over may still take after a connection was dropped without being closed.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// Ends the tasks of a connection that was dropped: settlements on their way arrive, and members
/// leave, where the brokers answer.
async fn bury(dropped: CancellationToken, closing: CancellationToken, dead: CancellationToken) {
    tokio::select! {
        () = dropped.cancelled() => {}
        // Closing has a time limit of its own.
        () = closing.cancelled() => return,
    }
    closing.cancel();
    sleep(AFTERLIFE).await;
    dead.cancel();
}

/// How soon new partitions, and brokers that nobody has asked yet, are noticed.
const FOLLOW: Duration = Duration::from_secs(20);

/// Renews the view from time to time, and gives senders the partitions that came.
async fn follow(shared: Weak<Shared>, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(FOLLOW) => {}
            () = closing.cancelled() => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        tokio::select! {
            // What keeps it from being renewed now is noticed where it matters.
            _ = shared.cluster.refresh() => shared.follow(),
            () = closing.cancelled() => return,
        }
    }
}

impl Shared {
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_topology(&self, topology: Topology) {
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
    }

    /// The topic that keeps a stream.
    pub(crate) fn topic(&self, stream: &StreamName) -> String {
        let prefix = &self.config.prefix;
        match stream.is_dead_letters() {
            false => format!("{prefix}.{}", stream.name()),
            true => format!("{prefix}.dlq.{}", stream.name()),
        }
    }

    /// The name of a group at the brokers: its own, so that their tools show what an application
    /// says, and behind another prefix than the usual one that of the application too, as a cluster
    /// has one namespace for all. A stream's dead letters are another group's business than the
    /// stream; neither name can hold a dot.
    pub(crate) fn group_id(&self, name: &GroupName, dead_letters: Option<&StreamName>) -> String {
        let prefix = &self.config.prefix;
        let own = match prefix.as_str() {
            KafkaConfig::PREFIX => name.to_string(),
            prefix => format!("{prefix}.group.{name}"),
        };
        match dead_letters {
            None => own,
            Some(stream) => format!("{own}.dlq.{}", stream.name()),
        }
    }

    /// Keeps a subscription among those that are counted, until it is dropped.
    pub(crate) fn add_member(&self, member: &Arc<Member>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// The subscriptions of a group in this connection.
    pub(crate) fn members_of(&self, group: &str) -> Vec<Arc<Member>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let all = members.iter().filter_map(Weak::upgrade);
        all.filter(|member| member.source.group.as_deref() == Some(group)).collect()
    }

    /// Gives senders the partitions that the view has by now.
    pub(crate) fn follow(&self) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|sender| {
            sender.upgrade().is_some_and(|sender| {
                sender.follow(&self.cluster);
                true
            })
        });
    }
}

impl Driver for Kafka {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> String {
        self.shared.config.address()
    }

    fn capabilities(&self, _: Scope<'_>) -> Capabilities {
        Self::CAPABILITIES
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        async move {
            if self.shared.closing.is_cancelled() {
                return Err(closed("publisher"));
            }
            if !spec.stream.is_dead_letters() {
                self.shared.topology().require(spec.stream.name())?;
            }
            let topic = self.shared.topic(&spec.stream);
            // What the view has needs no broker to answer: it may be down, and messages may wait.
            let partitions = match self.shared.cluster.partitions(&topic) {
                0 => self.shared.cluster.topic(&topic).await?.partitions.len(),
                known => known,
            };
            let writer = Arc::clone(&self.writer);
            let sender = KafkaSender::new(writer, topic, partitions);
            let mut all = self.shared.senders.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(Arc::downgrade(&sender));
            Ok(sender as Arc<dyn Sender>)
        }
        .map(|opened: Result<_>| opened.map_err(|error| error.at(NAME, "publisher")))
        .boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async move {
            if self.shared.closing.is_cancelled() {
                return Err(closed("subscribe"));
            }
            subscription::open(&self.shared, spec).await
        }
        .map(|opened: Result<_>| opened.map_err(|error| error.at(NAME, "subscribe")))
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
            self.shared.tasks.close();
            self.shared.subscriptions.close();
            let ended = async {
                tokio::join!(self.writer.flushed(), self.shared.subscriptions.wait());
            };
            let ended = timeout(grace, ended).await;
            drop(dead);
            self.shared.subscriptions.wait().await;
            self.shared.tasks.wait().await;
            ended.map_err(|_| {
                let text = "the brokers did not answer everything within the grace time";
                Error::new(ErrorKind::Timeout, text).at(NAME, "close")
            })
        }
        .boxed()
    }
}
