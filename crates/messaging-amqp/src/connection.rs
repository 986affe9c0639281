//! The supervisor: one connection that heals by itself.
//!
//! amqprs reports no end of a connection reliably. Its reader owns the callback that we register,
//! so the callback's drop tells of every end of the reader, whatever the cause. A node that answers
//! nothing is found by a probe, and by the heartbeats of the reader.

mod channel;
mod declaring;
mod events;
mod held;
mod open;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::channel::{Channel, Deliveries, Events};
pub(crate) use self::declaring::Queue;
pub(crate) use self::events::{ChannelEvent, Listen};
use self::open::{Connector, Opened};
pub(crate) use self::session::Session;
pub(crate) use self::tls::connector as tls_connector;
use crate::config::RabbitConfig;
use crate::error::closed;

/// What a connection is for. A server in need of memory stops reading from connections that
/// publish, so acknowledgements have one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Consume,
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// There is one.
    Up(Session),
    /// There is none; another is on its way.
    Down(Reason),
    /// There will be none.
    Closed,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

/// How long the log hears nothing more of what fails.
const QUIET: Duration = Duration::from_secs(10);

/// One supervised connection. It reconnects until it is closed or dropped.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    closing: CancellationToken,
    tasks: TaskTracker,
    role: Role,
    config: Arc<RabbitConfig>,
}

/// The task of a link. It holds nothing that keeps the link alive, so that the drop of a link that
/// nobody has closed ends it.
struct Supervisor {
    state: watch::Sender<State>,
    closing: CancellationToken,
    tasks: TaskTracker,
    role: Role,
    address: String,
}

impl Link {
    /// Connects, once for each node, within [`RabbitConfig::timeout`].
    pub(crate) async fn open(config: Arc<RabbitConfig>, role: Role) -> Result<Arc<Self>> {
        config.check()?;
        let tasks = TaskTracker::new();
        let mut connector = Connector::new(Arc::clone(&config), role, tasks.clone())?;
        let first = connector.connect(Instant::now() + config.timeout).await?;
        let down = State::Down(Reason::new(ErrorKind::Unavailable, "not yet"));
        let supervisor = Supervisor {
            state: watch::Sender::new(down),
            closing: CancellationToken::new(),
            tasks: tasks.clone(),
            role,
            address: config.address(),
        };
        let link = Arc::new(Self {
            state: supervisor.state.subscribe(),
            closing: supervisor.closing.clone(),
            tasks: tasks.clone(),
            role,
            config,
        });
        tasks.spawn(supervisor.supervise(connector, first));
        link.session(Instant::now() + link.config.timeout).await?;
        Ok(link)
    }

    /// The connection, waited for until `deadline` where there is none.
    pub(crate) async fn session(&self, deadline: Instant) -> Result<Session> {
        let mut state = self.state();
        let usable = |state: &State| match state {
            State::Up(session) => !session.is_over(),
            State::Down(_) => false,
            State::Closed => true,
        };
        let found = timeout_at(deadline, state.wait_for(usable)).await;
        match found {
            Ok(Ok(state)) => match &*state {
                State::Up(session) => return Ok(session.clone()),
                State::Down(_) | State::Closed => {}
            },
            Ok(Err(_)) => {}
            Err(_) => {
                let (kind, text) = match &*self.state.borrow() {
                    State::Down(reason) => (reason.kind.clone(), reason.text.clone()),
                    State::Up(_) => (ErrorKind::Unavailable, "the connection ended".to_owned()),
                    State::Closed => return Err(closed("connect")),
                };
                return Err(Error::new(kind, text).at(crate::NAME, "connect"));
            }
        }
        Err(closed("connect"))
    }

    /// Whether there is a connection, and its changes.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What it was opened with.
    pub(crate) fn config(&self) -> &RabbitConfig {
        &self.config
    }

    /// Runs a task that [`Link::close`] waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits until it is being closed.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Closes it in order, and waits for that until `grace` has passed.
    pub(crate) async fn close(&self, grace: Duration) {
        self.closing.cancel();
        self.tasks.close();
        // What is left has lost its peer and ends when the socket does.
        timeout(grace, self.tasks.wait()).await.ok();
    }
}

impl Supervisor {
    async fn supervise(self, mut connector: Connector, first: Opened) {
        let mut backoff = Backoff::default();
        let mut next = Some(first);
        let mut epoch = 0;
        let mut log = Log::default();
        while !self.closing.is_cancelled() {
            let opened = match next.take() {
                Some(opened) => opened,
                None => {
                    tokio::select! {
                        () = sleep(backoff.next()) => {}
                        () = self.closing.cancelled() => break,
                    }
                    match connector.connect(Instant::now() + connector.timeout()).await {
                        Ok(opened) => opened,
                        Err(error) => {
                            if log.is_due() {
                                tracing::warn!(address = self.address, %error, "reconnecting failed");
                            }
                            self.state.send_replace(State::Down(Reason::of(&error)));
                            continue;
                        }
                    }
                }
            };
            epoch += 1;
            let tasks = self.tasks.clone();
            let Some(session) = opened.into_session(epoch, self.role, tasks) else { continue };
            tracing::info!(address = session.address(), role = ?self.role, epoch, "connected");
            self.state.send_replace(State::Up(session.clone()));
            tokio::select! {
                () = session.watch_over() => {}
                () = self.closing.cancelled() => break,
            }
            let why = session.why();
            if log.is_due() {
                tracing::warn!(address = session.address(), role = ?self.role, epoch, why, "disconnected");
            }
            self.state.send_replace(State::Down(Reason::new(ErrorKind::Unavailable, why)));
            session.take_down();
            // A server that accepts and at once ends connections is not met without pause.
            if session.has_answered() {
                backoff.reset();
            }
        }
        if let State::Up(session) = self.state.send_replace(State::Closed) {
            session.end("it is closed");
            session.take_down();
        }
    }
}

/// What the log hears of something that fails, however often it does: a line in [`QUIET`].
#[derive(Debug, Default)]
pub(crate) struct Log {
    told: Option<Instant>,
}

impl Log {
    /// Whether the log is to be told now; then it has been.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.told.is_none_or(|told| told.elapsed() >= QUIET);
        if is_due {
            self.told = Some(Instant::now());
        }
        is_due
    }
}

impl Reason {
    fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    fn of(error: &Error) -> Self {
        Self::new(error.kind().clone(), error.to_string())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.config.address())
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
