//! Connecting: several nodes, a deadline, and errors that say what is wrong.
#![expect(clippy::disallowed_methods, reason = "it is a task that nobody aborts")]

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error as Theirs;
use amqprs::security::SecurityCredentials;
use amqprs::tls::TlsAdaptor;
use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Role;
use super::events::Pulse;
use super::held::Held;
use super::session::{Parts, Session};
use super::tls;
use crate::config::{Address, RabbitConfig};
use crate::error::Refusal;

/// How long one node is tried alone before the next is tried too.
const STAGGER: Duration = Duration::from_secs(1);
/// After this, an attempt that hangs is dropped. It is longer than anybody waits for it: an attempt
/// that succeeds at the end must not be dropped while the client library starts its tasks.
const HOPELESS: Duration = Duration::from_secs(60);
/// After about this time, which is three seconds, the server closes a connection with a wrong login
/// without a word. Its management API does so to who says nothing that it understands, after five.
const SILENT_CLOSE: Range<Duration> = Duration::from_millis(2_500)..Duration::from_millis(4_500);

/// Opens connections.
pub(super) struct Connector {
    config: Arc<RabbitConfig>,
    role: Role,
    tasks: TaskTracker,
    /// The node to begin with: the one that answered last.
    first: usize,
    /// Whether the server has ever let us in.
    is_known: bool,
}

/// An open connection.
pub(super) struct Opened {
    node: usize,
    connection: Held<Connection>,
    address: String,
    refusal: Arc<OnceLock<Refusal>>,
    ended: CancellationToken,
}

impl Connector {
    /// Checks what can be checked without a server.
    pub(super) fn new(config: Arc<RabbitConfig>, role: Role, tasks: TaskTracker) -> Result<Self> {
        if let Some(tls) = &config.tls {
            tls::connector(tls)?;
        } else if let Some(node) = config.nodes.iter().find(|node| !node.is_loopback()) {
            tracing::warn!(address = %node, "the password goes over the network without TLS");
        }
        Ok(Self { config, role, tasks, first: 0, is_known: false })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Tries every node once, each a little after the one before, until one answers.
    pub(super) async fn connect(&mut self, deadline: Instant) -> Result<Opened> {
        let nodes = self.config.nodes.len();
        let (results, mut answers) = mpsc::channel(nodes.max(1));
        let mut failure = None;
        let mut untried = (0..nodes).map(|next| (self.first + next) % nodes);
        let mut under_way = 0;
        loop {
            let last = match untried.next() {
                Some(node) => {
                    self.attempt(node, results.clone())?;
                    under_way += 1;
                    false
                }
                None => true,
            };
            let patience = if last { deadline } else { deadline.min(Instant::now() + STAGGER) };
            match timeout_at(patience, answers.recv()).await {
                Ok(Some(Ok(opened))) => {
                    self.first = opened.node;
                    self.is_known = true;
                    return Ok(opened);
                }
                Ok(Some(Err(error))) => {
                    under_way -= 1;
                    failure = Some(worse(failure, error));
                }
                // `results` is ours, so there is always one more.
                Ok(None) | Err(_) => {}
            }
            let is_late = Instant::now() >= deadline;
            if is_late || (under_way == 0 && untried.len() == 0) {
                return Err(failure.unwrap_or_else(|| late(&self.config.address())));
            }
        }
    }

    fn attempt(&self, number: usize, results: mpsc::Sender<Result<Opened>>) -> Result<()> {
        let Some(node) = self.config.nodes.get(number).cloned() else { return Ok(()) };
        let arguments = self.arguments(&node)?;
        let config = Arc::clone(&self.config);
        let is_known = self.is_known;
        self.tasks.spawn(async move {
            let began = Instant::now();
            let result = match timeout(HOPELESS, Connection::open(&arguments)).await {
                Ok(Ok(connection)) => accept(number, &node, connection).await,
                Ok(Err(error)) => {
                    let silence = is_closed(&error.to_string()).then(|| began.elapsed());
                    Err(refused(&config, &node, &error, silence, is_known))
                }
                Err(_) => Err(late(&node.to_string())),
            };
            // Nobody waits any more: the connection is closed as it is dropped.
            results.send(result).await.ok();
        });
        Ok(())
    }

    fn arguments(&self, node: &Address) -> Result<OpenConnectionArguments> {
        let RabbitConfig { user, password, .. } = &*self.config;
        let host =
            if node.host.contains(':') { format!("[{}]", node.host) } else { node.host.clone() };
        let role = match self.role {
            Role::Publish => "publishes",
            Role::Consume => "consumes",
        };
        let mut arguments = OpenConnectionArguments::default();
        arguments
            .host(&host)
            .port(node.port)
            .virtual_host(&self.config.vhost)
            .credentials(SecurityCredentials::new_plain(user, password.reveal()))
            .connection_name(&format!("helixagent {} {role}", std::process::id()))
            .heartbeat(self.config.heartbeat);
        if let Some(tls) = &self.config.tls {
            arguments.tls_adaptor(TlsAdaptor::new(tls::connector(tls)?, node.host.clone()));
        }
        Ok(arguments)
    }
}

/// Registers the callback whose drop is the connection's end.
async fn accept(node: usize, address: &Address, connection: Connection) -> Result<Opened> {
    let refusal = Arc::new(OnceLock::new());
    let ended = CancellationToken::new();
    let pulse = Pulse { refusal: Arc::clone(&refusal), ended: ended.clone() };
    let registered = connection.register_callback(pulse).await;
    let connection = Held::new(connection);
    registered.map_err(|error| {
        let text = format!("{address} ended the connection at once");
        Error::new(ErrorKind::Unavailable, text).with_source(error)
    })?;
    Ok(Opened { node, connection, address: address.to_string(), refusal, ended })
}

impl Opened {
    pub(super) fn into_session(
        mut self,
        epoch: u32,
        role: Role,
        tasks: TaskTracker,
    ) -> Option<Session> {
        let parts = Parts {
            connection: self.connection.take()?,
            address: self.address,
            refusal: self.refusal,
            ended: self.ended,
        };
        Some(Session::new(parts, epoch, role, tasks))
    }
}

/// What a login that is refused says is more useful than that another node can't be reached.
fn worse(known: Option<Error>, next: Error) -> Error {
    match known {
        Some(known) if *next.kind() == ErrorKind::Unavailable => known,
        _ => next,
    }
}

fn late(address: &str) -> Error {
    let text = format!(
        "{address} did not answer in time; is it AMQP's port, and not the management API's?"
    );
    Error::new(ErrorKind::Timeout, text).at(crate::NAME, "connect")
}

/// The client library tells in words only what went wrong. A wrong login is a `silent` close, and so
/// may be a node that dies: where the server is known to have let us in, that is tried again.
fn refused(
    config: &RabbitConfig,
    node: &Address,
    error: &Theirs,
    silence: Option<Duration>,
    is_known: bool,
) -> Error {
    let said = error.to_string();
    let silence = silence.filter(|silence| *silence >= SILENT_CLOSE.start);
    let is_foreign = silence.is_some_and(|silence| silence >= SILENT_CLOSE.end)
        || ["interrupted", "serde", "framing"].iter().any(|sign| said.contains(sign));
    let vhost = &config.vhost;
    let (kind, text) = if said.contains("NOT_ALLOWED") && said.contains("not found") {
        (ErrorKind::NotFound, format!("{node} has no virtual host {vhost:?}"))
    } else if said.contains("NOT_ALLOWED") {
        let text = format!("{node} refuses user {:?} the virtual host {vhost:?}", config.user);
        (ErrorKind::Denied, text)
    } else if silence.is_some() && is_known {
        let text = format!(
            "{node} ended the connection without a word; it may be stopping, or refuse user {:?} \
             or the password now",
            config.user
        );
        (ErrorKind::Unavailable, text)
    } else if is_foreign {
        let text = format!("{node} does not speak AMQP; is it the port of the management API?");
        (ErrorKind::InvalidConfig, text)
    } else if silence.is_some() {
        // The server tells nothing else to clients of this library.
        let text = format!("{node} refuses user {:?} or the password", config.user);
        (ErrorKind::Denied, text)
    } else {
        let text = format!(
            "{node} can't be reached; `cargo xtask up rabbitmq` starts one on this \
                            machine: {said}"
        );
        (ErrorKind::Unavailable, text)
    };
    Error::new(kind, text).at(crate::NAME, "connect")
}

/// Whether the server closed the connection without a word.
fn is_closed(said: &str) -> bool {
    ["peer shutdown", "reset by peer", "Broken pipe"].iter().any(|end| said.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_close_is_a_wrong_login_only_in_time_and_until_the_server_has_let_us_in() {
        let (config, node) = (RabbitConfig::default(), Address::new("localhost", 5672));
        let error = Theirs::NetworkError("peer shutdown".to_owned());
        let kind = |after, is_known| {
            let silence = Some(Duration::from_secs(after));
            refused(&config, &node, &error, silence, is_known).kind().clone()
        };
        assert_eq!((kind(3, false), kind(3, true)), (ErrorKind::Denied, ErrorKind::Unavailable));
        assert_eq!(
            (kind(5, false), kind(0, false)),
            (ErrorKind::InvalidConfig, ErrorKind::Unavailable)
        );
    }
}
