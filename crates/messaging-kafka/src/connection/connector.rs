//! Opening connections: TCP, TLS, versions, login.

use std::sync::atomic::AtomicI32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use messaging_core::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::io::{self, Exchange};
use super::versions::{Versions, is_sound};
use super::{Connection, Inner, tls};
use crate::config::{Address, KafkaConfig, Login};
use crate::error::{from_code, late, unexpected, unreachable};

/// The largest answer about versions: it comes before we know who answers.
const MAX_VERSIONS: usize = 64 * 1024;

/// How long a broker may take to answer before the next one is tried beside it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many requests may wait to be written.
const QUEUE: usize = 64;

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Option<Arc<rustls::ClientConfig>>,
    login: Option<Login>,
    client_id: StrBytes,
    timeout: Duration,
    tasks: TaskTracker,
    dead: CancellationToken,
}

impl Connector {
    /// Reads certificates; opens nothing. Connections end with `dead`, their tasks are in `tasks`.
    pub(crate) fn new(
        config: &KafkaConfig,
        tasks: TaskTracker,
        dead: CancellationToken,
    ) -> Result<Self> {
        Ok(Self {
            tls: config.tls.as_ref().map(tls::client_config).transpose()?,
            login: config.login.clone(),
            client_id: StrBytes::from_string(config.client_id.clone()),
            timeout: config.timeout,
            tasks,
            dead,
        })
    }

    /// How long connecting, and the answer to a request, may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// TLS, where it is on.
    pub(crate) const fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    /// Opens a connection, sees that a Kafka broker answers, and logs in.
    ///
    /// # Errors
    /// Each names the address: [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] within the
    /// configured time; [`ErrorKind::Denied`]; [`ErrorKind::InvalidConfig`] where TLS or SASL is not
    /// what the broker speaks; [`ErrorKind::Other`] where it is no Kafka broker.
    pub(crate) async fn connect(&self, address: &Address) -> Result<Connection> {
        self.connect_by(address, Instant::now() + self.timeout).await
    }

    /// Opens a connection to the first of these brokers that answers, all of them within the one
    /// configured time: one that hangs holds up the next for a moment only.
    ///
    /// # Errors
    /// Those of the last that failed.
    pub(crate) async fn first_of<T>(&self, brokers: Vec<(T, Address)>) -> Result<(T, Connection)> {
        let deadline = Instant::now() + self.timeout;
        let patience = PATIENCE.min(self.timeout / (brokers.len() as u32 + 1));
        let mut ahead = brokers.into_iter();
        let mut trying = FuturesUnordered::new();
        let mut outcome = Err(Error::new(ErrorKind::Unavailable, "no broker is known"));
        loop {
            if let Some((name, address)) = ahead.next() {
                trying.push(async move {
                    let connection = self.connect_by(&address, deadline).await?;
                    Ok((name, connection))
                });
            } else if trying.is_empty() {
                return outcome;
            }
            tokio::select! {
                Some(ended) = trying.next() => outcome = ended,
                () = sleep(patience), if ahead.len() > 0 => {}
            }
            if outcome.is_ok() {
                return outcome;
            }
        }
    }

    async fn connect_by(&self, address: &Address, deadline: Instant) -> Result<Connection> {
        // Brokers are also at addresses that only the cluster knows.
        if let (Some(login), None) = (&self.login, &self.tls) {
            login.check_readable_at(address)?;
        }
        let opening = TcpStream::connect((address.host.as_str(), address.port));
        let socket = timeout_at(deadline, opening)
            .await
            .map_err(|_| late(address, "at all"))?
            .map_err(|error| unreachable(address, error))?;
        set_up(&socket).map_err(|error| unreachable(address, error))?;
        let connection = match &self.tls {
            None => self.start(address, socket),
            Some(config) => {
                let name = ServerName::try_from(address.host.clone()).map_err(|error| {
                    let text = format!("{address}: the host can't be checked by TLS");
                    Error::new(ErrorKind::InvalidConfig, text).with_source(error)
                })?;
                let handshake = TlsConnector::from(Arc::clone(config)).connect(name, socket);
                let socket = timeout_at(deadline, handshake)
                    .await
                    .map_err(|_| late(address, "the TLS handshake"))?
                    .map_err(|error| no_tls(address, error))?;
                self.start(address, socket)
            }
        };
        let connection = self.negotiate(connection, deadline).await?;
        if let Some(login) = &self.login {
            connection.login(login, deadline).await?;
        }
        Ok(connection)
    }

    fn start<S>(&self, address: &Address, socket: S) -> Inner
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (queue, exchanges) = mpsc::channel::<Exchange>(QUEUE);
        let ended = self.dead.child_token();
        let cause = Arc::new(OnceLock::new());
        let (token, said) = (ended.clone(), Arc::clone(&cause));
        self.tasks.spawn(async move {
            // What waits is dropped with the future, after the cause is known.
            let carrying = std::pin::pin!(io::run(socket, exchanges, &said));
            tokio::select! {
                () = carrying => token.cancel(),
                () = token.cancelled() => {}
            }
        });
        Inner {
            address: address.clone(),
            client_id: self.client_id.clone(),
            versions: Versions::default(),
            correlation: AtomicI32::new(0),
            queue,
            ended,
            cause,
        }
    }

    /// Asks which versions the broker knows: first as new brokers answer, then as all do.
    async fn negotiate(&self, inner: Inner, deadline: Instant) -> Result<Connection> {
        let mut connection = Connection(Arc::new(inner));
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("helixagent-messaging"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.versions(&connection, &request, 3, deadline).await?;
        if answer.error_code == 35 {
            let request = ApiVersionsRequest::default();
            answer = self.versions(&connection, &request, 0, deadline).await?;
        }
        if answer.error_code != 0 {
            return Err(from_code(answer.error_code, &connection.address().to_string()));
        }
        match Arc::get_mut(&mut connection.0) {
            Some(inner) => inner.versions = Versions::of(&answer),
            None => return Err(unexpected(connection.address(), "ApiVersions")),
        }
        Ok(connection)
    }

    async fn versions(
        &self,
        connection: &Connection,
        request: &ApiVersionsRequest,
        version: i16,
        deadline: Instant,
    ) -> Result<ApiVersionsResponse> {
        let about = |error: Error| {
            let text = format!("{}: no Kafka broker answers", connection.address());
            Error::new(error.kind().clone(), text).with_source(error)
        };
        let answer = connection.call_in(request, version, MAX_VERSIONS, deadline).await;
        let mut answer = answer.map_err(about)?;
        // A broker that does not know the version says so in the oldest.
        let version = if answer.starts_with(&[0, 35]) { 0 } else { version };
        if !is_sound(&answer, version) {
            return Err(about(unexpected(connection.address(), "ApiVersions")));
        }
        connection.decode(&mut answer, version, "ApiVersions")
    }
}

/// A half-open connection is noticed within ten seconds.
fn set_up(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(2);
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

fn no_tls(address: &Address, error: std::io::Error) -> Error {
    let is_plain = error.kind() == std::io::ErrorKind::UnexpectedEof
        || error.kind() == std::io::ErrorKind::ConnectionReset;
    let (kind, text) = match is_plain {
        true => {
            (ErrorKind::Unavailable, "ended the TLS handshake; its listener may be without TLS")
        }
        false => (ErrorKind::Denied, "and we do not agree on TLS"),
    };
    Error::new(kind, format!("{address} {text}")).with_source(error)
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
