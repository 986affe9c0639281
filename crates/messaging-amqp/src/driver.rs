//! A connection to RabbitMQ.

mod capabilities;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging_core::driver::{Driver, Facets, Scope, Sender, Subscription};
use messaging_core::{
    Capabilities, Error, ErrorKind, GroupName, Result, SendSpec, SubscribeSpec, Topology,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::NAME;
use crate::config::{HaMode, RabbitConfig};
use crate::confirms::{Copy, Publisher};
use crate::connection::{Channel, Link, Role, Session, State};
use crate::error::closed;
use crate::management::Api;
use crate::sender::Sending;
use crate::subscription::{self, Member};
use crate::topology::{self, Names};

/// A connection to RabbitMQ.
///
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Rabbit {
    pub(crate) shared: Arc<Shared>,
    /// Ends every task some time after the last clone is dropped without having been closed.
    _guard: Arc<DropGuard>,
}

/// What the tasks of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<RabbitConfig>,
    pub(crate) names: Names,
    pub(crate) api: Option<Api>,
    /// Declares, and looks at things. Each subscription has a connection of its own beside it.
    pub(crate) consuming: Arc<Link>,
    pub(crate) publishing: Arc<Link>,
    /// The way of copies: retries, dead letters.
    pub(crate) copies: Publisher<Copy>,
    pub(crate) sending: Sending,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the connection is to end in order.
    pub(crate) closing: CancellationToken,
    /// Cancelled when no task may wait for the server any more.
    pub(crate) dead: CancellationToken,
    topology: RwLock<Arc<Topology>>,
    members: Mutex<Vec<Weak<Member>>>,
}

impl Rabbit {
    /// Connects, and checks that the exchange is there or can be.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] within the configured time, naming the
    /// address; [`ErrorKind::Denied`]; [`ErrorKind::InvalidConfig`], also for an exchange of another
    /// type.
    pub async fn connect(config: RabbitConfig) -> Result<Self> {
        let at = |error: Error| error.at(NAME, "connect");
        let config = Arc::new(config);
        let api = Api::new(&config).map_err(at)?;
        let publishing = Link::open(Arc::clone(&config), Role::Publish);
        let consuming = Link::open(Arc::clone(&config), Role::Consume);
        let (publishing, consuming) = futures::try_join!(publishing, consuming).map_err(at)?;
        let names = Names::new(&config.exchange, &config.prefix, config.durable, copies(&config));
        let dead = CancellationToken::new();
        let shared = Arc::new(Shared {
            copies: Publisher::start(&publishing, setup(&names)),
            sending: Sending::start(&publishing, setup(&names)),
            config,
            names,
            api,
            consuming,
            publishing,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            dead: dead.clone(),
            topology: RwLock::default(),
            members: Mutex::default(),
        });
        shared.declare(&topology::exchanges(&shared.names)).await.map_err(at)?;
        let dropped = CancellationToken::new();
        shared.tasks.spawn(bury(Arc::clone(&shared), dropped.clone()));
        Ok(Self { shared, _guard: Arc::new(dropped.drop_guard()) })
    }

    /// What it can do, whichever server it is connected to, where the management API is configured.
    pub const CAPABILITIES: Capabilities = capabilities::ALL;

    /// Declares the queue of a group that receives what matches the patterns, with everything that
    /// belongs to it, as subscribing does.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`], [`ErrorKind::InvalidPattern`]; [`ErrorKind::GroupConflict`] where
    /// the group has other patterns; what the server refuses.
    pub async fn bind_queue<P: AsRef<str>>(
        &self,
        queue: &str,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<()> {
        let name: GroupName = queue.parse()?;
        let spec = SubscribeSpec::group(name.as_str(), patterns)?;
        let member = Member::new(&self.shared, &spec)?;
        member.declare().await.map_err(|error| error.at(NAME, "bind queue"))
    }
}

/// On how many nodes queues are to be kept; the server chooses unless it is configured.
fn copies(config: &RabbitConfig) -> Option<u32> {
    match config.ha_mode {
        HaMode::All => u32::try_from(config.nodes.len()).ok().filter(|nodes| *nodes > 1),
        HaMode::None => None,
    }
}

/// Declares the exchanges on every new publishing channel.
fn setup(names: &Names) -> crate::confirms::Setup {
    let (names, all) = (names.clone(), topology::exchanges(names));
    Box::new(move |channel: Channel, deadline: Instant| {
        let (names, all) = (names.clone(), all.clone());
        async move {
            let declared = topology::declare(&channel, &names, &all, deadline).await;
            declared.map_err(|fault| fault.at("exchange"))
        }
        .boxed()
    })
}

/// How long what was handed over may still take after a connection was dropped without being closed.
const AFTERLIFE: Duration = Duration::from_secs(5);

/// Ends the tasks of a connection that was dropped: settlements on their way arrive, and members
/// leave, where the server answers.
async fn bury(shared: Arc<Shared>, dropped: CancellationToken) {
    tokio::select! {
        () = dropped.cancelled() => {}
        // Closing has a time limit of its own.
        () = shared.closing.cancelled() => return,
    }
    tokio::time::sleep(AFTERLIFE).await;
    shared.dead.cancel();
    shared.end(AFTERLIFE).await;
}

impl Shared {
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_topology(&self, topology: Topology) {
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
    }

    /// Which connection publishes, if one does.
    pub(crate) fn publishing_session(&self) -> Option<Session> {
        match &*self.publishing.state().borrow() {
            State::Up(session) if !session.is_over() => Some(session.clone()),
            State::Up(_) | State::Down(_) | State::Closed => None,
        }
    }

    async fn declare(&self, all: &[topology::Declaration]) -> Result<()> {
        let deadline = Instant::now() + self.config.timeout;
        let session = self.consuming.session(deadline).await?;
        let declared = subscription::declare(&session, &self.names, all, deadline).await;
        declared.map_err(|fault| fault.at("declaring"))
    }

    /// Remembers a member, so that closing can end it.
    pub(crate) fn admit(&self, member: &Arc<Member>) -> Result<()> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closing.is_cancelled() {
            return Err(closed("subscribe"));
        }
        members.retain(|known| known.strong_count() > 0);
        members.push(Arc::downgrade(member));
        Ok(())
    }

    fn close_members(&self) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter_map(Weak::upgrade).for_each(|member| member.desk.close());
    }

    /// Ends both connections.
    async fn end(&self, grace: Duration) {
        self.copies.close();
        self.sending.close();
        tokio::join!(self.publishing.close(grace), self.consuming.close(grace));
    }
}

impl Driver for Rabbit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> String {
        self.shared.config.address()
    }

    fn capabilities(&self, scope: Scope<'_>) -> Capabilities {
        let priority = match scope {
            Scope::Group(_, config) => config.is_some_and(|config| config.priority),
            _ => false,
        };
        capabilities::of(priority, self.shared.api.is_some())
    }

    fn sender(&self, spec: SendSpec) -> BoxFuture<'_, Result<Arc<dyn Sender>>> {
        async move {
            let topology = self.shared.topology();
            let config = topology.require(spec.stream.name());
            let config = config.map_err(|error| error.at(NAME, "publisher"))?;
            Ok(self.shared.sending.sender(self.shared.names.exchange(), config.kind))
        }
        .boxed()
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<Subscription>> {
        async move {
            if self.shared.closing.is_cancelled() {
                return Err(closed("subscribe"));
            }
            subscription::open(&self.shared, spec).await
        }
        .boxed()
    }

    fn facets(&self) -> Facets<'_> {
        Facets::default().with_admin(self)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Result<()>> {
        async move {
            let deadline = Instant::now() + grace;
            self.shared.closing.cancel();
            let dead = self.shared.dead.clone().drop_guard();
            self.shared.close_members();
            self.shared.tasks.close();
            let ended = timeout(grace, self.shared.tasks.wait()).await;
            let flushed = self.shared.sending.flush(deadline).await;
            drop(dead);
            let left = deadline.saturating_duration_since(Instant::now());
            self.shared.end(left.max(Duration::from_millis(500))).await;
            if ended.is_ok() && flushed {
                return Ok(());
            }
            let text = "the server did not answer everything within the grace time: what had not been \
                        sent by then has failed, and of the rest the outcome is unknown";
            Err(Error::new(ErrorKind::Timeout, text).at(NAME, "close"))
        }
        .boxed()
    }
}
