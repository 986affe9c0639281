//! The portable connection: what an application opens over a driver.

mod builder;

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;

pub use self::builder::BrokerBuilder;
use crate::capability::{Capabilities, Feature};
use crate::consumer::Consumer;
use crate::driver::{Admin, Driver, Lag, Plan, Reader, Receipt, Scope};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::intake::Intake;
use crate::listener::Listener;
use crate::message::Message;
use crate::name::{GroupName, StreamName};
use crate::observe::{Notice, Observer};
use crate::payload::Payload;
use crate::publisher::{self, Publisher, SendLane};
use crate::spec::{Codec, Membership, Mode, SendSpec, Source, SubscribeSpec};
use crate::subject::Subject;
use crate::topology::Topology;
use crate::window::Window;
use crate::worker::WorkerBuilder;

/// A connection to a broker, the same on every backend.
///
/// Cloning is cheap, and clones share one publishing window. Close one of them with
/// [`Broker::close`]; dropping all without closing ends the connection without waiting.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
}

/// What a broker's handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    driver: Arc<dyn Driver>,
    topology: RwLock<Arc<Topology>>,
    pub(crate) window: Arc<Window>,
    pub(crate) max_body: usize,
    observer: Option<Arc<dyn Observer>>,
    closed: AtomicBool,
    /// One way to each stream for `Broker::publish`, opened at the first use.
    lanes: RwLock<HashMap<StreamName, Arc<SendLane>>>,
}

impl Broker {
    /// Starts to open a broker over a driver.
    pub fn builder(driver: impl Driver) -> BrokerBuilder {
        BrokerBuilder::new(Arc::new(driver))
    }

    /// The backend's name, as in `MESSAGING_BACKEND`.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.shared.name()
    }

    /// Where the backend is, without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        self.shared.driver.address()
    }

    /// What the backend can do.
    #[must_use]
    pub fn capabilities(&self, scope: Scope<'_>) -> Capabilities {
        self.shared.driver.capabilities(scope)
    }

    /// The streams and groups as this connection knows them.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.shared.topology()
    }

    /// The backend's own driver, for what only it offers; `None` if it is of another type.
    #[must_use]
    pub fn driver<D: Driver>(&self) -> Option<&D> {
        let driver: &dyn Any = &*self.shared.driver;
        driver.downcast_ref()
    }

    /// Opens a publisher for payloads of one type.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownStream`], [`ErrorKind::Unsupported`] or what the broker refuses.
    pub async fn publisher<T: Payload>(&self, spec: SendSpec) -> Result<Publisher<T>> {
        Ok(Publisher::new(Arc::new(self.lane(spec).await?)))
    }

    /// Publishes a value to the stream of its type and waits for the outcome.
    ///
    /// A [`Publisher`] costs less where many are published.
    ///
    /// # Cancellation
    /// As [`Publisher::publish`].
    ///
    /// # Errors
    /// As [`Publisher::publish`]; a type without a stream of its own is
    /// [`ErrorKind::InvalidSubject`].
    pub fn publish<'a, T: Payload>(
        &'a self,
        value: &T,
    ) -> impl Future<Output = Result<Receipt>> + Send + use<'a, T> {
        let message = Self::encode(value);
        async move { self.publish_message(message?).await }
    }

    fn encode<T: Payload>(value: &T) -> Result<Message> {
        let stream = T::STREAM.ok_or_else(|| {
            let text = "the payload's type has no stream of its own; open a publisher to one";
            Error::new(ErrorKind::InvalidSubject, text)
        })?;
        let stream: StreamName = stream.parse()?;
        publisher::encode(value, Codec::Json, MessageId::generate, |kind| match kind {
            Some(kind) => Subject::of(&stream, kind),
            None => stream.name().parse(),
        })
    }

    /// Publishes a message as it is and waits for the outcome.
    ///
    /// # Cancellation
    /// As [`Publisher::publish`].
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_message(&self, message: Message) -> Result<Receipt> {
        let stream: StreamName = message.subject.stream().parse()?;
        let known =
            self.shared.lanes.read().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned();
        let lane = match known {
            Some(lane) => lane,
            None => {
                let lane = Arc::new(self.lane(SendSpec::to(stream.name())?).await?);
                let mut lanes = self.shared.lanes.write().unwrap_or_else(PoisonError::into_inner);
                lanes.insert(stream, Arc::clone(&lane));
                lane
            }
        };
        Publisher::<bytes::Bytes>::new(lane).publish_message(message).await
    }

    /// Subscribes at least once. What is published after this returns is seen.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] before anything is created, [`ErrorKind::UnknownStream`],
    /// [`ErrorKind::GroupConflict`], or what the broker refuses.
    pub async fn subscribe<T: Payload>(&self, mut spec: SubscribeSpec) -> Result<Consumer<T>> {
        spec.mode = Mode::Consume;
        Consumer::new(self.intake(spec).await?)
    }

    /// Listens at most once. What is published after this returns is heard or missed visibly.
    ///
    /// # Errors
    /// As [`Broker::subscribe`]; a group is [`ErrorKind::Unsupported`], as listeners share nothing.
    pub async fn listen<T: Payload>(&self, mut spec: SubscribeSpec) -> Result<Listener<T>> {
        spec.mode = Mode::Listen;
        if let Membership::Group(group) = &spec.membership {
            let text = format!(
                "listeners don't share messages, so group {group} has no meaning here; use \
                 SubscribeSpec::broadcast, or subscribe"
            );
            let kind = ErrorKind::Unsupported(Feature::Groups);
            return Err(Error::new(kind, text).at(self.backend(), "listen"));
        }
        Ok(Listener::new(self.intake(spec).await?))
    }

    /// Starts to build a worker: a group member that runs a handler for each message.
    pub fn worker<P: AsRef<str>>(
        &self,
        group: &str,
        patterns: impl IntoIterator<Item = P>,
    ) -> WorkerBuilder {
        WorkerBuilder::new(self.clone(), SubscribeSpec::group(group, patterns))
    }

    /// Starts to build a worker over any subscription, such as one to dead letters.
    pub fn worker_on(&self, spec: SubscribeSpec) -> WorkerBuilder {
        WorkerBuilder::new(self.clone(), Ok(spec))
    }

    /// Provisioning, lag and health.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the backend offers none.
    pub fn admin(&self) -> Result<&dyn Admin> {
        let admin = self.shared.driver.facets().admin;
        admin.ok_or_else(|| self.shared.unsupported(Feature::Provision, "admin"))
    }

    /// Reads a range of a stream without a group.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the backend offers it not.
    pub fn reader(&self) -> Result<&dyn Reader> {
        let reader = self.shared.driver.facets().reader;
        reader.ok_or_else(|| self.shared.unsupported(Feature::ReadRange, "read"))
    }

    /// Counts what waits for a group, or for every group.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], [`ErrorKind::NotFound`] or what the broker refuses.
    pub async fn lag(&self, group: Option<&GroupName>) -> Result<Vec<Lag>> {
        self.shared.require(&[Feature::Lag], &[], Scope::Broker, "lag")?;
        self.admin()?.lag(group).await
    }

    /// Makes the broker have what the topology names, and uses it from now on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], [`ErrorKind::Unsupported`] or what the broker refuses.
    pub async fn provision(&self, topology: Topology) -> Result<Plan> {
        topology.validate()?;
        self.shared.require(&[Feature::Provision], &[], Scope::Broker, "provision")?;
        let plan = self.admin()?.apply(&topology).await?;
        *self.shared.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
        Ok(plan)
    }

    /// Ends the connection: flushes what was handed over, settles, leaves groups, within `grace`.
    ///
    /// What was not confirmed by then reads as [`ErrorKind::Closed`] or unknown. Closing twice is
    /// harmless.
    ///
    /// # Errors
    /// What the driver could not end in order.
    pub async fn close_within(&self, grace: Duration) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.driver.close(grace).await
    }

    /// As [`Broker::close_within`] ten seconds.
    ///
    /// # Errors
    /// As [`Broker::close_within`].
    pub async fn close(&self) -> Result<()> {
        self.close_within(Duration::from_secs(10)).await
    }

    async fn lane(&self, spec: SendSpec) -> Result<SendLane> {
        self.shared.check_open("publisher")?;
        let scope = Scope::Stream(&spec.stream);
        self.shared.require(&[], &spec.waived, scope, "publisher")?;
        let opened = timeout(spec.timeout, self.shared.driver.sender(spec.clone())).await;
        let sender = self.shared.in_time(opened, "publisher")?;
        SendLane::new(Arc::clone(&self.shared), sender, spec)
    }

    pub(crate) async fn intake(&self, mut spec: SubscribeSpec) -> Result<Intake> {
        let operation = match spec.mode {
            Mode::Consume => "subscribe",
            Mode::Listen => "listen",
        };
        self.shared.check_open(operation)?;
        let topology = self.topology();
        let config = match (&spec.membership, &spec.source) {
            (Membership::Group(name), Source::Subjects(_)) => {
                topology.groups.iter().find(|known| known.name == *name)
            }
            _ => None,
        };
        if let Some(config) = config {
            // What the topology says of a group holds for each member.
            spec.ordered |= config.ordered;
            spec.priority |= config.priority;
        }
        let scope = match &spec.membership {
            Membership::Group(group) => Scope::Group(group, config),
            Membership::Broadcast => Scope::Broker,
        };
        self.shared.require(&spec.needs(), &spec.waived, scope, operation)?;
        if let Source::Subjects(patterns) = &spec.source {
            self.topology().streams_for(patterns).map_err(|e| e.at(self.backend(), operation))?;
        }
        let opened = timeout(spec.timeout, self.shared.driver.subscribe(spec.clone())).await;
        let subscription = self.shared.in_time(opened, operation)?;
        Ok(Intake::new(subscription, Arc::clone(&self.shared), &spec))
    }
}

impl Shared {
    pub(crate) fn name(&self) -> &'static str {
        self.driver.name()
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn notice(&self, notice: &Notice) {
        if let Some(observer) = &self.observer {
            observer.notice(notice);
        }
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let error = Error::new(ErrorKind::Closed, "the broker was closed");
            return Err(error.at(self.name(), operation));
        }
        Ok(())
    }

    /// The one place where what is asked for meets what the backend offers.
    fn require(
        &self,
        needs: &[Feature],
        waived: &[Feature],
        scope: Scope<'_>,
        operation: &'static str,
    ) -> Result<()> {
        let capabilities = self.driver.capabilities(scope);
        for feature in needs.iter().copied().filter(|feature| !capabilities.has(*feature)) {
            if !waived.contains(&feature) {
                return Err(self.unsupported_because(
                    feature,
                    capabilities.note(feature),
                    operation,
                ));
            }
            self.notice(&Notice::Waived(feature));
        }
        Ok(())
    }

    fn unsupported(&self, feature: Feature, operation: &'static str) -> Error {
        let note = self.driver.capabilities(Scope::Broker).note(feature);
        self.unsupported_because(feature, note, operation)
    }

    fn unsupported_because(&self, feature: Feature, note: &str, operation: &'static str) -> Error {
        let hint = match feature {
            Feature::Settlement => "; use listen for at-most-once reception",
            _ => "",
        };
        let why = if note.is_empty() { String::new() } else { format!(": {note}") };
        let text = format!("this backend does not offer {feature}{why}{hint}");
        Error::new(ErrorKind::Unsupported(feature), text).at(self.name(), operation)
    }

    fn in_time<T>(
        &self,
        ended: Result<Result<T>, tokio::time::error::Elapsed>,
        operation: &'static str,
    ) -> Result<T> {
        ended
            .unwrap_or_else(|_| {
                let text = format!("{} did not answer in time", self.driver.address());
                Err(Error::new(ErrorKind::Timeout, text))
            })
            .map_err(|error| error.at(self.name(), operation))
    }
}
